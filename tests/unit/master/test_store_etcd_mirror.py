"""The etcd engine's mirror and layout against the state machine that they must equal, without an etcd."""

from __future__ import annotations

import random

import pytest

from barque.master.raft.errors import NewerFormatError
from barque.master.store.etcd import layout
from barque.master.store.etcd.layout import FORMAT, Head, Keys
from barque.master.store.etcd.mirror import Draft, Mirror
from barque.master.store.fsm import StateMachine
from barque.master.store.port import Absent, Change, Committed, Compare, FieldIs, Op, RevisionIs, Unknown
from tests.support.store import AnObject, a_pod, a_ring_in_memory, a_secret, a_service

KEYS = Keys("/barque")
RING = a_ring_in_memory()


class Copy:
    """A mirror that knows only what stands in etcd's keys."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.head = Head(FORMAT, "cluster", "0", 0, 0, "")
        self.stored: dict[bytes, bytes] = {}

    def follow(self, plan: layout.Plan) -> list[Change]:
        puts = {}
        for request in plan.requests:
            if request.HasField("request_put"):
                puts[request.request_put.key] = request.request_put.value
            else:
                self.stored.pop(request.request_delete_range.key, None)
        assert len(puts) + sum(r.HasField("request_delete_range") for r in plan.requests) == len(plan.requests)
        self.stored |= puts
        self.head = layout.decode_head(puts[KEYS.head], "head")
        rows = [value for key, value in puts.items() if key.startswith(KEYS.state("0"))]
        return self.mirror.absorb(layout.read_batch(self.head, rows, RING, self.mirror.revision))


def random_op(dice: random.Random, revision: int, sequence: int) -> Op:
    made: AnObject = dice.choice((a_pod, a_service, a_secret))(f"o{dice.randrange(5)}")
    name = {"boot_id": f"b{dice.randrange(2)}", "sequence": dice.randrange(max(1, sequence - 5), sequence + 1)}
    compares: list[Compare] = []
    if dice.random() < 0.3:
        compares.append(dice.choice([Absent(made.key), RevisionIs(made.key, revision), FieldIs(made.key, "a", "")]))
    if dice.random() < 0.25:
        return made.delete(*compares, **name)  # type: ignore[arg-type]
    some = [f"ip/{dice.randrange(4)}" for _ in range(dice.randrange(3))]
    text = made.saying(dice.choice("xyz")).labelled(app=dice.choice("ab"))
    return text.put(*compares, reserve=some, release=some[:1] if dice.random() < 0.2 else [], **name)  # type: ignore[arg-type]


def state(machine: StateMachine) -> object:
    view = machine.view()
    # Which boot id came last within a batch is not kept.
    return view.revision, list(view.objects), sorted(view.reserved), {boot: rest for boot, *rest in view.results}


@pytest.mark.parametrize("seed", range(20))
def test_batches_make_what_the_state_machine_makes_here_and_on_every_other_master(seed: int) -> None:
    dice = random.Random(seed)
    reference, writer, copy = StateMachine(), Mirror(), Copy()
    newest = copy.head
    sequence = 0
    for _ in range(40):
        ops = []
        for _ in range(dice.randrange(1, 12)):
            sequence += 1
            ops.append(random_op(dice, writer.revision, sequence))
        before = state(writer)
        draft = Draft(writer)
        drafted = draft.apply(ops)
        assert state(writer) == before
        batch = draft.batch(drafted.changes)
        plan = layout.plan_batch(KEYS, newest, batch, RING, "me")
        applied = reference.apply(ops)
        assert drafted.results == applied.results
        if plan is None:
            assert not applied.changes
            continue
        newest = plan.head
        assert writer.absorb(batch) == copy.follow(plan) == applied.changes
        assert state(writer) == state(copy.mirror) == state(reference)


def test_what_stands_in_etcd_is_the_state() -> None:
    dice, writer, copy = random.Random(5), Mirror(), Copy()
    for sequence in range(1, 300):
        draft = Draft(writer)
        batch = draft.batch(draft.apply([random_op(dice, writer.revision, sequence)]).changes)
        plan = layout.plan_batch(KEYS, copy.head, batch, RING, "me")
        if plan is not None:
            writer.absorb(batch)
            copy.follow(plan)
    rows = [layout.decode_row(v, RING) for key, v in copy.stored.items() if key.startswith(KEYS.state("0"))]
    assert {row.stored.key: row.stored for row in rows} == {stored.key: stored for stored in writer.view().objects}
    assert {r: row.stored.key for row in rows for r in row.held} == writer.reserved("")
    sealed = [v for key, v in copy.stored.items() if key.startswith(KEYS.state("0") + b"secrets/")]
    assert sealed
    assert not any(b'"kind"' in value for value in sealed)


def test_results_that_are_no_longer_known_are_not_taken_for_new() -> None:
    mirror = Mirror()
    mirror.keep_results([("b", [(7, Committed(1)), (8, Committed(2))])])
    mirror.forget_results_before({"b": 7})
    web = a_pod("web")
    old, known, new = (web.put(boot_id="b", sequence=n) for n in (6, 8, 9))
    results = Draft(mirror).apply([old, known, new]).results
    assert isinstance(results[0], Unknown)
    assert results[1:] == [Committed(2), Committed(1)]


def test_a_head_of_a_newer_release_is_named() -> None:
    newer = layout.encode_head(Head(FORMAT + 1, "cluster", "0", 1, 1, ""))
    with pytest.raises(NewerFormatError, match=f"/barque/head has format {FORMAT + 1}"):
        layout.decode_head(newer, "/barque/head")


def test_keys_are_under_the_prefix_and_nothing_else_is() -> None:
    keys = Keys("/barque/")
    assert (keys.root, keys.end) == (b"/barque/", b"/barque0")
    assert keys.object("0", a_pod("web").key) == b"/barque/state/0/pods/default/web"
    assert not keys.root <= b"/barque-more/head" < keys.end
    with pytest.raises(ValueError, match="is no prefix"):
        Keys("/")
