"""The audit of the gRPC door: each call as the request that it is, in the words of the REST API.

`async with Handled(…) as user, audit.of(context, user, "create", target, body) as record:` is the frame of an audited
call. A write of a batch is a request of its own, with the batch's path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import TracebackType
from urllib.parse import unquote

from barque.api.errors import ApiError
from barque.master.apiserver.grpc_calls import CallerLeft, Context
from barque.master.audit.audit import Audit, AuditCall
from barque.master.audit.events import Origin
from barque.master.auth.attributes import Attributes, Decision
from barque.master.auth.identity import User
from barque.proto import resources_pb2 as pb

# Peers whose addresses are kept.
_KEPT = 4096


class GrpcAudit:
    """`audit` is None where nothing is audited."""

    def __init__(self, audit: Audit | None) -> None:
        self._audit = audit

    def of(
        self, context: Context, user: User, verb: str, method: str, target: pb.Target, body: bytes = b""
    ) -> Recorded:
        """The frame of a call about a resource; `method` is its path at the door, `/barque.v1.Resources/Get`."""
        if self._audit is None:
            return Recorded(None, verb, body)
        request = Attributes(
            user, verb, target.group, target.version, target.resource, target.subresource, target.namespace, target.name
        )
        return Recorded(self._audit.begin(request, _origin(context, method)), verb, body)

    def of_path(self, context: Context, user: User, method: str) -> Recorded:
        """The frame of a call that is about no resource."""
        if self._audit is None:
            return Recorded(None, "post", b"")
        request = Attributes(user, "post", path=method)
        return Recorded(self._audit.begin(request, _origin(context, method)), "post", b"")

    def of_batch(self, context: Context, user: User, method: str, writes: Sequence[pb.Write]) -> Batched:
        """The records of a batch's writes."""
        if self._audit is None:
            return Batched([])
        return Batched([self._of_write(context, user, method, write) for write in writes])

    def _of_write(self, context: Context, user: User, method: str, write: pb.Write) -> Recorded:
        match write.WhichOneof("verb"):
            case "create":
                return self.of(context, user, "create", method, write.create.target, write.create.json)
            case "update":
                return self.of(context, user, "update", method, write.update.target, write.update.json)
            case "patch":
                return self.of(context, user, "patch", method, write.patch.target, write.patch.patch)
            case _:
                return self.of(context, user, "delete", method, write.delete.target, write.delete.options)


class Recorded:
    """One audited call. Set `answer` to the object it is answered with; say `started` where a long answer begins."""

    __slots__ = ("_body", "_call", "_verb", "answer", "started")

    def __init__(self, call: AuditCall | None, verb: str, body: bytes) -> None:
        self._call = call
        self._verb = verb
        self._body = body
        self.answer = b""
        self.started: Callable[[], None] = call.started if call is not None else _nothing

    def decided(self, decision: Decision) -> None:
        """The authoriser has allowed the call."""
        if self._call is not None:
            self._call.decided(decision.allowed, decision.reason)

    async def __aenter__(self) -> Recorded:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._call is None:
            return
        if isinstance(error, Exception) and not isinstance(error, (ApiError, CallerLeft)):
            self._call.panicked("an internal error occurred; the master's log says which")
        else:
            # A caller who goes away has had the answer so far.
            self.end(error if isinstance(error, ApiError) else None)

    def end(self, refused: ApiError | None) -> None:
        """The call is over."""
        if self._call is None:
            return
        if refused is not None:
            self._call.finish(refused.code, refused.message, refused.reason, self._body)
        else:
            code = 201 if self._verb == "create" else 200
            self._call.finish(code, request_body=self._body, response_body=self.answer)


class Batched:
    """The `records` of a batch: `end` them with what the writes were answered."""

    def __init__(self, records: Sequence[Recorded]) -> None:
        self.records = records

    async def __aenter__(self) -> Batched:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            for record in self.records:
                await record.__aexit__(kind, error, traceback)

    def end(self, answers: Sequence[bytes | ApiError]) -> None:
        """One answer for each write, in order."""
        for record, answer in zip(self.records, answers, strict=False):
            if isinstance(answer, bytes):
                record.answer = answer
            record.end(answer if isinstance(answer, ApiError) else None)


def _nothing() -> None: ...


def _origin(context: Context, method: str) -> Origin:
    metadata = context.invocation_metadata() or ()
    agent = next((value for key, value in metadata if key == "user-agent"), "")
    return Origin(method, _address(context.peer()), str(agent))


@lru_cache(_KEPT)
def _address(peer: str) -> str:
    """The address of gRPC's `ipv4:10.0.0.1:1234` or `ipv6:%5B::1%5D:1234`."""
    family, _, place = unquote(peer).partition(":")
    return place.rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else ""
