"""The `Cluster` service: the masters and their group, join tokens, renewed certificates, snapshots, the key of Secrets.

What it tells comes from callables that the daemon hands in and from the group; tokens and certificates from whoever
keeps the CA. Who holds a snapshot holds everything, so all but status and renewal is for administrators alone: masters,
and whoever may `post` to the path that stands for the call, `/barque/v1/cluster/snapshots/save` and the like. None of
them is a `get`, so that somebody who may read every path gets nothing of it. What needs a majority of the masters is
refused in words where there is none; `Status` and `RecoverQuorum` need none.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeAlias

from barque.api.errors import ApiError, bad_request, unavailable
from barque.client.clock import Clock, timestamp
from barque.master.apiserver.group_status import GroupView
from barque.master.apiserver.grpc_audit import GrpcAudit, Recorded
from barque.master.apiserver.grpc_calls import Bounds, Context, Handled
from barque.master.audit.audit import Audit
from barque.master.auth.attributes import ALLOW, Attributes, Decision
from barque.master.auth.authorizer import forbidden
from barque.master.auth.identity import User
from barque.master.auth.tokens import Joiner
from barque.master.raft.messages import MemberInfo
from barque.master.stalls import Stalls
from barque.master.store.group import Group, GroupError
from barque.master.store.port import SnapshotRefusedError, Store, StoreUnavailableError
from barque.proto import cluster_pb2 as pb
from barque.proto import cluster_pb2_grpc

log = logging.getLogger(__name__)

# What roles give a right to: this verb on these paths.
VERB, PATHS = "post", "/barque/v1/cluster/"
# `Authorizer.authorize_path`: raises 403.
AuthorizePath: TypeAlias = Callable[[User, str, str], Awaitable[Decision]]


async def masters_alone(user: User, verb: str, path: str) -> Decision:
    """What is asked where there are no roles. Raises 403."""
    if not user.is_master:
        raise forbidden(Attributes(user, verb, path=path))
    return ALLOW


class IssuedToken(Protocol):
    @property
    def token(self) -> str: ...

    @property
    def expires(self) -> datetime.datetime: ...


class TokenIssuer(Protocol):
    """Makes join tokens; kept before it returns. 0 seconds mean its own default."""

    async def create(self, ttl_s: int = 0, joins: Joiner = "worker") -> IssuedToken: ...


class Signer(Protocol):
    """Issues certificates. Raises `ApiError`."""

    @property
    def pin(self) -> str:
        """The CA's pin, by which a joiner knows it."""
        ...

    def sign(self, csr_pem: bytes, user: User, now: datetime.datetime) -> bytes:
        """A certificate (PEM) of `user`'s own identity for the request's key."""
        ...


@dataclass(frozen=True)
class ClusterState:
    """What `Status` tells; the callables are asked on every call. `members` is for a store without a group."""

    version: str
    members: Callable[[], Sequence[pb.Member]]
    components: Callable[[], Sequence[pb.Component]]
    https_port: Callable[[], int]
    stalls: Callable[[], Stalls]


class ClusterService(cluster_pb2_grpc.ClusterServicer):
    """Status is open to every certificate of the cluster, renewal to each for itself, the rest to administrators.

    `group` is None where the store has no other masters beside it. Where its members do not vote among themselves,
    because an etcd keeps their state, `votes` is false: then there is nothing to tell of terms and logs.
    """

    def __init__(
        self,
        state: ClusterState,
        store: Store,
        tokens: TokenIssuer,
        signer: Signer,
        clock: Clock,
        bounds: Bounds | None = None,
        group: Group | None = None,
        votes: bool = True,
        audit: Audit | None = None,
        authorize: AuthorizePath = masters_alone,
    ) -> None:
        self._authorize = authorize
        self._audit = GrpcAudit(audit)
        self._group = group
        self._votes = votes
        self._state = state
        self._store = store
        self._tokens = tokens
        self._signer = signer
        self._clock = clock
        self._bounds = bounds or Bounds()

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusReply:
        async with (
            Handled(context, self._bounds) as user,
            self._audit.of_path(context, user, "/barque.v1.Cluster/Status"),
        ):
            state, view = self._state, self._view()
            return pb.StatusReply(
                cluster_id=self._store.cluster_id,
                version=state.version,
                members=view.members() if view else state.members(),
                group=view.status() if view else None,
                revision=self._store.revision,
                components=state.components(),
                https_port=state.https_port(),
                store=self._figures(),
            )

    async def CreateJoinToken(self, request: pb.CreateJoinTokenRequest, context: Context) -> pb.CreateJoinTokenReply:
        async with (
            Handled(context, self._bounds) as user,
            self._audit.of_path(context, user, "/barque.v1.Cluster/CreateJoinToken") as record,
        ):
            await self._check_may(user, "join-tokens", record)
            if request.for_master:
                self._grouped()
            issued = await self._tokens.create(request.ttl_s, "master" if request.for_master else "worker")
            return pb.CreateJoinTokenReply(
                token=issued.token, ca_pin=self._signer.pin, expires=timestamp(issued.expires)
            )

    async def RenewCertificate(self, request: pb.RenewCertificateRequest, context: Context) -> pb.RenewCertificateReply:
        async with (
            Handled(context, self._bounds) as user,
            self._audit.of_path(context, user, "/barque.v1.Cluster/RenewCertificate"),
        ):
            certificate = self._signer.sign(request.csr_pem, user, self._clock.wall())
            return pb.RenewCertificateReply(certificate_pem=certificate)

    async def SaveSnapshot(self, request: pb.SaveSnapshotRequest, context: Context) -> AsyncIterator[pb.SnapshotChunk]:
        async with (
            Handled(context, self._bounds, "streams") as user,
            self._audit.of_path(context, user, "/barque.v1.Cluster/SaveSnapshot") as record,
        ):
            await self._check_may(user, "snapshots/save", record)
            chunks = self._store.save_snapshot()
            try:
                async for data in chunks:
                    yield pb.SnapshotChunk(data=data)
            except StoreUnavailableError as busy:
                raise unavailable(str(busy)) from busy
            finally:
                await chunks.aclose()  # type: ignore[attr-defined]  # the port promises it

    async def RestoreSnapshot(
        self, request_iterator: AsyncIterator[pb.SnapshotChunk], context: Context
    ) -> pb.RestoreSnapshotReply:
        async with (
            Handled(context, self._bounds, "streams") as user,
            self._audit.of_path(context, user, "/barque.v1.Cluster/RestoreSnapshot") as record,
        ):
            await self._check_may(user, "snapshots/restore", record)
            try:
                restored = await self._store.restore_snapshot(_whole(request_iterator))
            except SnapshotRefusedError as refused:
                raise bad_request(f"the snapshot is refused, nothing was changed: {refused}") from refused
            except StoreUnavailableError as busy:
                raise unavailable(str(busy)) from busy
            return pb.RestoreSnapshotReply(revision=restored.revision, objects=restored.objects)

    async def RotateKey(self, request: pb.RotateKeyRequest, context: Context) -> pb.RotateKeyReply:
        async with (
            Handled(context, self._bounds) as user,
            self._audit.of_path(context, user, "/barque.v1.Cluster/RotateKey") as record,
        ):
            await self._check_may(user, "key/rotate", record)
            try:
                rotated = await self._store.rotate_key()
            except StoreUnavailableError as full:
                raise unavailable(str(full)) from full
            return pb.RotateKeyReply(key_id=rotated.key_id, secrets=rotated.secrets)

    async def RemoveMember(self, request: pb.RemoveMemberRequest, context: Context) -> pb.RemoveMemberReply:
        async with (
            Handled(context, self._bounds) as user,
            self._audit.of_path(context, user, "/barque.v1.Cluster/RemoveMember") as record,
            _Changing(),
        ):
            await self._check_may(user, "masters/remove", record)
            asked = request.member
            group, view = self._grouped()
            member = _member(group, asked)
            risk = view.removal_risk(member) if view else ""
            if risk and not request.force:
                raise ApiError(409, "Conflict", risk)
            await group.remove_member(member.id)
            log.warning("%s has removed the master %s (%s)", user.name, member.name, member.id)
            return pb.RemoveMemberReply(name=member.name, id=member.id, voters=_voters(group))

    async def TransferLeadership(
        self, request: pb.TransferLeadershipRequest, context: Context
    ) -> pb.TransferLeadershipReply:
        async with (
            Handled(context, self._bounds) as user,
            self._audit.of_path(context, user, "/barque.v1.Cluster/TransferLeadership") as record,
            _Changing(),
        ):
            await self._check_may(user, "leadership/transfer", record)
            asked = request.to
            group, _ = self._grouped()
            to = _member(group, asked).id if asked else ""
            began = self._clock.monotonic()
            leader = await group.transfer(to)
            return pb.TransferLeadershipReply(leader=leader, took_ms=(self._clock.monotonic() - began) * 1000)

    async def RecoverQuorum(self, request: pb.RecoverQuorumRequest, context: Context) -> pb.RecoverQuorumReply:
        async with (
            Handled(context, self._bounds) as user,
            self._audit.of_path(context, user, "/barque.v1.Cluster/RecoverQuorum") as record,
            _Changing(),
        ):
            await self._check_may(user, "quorum/recover", record)
            asked = request.member
            group, view = self._grouped()
            if view is None:
                await group.recover_quorum()
            meant, own = _member(group, asked), _member(group, group.member_id)
            if meant.id != own.id:
                raise ApiError(409, "Conflict", f"this is the master {own.name}, not {meant.name}: nothing was changed")
            log.warning("%s has the master %s go on without the others", user.name, own.name)
            recovered = await group.recover_quorum()
            return pb.RecoverQuorumReply(revision=recovered.revision, objects=recovered.objects)

    async def _check_may(self, user: User, what: str, record: Recorded) -> None:
        """Raises 403 where the user may not do this to the cluster."""
        record.decided(await self._authorize(user, VERB, PATHS + what))

    def _view(self) -> GroupView | None:
        if self._group is None or not self._votes:
            return None
        return GroupView(self._group.configuration, self._group.group_figures())

    def _grouped(self) -> tuple[Group, GroupView | None]:
        """The group and how it is, where its members vote. Raises 409 where there is none."""
        if self._group is None:
            raise ApiError(409, "Conflict", "this master's store is no group of masters")
        return self._group, self._view()

    def _figures(self) -> pb.StoreFigures:
        return pb.StoreFigures(**self._store.figures()._asdict(), loop_stall_max_ms=self._state.stalls().max_ms)


class _Changing:
    """What a change of the group raises, in the API's words."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, GroupError):
            raise ApiError(409, "Conflict", str(error)) from error
        if isinstance(error, StoreUnavailableError):
            raise unavailable(str(error)) from error


def _member(group: Group, named: str) -> MemberInfo:
    """The member of this id or name. Raises 404."""
    members = group.configuration.members
    found = next((info for info in members if named in (info.id, info.name)), None)
    if found is None:
        names = ", ".join(sorted(info.name for info in members)) or "none that this master knows"
        raise ApiError(404, "NotFound", f'master "{named}" not found; there are {names}')
    return found


def _voters(group: Group) -> list[str]:
    configuration = group.configuration
    return sorted(info.name for info in configuration.members if info.id in configuration.voters)


async def _whole(chunks: AsyncIterator[pb.SnapshotChunk]) -> AsyncIterator[bytes]:
    """The bytes of the chunks. Raises 400 where fewer or more came than the first one announced."""
    announced = received = 0
    async for chunk in chunks:
        announced = announced or chunk.total_bytes
        received += len(chunk.data)
        yield chunk.data
    if announced and announced != received:
        raise bad_request(f"{received} of {announced} bytes of the snapshot came; nothing was changed")
