"""`Audit`: what the doors tell of their requests, and what of it goes to the log.

A door calls `Audit.begin` once it knows who calls and what for, and, where that gives an `AuditCall`, tells it how the
request went on: `started` where a long answer begins, `finish` in the end, or `panicked`. The cost of a request at the
level Metadata is a few microseconds of the loop; what was told is put into words in the writer's thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from random import Random
from secrets import randbits
from typing import NamedTuple, Protocol

from barque.client.clock import Clock, random_uuid
from barque.master.audit import events
from barque.master.audit.events import DECISION, REASON, Line, Origin
from barque.master.audit.log_file import STDOUT, LogFile, Rotation, StandardOutput
from barque.master.audit.policy import (
    COMPLETE,
    METADATA_OF_ALL,
    NONE,
    PANIC,
    RECEIVED,
    STARTED,
    Evaluation,
    Policy,
    PolicyError,
    Verdict,
    read_policy,
)
from barque.master.audit.writer import AuditWriter
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import User

_MAX_AUDIT_ID = 64
# It goes into a header and, as it is, between quotes.
_ID = re.compile(r"[A-Za-z0-9._:-]+", re.ASCII)
# One for each binding that somebody's requests were allowed by.
_KEPT = 4096
_NO_WORDS: Mapping[str, str] = {}


class AuditSettings(NamedTuple):
    """What an operator sets. `log_path` is a file, "-" for standard output, "" for no log; without `policy_file` the
    metadata of every request is written.
    """

    log_path: str = ""
    policy_file: Path | None = None
    rotation: Rotation = Rotation()


class Lines(Protocol):
    """Where finished events go to: `writer.AuditWriter`."""

    def put(self, line: Line) -> None: ...


class Audit:
    """The audit of one master, for all its doors."""

    def __init__(self, policy: Policy, lines: Lines, clock: Clock, entropy: Random | None = None) -> None:
        self._evaluation = Evaluation(policy)
        self.lines = lines
        self.clock = clock
        # Ids must be unique, not secret.
        self._entropy = entropy or Random(randbits(256))

    def begin(self, request: Attributes, origin: Origin) -> AuditCall | None:
        """The record of this request, None where policy wants nothing of it. Its user is who was authenticated."""
        verdict = self._evaluation.verdict(request)
        if verdict.level == NONE:
            return None
        given = origin.audit_id[:_MAX_AUDIT_ID]
        return AuditCall(self, verdict, given if _ID.fullmatch(given) else random_uuid(self._entropy), request, origin)


class AuditCall:
    """One request under way. `impersonated` is whom the caller acts as, set once that is allowed; `id` goes into the
    answer's header Audit-ID.
    """

    __slots__ = ("_audit", "_origin", "_over", "_received", "_request", "_verdict", "_words", "id", "impersonated")

    def __init__(self, audit: Audit, verdict: Verdict, audit_id: str, request: Attributes, origin: Origin) -> None:
        self.id = audit_id
        self.impersonated: User | None = None
        self._audit = audit
        self._verdict = verdict
        self._request = request
        self._origin = origin
        self._words = _NO_WORDS
        self._over = False
        self._received = audit.clock.wall()
        if RECEIVED not in verdict.omit_stages:
            self._put(RECEIVED)

    def annotate(self, key: str, value: str) -> None:
        """Say more about this request; what was said first stays."""
        if key not in self._words:
            self._words = {**self._words, key: value}

    def decided(self, allowed: bool, reason: str = "") -> None:
        """What the authoriser said."""
        words = _decided(allowed, reason)
        # Requests share these, of which thousands may last.
        self._words = words if not self._words else {**self._words, **words, **self._words}

    def started(self, code: int = 200) -> None:
        """The headers of an answer that will last (a watch, a stream) have been sent."""
        if STARTED not in self._verdict.omit_stages:
            self._put(STARTED, code)

    def finish(
        self, code: int, message: str = "", reason: str = "", request_body: bytes = b"", response_body: bytes = b""
    ) -> None:
        """The answer has been sent. `code` is HTTP's, also at the gRPC door; `reason` a Status' reason.

        Bodies are shown where policy says so. Only the first call counts.
        """
        if self._over:
            return
        self._over = True
        request, verdict = self._request, self._verdict
        if request.verb == "create" and not request.name and request_body and code < 400:
            self._request = request._replace(name=events.name_in(response_body or request_body))
        if COMPLETE in verdict.omit_stages:
            return
        if DECISION not in self._words:
            self.decided(code != 403, message if code == 403 else "")
        shown = request_body if verdict.with_request else b""
        self._put(COMPLETE, code, message, reason, shown, response_body if verdict.with_response else b"")

    def panicked(self, message: str) -> None:
        """The request ended in a fault of ours."""
        if not self._over and PANIC not in self._verdict.omit_stages:
            self._over = True
            self._put(PANIC, 500, message, "InternalError")

    def _put(
        self,
        stage: str,
        code: int = 0,
        message: str = "",
        reason: str = "",
        request_body: bytes = b"",
        response_body: bytes = b"",
    ) -> None:
        audit, verdict = self._audit, self._verdict
        at = self._received if stage == RECEIVED else audit.clock.wall()
        line = Line(
            verdict.level, self.id, stage, self._origin, self._request, self._received, at, self._words,
            self.impersonated, code, message, reason, request_body, response_body, verdict.omit_managed_fields,
        )  # fmt: skip
        audit.lines.put(line)


@lru_cache(_KEPT)
def _decided(allowed: bool, reason: str) -> Mapping[str, str]:
    return {DECISION: "allow" if allowed else "forbid", REASON: reason}


def open_audit(settings: AuditSettings, clock: Clock) -> tuple[Audit, AuditWriter] | None:
    """The audit that these settings want, with its writer to start and to close; None where none is wanted.

    Raises `PolicyError` naming the file and every faulty field of it.
    """
    if not settings.log_path:
        return None
    policy = METADATA_OF_ALL if settings.policy_file is None else load_policy(settings.policy_file)
    path = settings.log_path
    sink = StandardOutput() if path == STDOUT else LogFile(Path(path), settings.rotation, clock.wall)
    writer = AuditWriter(sink)
    return Audit(policy, writer, clock), writer


def load_policy(path: Path) -> Policy:
    """The policy of a file. Raises `PolicyError`."""
    try:
        return read_policy(path.read_bytes())
    except OSError as error:
        raise PolicyError(f"the audit policy {path} cannot be read: {error.strerror}") from error
    except PolicyError as error:
        raise PolicyError(f"the audit policy {path} is refused: {error}") from error
