"""The store's port: the contract every API verb stands on, and every engine behind it keeps.

Each op is atomic alone: its compares, one object, and reservation keys, under one revision of its own. Ops of one
`commit` share an append and an fsync. `apply` is deterministic and never parses JSON: whatever it must know of an
object (labels, selectable fields, where the revision goes) travels in the op. See docs/store.md.

What is stored is of structs without cycle collection (`gc=False`: these are trees): tens of thousands of tracked tuples
would hold the event loop for 80 ms at every full collection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

# The selectable fields that every object has.
NAME_FIELD = "metadata.name"
NAMESPACE_FIELD = "metadata.namespace"


class Key(msgspec.Struct, frozen=True, order=True, gc=False, array_like=True):
    """Where an object stands; `resource` is `pods`, `deployments.apps`, …; `namespace` is "" for cluster scope."""

    resource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.resource}/{self.namespace}/{self.name}"


class Absent(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """No object stands at `key`."""

    key: Key


class RevisionIs(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """The object at `key` exists and was last written at `revision`."""

    key: Key
    revision: int


class FieldIs(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """The object at `key` exists and its selectable field has this value ("a live namespace", "the current epoch")."""

    key: Key
    field: str
    value: str


Compare = Absent | RevisionIs | FieldIs


class Op(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One atomic write.

    `json`/`slot` as in `barque.api.codec.Slotted`; `json` is b"" for a delete. `reserve` maps reservation keys
    (`clusterip/10.96.0.7`) that must be free, or already held by this object, to be held by it; `release` frees keys
    it holds. Deleting an object frees all it holds. `boot_id` and `sequence` name the op for the result window: the
    same op sent again returns its first result.
    """

    verb: Literal["put", "delete"]
    key: Key
    json: bytes = b""
    slot: int = 0
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    fields: dict[str, str] = msgspec.field(default_factory=dict)
    compares: tuple[Compare, ...] = ()
    reserve: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    boot_id: str = ""
    sequence: int = 0


class Committed(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """The op holds at `revision`; an update that changed no byte keeps the old revision and `changed` is False."""

    revision: int
    changed: bool = True


class Refused(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Compare number `compare` failed, or (compare = -1) the reservation `reservation` is held by another object.

    `revision` is the current revision of the compared key, 0 where no object stands there.
    """

    compare: int
    revision: int = 0
    reservation: str = ""


class Unknown(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """The op may or may not take effect later; the caller must say so (504) or read."""

    why: str


Result = Committed | Refused | Unknown


class Stored(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One object at one revision; the digits of `revision` stand in `json` at `slot`.

    `other_fields` are the selectable fields that the key does not tell already. Objects share `labels` and
    `other_fields` with each other: never mutate them.
    """

    key: Key
    json: bytes
    revision: int
    labels: dict[str, str]
    other_fields: dict[str, str]
    slot: int = 0

    @property
    def fields(self) -> dict[str, str]:
        """Every selectable field, as a selector asks for them; made anew each time."""
        return {NAME_FIELD: self.key.name, NAMESPACE_FIELD: self.key.namespace, **self.other_fields}


class Change(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One committed change: `before` None for a create, `after` None for a delete. `revision` is the op's own.

    On a delete `before.json` still carries its old revision in the slot; the watch rewrites it to `revision`.
    """

    revision: int
    before: Stored | None
    after: Stored | None

    @property
    def key(self) -> Key:
        stored = self.after or self.before
        assert stored is not None
        return stored.key


class Listing(NamedTuple):
    """Objects of one revision, ordered by namespace and name. Slices of `items` are lists; it is never changed."""

    items: Sequence[Stored]
    revision: int


class Watched(NamedTuple):
    """One event of a watch: DELETED carries the last state with the revision of the delete in its slot."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    json: bytes
    revision: int


class Batch(list[Watched]):
    """Events handed over together; read only.

    Watchers of one resource whose filters are equal, and who are attached when the events happen, get the *same*
    `Batch`. `memo` is theirs to share: whoever encodes the events for a wire keeps the bytes there under the wire's
    name, and the next watcher sends them again.
    """

    __slots__ = ("memo",)

    def __init__(self, events: Iterable[Watched] = ()) -> None:
        super().__init__(events)
        self.memo: dict[str, Any] = {}


class Filter(NamedTuple):
    """What a watch or list selects. `node` is an equality on `spec.nodeName`, served by an index in O(1) per event;
    `matches(labels, fields)` is the rest of the selector and must be pure. Watchers share work where their filters are
    equal: leave `matches` None when the other three say it all, or hand in one that compares by value and is hashable.
    """

    namespace: str = ""
    name: str = ""
    node: str | None = None
    matches: Callable[[dict[str, str], dict[str, str]], bool] | None = None


class Restored(NamedTuple):
    """The state that took the place of the old one: `revision` is above any that was ever handed out here."""

    revision: int
    objects: int


class KeyRotated(NamedTuple):
    """`secrets` values were sealed anew with the key `key_id`."""

    key_id: str
    secrets: int


class StoreFigures(NamedTuple):
    """What this member holds and how its disk does; `fsync_*` are of the newest appends, 0.0 before the first.

    `key_id` seals Secrets at rest; `key_created` is RFC 3339.
    """

    objects: int
    log_bytes: int
    snapshot_bytes: int
    fsync_p50_ms: float
    fsync_p99_ms: float
    key_id: str
    key_created: str


class HistoryGoneError(Exception):
    """The revision asked for is older than the history kept, or of before a restore (HTTP 410).

    `oldest` is the first revision that can still be asked for.
    """

    def __init__(self, why: str, oldest: int = 0) -> None:
        super().__init__(why)
        self.oldest = oldest


class FutureRevisionError(Exception):
    """The revision asked for was not reached within 3 s (HTTP 504)."""


class SlowWatcherError(Exception):
    """The watcher fell too far behind and was cut off; it may resume from its last revision."""


class StoreUnavailableError(Exception):
    """Nothing was written and nothing will be: the disk is full, or the engine is busy or stopping. The message says
    which.
    """


class SnapshotRefusedError(Exception):
    """The saved snapshot does not read, or is sealed with a key that is not here; nothing has changed."""


class Subscription(Protocol):
    """A watch that is asked. `close` it once."""

    def take(self) -> Batch | None:
        """What comes next, None where that is not there yet; an empty batch where it is nothing that was selected.
        Raises what has ended the watch.
        """
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """A durable, revisioned map of objects."""

    @property
    def revision(self) -> int:
        """The revision of the last applied op."""
        ...

    @property
    def cluster_id(self) -> str: ...

    @property
    def leads(self) -> bool:
        """Whether this member leads: the work that only one master may do is done here."""
        ...

    async def led(self, *, leads: bool) -> None:
        """Wait until `leads` is that. Raises `StoreUnavailableError` once the store is closed."""
        ...

    async def commit(self, ops: Sequence[Op]) -> Sequence[Result]:
        """Apply each op durably, in order; the answer comes after the fsync. Raises `StoreUnavailableError`."""
        ...

    def get(self, key: Key) -> Stored | None:
        """The applied state of this member, at once. For a linearisable read await `barrier()` first."""
        ...

    def newest(self, resources: Sequence[str]) -> int:
        """The revision of the last change of any of these resources, at once and within a microsecond: where it is what
        it was, nothing of them has changed. That of the whole state where none has since it began here.
        """
        ...

    def watch(self, resource: str, since: int, selected: Filter = Filter()) -> AsyncIterator[Batch]:
        """Changes after revision `since`, ordered and gap-free, in batches; entering or leaving the filter is ADDED or
        DELETED; a BOOKMARK at least once a minute. Raises the first four errors above. `aclose()` ends it.
        """
        ...

    def subscribe(self, resource: str, since: int, selected: Filter, on_news: Callable[[], None]) -> Subscription:
        """The same without a task that waits: `on_news` is called, at once and so only to make a note of it, whenever
        there may be something to take. `since` must have been reached. Raises as `watch`.
        """
        ...

    def changes(self, since: int) -> AsyncIterator[list[Change]]:
        """Every change of every resource after `since`, for the change feed. Raises as `watch`."""
        ...

    async def barrier(self) -> int:
        """Wait until all that was acknowledged anywhere before this call is applied here; return the revision."""
        ...

    async def wait_for_revision(self, revision: int) -> None:
        """Until `revision` is applied here. Raises `FutureRevisionError` after 3 s, `StoreUnavailableError`."""
        ...

    def reserved(self, prefix: str) -> dict[str, Key]:
        """Reservation keys with this prefix and who holds them: a hint for allocators, the op decides."""
        ...

    def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        """All objects of a resource at one revision, ordered by namespace and name; None is the newest.

        An older one is made by undoing what the history knows of the resource, so it costs a few microseconds for each
        newer change. Raises `HistoryGoneError`, and `FutureRevisionError` at once: await `wait_for_revision` first.
        """
        ...

    def figures(self) -> StoreFigures: ...

    def save_snapshot(self) -> AsyncIterator[bytes]:
        """The whole state at one revision as the bytes of a file, Secrets sealed as on disk; chunks of 1 MiB at most.

        Writes go on meanwhile. Raises `StoreUnavailableError` where another one is being saved. `aclose()` ends it.
        """
        ...

    async def restore_snapshot(self, chunks: AsyncIterator[bytes]) -> Restored:
        """Replace the whole state by a saved one, once all of it has been read and found whole.

        The cluster keeps its id, the revision rises by at least 10⁹, and every watch ends with `HistoryGoneError`.
        Raises `SnapshotRefusedError` or `StoreUnavailableError`; nothing has changed then.
        """
        ...

    async def rotate_key(self) -> KeyRotated:
        """Make a new key for Secrets at rest, seal everything on disk with it, and forget the old one.

        Raises `StoreUnavailableError` where the disk refuses: both keys are kept then and it may be called again.
        """
        ...
