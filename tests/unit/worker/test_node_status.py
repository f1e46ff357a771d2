"""The Node a worker reports."""

from __future__ import annotations

from typing import Any

from barque.api.types import core_v1
from barque.network.overlay.overlay import State
from barque.network.overlay.peers import Fault
from barque.worker.host import HostFacts, Pressure, parse_meminfo, parse_os_release
from barque.worker.node import Health, Where, labels_of, node_status
from barque.worker.runtime.port import RuntimeInfo

WHERE = Where("n1", "10.0.0.1", 7450)
FACTS = HostFacts("n1", "mid", "bid", "uuid", "Debian", "6.1", "amd64", 4, 8 * 1024**3, disk_bytes=1024 * 1000)
RUNTIME = RuntimeInfo("24.0", "1.43", "/", "Debian", "amd64", "6.1", 4, 1)


def status(before: core_v1.NodeStatus | None = None, now: str = "t1", **health: Any) -> core_v1.NodeStatus:
    given: dict[str, Any] = {"runtime": RUNTIME, "runtime_problem": "", "network_problem": ""}
    return node_status(WHERE, FACTS, Health(**(given | health)), "v1", before or core_v1.NodeStatus(), now)


def conditions(found: core_v1.NodeStatus) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in found.conditions}


def test_a_well_node() -> None:
    found = status()
    assert conditions(found) == {
        "MemoryPressure": ("False", "WorkerHasSufficientMemory"),
        "DiskPressure": ("False", "WorkerHasNoDiskPressure"),
        "PIDPressure": ("False", "WorkerHasSufficientPID"),
        "Ready": ("True", "WorkerReady"),
    }
    assert found.capacity == {"cpu": "4", "memory": "8388608Ki", "ephemeral-storage": "1000Ki", "pods": "110"}
    assert found.allocatable["memory"] == "8286208Ki"
    assert [(a.type, a.address) for a in found.addresses] == [("InternalIP", "10.0.0.1"), ("Hostname", "n1")]
    assert found.daemonEndpoints is not None
    assert found.daemonEndpoints.kubeletEndpoint == core_v1.DaemonEndpoint(Port=7450)
    assert labels_of(WHERE, FACTS) == {
        "kubernetes.io/hostname": "n1", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
    }  # fmt: skip


def test_what_is_wrong_is_said_in_one_sentence() -> None:
    found = status(runtime_problem="the container runtime does not answer: gone", pressure=Pressure(memory=True))
    assert conditions(found)["Ready"] == ("False", "RuntimeUnavailable")
    assert conditions(found)["MemoryPressure"] == ("True", "WorkerHasInsufficientMemory")
    assert conditions(status(network_problem="no network"))["Ready"] == ("False", "NetworkNotReady")


def test_whether_pods_of_other_nodes_can_be_reached() -> None:
    def said(overlay: State | None) -> tuple[str, str, str] | None:
        found = next((c for c in status(overlay=overlay).conditions if c.type == "NetworkUnavailable"), None)
        return (found.status, found.reason, found.message) if found else None

    assert said(None) is None
    assert said(State()) == ("False", "OverlayReady", "pods of all nodes can be reached")
    assert said(State(Fault("MTUTooSmall", "too small"), ("n2 is far",))) == ("True", "MTUTooSmall", "too small")
    # What is wrong with others must not keep pods from this node.
    five = State(None, ("a", "b", "c", "d", "e"))
    assert said(five) == ("False", "PeersUnreachable", "a; b; c; and 2 more")


def test_transition_times_are_kept_and_heartbeats_move() -> None:
    before = status(now="t1")
    before.conditions.append(core_v1.NodeCondition(type="Custom", status="True", lastTransitionTime="t0"))
    after = status(before, now="t2")
    ready = next(c for c in after.conditions if c.type == "Ready")
    assert (ready.lastTransitionTime, ready.lastHeartbeatTime) == ("t1", "t2")
    assert any(c.type == "Custom" for c in after.conditions)
    changed = status(after, now="t3", network_problem="no network")
    ready = next(c for c in changed.conditions if c.type == "Ready")
    assert ready.lastTransitionTime == "t3"


def test_host_files() -> None:
    assert parse_meminfo("MemTotal:  10 kB\nHugePages_Total:   3\nBad\n") == {"MemTotal": 10240, "HugePages_Total": 3}
    assert parse_os_release('NAME="x"\nPRETTY_NAME="Debian GNU/Linux 12"\n') == "Debian GNU/Linux 12"
    assert parse_os_release("") == "Linux"
