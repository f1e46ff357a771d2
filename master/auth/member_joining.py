"""The answering master's side of `barque master join`: a master's token and a free name earn a place in the group.

The joiner gets its certificate, and the keys every master holds (`ca`), wrapped so that only it can read them. All that
can be refused is refused before the token is spent. Spending it and making the joiner a learner are each done once and
may be asked for again by the same joiner, so a joining that is cut off anywhere goes on with the same command.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from barque.api.errors import ApiError, bad_request, unavailable
from barque.client import pki
from barque.client.clock import Clock, timestamp
from barque.client.pki import PkiError
from barque.master.auth.ca import MasterPki
from barque.master.auth.key_wrapping import Wrapped, WrappingError
from barque.master.auth.tokens import JoinTokens
from barque.master.raft.messages import Configuration, MemberInfo
from barque.master.store.group import Group, GroupError
from barque.master.store.port import StoreUnavailableError

log = logging.getLogger(__name__)

JOIN_MASTER_PATH = "/barque/v1/join-master"
_ID = re.compile(r"[0-9a-f]{16}")
_HOST_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class MemberJoinRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What a joining master sends. `csr` is PEM; `wrapping_key` the public half of its one-time key."""

    token: str
    csr: str
    wrapping_key: bytes
    member: MemberInfo


class MemberJoinReply(msgspec.Struct):
    """What it gets: certificate and CA (PEM), the wrapped keys, the cluster's name and id, the members with itself, the
    settings in which all masters must agree (options of `barque master run`), and what time it is here (RFC 3339).
    """

    certificate: str
    ca: str
    keys: Wrapped
    cluster: str
    cluster_id: str
    members: tuple[MemberInfo, ...]
    settings: dict[str, str]
    time: str


class MemberJoining:
    """Answers joining masters. `names` are what every master's certificate is good for besides its own address;
    `settings` as in the reply; `entropy` makes one-time keys.
    """

    def __init__(
        self,
        ca: MasterPki,
        tokens: JoinTokens,
        group: Group,
        cluster_id: str,
        clock: Clock,
        *,
        names: Sequence[str],
        settings: Mapping[str, str],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._ca = ca
        self._tokens = tokens
        self._group = group
        self._cluster_id = cluster_id
        self._clock = clock
        self._names = list(names)
        self._settings = dict(settings)
        self._entropy = entropy

    async def join(self, request: MemberJoinRequest, address: str) -> MemberJoinReply:
        """A place in the group. Raises 400, 401, 409, 429 and 503, each with one sentence."""
        info = request.member
        _check(info)
        await self._tokens.check(request.token, address, "master")
        refused = clash(self._group.configuration, info)
        if refused:
            log.warning("a join from %s is refused: %s", address, refused)
            raise ApiError(409, "Conflict", refused)
        reply = self._reply(request)
        await self._tokens.claim(request.token, address, _joiner(request), f"the master {info.name}")
        try:
            await self._group.add_member(info)
        except GroupError as error:
            raise ApiError(409, "Conflict", str(error)) from error
        except StoreUnavailableError as error:
            raise unavailable(f"{error}; the same command goes on once they do") from error
        log.info("master %s (%s) joins from %s", info.name, info.id, address)
        reply.members = self._group.configuration.members
        return reply

    def _reply(self, request: MemberJoinRequest) -> MemberJoinReply:
        ca, info = self._ca, request.member
        certificate = ca.sign_master(request.csr.encode(), info.name, [info.host, *self._names], self._clock.wall())
        try:
            keys = ca.wrapped_for(request.wrapping_key, wrapping_context(self._cluster_id, info.id), self._entropy)
        except WrappingError as error:
            raise bad_request(f"wrapping_key: {error}") from error
        return MemberJoinReply(
            certificate.decode(), ca.ca_pem.decode(), keys, ca.authority.cluster, self._cluster_id, (), self._settings,
            timestamp(self._clock.wall()),
        )  # fmt: skip


def wrapping_context(cluster_id: str, member: str) -> bytes:
    """What the wrapped keys are bound to."""
    return f"cluster {cluster_id} member {member}".encode()


def clash(configuration: Configuration, info: MemberInfo) -> str:
    """Why this member cannot be added beside those that are there; "" where it can, or is there already."""
    if configuration.info(info.id) == info:
        return ""
    if info.id in configuration.removed:
        return (
            f"member {info.id} was removed from the cluster: empty the data directory of {info.name}, then join it anew"
        )
    for member in configuration.members:
        take_out = f"`barque cluster remove-member {member.name}`"
        if member.id == info.id:
            return (
                f"this joining was begun as {member.name} at {member.peer_address}: go on with those options, or begin "
                f"anew after {take_out}"
            )
        if member.name == info.name:
            return (
                f"a master named {info.name!r} is a member already (at {member.peer_address}): join under another "
                f"--name, or, where that machine is gone for good, first take it out with {take_out}"
            )
        if member.peer_address == info.peer_address:
            return (
                f"{info.peer_address} is the address of the member {member.name}: name this machine's own with "
                f"--address, or, where that member is gone for good, first take it out with {take_out}"
            )
        if _is_loopback(member.host) != _is_loopback(info.host):
            near, far = (member, info) if _is_loopback(member.host) else (info, member)
            return (
                f"{near.name} is at {near.host}, which only its own machine can reach, and {far.name} at {far.host}: "
                f"give {near.name} an --address that all masters reach"
            )
    return ""


def _check(info: MemberInfo) -> None:
    """Raises 400 for what could never be a member."""
    try:
        pki.check_master_name(info.name)
    except PkiError as error:
        raise bad_request(str(error)) from error
    if not _ID.fullmatch(info.id):
        raise bad_request(f"member id {info.id[:40]!r} is not 16 hexadecimal digits")
    if not _is_reachable(info.host):
        raise bad_request(f"--address {info.host[:80]!r} is neither an IPv4 address of a machine nor its name")
    for port in (info.peer_port, info.grpc_port, info.https_port):
        if not 0 < port < 65536:
            raise bad_request(f"{port} is not a port")


def _is_reachable(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _HOST_NAME.fullmatch(host) is not None and not host.replace(".", "").isdigit()
    return isinstance(address, ipaddress.IPv4Address) and not (address.is_unspecified or address.is_multicast)


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.")


def _joiner(request: MemberJoinRequest) -> str:
    """What must be the same when a spent token is shown again: the member, and the keys that only it has. So neither
    token nor answer is of use to anyone who saw them.
    """
    key = pki.read_request(request.csr.encode()).key
    parts = (request.member.id.encode(), pki.spki(key), request.wrapping_key)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
