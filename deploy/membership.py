"""Workers and masters made members of a cluster by its administrator, and waited for until they serve."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grpc.aio

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Node
from barque.client import profile as profiles
from barque.client import wire
from barque.client.clock import timestamp
from barque.client.joining import JoinError, join
from barque.client.masters import voters_of
from barque.client.pki import pin_of
from barque.client.profile import Profile
from barque.client.remote import connect
from barque.client.verbs import Page
from barque.proto import cluster_pb2

# What the join token that is made for one's own workers lives.
_TOKEN_LIFE_S = 300
_POLL_S = 0.05
_ANSWER_TIMEOUT_S = 3.0
_TOKEN_TIMEOUT_S = 20.0


class MembershipError(Exception):
    """A host does not become a member, or does not serve; the message says why."""


async def enrol(admin: Profile, https: str, workers: Mapping[str, Path], masters: list[str] | None = None) -> None:
    """Give each worker, by its node's name, its certificate in a profile at that path, unless it has one of this very
    cluster. `https` is a master's door as `host:port`; `masters` the gRPC doors to note, by default as the master
    tells. Raises `MembershipError`.
    """
    missing = {name: path for name, path in workers.items() if not _belongs(path, admin)}
    if not missing:
        return
    try:
        token = await _make_token(admin)
    except ApiError as error:
        raise MembershipError(f"no join token for the worker: {error.message}") from error
    pin = pin_of(admin.identity.ca_pem)
    try:
        joined = await asyncio.gather(*(join(https, token, pin, name) for name in missing))
    except JoinError as error:
        raise MembershipError(f"the worker cannot join: {error}") from error
    for path, member in zip(missing.values(), joined, strict=True):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        Profile.of(masters or member.masters, member.identity, cluster=member.cluster).save(path)


def _belongs(path: Path, admin: Profile) -> bool:
    try:
        return profiles.load(path).ca == admin.ca
    except profiles.ProfileError:
        return False


async def wait_ready(
    admin: Profile, node: str, timeout_s: float, fault: Callable[[], str], since: datetime.datetime | None = None
) -> None:
    """Wait until the node is Ready, as long as `fault` has nothing to say; with `since`, by the word of a worker that
    was started then: what the one before it said stands for a while after its end. Raises `MembershipError` with its
    words, or why the node is not Ready in time.
    """
    connection = connect(admin)
    deadline = time.monotonic() + timeout_s
    why = "it has not registered"
    try:
        while time.monotonic() < deadline:
            if said := fault():
                raise MembershipError(said)
            try:
                found = await connection.client.get(Node, node)
                status, message = ready_condition(found)
                heard = since is None or _heard_since(found, since)
                if status == "True" and heard:
                    return
                why = (message if heard else "its worker has not told its state since it was started") or why
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


def _heard_since(node: Node, since: datetime.datetime) -> bool:
    """Whether its worker has written the Ready condition since then: the masters, who doubt it, leave that time."""
    found = next((c for c in node.status.conditions if c.type == "Ready"), None)
    return found is not None and found.lastHeartbeatTime >= timestamp(since)


async def token_for_master(admin: Profile) -> str:
    """A token with which one master joins. Raises `MembershipError`."""
    try:
        return await _make_token(admin, for_master=True)
    except ApiError as error:
        raise MembershipError(f"no join token for a master: {error.message}") from error


async def _make_token(admin: Profile, *, for_master: bool = False) -> str:
    """Ask for a token, and again where no master answers or none leads: one that has just begun may be slow at first.

    Raises `ApiError`.
    """
    request = cluster_pb2.CreateJoinTokenRequest(ttl_s=_TOKEN_LIFE_S, for_master=for_master)
    connection = connect(admin)
    deadline = time.monotonic() + _TOKEN_TIMEOUT_S
    try:
        while True:
            try:
                await connection.ready()
                made = await connection.cluster.CreateJoinToken(request, timeout=_ANSWER_TIMEOUT_S)
            except (grpc.aio.AioRpcError, ApiError) as error:
                refused = error if isinstance(error, ApiError) else wire.api_error(error)
                if refused.code < 500 or time.monotonic() > deadline:
                    raise refused from error
            else:
                token: str = made.token
                return token
            await asyncio.sleep(_POLL_S)
    finally:
        await connection.close()


async def wait_masters(admin: Profile, names: Sequence[str], timeout_s: float, fault: Callable[[], str]) -> str:
    """Wait until one leads and all of these vote, as long as `fault` has nothing to say; the leader's name. Raises
    `MembershipError` with its words, or what is missing.
    """
    connection = connect(admin)
    deadline, why = time.monotonic() + timeout_s, "no master answers"
    try:
        while time.monotonic() < deadline:
            if said := fault():
                raise MembershipError(said)
            try:
                await connection.ready()
                reply = await connection.cluster.Status(cluster_pb2.StatusRequest(), timeout=_ANSWER_TIMEOUT_S)
                leader = next((member.name for member in reply.members if member.leader), "")
                absent = sorted(set(names) - {member.name for member in voters_of(reply)})
                if leader and not absent:
                    return leader
                why = f"no vote yet: {', '.join(absent)}" if leader else "no master leads"
            except grpc.aio.AioRpcError as error:
                why = wire.api_error(error).message
            except ApiError as error:
                why = error.message
            await asyncio.sleep(_POLL_S)
    finally:
        await connection.close()
    raise MembershipError(f"the masters do not serve after {timeout_s:.0f} s: {why}")


async def words(admin: Profile, timeout_s: float) -> dict[str, str]:
    """Of each node whether it is Ready, as `get nodes` shows it, and of each master whether it leads, as the first that
    answers knows it, with a quorum or without; empty where none answers in time.
    """
    connection = connect(admin)
    said: dict[str, str] = {}
    try:
        async with asyncio.timeout(timeout_s):
            await connection.ready()
            reply = await connection.cluster.Status(cluster_pb2.StatusRequest())
            voting = [member.name for member in voters_of(reply)]
            said |= {m.name: _role(m, m.name in voting) for m in reply.members}
            found = (await connection.client.list(Node, page=Page(resource_version="0"))).items
    except (ApiError, TimeoutError, grpc.aio.AioRpcError):
        return said
    finally:
        await connection.close()
    return said | {n.metadata.name: "Ready" if ready_condition(n)[0] == "True" else "NotReady" for n in found}


def _role(member: cluster_pb2.Member, votes: bool) -> str:
    return "leader" if member.leader else "follower" if votes else "learner"
