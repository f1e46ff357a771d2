"""`/healthz`, `/livez`, `/readyz` and each of their checks alone, as Kubernetes words them.

In: checks, each a name and a question that tells what is wrong ("" where nothing is). Out: `ok`, or a line for every
check with `?verbose` or where one fails; `?exclude=` leaves one out. These pages are public, so why a check fails is
told by the check's own page alone (`/readyz/store`), which takes permission, and costs little however many ask.

`StoreCheck` is the one of the store: well where it takes writes and a current read can be served, as Kubernetes' check
of its etcd.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from aiohttp import web

from barque.api.errors import not_found_path
from barque.client.clock import Clock
from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.store.port import StoreUnavailableError

log = logging.getLogger(__name__)

_HEADERS = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


# What Kubernetes gives etcd to answer; it outlasts most elections, which so make an answer late and not a bad one.
READ_TIMEOUT_S = 2.0
# Kubernetes asks etcd once a second at the most, too; in between the last answer holds.
READ_PACE_S = 1.0


class Check(NamedTuple):
    """One part; `fault()` is asked on every request: "" where it is well. `name` has no slash at its ends."""

    name: str
    fault: Callable[[], Awaitable[str]]


class CheckedStore(Protocol):
    """What of a store's engine is looked at."""

    @property
    def fault(self) -> str: ...
    async def barrier(self) -> int: ...


class StoreCheck:
    """Why the store cannot serve, "" where it can. Whoever asks at the same time, or soon after, shares one read."""

    def __init__(self, store: CheckedStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._found = ""
        self._found_at = -math.inf
        self._asking = asyncio.Lock()

    async def __call__(self) -> str:
        if fault := self._store.fault:
            return fault
        async with self._asking:
            if self._clock.monotonic() >= self._found_at + READ_PACE_S:
                self._found = await self._read()
                self._found_at = self._clock.monotonic()
            return self._found

    async def _read(self) -> str:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                await self._store.barrier()
        except TimeoutError:
            return f"no current read can be served: no answer of a majority within {READ_TIMEOUT_S:g} s"
        except StoreUnavailableError as away:
            return str(away)
        return ""


async def _well() -> str:
    return ""


# That it answers says it all.
PING = Check("ping", _well)


class Health:
    """The three pages. `live` decides whether the process should be started anew, `ready` whether it should be sent
    requests; `/healthz` is both, for older clients.
    """

    def __init__(self, live: Sequence[Check] = (), ready: Sequence[Check] = ()) -> None:
        both = {check.name: check for check in (PING, *live, *ready)}
        self._pages: dict[str, tuple[Check, ...]] = {
            "healthz": tuple(both.values()),
            "livez": (PING, *live),
            "readyz": (PING, *ready),
        }

    def paths(self) -> dict[str, Handler]:
        """Who answers for the pages, and for the checks below them."""
        return {path: self.handle for page in self._pages for path in (f"/{page}", f"/{page}/")}

    async def handle(self, call: RestCall) -> web.Response:
        """Answer one of the pages, or one check's own. Raises 404 for a check that there is not."""
        page, _, name = call.info.path.strip("/").partition("/")
        checks = self._pages[page]
        if not name:
            query = call.request.query
            return await _whole(page, checks, query.getall("exclude", []), verbose="verbose" in query)
        check = next((check for check in checks if check.name == name), None)
        if check is None:
            raise not_found_path()
        if fault := await check.fault():
            return web.Response(text=f"internal server error: {fault}\n", status=500, headers=_HEADERS)
        return web.Response(text="ok", headers=_HEADERS)


async def _whole(page: str, checks: Sequence[Check], excluded: Sequence[str], *, verbose: bool) -> web.Response:
    lines, failed = [], []
    for check in checks:
        if check.name in excluded:
            lines.append(f"[+]{check.name} excluded: ok")
        elif fault := await check.fault():
            failed.append(f"{check.name} ({fault})")
            lines.append(f"[-]{check.name} failed: reason withheld")
        else:
            lines.append(f"[+]{check.name} ok")
    if unknown := sorted(set(excluded) - {check.name for check in checks}):
        matches = ", ".join(_quoted(name) for name in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {matches}")
    if failed:
        log.debug("%s check failed: %s", page, ", ".join(failed))
        text = "\n".join([*lines, f"{page} check failed", ""])
        return web.Response(text=text, status=500, headers=_HEADERS)
    text = "\n".join([*lines, f"{page} check passed", ""]) if verbose else "ok"
    return web.Response(text=text, headers=_HEADERS)


def _quoted(name: str) -> str:
    """As Go quotes a word; whoever sent it may have put anything in it."""
    safe = name.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in safe) + '"'
