"""The state machine: compares, reservations, revisions, results, indexes."""

from __future__ import annotations

from barque.master.store.fsm import StateMachine
from barque.master.store.port import (
    Absent,
    Committed,
    FieldIs,
    Filter,
    Key,
    Op,
    Refused,
    Result,
    RevisionIs,
    Unknown,
)
from barque.master.store.results import BOOTS, RESULTS_PER_BOOT
from tests.support.store import a_node, a_pod, a_service

web = a_pod("web")


def machine_with(*ops: Op) -> StateMachine:
    machine = StateMachine()
    for result in machine.apply(ops).results:
        assert isinstance(result, Committed)
    return machine


def apply_one(machine: StateMachine, op: Op) -> Result:
    (result,) = machine.apply([op]).results
    return result


def names(machine: StateMachine, resource: str = "pods", selected: Filter = Filter()) -> list[str]:
    return [s.key.name for s in machine.list(resource, selected).items]


def test_each_op_has_a_revision_of_its_own_and_it_stands_in_the_bytes() -> None:
    machine = StateMachine()
    applied = machine.apply([web.put(), a_pod("db").put(), web.saying("more").put()])
    assert applied.results == [Committed(1), Committed(2), Committed(3)]
    assert [c.revision for c in applied.changes] == [1, 2, 3]
    stored = machine.get(web.key)
    assert stored is not None
    assert (stored.json, stored.revision) == (web.saying("more").json_at(3), 3)
    assert machine.revision == 3


def test_the_slot_grows_with_the_digits() -> None:
    machine = StateMachine(revision=9_999)
    machine.apply([web.put()])
    assert machine.apply([web.put()]).results == [Committed(10_000, changed=False)]
    stored = machine.get(web.key)
    assert stored is not None
    assert stored.json == web.json_at(10_000)


def test_an_update_that_changes_no_byte_writes_nothing() -> None:
    machine = machine_with(web.put(), a_pod("db").put())
    applied = machine.apply([web.put()])
    assert applied.results == [Committed(1, changed=False)]
    assert applied.changes == []
    assert machine.revision == 2


def test_a_change_carries_the_state_before_and_after() -> None:
    machine = machine_with(web.put())
    updated, deleted = machine.apply([web.saying("2").put(), web.delete()]).changes
    assert updated.before is not None
    assert updated.after is not None
    assert (updated.before.json, updated.after.json) == (web.json_at(1), web.saying("2").json_at(2))
    assert deleted.before == updated.after
    assert (deleted.after, deleted.revision) == (None, 3)
    assert machine.get(web.key) is None


def test_deleting_what_is_not_there_changes_nothing() -> None:
    machine = machine_with(web.put())
    applied = machine.apply([a_pod("ghost").delete()])
    assert applied.results == [Committed(1, changed=False)]
    assert applied.changes == []


def test_absent_refuses_where_an_object_stands() -> None:
    machine = machine_with(web.put())
    assert apply_one(machine, web.saying("2").put(Absent(web.key))) == Refused(0, revision=1)
    assert apply_one(machine, a_pod("db").put(Absent(a_pod("db").key))) == Committed(2)


def test_revision_is_refuses_another_revision_and_says_which_it_is() -> None:
    machine = machine_with(web.put(), web.saying("2").put())
    assert apply_one(machine, web.saying("3").put(RevisionIs(web.key, 1))) == Refused(0, revision=2)
    assert apply_one(machine, a_pod("db").put(RevisionIs(a_pod("db").key, 1))) == Refused(0, revision=0)
    assert apply_one(machine, web.saying("3").put(RevisionIs(web.key, 2))) == Committed(3)
    assert apply_one(machine, web.delete(RevisionIs(web.key, 2))) == Refused(0, revision=3)


def test_field_is_compares_a_selectable_field_of_another_object() -> None:
    machine = machine_with(web.on("n1").put())
    assert apply_one(machine, a_pod("db").put(FieldIs(web.key, "spec.nodeName", "n2"))) == Refused(0, revision=1)
    assert apply_one(machine, a_pod("db").put(FieldIs(a_node("n9").key, "x", ""))) == Refused(0, revision=0)
    assert apply_one(machine, a_pod("db").put(FieldIs(web.key, "spec.nodeName", "n1"))) == Committed(2)


def test_the_first_compare_that_fails_is_named_and_spoils_no_other_op() -> None:
    machine = machine_with(web.put())
    compares = (RevisionIs(web.key, 1), Absent(web.key))
    applied = machine.apply([a_pod("a").put(*compares), a_pod("b").put()])
    assert applied.results == [Refused(1, revision=1), Committed(2)]
    assert machine.get(a_pod("a").key) is None


def test_a_reservation_is_held_once_and_freed_by_the_delete() -> None:
    front, back = a_service("front"), a_service("back")
    machine = machine_with(front.put(reserve=["clusterip/1", "nodeport/30000"]))
    refused = Refused(-1, reservation="clusterip/1")
    assert apply_one(machine, back.put(reserve=["clusterip/2", "clusterip/1"])) == refused
    assert machine.reserved("clusterip/") == {"clusterip/1": front.key}
    assert apply_one(machine, front.delete()) == Committed(2)
    assert machine.reserved("") == {}
    assert apply_one(machine, back.put(reserve=["clusterip/1"])) == Committed(3)


def test_an_update_keeps_what_the_object_holds_unless_it_releases_it() -> None:
    front = a_service("front")
    machine = machine_with(front.put(reserve=["a", "b"]), front.saying("2").put())
    assert set(machine.reserved("")) == {"a", "b"}
    machine.apply([front.saying("3").put(reserve=["c", "a"], release=["b", "foreign"])])
    assert machine.reserved("") == {"a": front.key, "c": front.key}
    machine.apply([front.delete()])
    assert machine.reserved("") == {}


def test_a_released_key_of_another_object_stays_with_it() -> None:
    front, back = a_service("front"), a_service("back")
    machine = machine_with(front.put(reserve=["a"]), back.put(release=["a"]))
    assert machine.reserved("") == {"a": front.key}


def test_the_same_bytes_with_another_reservation_are_a_change() -> None:
    front = a_service("front")
    machine = machine_with(front.put(reserve=["a"]))
    assert apply_one(machine, front.put(release=["a"])) == Committed(2)
    assert machine.reserved("") == {}


def test_a_refused_op_reserves_nothing() -> None:
    front = a_service("front")
    machine = machine_with(front.put())
    apply_one(machine, front.saying("2").put(Absent(front.key), reserve=["a"]))
    assert machine.reserved("") == {}


def test_an_op_sent_again_returns_its_first_result() -> None:
    machine = StateMachine()
    create = web.put(Absent(web.key), boot_id="m1", sequence=1)
    assert apply_one(machine, create) == Committed(1)
    machine.apply([web.delete()])
    again = machine.apply([create])
    assert again.results == [Committed(1)]
    assert again.changes == []
    assert machine.get(web.key) is None


def test_a_refusal_and_a_no_op_are_remembered_as_they_were() -> None:
    machine = machine_with(web.put())
    refused = web.saying("2").put(Absent(web.key), boot_id="m1", sequence=1)
    unchanged = web.put(boot_id="m1", sequence=2)
    first = machine.apply([refused, unchanged]).results
    assert first == [Refused(0, revision=1), Committed(1, changed=False)]
    machine.apply([web.saying("other").put()])
    assert machine.apply([refused, unchanged]).results == first


def test_boot_ids_do_not_mix_and_ops_without_one_are_always_applied() -> None:
    machine = StateMachine()
    machine.apply([web.put(boot_id="m1", sequence=1)])
    assert apply_one(machine, web.saying("2").put(boot_id="m2", sequence=1)) == Committed(2)
    assert apply_one(machine, web.saying("3").put()) == Committed(3)
    assert apply_one(machine, web.saying("4").put()) == Committed(4)


def test_an_op_older_than_the_window_is_unknown_and_not_applied() -> None:
    machine = StateMachine()
    late = a_pod("late").put(boot_id="m1", sequence=0)
    machine.apply([web.saying(str(n)).put(boot_id="m1", sequence=n) for n in range(1, RESULTS_PER_BOOT + 2)])
    assert isinstance(apply_one(machine, web.put(boot_id="m1", sequence=1)), Unknown)
    assert isinstance(apply_one(machine, late), Unknown)
    assert machine.get(a_pod("late").key) is None
    assert apply_one(machine, web.put(boot_id="m1", sequence=2)) == Committed(2)


def test_a_number_far_ahead_does_not_push_out_its_predecessors() -> None:
    machine = StateMachine()
    ahead = RESULTS_PER_BOOT * 2
    machine.apply([web.put(boot_id="m1", sequence=ahead)])
    ops = [web.saying(str(n)).put(boot_id="m1", sequence=n) for n in range(ahead)]
    assert all(isinstance(result, Committed) for result in machine.apply(ops).results)


def test_the_boot_ids_used_last_are_kept() -> None:
    machine = StateMachine()
    for boot in range(BOOTS):
        machine.apply([a_pod(f"p{boot}").put(boot_id=f"b{boot}", sequence=1)])
    machine.apply([a_pod("again").put(boot_id="b0", sequence=2), a_pod("new").put(boot_id="new", sequence=1)])
    assert apply_one(machine, a_pod("p0").put(boot_id="b0", sequence=1)) == Committed(1)
    assert apply_one(machine, a_pod("p2").saying("x").put(boot_id="b2", sequence=1)) == Committed(3)
    assert apply_one(machine, a_pod("p1").saying("x").put(boot_id="b1", sequence=1)) == Committed(BOOTS + 3)


def test_a_list_is_ordered_by_namespace_and_name() -> None:
    pods = [a_pod("c", "y"), a_pod("b", "x"), a_pod("a", "y"), a_pod("z", "x"), a_pod("a", "x")]
    machine = machine_with(*(p.put() for p in pods))
    listed = [(s.key.namespace, s.key.name) for s in machine.list("pods").items]
    assert listed == [("x", "a"), ("x", "b"), ("x", "z"), ("y", "a"), ("y", "c")]
    assert names(machine, selected=Filter(namespace="y")) == ["a", "c"]
    assert names(machine, selected=Filter(name="a")) == ["a", "a"]
    assert names(machine, selected=Filter(namespace="x", name="a")) == ["a"]
    assert names(machine, selected=Filter(namespace="none")) == []
    assert names(machine, "services") == []


def test_a_list_by_node_follows_the_pod() -> None:
    machine = machine_with(web.on("n1").put(), a_pod("db").on("n1").put(), a_pod("idle").put())
    assert names(machine, selected=Filter(node="n1")) == ["db", "web"]
    assert names(machine, selected=Filter(node="")) == ["idle"]
    machine.apply([web.on("n2").put(), a_pod("idle").on("n1").put(), a_pod("db").delete()])
    assert names(machine, selected=Filter(node="n1")) == ["idle"]
    assert names(machine, selected=Filter(node="n2", namespace="default", name="web")) == ["web"]
    assert names(machine, selected=Filter(node="n2", namespace="other")) == []
    assert names(machine, selected=Filter(node="")) == []


def test_a_list_by_selector_sees_labels_and_fields() -> None:
    machine = machine_with(web.labelled(app="web").on("n1").put(), a_pod("db").labelled(app="db").put())
    by_label = Filter(matches=lambda labels, fields: labels.get("app") == "web")
    by_field = Filter(matches=lambda labels, fields: fields["metadata.name"] == "db")
    assert names(machine, selected=by_label) == ["web"]
    assert names(machine, selected=by_field) == ["db"]


def test_objects_share_equal_labels_and_leave_nothing_behind() -> None:
    machine = machine_with(*(a_pod(f"p{n}").labelled(app="web").put() for n in range(3)))
    shared = {id(s.labels) for s in machine.list("pods").items}
    assert len(shared) == 1
    machine.apply([a_pod(f"p{n}").delete() for n in range(3)])
    assert len(machine) == 0
    assert list(machine.view().objects) == []


def test_a_view_is_not_touched_by_what_comes_later() -> None:
    machine = machine_with(web.put(), a_service("s").put(reserve=["r"], boot_id="m", sequence=1))
    view = machine.view()
    machine.apply([web.delete(), a_service("s").delete(boot_id="m", sequence=2), a_pod("new").put()])
    assert view.revision == 2
    assert [str(s.key) for s in view.objects] == ["pods/default/web", "services/default/s"]
    assert view.reserved == [("r", Key("services", "default", "s"))]
    assert view.results == [("m", -1, {1: 2})]
