"""Lists at an older revision: the state as it was, whatever happened since."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from barque.master.store.fsm import StateMachine
from barque.master.store.hub import Hub, HubSettings
from barque.master.store.port import Filter, FutureRevisionError, HistoryGoneError, Op, Stored
from tests.support.clock import FakeClock
from tests.support.store import AnObject, Key, a_pod

SELECTIONS = (
    Filter(),
    Filter(namespace="a"),
    Filter(name="x"),
    Filter(node="n1"),
    Filter(node=""),
    Filter(namespace="b", node="n2"),
    Filter(matches=lambda labels, fields: labels.get("app") == "one" and fields["metadata.name"] != "y"),
)


class Past:
    """A state machine with its history, and every state it ever had."""

    def __init__(self, settings: HubSettings = HubSettings()) -> None:
        self.machine = StateMachine()
        self.hub = Hub(FakeClock(), settings)
        self.states: dict[int, list[list[Stored]]] = {0: [[] for _ in SELECTIONS]}

    def apply(self, op: Op) -> None:
        applied = self.machine.apply([op])
        self.hub.publish(applied.changes, self.machine.revision)
        self.states[self.machine.revision] = [list(self.machine.list("pods", chosen).items) for chosen in SELECTIONS]

    def list(self, selected: Filter, revision: int) -> list[Stored]:
        superseded = self.hub.superseded("pods", revision)
        return list(self.machine.list_at("pods", selected, revision, superseded).items)


def op(obj: AnObject, *, delete: bool) -> Op:
    return obj.delete() if delete else obj.put()


ops = st.builds(
    op,
    st.builds(
        AnObject,
        st.builds(Key, st.sampled_from(["pods", "services"]), st.sampled_from("ab"), st.sampled_from("xyz")),
        st.sampled_from([(), (("app", "one"),), (("app", "two"),)]),
        st.sampled_from(["", "n1", "n2"]),
    ),
    delete=st.booleans(),
)


@given(st.lists(ops, max_size=25))
def test_a_list_at_any_revision_is_what_a_list_was_then(done: list[Op]) -> None:
    past = Past()
    for one in done:
        past.apply(one)
    for revision, states in past.states.items():
        for selected, state in zip(SELECTIONS, states, strict=True):
            assert past.list(selected, revision) == state


def test_a_revision_that_is_gone_or_still_to_come_is_an_error() -> None:
    past = Past(HubSettings(history_changes=3))
    for n in range(5):
        past.apply(a_pod("web").saying(str(n)).put())
    assert [s.revision for s in past.list(Filter(), 2)] == [2]
    with pytest.raises(HistoryGoneError, match="revision 1 is too old, the history begins after 2"):
        past.list(Filter(), 1)
    with pytest.raises(FutureRevisionError, match="revision 6 is not reached yet, the newest is 5"):
        past.list(Filter(), 6)
