"""What has lost its owners goes; foreground waits, orphans stay; namespaces empty themselves."""

from __future__ import annotations

import pytest

from barque.api.types.apps_v1 import Deployment, ReplicaSet
from barque.api.types.core_v1 import ConfigMap, Namespace, NamespaceSpec, Pod
from barque.api.types.meta_v1 import ObjectMeta, OwnerReference
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_deployment, a_pod


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


def a_map(name: str = "settings", *owners: OwnerReference) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default", ownerReferences=list(owners)))


def owned_by(uid: str, *, kind: str = "ReplicaSet", api: str = "apps/v1", block: bool = False) -> OwnerReference:
    return OwnerReference(apiVersion=api, kind=kind, name=uid, uid=uid, blockOwnerDeletion=block or None)


async def delete(plane: ControlPlane, propagation: str = "") -> None:
    await plane.verbs.client.delete(Deployment, "web", "default", propagation=propagation)
    await plane.settle()


async def test_a_deleted_deployment_takes_sets_and_pods_along(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=3))
    async with plane.running():
        await plane.make_ready()
        await delete(plane)
        assert plane.verbs.all(ReplicaSet) == []
        await plane.finish_stopping()
        assert plane.pods == []


async def test_foreground_deletes_the_owner_last(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=2))
    async with plane.running():
        for pod in plane.pods:
            pod.spec.nodeName = "n1"
            plane.verbs.put(pod)
        await plane.settle()
        await delete(plane, "Foreground")
        assert len(plane.verbs.all(Deployment)) == 1
        assert len(plane.verbs.all(ReplicaSet)) == 1
        assert all(p.metadata.deletionTimestamp for p in plane.pods)
        await plane.finish_stopping()
        await plane.clock.advance(1)
        assert plane.verbs.all(ReplicaSet) == []
        assert plane.verbs.all(Deployment) == []


async def test_orphan_leaves_the_dependants_behind(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment(replicas=2))
    async with plane.running():
        await delete(plane, "Orphan")
        assert plane.verbs.all(Deployment) == []
        (rs,) = plane.verbs.all(ReplicaSet)
        assert rs.metadata.ownerReferences == []
        assert len(plane.active) == 2


async def test_an_owner_of_another_uid_is_no_owner(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment())
    stale = owned_by("gone", kind="Deployment")
    stale.name = "web"
    plane.verbs.put(a_map("settings", stale))
    async with plane.running():
        assert plane.verbs.all(ConfigMap) == []


async def test_one_living_owner_is_enough(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment())
    plane.verbs.put(a_map("settings", owned_by("gone"), owned_by("uid-web", kind="Deployment")))
    async with plane.running():
        held = plane.verbs.find(ConfigMap, "settings")
        assert [r.uid for r in held.metadata.ownerReferences] == ["uid-web"]


async def test_an_owner_the_cache_has_not_seen_is_looked_up_first(plane: ControlPlane) -> None:
    async with plane.running():
        plane.verbs.hold_watches()
        plane.verbs.put(a_deployment(replicas=0))
        reference = owned_by("uid-web", kind="Deployment")
        reference.name = "web"
        plane.verbs.put(a_map("settings", reference))
        plane.verbs.release_watches()
        await plane.settle()
        assert len(plane.verbs.all(ConfigMap)) == 1


async def test_an_owner_of_an_unknown_kind_condemns_nothing(plane: ControlPlane) -> None:
    plane.verbs.put(a_map("settings", owned_by("x", kind="Widget", api="example.com/v1")))
    async with plane.running():
        await plane.clock.advance(60)
        assert len(plane.verbs.all(ConfigMap)) == 1


def a_namespace(name: str = "team") -> Namespace:
    namespace = Namespace(metadata=ObjectMeta(name=name), spec=NamespaceSpec(finalizers=["kubernetes"]))
    namespace.status.phase = "Active"
    return namespace


async def test_a_namespace_empties_itself_waits_for_pods_and_goes(plane: ControlPlane) -> None:
    plane.verbs.put(a_namespace())
    plane.verbs.put(ConfigMap(metadata=ObjectMeta(name="settings", namespace="team")))
    plane.verbs.put(a_pod("web-1", namespace="team", node="n1", ready=True))
    plane.verbs.put(a_pod("elsewhere"))
    async with plane.running():
        await plane.verbs.client.delete(Namespace, "team")
        await plane.settle()
        assert plane.verbs.all(ConfigMap) == []
        assert plane.verbs.find(Pod, "web-1", "team").metadata.deletionTimestamp
        held = plane.verbs.find(Namespace, "team")
        assert held.status.phase == "Terminating"
        assert "pods. has 1 resource instances" in held.status.conditions[0].message
        await plane.finish_stopping()
        assert plane.verbs.all(Namespace) == []
        assert [p.metadata.name for p in plane.pods] == ["elsewhere"]


async def test_a_live_namespace_is_left_alone(plane: ControlPlane) -> None:
    plane.verbs.put(a_namespace())
    plane.verbs.put(ConfigMap(metadata=ObjectMeta(name="settings", namespace="team")))
    async with plane.running():
        await plane.clock.advance(10)
        assert len(plane.verbs.all(ConfigMap)) == 1


async def test_a_controller_that_breaks_is_named(plane: ControlPlane) -> None:
    async def broken(key: str) -> float | None:
        raise ZeroDivisionError("oops")

    plane.manager.keyed[3].reconcile = broken  # type: ignore[method-assign]
    plane.verbs.put(a_namespace())
    plane.manager.keyed[3].queue.add("team")
    with pytest.raises(
        Exception, match=r"^controllers/namespace failed: ZeroDivisionError: oops .*while reconciling team"
    ):
        await plane.run()
