"""What every member makes of an entry: restores that come in pieces, a quorum given up; and who may become a member."""

from __future__ import annotations

import pytest

from barque.master.raft.messages import Configuration, Entry, Kind, MemberInfo, encode_configuration
from barque.master.store.fsm import StateMachine
from barque.master.store.group import GroupError
from barque.master.store.membership import added, alone, named, removed
from barque.master.store.port import Committed, Restored
from barque.master.store.records import (
    Command,
    Content,
    Inspect,
    QuorumRecovered,
    RestoreBegin,
    RestoreEnd,
    RestoreSection,
    decode_payload,
    encode_command,
    open_payload,
    seal_payload,
    split_ops,
)
from barque.master.store.replica import Replica, Turn
from barque.master.store.snapshot import Objects, encode_section, pack_section
from barque.master.store.state_hash import Comparison, hash_state
from tests.support.store import a_pod, a_ring_in_memory, a_secret, a_service


class Log:
    """A replica and the entries that it is given."""

    def __init__(self) -> None:
        self.replica = Replica(StateMachine(), 0, 0, Configuration())

    def put(self, *names: str) -> None:
        self.add([a_pod(name).put() for name in names])

    def add(self, content: Content) -> Turn:
        entry = Entry(self.replica.index + 1, 1, int(Kind.DATA))
        return self.replica.apply(entry, content)[1]

    def names(self) -> list[str]:
        return [stored.key.name for stored in self.replica.machine.list("pods").items]


def a_section(number: int, *names: str, restore: str = "r") -> RestoreSection:
    machine = StateMachine()
    machine.apply([a_pod(name).put() for name in names])
    rows = list(machine.list("pods").items)
    return RestoreSection(restore, number, pack_section(encode_section(Objects(rows))))


def test_a_restore_takes_the_place_of_the_state_at_its_end() -> None:
    log = Log()
    log.put("old")
    log.add(RestoreBegin("r"))
    log.add(a_section(0, "a"))
    log.put("between")
    log.add(a_section(1, "b"))
    assert log.replica.restoring
    assert log.names() == ["between", "old"]
    turn = log.add(RestoreEnd("r", 2, 2))
    assert (turn.restored, turn.restarted) == (Restored(2 + 10**9, 2), True)
    assert log.names() == ["a", "b"]
    assert log.replica.machine.revision == 2 + 10**9
    assert not log.replica.restoring


@pytest.mark.parametrize(
    "entries",
    [
        [a_section(1, "b")],
        [a_section(0, "a"), a_section(2, "b")],
        [a_section(0, "a")],
        [a_section(0, "a"), a_section(1, "b", "c")],
        [a_section(0, "a"), a_section(1, "b"), RestoreBegin("another")],
    ],
)
def test_a_restore_that_is_not_whole_changes_nothing(entries: list[Command]) -> None:
    log = Log()
    log.put("old")
    log.add(RestoreBegin("r"))
    for entry in entries:
        log.add(entry)
    turn = log.add(RestoreEnd("r", 2, 2))
    assert turn.restored is None
    assert turn.refusal.endswith("nothing was restored")
    assert log.names() == ["old"]


def test_a_section_that_comes_twice_counts_once() -> None:
    log = Log()
    for entry in (RestoreBegin("r"), a_section(0, "a"), RestoreBegin("r"), a_section(0, "a"), a_section(1, "b")):
        log.add(entry)
    assert log.add(RestoreEnd("r", 2, 2)).restored == Restored(10**9, 2)


def test_a_restore_that_nobody_goes_on_with_is_void() -> None:
    log = Log()
    log.add(RestoreBegin("r"))
    log.add(Inspect("1"))
    log.add(a_section(0, "a"))
    log.add(Inspect("2"))
    assert log.replica.restoring
    log.add(Inspect("3"))
    assert not log.replica.restoring
    assert "given up" in log.add(RestoreEnd("r", 0, 0)).refusal


def test_an_op_sent_again_after_a_restore_has_its_first_result() -> None:
    log = Log()
    create = a_pod("once").put(boot_id="m", sequence=1)
    log.add([create])
    for entry in (RestoreBegin("r"), RestoreEnd("r", 0, 0)):
        log.add(entry)
    applied, _ = log.replica.apply(Entry(9, 1), [create])
    assert applied.results == [Committed(1)]
    assert log.names() == []


def test_a_quorum_given_up_hands_out_no_revision_twice() -> None:
    log = Log()
    log.put("a")
    assert log.add(QuorumRecovered("m1")).restarted
    assert log.replica.machine.revision == 1 + 10**9


def test_a_configuration_is_in_force_from_its_entry_on() -> None:
    log = Log()
    configuration = Configuration(voters=("a",))
    entry = Entry(1, 3, int(Kind.CONFIGURATION), encode_configuration(configuration))
    log.replica.apply(entry, None)
    assert (log.replica.configuration, log.replica.index, log.replica.term) == (configuration, 1, 3)


def test_secrets_of_a_restore_are_sealed_on_disk_alone() -> None:
    machine = StateMachine()
    machine.apply([a_secret("db").saying("hunter2").put()])
    section = RestoreSection("r", 0, secrets=list(machine.list("secrets").items))
    plain, ring = encode_command(section), a_ring_in_memory()
    sealed = seal_payload(plain, 7, ring)
    assert b"hunter2" in plain
    assert b"hunter2" not in sealed
    assert open_payload(sealed, 7, ring) == section == decode_payload(plain)


def test_a_commit_is_split_by_ops_and_by_bytes() -> None:
    small, large = a_pod("s").put(), a_pod("l").sized(3 << 20).put()
    assert [len(ops) for ops in split_ops([small] * 600)] == [256, 256, 88]
    assert [len(ops) for ops in split_ops([small, large, large, small, large])] == [2, 2, 1]
    assert [len(ops) for ops in split_ops([a_pod("l").sized(6 << 20).put(), small])] == [1, 1]


def the_hash(machine: StateMachine) -> bytes:
    return list(hash_state(machine.view()))[-1]


def test_the_hash_is_of_the_state_and_not_of_its_order() -> None:
    one, other = StateMachine(), StateMachine()
    one.load_objects([*_stored(a_secret("s"), 1), *_stored(a_pod("p"), 2)])
    other.load_objects([*_stored(a_pod("p"), 2), *_stored(a_secret("s"), 1)])
    assert the_hash(one) == the_hash(other)


@pytest.mark.parametrize("change", range(5))
def test_the_hash_notices_every_difference(change: int) -> None:
    def machine() -> StateMachine:
        made = StateMachine()
        made.apply([a_service("s").put(reserve=["ip/1"], boot_id="m", sequence=1)])
        return made

    one, other = machine(), machine()
    assert the_hash(one) == the_hash(other)
    if change == 0:
        other.revision += 1
    elif change == 1:
        other.load_reserved([("ip/2", a_service("s").key)])
    elif change == 2:
        other.load_results("m", 0, [(2, 5)])
    elif change == 3:
        other.load_objects(_stored(a_pod("p"), 1))
    else:
        other.load_objects(_stored(a_service("s").saying("x"), 1))
    assert the_hash(one) != the_hash(other)


def _stored(found: object, revision: int) -> list[object]:
    machine = StateMachine(revision - 1)
    machine.apply([found.put()])  # type: ignore[attr-defined]
    return list(machine.view().objects)


@pytest.mark.parametrize(
    ("told", "deviant"),
    [
        ({"a": b"1", "b": b"1", "c": b"2"}, ["c"]),
        ({"a": b"2", "b": b"1", "c": b"1"}, ["a"]),
        ({"a": b"1", "b": b"1"}, []),
        ({"a": b"1", "b": b"2"}, []),
        ({"a": b"1", "b": b"2", "c": b"3"}, ["b", "c"]),
    ],
)
def test_who_deviates(told: dict[str, bytes], deviant: list[str]) -> None:
    comparison = Comparison()
    for member, digest in told.items():
        comparison.add(5, member, digest)
    assert [m for m in "abc" if comparison.deviant(5, m, "a", ("a", "b", "c"))] == deviant


M1, M2 = MemberInfo("1" * 16, "m1", "10.0.0.1"), MemberInfo("2" * 16, "m2", "10.0.0.2")
ONE = Configuration(voters=(M1.id,), members=(M1,))
TWO = Configuration(voters=(M1.id, M2.id), members=(M1, M2))


def test_a_new_member_learns_first() -> None:
    assert added(ONE, M2) == Configuration(voters=(M1.id,), learners=(M2.id,), members=(M1, M2))
    assert added(TWO, M2) is TWO
    moved = MemberInfo(M2.id, "m2", "10.0.0.9")
    assert added(TWO, moved).info(M2.id) == moved


def test_clashes_are_refused_with_what_to_do() -> None:
    with pytest.raises(GroupError, match=r"a master named m2 is a member already .* `barque cluster remove-member m2`"):
        added(TWO, MemberInfo("3" * 16, "m2", "10.0.0.3"))
    with pytest.raises(GroupError, match="is master m2 already: m3 needs a directory of its own"):
        added(TWO, MemberInfo(M2.id, "m3", "10.0.0.3"))
    with pytest.raises(GroupError, match="move its directory away, then join it again"):
        added(Configuration(voters=(M1.id,), members=(M1,), removed=(M2.id,)), M2)
    with pytest.raises(GroupError, match="the last master cannot be removed"):
        removed(ONE, M1.id)
    with pytest.raises(GroupError, match="there is no master m7; the masters are m1, m2"):
        named(TWO, "m7")


def test_who_goes_on_alone_remembers_the_others() -> None:
    assert alone(TWO, M1.id) == Configuration(voters=(M1.id,), members=(M1,), removed=(M2.id,))
    assert removed(TWO, M2.id).voters == (M1.id,)
    assert named(TWO, "m2") == named(TWO, M2.id) == M2
