"""Static pods: from files to containers, and their mirrors at the masters."""

from __future__ import annotations

from pathlib import Path

import pytest

from barque.api.types import core_v1
from barque.worker.pods.static import CreateMirror, DeleteMirror, ManifestError, StaticPods, plan_mirrors, static_pod
from barque.worker.pods.static import mirror_of as mirror
from tests.support.worker_world import World, a_pod, a_world

NOW = "2026-01-01T00:00:00Z"
MANIFEST = b"""\
apiVersion: v1
kind: Pod
metadata: {name: etcd, labels: {app: etcd}}
spec:
  containers: [{name: etcd, image: "web:1"}]
"""


def a_static(data: bytes = MANIFEST, node: str = "n1") -> core_v1.Pod:
    return static_pod(data, "/etc/x/etcd.yaml", node, NOW)


def a_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "etcd.yaml").write_bytes(MANIFEST)
    return folder


def statics(world: World, folder: Path) -> StaticPods:
    return StaticPods(folder, world.manager, world.parts, lambda: world.masters.all(core_v1.Pod))


def test_a_manifest_becomes_a_pod_of_its_node() -> None:
    pod = a_static()
    meta = pod.metadata
    assert (meta.name, meta.namespace, pod.spec.nodeName) == ("etcd-n1", "default", "n1")
    assert meta.annotations == {
        "kubernetes.io/config.source": "file",
        "kubernetes.io/config.hash": meta.uid,
        "kubernetes.io/config.seen": NOW,
    }
    assert pod.spec.tolerations == [core_v1.Toleration(operator="Exists", effect="NoExecute")]
    assert pod.spec.restartPolicy == "Always"


def test_its_identity_is_what_it_says_and_where() -> None:
    assert a_static().metadata.uid == a_static().metadata.uid
    others = [a_static(node="n2"), a_static(MANIFEST.replace(b"web:1", b"web:2"))]
    assert len({pod.metadata.uid for pod in (a_static(), *others)}) == 3


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a: [", "did not find"),
        (MANIFEST + b"---\n" + MANIFEST, "2 documents"),
        (b"", "0 documents"),
        (MANIFEST.replace(b"containers:", b"contianers:"), "contianers"),
        (MANIFEST.replace(b"kind: Pod", b"kind: Service"), "Service"),
        (MANIFEST.replace(b"name: etcd,", b""), "no name"),
        (MANIFEST.replace(b'image: "web:1"', b""), "image: Required value"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(data: bytes, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        a_static(data)


def test_each_static_pod_has_one_mirror_and_no_other() -> None:
    pod = a_static()
    right, stale = mirror(pod, "node-uid"), mirror(a_static(MANIFEST.replace(b"web:1", b"web:2")), "node-uid")
    assert plan_mirrors([pod], [a_pod()]) == [CreateMirror(pod)]
    assert plan_mirrors([pod], [right, a_pod()]) == []
    assert plan_mirrors([pod], [stale]) == [DeleteMirror(stale)]
    assert plan_mirrors([], [right]) == [DeleteMirror(right)]
    right.metadata.deletionTimestamp = NOW
    assert plan_mirrors([pod], [right]) == [DeleteMirror(right)]


def test_a_mirror_goes_with_its_node() -> None:
    found = mirror(a_static(), "node-uid").metadata
    assert found.annotations["kubernetes.io/config.mirror"] == a_static().metadata.uid
    assert found.uid == ""
    (owner,) = found.ownerReferences
    assert (owner.kind, owner.name, owner.uid, owner.controller) == ("Node", "n1", "node-uid", True)


async def test_a_file_runs_shows_at_the_masters_and_goes(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    async with a_world(tmp_path) as world:
        static = statics(world, folder)
        await static.look()
        await world.settle()
        assert world.runtime.running("etcd")
        shown = world.masters.pod("etcd-n1")
        assert (shown.status.phase, shown.spec.nodeName) == ("Running", "n1")
        (folder / "etcd.yaml").unlink()
        await static.look()
        await world.settle()
        assert world.runtime.containers == {}
        assert world.masters.all(core_v1.Pod) == []


async def test_a_changed_file_is_another_pod(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    async with a_world(tmp_path, images=("web:1", "web:2")) as world:
        static = statics(world, folder)
        await static.look()
        await world.settle()
        (folder / "etcd.yaml").write_bytes(MANIFEST.replace(b"web:1", b"web:2"))
        for _ in range(3):
            await static.look()
            await world.settle()
        assert world.runtime.running("etcd").image == "web:2"
        assert world.masters.pod("etcd-n1").spec.containers[0].image == "web:2"
        assert world.masters.pod("etcd-n1").status.phase == "Running"


async def test_a_deleted_mirror_returns_and_the_pod_runs_on(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    async with a_world(tmp_path) as world:
        static = statics(world, folder)
        await static.look()
        await world.settle()
        running = world.runtime.running("etcd").id
        await world.delete("etcd-n1")
        for _ in range(3):
            await static.look()
            await world.settle()
        assert world.runtime.running("etcd").id == running
        shown = world.masters.pod("etcd-n1")
        assert (shown.metadata.deletionTimestamp, shown.status.phase) == ("", "Running")


async def test_static_pods_need_no_master(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    async with a_world(tmp_path) as world:
        world.masters.down = True
        static = StaticPods(folder, world.manager, world.parts, lambda: None)
        await static.look()
        await world.settle()
        assert world.runtime.running("etcd")


async def test_a_restarted_worker_takes_its_static_pods_over(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    async with a_world(tmp_path) as world:
        await statics(world, folder).look()
        await world.settle()
        running = world.runtime.running("etcd").id
        await world.kill()
        await statics(world, folder).load()
        await world.start()
        await world.pass_time(60)
        assert world.runtime.running("etcd").id == running
        assert world.masters.pod("etcd-n1").status.phase == "Running"


async def test_a_broken_file_is_left_out_and_the_others_run(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    (folder / "broken.yaml").write_text("kind: [")
    (folder / ".hidden.yaml").write_text("kind: [")
    async with a_world(tmp_path) as world:
        await statics(world, folder).look()
        await world.settle()
        assert world.runtime.running("etcd")
        assert len(world.masters.all(core_v1.Pod)) == 1
