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

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
# Server-side apply; the body is the applied configuration as JSON or YAML.
APPLY_PATCH = "application/apply-patch+yaml"

# What of each object comes with its row of a table.
IncludeObject = Literal["Metadata", "Object", "None"]


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
    """`field_manager` names who owns the written fields; `force` takes fields from other managers (apply only)."""

    dry_run: bool = False
    field_manager: str = ""
    field_validation: Literal["", "Ignore", "Warn", "Strict"] = ""
    force: bool = False


class Page(NamedTuple):
    """Which part of a list, and of which revision, as in Kubernetes' ListOptions.

    At most `limit` objects (0: all) beginning where the token `continue_` of the page before ended. `match` is
    "Exact" or "NotOlderThan" and says how `resource_version` is meant.
    """

    limit: int = 0
    continue_: str = ""
    resource_version: str = ""
    match: Literal["", "Exact", "NotOlderThan"] = ""


class RawList(NamedTuple):
    """Objects of one revision, as JSON bytes. `continue_` is "" on the last page; `remaining` None where unknown."""

    items: list[bytes]
    resource_version: str
    continue_: str = ""
    remaining: int | None = None


class RawTable(NamedTuple):
    """Rows of one revision. `columns` is the JSON list of metav1.TableColumnDefinition, each row a metav1.TableRow."""

    columns: bytes
    rows: list[bytes]
    resource_version: str
    continue_: str = ""
    remaining: int | None = None


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

    async def get(self, target: Target, resource_version: str = "") -> bytes:
        """The object, not older than `resource_version` where that is given. Raises 404."""
        ...

    def watch(
        self,
        target: Target,
        selection: Selection = Selection(),
        resource_version: str = "",
        rows: IncludeObject | None = None,
    ) -> AsyncIterator[Sequence[RawEvent]]:
        """Changes after `resource_version`, in order and without a gap; "" starts with an ADDED for each present object
        followed by a BOOKMARK. A BOOKMARK also comes at least once a minute. Raises 410 where the history is gone; ends
        with `ServiceUnavailable` where the connection breaks. With `rows` each event carries the object's table row
        instead of the object. Close it with `aclose()`.
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

    async def list(self, target: Target, selection: Selection = Selection(), page: Page = Page()) -> RawList:
        """The selected objects; all pages of one list are of one revision. Raises 410 where that revision is gone."""
        ...

    async def table(
        self,
        target: Target,
        selection: Selection = Selection(),
        page: Page = Page(),
        include: IncludeObject = "Metadata",
    ) -> RawTable:
        """The same as rows for people to read; a target with a name is that object's row, 404 where there is none."""
        ...

    async def delete_collection(
        self, target: Target, selection: Selection = Selection(), options: bytes = b""
    ) -> RawList:
        """Delete every selected object, each as `delete` would; returns them as they are then."""
        ...
