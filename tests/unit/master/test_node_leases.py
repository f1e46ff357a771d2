"""Each node that beats has a lease that says when it was heard."""

from __future__ import annotations

from barque.api.types.coordination_v1 import Lease
from barque.api.types.core_v1 import Node
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_node

SPACE = "kube-node-lease"


async def beat(plane: ControlPlane, seconds: float, *names: str) -> None:
    for _ in range(int(seconds / 2)):
        for name in names:
            plane.beats[name] = plane.clock.monotonic()
        await plane.clock.advance(2)


def renewals(plane: ControlPlane) -> int:
    return len([w for w in plane.verbs.writes if w.target.resource.plural == "leases"])


async def test_a_lease_is_made_renewed_seldom_and_only_while_beats_come() -> None:
    plane = ControlPlane()
    plane.verbs.put(a_node("n1"))
    plane.verbs.put(a_node("mute"))
    async with plane.running():
        await beat(plane, 4, "n1")
        (lease,) = plane.verbs.all(Lease)
        assert (lease.metadata.name, lease.metadata.namespace) == ("n1", SPACE)
        assert [(o.kind, o.name, o.uid) for o in lease.metadata.ownerReferences] == [("Node", "n1", "uid-n1")]
        assert (lease.spec.holderIdentity, lease.spec.leaseDurationSeconds) == ("n1", 40)
        before = renewals(plane)
        await beat(plane, 200, "n1")
        assert 9 <= renewals(plane) - before <= 11
        last = plane.beats["n1"]
        await plane.clock.advance(300)
        heard = plane.verbs.find(Lease, "n1", SPACE).spec.renewTime
        minutes, seconds = divmod(int(last), 60)
        assert heard <= f"2026-01-01T00:{minutes:02}:{seconds:02}.999999Z"
        assert heard.endswith("Z")
        assert len(heard) == len("2026-01-01T00:00:00.000000Z")


async def test_a_node_registered_anew_owns_its_lease() -> None:
    plane = ControlPlane()
    plane.verbs.put(a_node("n1"))
    async with plane.running():
        await beat(plane, 4, "n1")
        plane.verbs.remove(plane.verbs.find(Node, "n1"))
        again = a_node("n1")
        again.metadata.uid = "uid-again"
        plane.verbs.put(again)
        await beat(plane, 30, "n1")
        (lease,) = plane.verbs.all(Lease)
        assert [o.uid for o in lease.metadata.ownerReferences] == ["uid-again"]


async def test_a_store_that_is_away_is_tried_again() -> None:
    plane = ControlPlane()
    plane.verbs.put(a_node("n1"))
    async with plane.running():
        plane.verbs.down = True
        await beat(plane, 10, "n1")
        plane.verbs.down = False
        await beat(plane, 10, "n1")
        assert [lease.metadata.name for lease in plane.verbs.all(Lease)] == ["n1"]
