"""The graph of owners: whatever order the news of many kinds arrive in, whoever needs care is named."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from barque.api.types.meta_v1 import OwnerReference
from barque.master.controllers.ownership import FOREGROUND, Care, Item, OwnerGraph


def a_reference(name: str, uid: str = "") -> OwnerReference:
    return OwnerReference(
        apiVersion="v1", kind="ConfigMap", name=name, uid=uid or f"uid-{name}", blockOwnerDeletion=True
    )


def an_item(name: str, *owners: str, revision: int = 1, deleting: bool = False, finalizer: str = "") -> Item:
    references = tuple(a_reference(owner) for owner in owners)
    finalizers = (finalizer,) if finalizer else ()
    return Item("configmaps", "default", name, f"uid-{name}", revision, deleting, finalizers, references)


def named(graph: OwnerGraph, care: Care) -> set[str]:
    """Everyone whom this care is about."""
    return {item.name for item in (*care.items, *graph.dependants(care.dependants_of))}


def test_an_owner_is_held_as_long_as_it_has_dependants() -> None:
    graph = OwnerGraph()
    graph.put(an_item("owner"))
    assert len(graph) == 0
    assert named(graph, graph.put(an_item("child", "owner"))) == {"child"}
    graph.put(an_item("owner"))
    assert len(graph) == 2
    graph.put(an_item("child", revision=2))
    assert len(graph) == 0


def test_a_child_of_an_owner_that_is_held_needs_no_care() -> None:
    graph = OwnerGraph()
    graph.put(an_item("first", "owner"))
    graph.put(an_item("owner"))
    assert named(graph, graph.put(an_item("second", "owner"))) == set()


def test_old_news_change_nothing() -> None:
    graph = OwnerGraph()
    graph.put(an_item("child", "owner", revision=5))
    assert graph.put(an_item("child", revision=4)) == Care()
    assert [item.revision for item in graph.dependants("uid-owner")] == [5]


def test_an_answer_under_way_brings_no_owner_back() -> None:
    graph = OwnerGraph()
    graph.put(an_item("child", "owner"))
    assert named(graph, graph.remove(an_item("owner", revision=7))) == {"child"}
    graph.put(an_item("owner"))
    assert graph.get("uid-owner") is None
    assert graph.is_gone("uid-owner")


def test_dependants_are_named_once_when_their_owner_begins_to_wait() -> None:
    graph = OwnerGraph()
    graph.put(an_item("child", "owner"))
    waiting = an_item("owner", revision=2, deleting=True, finalizer=FOREGROUND)
    assert named(graph, graph.put(waiting)) == {"owner", "child"}
    again = an_item("owner", revision=3, deleting=True, finalizer=FOREGROUND)
    assert named(graph, graph.put(again)) == {"owner"}


def test_a_waiting_owner_is_named_as_its_dependants_go() -> None:
    graph = OwnerGraph()
    for name in ("one", "two"):
        graph.put(an_item(name, "owner"))
    graph.put(an_item("owner", revision=2, deleting=True, finalizer=FOREGROUND))
    assert graph.is_blocked("uid-owner")
    assert named(graph, graph.remove(an_item("one"))) == {"owner"}
    assert graph.is_blocked("uid-owner")
    assert named(graph, graph.remove(an_item("two"))) == {"owner"}
    assert not graph.is_blocked("uid-owner")


def test_a_waiting_owner_is_named_when_a_dependant_lets_go_of_it() -> None:
    graph = OwnerGraph()
    graph.put(an_item("child", "owner", "other"))
    graph.put(an_item("owner", revision=2, deleting=True, finalizer=FOREGROUND))
    assert "owner" in named(graph, graph.put(an_item("child", "other", revision=3)))
    assert not graph.is_blocked("uid-owner")


_NAMES = st.sampled_from("abcde")
_VERBS = st.sampled_from(["put", "wait", "remove"])
_WRITES = st.lists(st.tuples(_NAMES, _VERBS, st.sets(_NAMES, max_size=2)), max_size=20)


def _history(writes: Sequence[tuple[str, str, set[str]]]) -> list[tuple[str, Item]]:
    """What a store would tell: an object removed and made again has another uid; what waits goes on waiting."""
    living: dict[str, Item] = {}
    told: list[tuple[str, Item]] = []
    for revision, (name, verb, owners) in enumerate(writes, 1):
        held = living.pop(name, None)
        if verb == "remove":
            told += [("remove", held)] if held is not None else []
            continue
        waits = verb == "wait" or (held is not None and held.deleting)
        living[name] = msgspec.structs.replace(
            an_item(name, revision=revision, deleting=waits, finalizer=FOREGROUND),
            uid=held.uid if held is not None else f"uid-{name}-{revision}",
            owners=tuple(a_reference(o, living[o].uid if o in living else "uid-gone") for o in sorted(owners)),
        )
        told.append(("put", living[name]))
    return told


@given(_WRITES, st.integers(0, 2**16))
def test_in_any_interleaving_the_needy_have_been_named_and_no_more_is_held(
    writes: list[tuple[str, str, set[str]]], seed: int
) -> None:
    """Each object's own news are in order; those of different objects, being of different kinds, are not."""
    graph, told = OwnerGraph(), _history(writes)
    lines: dict[str, list[tuple[str, Item]]] = {}
    for verb, item in told:
        lines.setdefault(item.name, []).append((verb, item))
    named_at: dict[str, int] = {}
    gone_at: dict[str, int] = {}
    live: dict[str, Item] = {}
    step = 0
    while any(lines.values()):
        waiting = [line for line in lines.values() if line]
        verb, item = waiting[(seed + step) % len(waiting)].pop(0)
        step += 1
        if verb == "put":
            live[item.uid] = item
            care = graph.put(item)
        else:
            live.pop(item.uid, None)
            gone_at[item.uid] = step
            care = graph.remove(item)
        for who in (*care.items, *graph.dependants(care.dependants_of)):
            named_at[who.uid] = step
    for item in live.values():
        owners = [live.get(reference.uid) for reference in item.owners]
        if item.deleting or any(owner is None or owner.deleting for owner in owners):
            assert named_at[item.uid] >= max((gone_at.get(reference.uid, 0) for reference in item.owners), default=0)
    owned = {reference.uid for item in live.values() for reference in item.owners}
    assert len(graph) <= sum(1 for i in live.values() if i.owners or i.deleting or i.uid in owned)
