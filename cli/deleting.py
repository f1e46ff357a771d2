"""Deleting from the command's side: the options of a delete, and waiting until what was deleted is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from barque.cli.following import Following, gone, until
from barque.cli.naming import quoted, slashed
from barque.cli.output import CliError
from barque.cli.session import Connection, Session
from barque.client.verbs import Target

PROPAGATION = {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}


class Doomed(NamedTuple):
    """An object whose deletion has begun; it is gone when nothing of this uid stands at the target."""

    target: Target
    uid: str


def delete_options(
    *, grace_s: int = -1, now: bool = False, force: bool = False, cascade: str = "background", dry_run: bool = False
) -> bytes:
    """metav1.DeleteOptions; a grace period below zero is the object's own. Raises `CliError` for a contradiction."""
    options: dict[str, Any] = {}
    if now:
        if grace_s >= 0:
            raise CliError("--now and --grace-period cannot be specified together")
        grace_s = 1
    if force:
        if grace_s > 0:
            raise CliError("--force and --grace-period greater than 0 cannot be specified together")
        grace_s = 0
    elif grace_s == 0:
        # Grace 0 without --force would let the object go while its containers run on; one second does not.
        grace_s = 1
    if grace_s >= 0:
        options["gracePeriodSeconds"] = grace_s
    if cascade != "background":
        options["propagationPolicy"] = PROPAGATION[cascade]
    if dry_run:
        options["dryRun"] = ["All"]
    return msgspec.json.encode(options) if options else b""


async def wait_until_gone(session: Session, connection: Connection, doomed: Sequence[Doomed], timeout_s: float) -> None:
    """Wait until the last of them is gone; 0 is for ever. Raises `CliError` naming the one that is still there."""
    target = doomed[0].target if doomed else None
    try:
        async with asyncio.timeout(timeout_s or None):
            for position, (target, uid) in enumerate(doomed, 1):
                count = f" ({position} of {len(doomed)})" if len(doomed) > 1 else ""
                following = Following(
                    target, waiting=f"waiting until {quoted(target.resource, target.name)} is gone{count}"
                )
                await until(connection.verbs, following, gone(uid), clock=session.clock, screen=session.screen)
    except TimeoutError:
        assert target is not None
        raise CliError(f"timed out waiting until {slashed(target.resource, target.name)} is gone") from None
