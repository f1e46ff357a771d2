"""`RestCall`: one request at the REST door, once it is known what it asks for and who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

from barque.api.errors import ApiError
from barque.master.apiserver.rest.request_info import RequestInfo
from barque.master.auth.attributes import Decision
from barque.master.auth.identity import User

if TYPE_CHECKING:
    from barque.client.verbs import Target
    from barque.master.audit.audit import AuditCall
    from barque.master.metrics.requests import Running


class Ending:
    """What is noted at the end of a request: in the audit log and in the figures. Call it once."""

    __slots__ = ("_audit", "_running")

    def __init__(self, running: Running | None) -> None:
        self._running = running
        self._audit: AuditCall | None = None

    def audited(self, audit: AuditCall | None) -> None:
        """The record, from now on."""
        self._audit = audit

    def __call__(
        self,
        code: int,
        refused: ApiError | None = None,
        body: bytes = b"",
        answer: bytes = b"",
        *,
        applies: bool = False,
    ) -> None:
        """It was answered with this HTTP status; `refused` is why, where it was."""
        if self._running is not None:
            self._running.end(code, applies=applies)
        if self._audit is not None:
            message, reason = (refused.message, refused.reason) if refused is not None else ("", "")
            self._audit.finish(code, message, reason, body, answer)


@dataclass(slots=True)
class RestCall:
    """`warnings` become the answer's Warning headers; `body` is the request's once it has been read, `answer` the
    response's where it is one piece: for the audit log. `target` is what it is about, once that has been looked up.
    """

    request: web.BaseRequest
    info: RequestInfo
    user: User
    warnings: list[str] = field(default_factory=list)
    audit: AuditCall | None = None
    body: bytes = b""
    answer: bytes = b""
    ending: Ending | None = None
    outlived: bool = False
    target: Target | None = None

    def outlive(self) -> Ending | None:
        """For a handler that answers on after it has returned: what it is to call then, instead of the frame."""
        self.outlived = True
        return self.ending

    def decided(self, decision: Decision) -> None:
        """The authoriser has allowed the request."""
        if self.audit is not None:
            self.audit.decided(decision.allowed, decision.reason)

    @property
    def query(self) -> dict[str, str]:
        """The query's first value of each name."""
        found: dict[str, str] = {}
        for name, value in self.request.query.items():
            found.setdefault(name, value)
        return found


Handler: TypeAlias = Callable[[RestCall], Awaitable[web.StreamResponse]]
