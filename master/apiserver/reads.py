"""Get, list and watch: bytes from the backend to the caller, never decoded on the way (but for a Scale)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from barque.api import selectors
from barque.api.errors import not_found
from barque.client.verbs import RawEvent, RawList, Selection, Target
from barque.master.apiserver.backend import Backend
from barque.master.apiserver.environment import decode_stored
from barque.master.apiserver.metadata import parse_revision
from barque.master.apiserver.scale import scale_of
from barque.master.auth.authorizer import key_of
from barque.master.store.port import Filter

# The beginning of a watch goes out in batches of this many objects, so that no answer holds them all twice.
_INITIAL_BATCH = 256


async def get(backend: Backend, target: Target) -> bytes:
    """The object's bytes. Raises 404."""
    stored = await backend.get(key_of(target))
    if stored is None:
        raise not_found(target.resource.plural, target.resource.group, target.name)
    if target.subresource == "scale":
        return scale_of(decode_stored(target.resource, stored), stored.revision)
    return stored.json


async def list_objects(backend: Backend, target: Target, selection: Selection) -> RawList:
    """The selected objects' bytes, all of one revision."""
    listing = await backend.list(target.resource.group_resource, filter_of(target, selection))
    return RawList([stored.json for stored in listing.items], str(listing.revision))


async def watch(
    backend: Backend, target: Target, selection: Selection, resource_version: str
) -> AsyncIterator[Sequence[RawEvent]]:
    """Changes after a revision; "" or "0" begins with what there is and a BOOKMARK."""
    selected = filter_of(target, selection)
    resource = target.resource.group_resource
    since = parse_revision(resource_version) if resource_version else 0
    if not since:
        listing = await backend.list(resource, selected)
        since = listing.revision
        for start in range(0, len(listing.items), _INITIAL_BATCH):
            some = listing.items[start : start + _INITIAL_BATCH]
            yield [RawEvent("ADDED", stored.json, stored.revision) for stored in some]
        yield [RawEvent("BOOKMARK", b"", since)]
    changes = backend.watch(resource, since, selected)
    try:
        async for batch in changes:
            yield [RawEvent(event.type, event.json, event.revision) for event in batch]
    finally:
        close = getattr(changes, "aclose", None)
        if close is not None:
            await close()


def filter_of(target: Target, selection: Selection) -> Filter:
    """The backend's filter for a selection. Raises 400 where a selector cannot be read."""
    labels = selectors.parse_labels(selection.labels)
    fields = selectors.parse_fields(selection.fields, target.resource)
    return Filter(
        namespace=target.namespace or fields.equal("metadata.namespace") or "",
        name=target.name or fields.equal("metadata.name") or "",
        node=fields.equal("spec.nodeName"),
        matches=None
        if labels.empty and fields.empty
        else lambda of_labels, of_fields: labels.matches(of_labels) and fields.matches(of_fields),
    )
