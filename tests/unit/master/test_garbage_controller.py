"""What has lost its owners goes; foreground waits, orphans stay."""

from __future__ import annotations

import pytest

from barque.api.types.apps_v1 import Deployment, ReplicaSet
from barque.api.types.core_v1 import ConfigMap, Namespace, NamespaceSpec, Node, Secret
from barque.api.types.meta_v1 import ObjectMeta, OwnerReference
from barque.client.verbs import Delete, Target
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_deployment, a_node


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


def a_map(name: str = "settings", *owners: OwnerReference, namespace: str = "default") -> ConfigMap:
    meta = ObjectMeta(name=name, namespace=namespace, uid=f"uid-{name}", ownerReferences=list(owners))
    return ConfigMap(metadata=meta)


def owned_by(
    uid: str, *, name: str = "", kind: str = "ReplicaSet", api: str = "apps/v1", block: bool = False
) -> OwnerReference:
    return OwnerReference(apiVersion=api, kind=kind, name=name or uid, uid=uid, blockOwnerDeletion=block or None)


def owned_by_map(name: str, *, block: bool = False) -> OwnerReference:
    return owned_by(f"uid-{name}", name=name, kind="ConfigMap", api="v1", block=block)


def maps(plane: ControlPlane) -> list[str]:
    return sorted(m.metadata.name for m in plane.verbs.all(ConfigMap))


async def delete_map(plane: ControlPlane, name: str, propagation: str = "") -> None:
    await plane.verbs.client.delete(ConfigMap, name, "default", propagation=propagation)
    await plane.settle()


def count_gets(plane: ControlPlane) -> list[Target]:
    """From now on, the targets of all look-ups."""
    looked_up: list[Target] = []
    real = plane.verbs.get

    async def get(target: Target, resource_version: str = "") -> bytes:
        looked_up.append(target)
        return await real(target, resource_version)

    plane.verbs.get = get  # type: ignore[method-assign]
    return looked_up


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
    plane.verbs.put(a_map("settings", owned_by("gone", name="web", kind="Deployment")))
    async with plane.running():
        assert plane.verbs.all(ConfigMap) == []


async def test_one_living_owner_is_enough(plane: ControlPlane) -> None:
    plane.verbs.put(a_deployment())
    plane.verbs.put(a_map("settings", owned_by("gone"), owned_by("uid-web", name="web", kind="Deployment")))
    async with plane.running():
        held = plane.verbs.find(ConfigMap, "settings")
        assert [r.uid for r in held.metadata.ownerReferences] == ["uid-web"]


async def test_an_owner_the_cache_has_not_seen_is_looked_up_first(plane: ControlPlane) -> None:
    async with plane.running():
        plane.verbs.hold_watches()
        plane.verbs.put(a_deployment(replicas=0))
        plane.verbs.put(a_map("settings", owned_by("uid-web", name="web", kind="Deployment")))
        plane.verbs.release_watches()
        await plane.settle()
        assert len(plane.verbs.all(ConfigMap)) == 1


async def test_an_owner_of_an_unknown_kind_condemns_nothing(plane: ControlPlane) -> None:
    plane.verbs.put(a_map("settings", owned_by("x", kind="Widget", api="example.com/v1")))
    async with plane.running():
        await plane.clock.advance(60)
        assert len(plane.verbs.all(ConfigMap)) == 1


@pytest.mark.parametrize("held", [True, False])
async def test_an_owner_in_another_namespace_is_no_owner(plane: ControlPlane, held: bool) -> None:
    plane.verbs.put(a_map("owner", namespace="other"))
    if held:
        plane.verbs.put(a_map("sibling", owned_by_map("owner"), namespace="other"))
    async with plane.running():
        plane.verbs.put(a_map("stray", owned_by_map("owner")))
        await plane.settle()
        assert "stray" not in maps(plane)
        said = (
            "OwnerRefInvalidNamespace: ownerRef [v1/ConfigMap, namespace: default, name: owner, uid: uid-owner] "
            'does not exist in namespace "default"'
        )
        assert (said in plane.events()) == held


async def test_an_owner_of_another_kind_or_name_is_no_owner(plane: ControlPlane) -> None:
    plane.verbs.put(a_map("owner"))
    plane.verbs.put(a_map("sibling", owned_by_map("owner")))
    async with plane.running():
        plane.verbs.put(a_map("misnamed", owned_by("uid-owner", name="other", kind="ConfigMap", api="v1")))
        plane.verbs.put(a_map("mistaken", owned_by("uid-owner", name="owner", kind="Secret", api="v1")))
        await plane.settle()
        assert maps(plane) == ["owner", "sibling"]


async def test_a_cluster_wide_object_cannot_be_owned_from_a_namespace(plane: ControlPlane) -> None:
    node = a_node("n1")
    node.metadata.ownerReferences = [owned_by_map("owner")]
    plane.verbs.put(node)
    async with plane.running():
        await plane.clock.advance(60)
        assert plane.verbs.find(Node, "n1")


async def test_a_cluster_wide_owner_may_own_in_any_namespace(plane: ControlPlane) -> None:
    plane.verbs.put(a_node("n1"))
    plane.verbs.put(a_map("settings", owned_by("uid-n1", name="n1", kind="Node", api="v1")))
    async with plane.running():
        assert maps(plane) == ["settings"]
        await plane.verbs.client.delete(Node, "n1")
        await plane.settle()
        assert maps(plane) == []


async def test_what_has_changed_since_it_was_seen_is_not_deleted(plane: ControlPlane) -> None:
    """Its references were removed, which the watch has not shown yet, as happens when it is orphaned."""
    plane.verbs.put(a_map("owner"))
    plane.verbs.put(
        Secret(metadata=ObjectMeta(name="kept", namespace="default", ownerReferences=[owned_by_map("owner")]))
    )
    async with plane.running():
        plane.verbs.hold_watches("secrets")
        kept = plane.verbs.find(Secret, "kept")
        kept.metadata.ownerReferences = []
        plane.verbs.put(kept)
        await delete_map(plane, "owner")
        assert len(plane.verbs.all(Secret)) == 1
        plane.verbs.release_watches()
        await plane.clock.advance(60)
        assert len(plane.verbs.all(Secret)) == 1


async def test_orphans_by_the_hundred_are_let_go_in_batches(plane: ControlPlane) -> None:
    plane.verbs.put(a_map("owner"))
    for number in range(250):
        plane.verbs.put(a_map(f"m{number:03}", owned_by_map("owner")))
    async with plane.running():
        await delete_map(plane, "owner", "Orphan")
        assert len(maps(plane)) == 250
        assert all(not m.metadata.ownerReferences for m in plane.verbs.all(ConfigMap))
        assert plane.verbs.batches[:2] == [200, 50]


async def test_foreground_waits_only_for_those_that_block(plane: ControlPlane) -> None:
    plane.verbs.put(a_map("owner"))
    for name, block in (("blocking", True), ("other", False)):
        held_back = a_map(name, owned_by_map("owner", block=block))
        held_back.metadata.finalizers = ["example.com/hold"]
        plane.verbs.put(held_back)
    async with plane.running():
        await delete_map(plane, "owner", "Foreground")
        assert maps(plane) == ["blocking", "other", "owner"]
        assert plane.verbs.find(ConfigMap, "other").metadata.deletionTimestamp
        plane.verbs.remove(plane.verbs.find(ConfigMap, "blocking"))
        await plane.settle()
        assert maps(plane) == ["other"]


async def test_foreground_goes_down_level_by_level(plane: ControlPlane) -> None:
    plane.verbs.put(a_map("top"))
    plane.verbs.put(a_map("middle", owned_by_map("top", block=True)))
    bottom = a_map("bottom", owned_by_map("middle", block=True))
    bottom.metadata.finalizers = ["example.com/hold"]
    plane.verbs.put(bottom)
    async with plane.running():
        await delete_map(plane, "top", "Foreground")
        assert maps(plane) == ["bottom", "middle", "top"]
        plane.verbs.remove(plane.verbs.find(ConfigMap, "bottom"))
        await plane.clock.advance(1)
        assert maps(plane) == []


async def test_a_circle_of_owners_goes_in_the_foreground_too(plane: ControlPlane) -> None:
    plane.verbs.put(a_map("chicken", owned_by_map("egg", block=True)))
    plane.verbs.put(a_map("egg", owned_by_map("chicken", block=True)))
    async with plane.running():
        assert maps(plane) == ["chicken", "egg"]
        await delete_map(plane, "egg", "Foreground")
        await plane.clock.advance(1)
        assert maps(plane) == []


@pytest.mark.parametrize(("finalizer", "stays"), [("orphan", True), ("foregroundDeletion", False)])
async def test_garbage_keeps_its_own_wish_for_its_dependants(plane: ControlPlane, finalizer: str, stays: bool) -> None:
    plane.verbs.put(a_map("top"))
    middle = a_map("middle", owned_by_map("top"))
    middle.metadata.finalizers = [finalizer]
    plane.verbs.put(middle)
    plane.verbs.put(a_map("bottom", owned_by_map("middle", block=True)))
    async with plane.running():
        await delete_map(plane, "top")
        await plane.clock.advance(1)
        assert maps(plane) == (["bottom"] if stays else [])
        deletes = [w for w in plane.verbs.writes if isinstance(w, Delete) and w.target.name == "middle"]
        assert f'"{"Orphan" if stays else "Foreground"}"'.encode() in deletes[0].options


async def test_an_owner_seen_to_go_is_not_looked_up_again(plane: ControlPlane) -> None:
    plane.verbs.put(a_map("owner"))
    for number in range(100):
        plane.verbs.put(a_map(f"m{number:02}", owned_by_map("owner")))
    async with plane.running():
        looked_up = count_gets(plane)
        await delete_map(plane, "owner")
        assert maps(plane) == []
        assert looked_up == []


async def test_nothing_is_held_of_what_neither_owns_nor_is_owned(plane: ControlPlane) -> None:
    for number in range(100):
        plane.verbs.put(a_map(f"m{number:02}"))
    plane.verbs.put(a_map("owner"))
    plane.verbs.put(a_map("owned", owned_by_map("owner")))
    async with plane.running():
        assert len(plane.manager.garbage.graph) == 2
        await delete_map(plane, "owned")
        assert len(plane.manager.garbage.graph) == 0


async def test_a_controller_that_breaks_is_named(plane: ControlPlane) -> None:
    async def broken(key: str) -> float | None:
        raise ZeroDivisionError("oops")

    plane.manager.keyed[3].reconcile = broken  # type: ignore[method-assign]
    plane.verbs.put(Namespace(metadata=ObjectMeta(name="team"), spec=NamespaceSpec()))
    plane.manager.keyed[3].queue.add("team")
    with pytest.raises(
        Exception, match=r"^controllers/namespace failed: ZeroDivisionError: oops .*while reconciling team"
    ):
        await plane.run()
