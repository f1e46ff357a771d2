"""The verbs of the cluster, on bytes: the one interface behind which stand the gRPC door and the in-process registry.

Implemented by `client.remote.RemoteVerbs` (gRPC) and, on a master, by `master.apiserver.registry`. Every method raises
`barque.api.errors.ApiError`; a call that cannot reach any master raises one with reason `ServiceUnavailable`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, NamedTuple, Protocol

from barque.api.errors import ApiError
from barque.api.resources import Resource

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"


class Target(NamedTuple):
    """What a verb is about.

    `name` is "" for lists and creates, `namespace` "" for cluster scope and for all namespaces.
    """

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Selection(NamedTuple):
    """Label and field selectors as strings ("app=web,tier in (a,b)", "spec.nodeName=n1"); "" selects all."""

    labels: str = ""
    fields: str = ""


class WriteOptions(NamedTuple):
    dry_run: bool = False
    field_manager: str = ""
    field_validation: Literal["", "Ignore", "Warn", "Strict"] = ""


class RawList(NamedTuple):
    """Objects of one revision, as JSON bytes."""

    items: list[bytes]
    resource_version: str


class RawEvent(NamedTuple):
    """One change. DELETED carries the last state; BOOKMARK carries no object, only the revision reached."""

    type: EventType
    json: bytes
    revision: int


class Create(NamedTuple):
    target: Target
    json: bytes


class Update(NamedTuple):
    target: Target
    json: bytes


class Patch(NamedTuple):
    target: Target
    content_type: str
    patch: bytes


class Delete(NamedTuple):
    target: Target
    options: bytes = b""


Write = Create | Update | Patch | Delete


class Verbs(Protocol):
    """Every verb on every served resource, with one caller's identity bound in."""

    async def get(self, target: Target) -> bytes: ...

    def watch(
        self, target: Target, selection: Selection = Selection(), resource_version: str = ""
    ) -> AsyncIterator[Sequence[RawEvent]]:
        """Changes after `resource_version`, in order and without a gap; "" starts with an ADDED for each present object
        followed by a BOOKMARK. A BOOKMARK also comes at least once a minute. Raises 410 where the history is gone; ends
        with `ServiceUnavailable` where the connection breaks. Close it with `aclose()`.
        """
        ...

    async def create(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes: ...

    async def update(self, target: Target, body: bytes, options: WriteOptions = WriteOptions()) -> bytes: ...

    async def patch(
        self, target: Target, content_type: str, patch: bytes, options: WriteOptions = WriteOptions()
    ) -> bytes: ...

    async def delete(self, target: Target, options: bytes = b"") -> bytes:
        """Delete one object; `options` is metav1.DeleteOptions as JSON. Returns the object as it is then: gone, or
        carrying a deletionTimestamp.
        """
        ...

    async def batch(self, writes: Sequence[Write]) -> list[bytes | ApiError]:
        """Each write is atomic alone and answered alone, in order; together they share one proposal to the store."""
        ...

    async def list(self, target: Target, selection: Selection = Selection()) -> RawList: ...
