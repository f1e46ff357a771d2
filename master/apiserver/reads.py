"""Get, list and watch: bytes from the backend to the caller, never decoded on the way (but for a Scale, and for what
is kept in another version than it is asked for in).

What is read is current: every write that was acknowledged before the request came, whichever master took it, is seen.
A request that names a resourceVersion is answered from what this master has as soon as that revision is reached, and
with "0" at once, even where the masters have no quorum.

A list is cut from one revision's objects (see `paging`); what a selector must look at one by one is looked at in
slices, so that no list holds the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from barque.api import conversion, selectors
from barque.api.errors import ApiError, bad_request, not_found
from barque.api.resources import Resource
from barque.api.selectors import FieldRequirement, Fields, Labels
from barque.client.verbs import Page, RawEvent, RawList, Selection, Target
from barque.master.apiserver import paging
from barque.master.apiserver.backend import Backend
from barque.master.apiserver.environment import decode_stored
from barque.master.apiserver.metadata import parse_revision
from barque.master.apiserver.paging import Cut, Place
from barque.master.apiserver.scale import scale_of
from barque.master.auth.authorizer import key_of
from barque.master.store.port import NAME_FIELD, NAMESPACE_FIELD, Batch, Filter, Listing, Stored, Watched

# The beginning of a watch goes out in batches of this many objects, so that no answer holds them all twice.
_INITIAL_BATCH = 256
# How many objects a selector looks at before other tasks get the loop: at some 2 µs each, well below 20 ms. One of many
# requirements looks at fewer.
_SLICE = 2048
_COMMON = 8
# How many bodies are gathered: memory that nobody has looked at for a while costs 0.5 µs each.
_BODIES = 8192
# Objects converted before other tasks get the loop: at some 5 µs each, well below 20 ms.
_CONVERTED = 1024
_NODE_FIELD = "spec.nodeName"


class Found(NamedTuple):
    """A page of a list: `continue_` is "" on the last one, `remaining` None where it would have to be counted."""

    items: Sequence[Stored]
    revision: int
    continue_: str = ""
    remaining: int | None = None


@dataclass(frozen=True)
class Matcher:
    """The part of a selection that no index knows. Equal selections are equal matchers: watchers share work by that."""

    labels: Labels
    fields: Fields

    def __call__(self, of_labels: dict[str, str], of_fields: dict[str, str]) -> bool:
        return self.labels.matches(of_labels) and self.fields.matches(of_fields)

    @property
    def weight(self) -> int:
        """How many times the cost of a common one it has."""
        return 1 + (len(self.labels.requirements) + len(self.fields.requirements)) // _COMMON


def memo_of(events: Sequence[RawEvent]) -> dict[str, Any]:
    """What all watchers who are handed this very batch may leave for each other."""
    batch: object = events
    return batch.memo if isinstance(batch, Batch) else {}


async def get(backend: Backend, target: Target, resource_version: str = "") -> bytes:
    """The object's bytes, not older than `resource_version`. Raises 404."""
    stored = await find_one(backend, target, resource_version)
    if target.subresource == "scale":
        return scale_of(decode_stored(target.resource, stored), stored.revision)
    return conversion.shown(stored.json, target.resource)


async def find_one(backend: Backend, target: Target, resource_version: str = "") -> Stored:
    """The object as it is stored. Raises 404, and 504 where the revision is not reached in time."""
    wanted = parse_revision(resource_version, "resourceVersion") if resource_version else 0
    if not resource_version:
        await backend.current()
    elif wanted:
        await backend.reach(wanted)
    stored = await backend.get(key_of(target))
    if stored is None:
        raise not_found(target.resource.plural, target.resource.group, target.name)
    return stored


async def list_objects(backend: Backend, target: Target, selection: Selection, page: Page) -> RawList:
    """The selected objects' bytes, all of one revision."""
    found = await find(backend, target, selection, page)
    resource, bodies = target.resource, list[bytes]()
    step = _CONVERTED if resource.kept_as else _BODIES
    for start in range(0, len(found.items), step):
        if start:
            await asyncio.sleep(0)
        records = [stored.json for stored in found.items[start : start + step]]
        bodies += [conversion.shown(record, resource) for record in records] if resource.kept_as else records
    return RawList(bodies, str(found.revision), found.continue_, found.remaining)


async def find(backend: Backend, target: Target, selection: Selection, page: Page) -> Found:
    """The selected objects of one page. Raises 400 or 422 for what cannot be asked, 410 for what is gone."""
    cut = paging.plan(page, target)
    selected = filter_of(target, selection)
    if not page.resource_version:
        await backend.current()
    listing = await _listing(backend, target, selected._replace(matches=None), cut)
    begin = cut.begin(listing.items)
    if selected.matches is None:
        end = begin + cut.limit if cut.limit else len(listing.items)
        items = listing.items[begin:end] if begin or end < len(listing.items) else listing.items
        left = max(len(listing.items) - end, 0)
    else:
        items = await _matching(listing.items, begin, selected, cut.limit + 1 if cut.limit else 0)
        left = len(items) - cut.limit if cut.limit else 0
        items = items[: cut.limit] if left > 0 else items
    if left <= 0:
        return Found(items, listing.revision)
    last = items[-1].key
    token = paging.write_token(target, listing.revision, Place(last.namespace, last.name))
    # Counting what a selector leaves would mean to look at all of it; Kubernetes does not either.
    return Found(items, listing.revision, token, left if selection == Selection() else None)


async def watch(
    backend: Backend, target: Target, selection: Selection, resource_version: str
) -> AsyncIterator[Sequence[RawEvent]]:
    """Changes after a revision; "" or "0" begins with what there is and a BOOKMARK. Objects are as they are kept."""
    selected = filter_of(target, selection)
    resource = target.resource.stored.group_resource
    since = parse_revision(resource_version, "resourceVersion") if resource_version else 0
    if not since:
        found = await find(backend, target, selection, Page(resource_version=resource_version))
        since = found.revision
        for start in range(0, len(found.items), _INITIAL_BATCH):
            some = found.items[start : start + _INITIAL_BATCH]
            yield [RawEvent("ADDED", stored.json, stored.revision) for stored in some]
        yield [RawEvent("BOOKMARK", b"", since)]
    changes = backend.watch(resource, since, selected)
    try:
        async for batch in changes:
            # The store's events are these by another name; the very list is passed on, for watchers share it.
            yield cast(Sequence[RawEvent], batch)
    finally:
        close = getattr(changes, "aclose", None)
        if close is not None:
            await close()


async def as_shown(events: Sequence[RawEvent], resource: Resource) -> Sequence[RawEvent]:
    """The same events with objects of this resource's version; watchers that share a batch share its conversion."""
    if not resource.kept_as:
        return events
    shared = memo_of(events)
    made: Sequence[RawEvent] | None = shared.get(resource.api_version)
    if made is not None:
        return made
    batch = Batch()
    for number, event in enumerate(events, 1):
        if number % _CONVERTED == 0:
            await asyncio.sleep(0)
        json = conversion.shown(event.json, resource) if event.json else b""
        batch.append(Watched(event.type, json, event.revision))
    shared[resource.api_version] = cast(Sequence[RawEvent], batch)
    return cast(Sequence[RawEvent], batch)


def filter_of(target: Target, selection: Selection) -> Filter:
    """The backend's filter for a selection. Raises 400 where a selector cannot be read."""
    if selection == Selection():
        return Filter(target.namespace, target.name)
    labels = selectors.parse_labels(selection.labels)
    fields = conversion.kept_fields(selectors.parse_fields(selection.fields, target.resource), target.resource)
    namespace = target.namespace or fields.equal(NAMESPACE_FIELD) or ""
    name = target.name or fields.equal(NAME_FIELD) or ""
    node = fields.equal(_NODE_FIELD)
    known = {FieldRequirement(_NODE_FIELD, True, node)} if node is not None else set()
    known |= {
        FieldRequirement(field, True, value)
        for field, value in ((NAMESPACE_FIELD, namespace), (NAME_FIELD, name))
        if value
    }
    rest = Fields(tuple(requirement for requirement in fields.requirements if requirement not in known))
    return Filter(namespace, name, node, None if labels.empty and rest.empty else Matcher(labels, rest))


async def _listing(backend: Backend, target: Target, selected: Filter, cut: Cut) -> Listing:
    """What the indexes select, at the cut's revision."""
    if cut.not_before:
        await backend.reach(cut.not_before)
    try:
        return await backend.list(target.resource.stored.group_resource, selected, cut.revision)
    except ApiError as refused:
        if refused.code == 410:
            raise cut.gone(target) from refused
        if cut.after is not None and refused.code == 504:
            raise bad_request("invalid continue token: continue key is not valid: no such revision") from refused
        raise


async def _matching(items: Sequence[Stored], begin: int, selected: Filter, at_most: int) -> list[Stored]:
    """Those from `begin` on that the matcher selects, the first `at_most` of them (0: all)."""
    matches = selected.matches
    assert matches is not None
    found: list[Stored] = []
    step = max(1, _SLICE // matches.weight) if isinstance(matches, Matcher) else _SLICE
    for start in range(begin, len(items), step):
        if start > begin:
            await asyncio.sleep(0)
        found += [s for s in items[start : start + step] if matches(s.labels, s.fields)]
        if at_most and len(found) >= at_most:
            break
    return found[:at_most] if at_most else found
