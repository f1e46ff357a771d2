"""Events of audit.k8s.io/v1 as lines of JSON.

A `Line` is what a door has told; the thread that writes it puts it into words, of parts that are kept encoded, with
bodies as they came, without white space. Key order is Kubernetes'. Pure.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from barque.client.clock import micro_timestamp
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import User

DECISION, REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"
# A body beyond this is left out, and an annotation says so, as Kubernetes' truncating backend does.
MAX_BODY_BYTES = 1536 * 1024
_TRUNCATED = '"audit.k8s.io/truncated":"true"'
# What waits with a line besides what its caller may make long.
_FRAME_BYTES = 1024
# Encoded users, agents and addresses that are kept.
_KEPT = 4096
_encode = msgspec.json.Encoder().encode


class Origin(NamedTuple):
    """Where a request came from. `audit_id` is the one that the caller chose, "" for one of ours."""

    uri: str
    address: str = ""
    agent: str = ""
    audit_id: str = ""


class Line(NamedTuple):
    """One event as it was told; `render`, for the writer's thread, puts it into words.

    `words` are the annotations, and are not changed any more. `code` is HTTP's, 0 before there is an answer; `message`
    and `reason` are a refusal's. Bodies are b"" where none is shown.
    """

    level: str
    audit_id: str
    stage: str
    origin: Origin
    request: Attributes
    received: datetime.datetime
    at: datetime.datetime
    words: Mapping[str, str]
    impersonated: User | None = None
    code: int = 0
    message: str = ""
    reason: str = ""
    request_body: bytes = b""
    response_body: bytes = b""
    omit_managed_fields: bool = False

    @property
    def size(self) -> int:
        """About how many bytes of memory wait with it."""
        return (
            _FRAME_BYTES + len(self.origin.uri) + len(self.message) + len(self.request_body) + len(self.response_body)
        )

    def render(self) -> bytes:
        """The line, with its end."""
        request, user, origin = self.request, self.impersonated, self.origin
        also = f',"impersonatedUser":{_user(user)}' if user is not None else ""
        status = _response_status(self.code, self.message, self.reason) if self.code else ""
        head = (
            '{"kind":"Event","apiVersion":"audit.k8s.io/v1",'
            f'"level":"{self.level}","auditID":"{self.audit_id}","stage":"{self.stage}","requestURI":{_text(origin.uri)},'
            f'"verb":{_word(request.verb)},"user":{_user(request.user)}{also}{_source(origin.address, origin.agent)}'
            f"{_object_reference(request)}{status}"
        )
        received, at = micro_timestamp(self.received), micro_timestamp(self.at)
        tail = f',"requestReceivedTimestamp":"{received}","stageTimestamp":"{at}"'
        said = _members(self.words)
        if not self.request_body and not self.response_body:
            return f'{head}{tail},"annotations":{{{said}}}}}\n'.encode()
        asked, cut = _body("requestObject", self.request_body, self.omit_managed_fields)
        told, cut_too = _body("responseObject", self.response_body, self.omit_managed_fields)
        said = ",".join(filter(None, (said, _TRUNCATED if cut or cut_too else "")))
        return b"".join((head.encode(), asked, told, f'{tail},"annotations":{{{said}}}}}\n'.encode()))


def _object_reference(request: Attributes) -> str:
    """What the request is about; "" for a path that is no resource."""
    if request.path or not request.resource:
        return ""
    where = f'"resource":{_word(request.resource)}'
    if request.namespace:
        where += f',"namespace":{_word(request.namespace)}'
    if request.name:
        where += f',"name":{_text(request.name)}'
    if request.group:
        where += f',"apiGroup":{_word(request.group)}'
    if request.version:
        where += f',"apiVersion":{_word(request.version)}'
    if request.subresource:
        where += f',"subresource":{_word(request.subresource)}'
    return f',"objectRef":{{{where}}}'


def _response_status(code: int, message: str = "", reason: str = "") -> str:
    """How the request ended: the HTTP code, and what a refusal said."""
    if code < 400:
        return _success(code)
    said = f',"message":{_text(message)}' if message else ""
    why = f',"reason":{_word(reason)}' if reason else ""
    return f',"responseStatus":{{"metadata":{{}},"status":"Failure"{said}{why},"code":{code}}}'


@lru_cache(_KEPT)
def _success(code: int) -> str:
    return f',"responseStatus":{{"metadata":{{}},"code":{code}}}'


def _members(words: Mapping[str, str]) -> str:
    """Annotations as JSON members; nearly every event has those of a request that was allowed, and no others."""
    if len(words) == 2 and words.get(DECISION) == "allow" and REASON in words:
        return _allowed(words[REASON])
    return ",".join([f"{_word(key)}:{_text(value)}" for key, value in words.items()])


@lru_cache(_KEPT)
def _allowed(reason: str) -> str:
    return f'{_word(DECISION)}:"allow",{_word(REASON)}:{_text(reason)}'


class _Named(msgspec.Struct):
    name: str = ""


class _Object(msgspec.Struct):
    metadata: _Named | None = None


_read_name = msgspec.json.Decoder(_Object).decode


def name_in(body: bytes) -> str:
    """The name of an object's JSON, "" where it says none."""
    try:
        found = _read_name(body).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return found.name if found is not None else ""


def _body(field: str, body: bytes, omit_managed_fields: bool) -> tuple[bytes, bool]:
    """The member with the body, b"" where it is no JSON; whether it was too large to show."""
    if not body:
        return b"", False
    if len(body) > MAX_BODY_BYTES:
        return b"", True
    try:
        if omit_managed_fields and b'"managedFields"' in body:
            shown = _encode(_without_managed_fields(msgspec.json.decode(body)))
        else:
            shown = msgspec.json.format(body, indent=-1)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b"", False
    return b',"%b":%b' % (field.encode(), shown), False


def _without_managed_fields(document: Any) -> Any:
    """An object, or a list of objects, without those of its own."""
    if not isinstance(document, dict):
        return document
    items = document.get("items")
    for each in (document, *(items if isinstance(items, list) else ())):
        if isinstance(each, dict) and isinstance(each.get("metadata"), dict):
            each["metadata"].pop("managedFields", None)
    return document


def _text(text: str) -> str:
    try:
        return _encode(text).decode()
    except UnicodeEncodeError:
        # Half a character, from a header or path that is no UTF-8.
        return _encode(text.encode("utf-8", "replace").decode()).decode()


def _texts(texts: Iterable[str]) -> str:
    return f"[{','.join(map(_text, texts))}]"


@lru_cache(_KEPT)
def _word(text: str) -> str:
    """Of words that come again and again."""
    return _text(text)


@lru_cache(_KEPT)
def _user(user: User) -> str:
    facts = [f'"username":{_text(user.name)}'] if user.name else []
    if user.uid:
        facts.append(f'"uid":{_text(user.uid)}')
    if user.groups:
        facts.append(f'"groups":{_texts(user.groups)}')
    if user.extra:
        extra = ",".join(f"{_text(name)}:{_texts(values)}" for name, values in user.extra)
        facts.append(f'"extra":{{{extra}}}')
    return f"{{{','.join(facts)}}}"


@lru_cache(_KEPT)
def _source(address: str, agent: str) -> str:
    addresses = f',"sourceIPs":[{_text(address)}]' if address else ""
    return addresses + (f',"userAgent":{_text(agent)}' if agent else "")
