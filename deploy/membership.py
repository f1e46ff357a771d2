"""Workers made members of a cluster by its administrator, and waited for until they are Ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc.aio

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Node
from barque.client import profile as profiles
from barque.client import wire
from barque.client.joining import JoinError, join
from barque.client.pki import pin_of
from barque.client.profile import Profile
from barque.client.remote import connect
from barque.proto import cluster_pb2

# What the join token that is made for one's own workers lives.
_TOKEN_LIFE_S = 300
_POLL_S = 0.05


class MembershipError(Exception):
    """A worker does not become a member, or not Ready; the message says why."""


async def enrol(admin: Profile, https: str, workers: Mapping[str, Path], masters: list[str] | None = None) -> None:
    """Give each worker, by its node's name, its certificate in a profile at that path, unless it has one of this very
    cluster. `https` is a master's door as `host:port`; `masters` the gRPC doors to note, by default as the master
    tells. Raises `MembershipError`.
    """
    missing = {name: path for name, path in workers.items() if not _belongs(path, admin)}
    if not missing:
        return
    connection = connect(admin)
    try:
        made = await connection.cluster.CreateJoinToken(cluster_pb2.CreateJoinTokenRequest(ttl_s=_TOKEN_LIFE_S))
        pin = pin_of(admin.identity.ca_pem)
        joined = await asyncio.gather(*(join(https, made.token, pin, name) for name in missing))
    except grpc.aio.AioRpcError as error:
        raise MembershipError(f"no join token for the worker: {wire.api_error(error).message}") from error
    except JoinError as error:
        raise MembershipError(f"the worker cannot join: {error}") from error
    finally:
        await connection.close()
    for path, member in zip(missing.values(), joined, strict=True):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        Profile.of(masters or member.masters, member.identity, cluster=member.cluster).save(path)


def _belongs(path: Path, admin: Profile) -> bool:
    try:
        return profiles.load(path).ca == admin.ca
    except profiles.ProfileError:
        return False


async def wait_ready(admin: Profile, node: str, timeout_s: float, fault: Callable[[], str]) -> None:
    """Wait until the node is Ready, as long as `fault` has nothing to say. Raises `MembershipError` with its words, or
    why the node is not Ready in time.
    """
    connection = connect(admin)
    deadline = time.monotonic() + timeout_s
    why = "it has not registered"
    try:
        while time.monotonic() < deadline:
            if said := fault():
                raise MembershipError(said)
            try:
                condition = ready_condition(await connection.client.get(Node, node))
                if condition[0] == "True":
                    return
                why = condition[1] or why
            except ApiError as error:
                why = error.message
            await asyncio.sleep(_POLL_S)
    finally:
        await connection.close()
    raise MembershipError(f"node {node} is not Ready after {timeout_s:.0f} s: {why}")


def ready_condition(node: Node) -> tuple[str, str]:
    """The status and the message of the node's Ready condition."""
    found = next((c for c in node.status.conditions if c.type == "Ready"), None)
    return (found.status, found.message) if found is not None else ("Unknown", "")


async def node_words(admin: Profile, timeout_s: float) -> dict[str, str]:
    """Whether each node is Ready, as `get nodes` shows it; empty where no master answers in time."""
    connection = connect(admin)
    try:
        async with asyncio.timeout(timeout_s):
            found = (await connection.client.list(Node)).items
    except (ApiError, TimeoutError):
        return {}
    finally:
        await connection.close()
    return {node.metadata.name: "Ready" if ready_condition(node)[0] == "True" else "NotReady" for node in found}
