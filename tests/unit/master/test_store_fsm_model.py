"""The state machine against a model that is a dict, under random ops: whatever happens, they agree."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from barque.master.store.fsm import StateMachine
from barque.master.store.port import Absent, Committed, Compare, Filter, Key, Op, Refused, Result, RevisionIs
from barque.master.store.records import decode_payload, encode_entry
from tests.support.store import AnObject

keys = st.builds(Key, st.sampled_from(["pods", "services"]), st.sampled_from(["a", "b"]), st.sampled_from("xyz"))
nodes = st.sampled_from(["", "n1", "n2"])
texts = st.sampled_from(["", "one", "two"])
reservations = st.lists(st.sampled_from(["r1", "r2", "r3"]), max_size=2, unique=True)
guards = st.sampled_from(["none", "absent", "current", "stale"])


class Model:
    """What the port says, in the plainest form: key → (json, revision, node), reservation → key."""

    def __init__(self) -> None:
        self.revision = 0
        self.objects: dict[Key, tuple[bytes, int, str]] = {}
        self.held: dict[str, Key] = {}

    def apply(self, op: Op) -> Result:
        present = self.objects.get(op.key)
        for number, compare in enumerate(op.compares):
            revision = present[1] if present else 0
            wrong = present is not None if isinstance(compare, Absent) else revision != getattr(compare, "revision", -1)
            if wrong or (present is None and isinstance(compare, RevisionIs)):
                return Refused(number, revision)
        for r in op.reserve:
            if self.held.get(r, op.key) != op.key:
                return Refused(-1, reservation=r)
        return self.delete(op.key) if op.verb == "delete" else self.put(op)

    def delete(self, key: Key) -> Result:
        if key not in self.objects:
            return Committed(self.revision, changed=False)
        del self.objects[key]
        self.held = {r: k for r, k in self.held.items() if k != key}
        self.revision += 1
        return Committed(self.revision)

    def put(self, op: Op) -> Result:
        held = {r: k for r, k in self.held.items() if k != op.key or r not in op.release}
        held.update(dict.fromkeys(op.reserve, op.key))
        present = self.objects.get(op.key)
        if present is not None and held == self.held and self._at(op, present[1]) == present[0]:
            return Committed(present[1], changed=False)
        self.held = held
        self.revision += 1
        self.objects[op.key] = (self._at(op, self.revision), self.revision, op.fields.get("spec.nodeName", ""))
        return Committed(self.revision)

    @staticmethod
    def _at(op: Op, revision: int) -> bytes:
        return op.json[: op.slot] + str(revision).encode() + op.json[op.slot :]


class Agreement(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.machine = StateMachine()
        self.sequence = 0
        self.sent: list[tuple[Op, Result]] = []

    @rule(
        key=keys, node=nodes, text=texts, guard=guards, reserve=reservations, release=reservations, delete=st.booleans()
    )
    def op(
        self, key: Key, node: str, text: str, guard: str, reserve: list[str], release: list[str], delete: bool
    ) -> None:
        self.sequence += 1
        obj = AnObject(key, (("app", text),), node if key.resource == "pods" else "", text)
        compares = self._compares(key, guard)
        op = obj.put(*compares, reserve=reserve, release=release, boot_id="b", sequence=self.sequence)
        if delete:
            op = obj.delete(*compares, boot_id="b", sequence=self.sequence)
        decoded = decode_payload(encode_entry([op])[0])
        assert isinstance(decoded, list)
        (op,) = decoded
        before = self.machine.revision
        applied = self.machine.apply([op])
        expected = self.model.apply(op)
        assert applied.results == [expected]
        assert len(applied.changes) == self.machine.revision - before
        self.sent.append((op, expected))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        op, first = data.draw(st.sampled_from(self.sent))
        applied = self.machine.apply([op])
        assert applied.results == [first]
        assert applied.changes == []

    @rule()
    def restore_from_a_view(self) -> None:
        view = self.machine.view()
        restored = StateMachine(view.revision)
        restored.load_objects(view.objects)
        restored.load_reserved(view.reserved)
        for boot_id, floor, kept in view.results:
            restored.load_results(boot_id, floor, kept.items())
        assert restored.view() == view
        self.machine = restored

    @invariant()
    def state_agrees(self) -> None:
        assert self.machine.revision == self.model.revision
        assert self.machine.reserved("") == self.model.held
        assert len(self.machine) == len(self.model.objects)
        for resource in ("pods", "services"):
            expected = sorted(k for k in self.model.objects if k.resource == resource)
            assert [s.key for s in self.machine.list(resource).items] == expected
        for node in ("", "n1", "n2"):
            on_node = sorted(k for k, o in self.model.objects.items() if k.resource == "pods" and o[2] == node)
            assert [s.key for s in self.machine.list("pods", Filter(node=node)).items] == on_node
        for key, (json, revision, _) in self.model.objects.items():
            stored = self.machine.get(key)
            assert stored is not None
            assert (stored.json, stored.revision) == (json, revision)

    def _compares(self, key: Key, guard: str) -> list[Compare]:
        present = self.model.objects.get(key)
        current = present[1] if present else 0
        choices: dict[str, list[Compare]] = {
            "none": [],
            "absent": [Absent(key)],
            "current": [RevisionIs(key, current)],
            "stale": [RevisionIs(key, current + 1)],
        }
        return choices[guard]


Agreement.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAgreement = Agreement.TestCase
