"""A namespace that is deleted empties itself, pods first, says what holds it up, and goes."""

from __future__ import annotations

import pytest

from barque.api import conditions, resources
from barque.api.errors import ApiError
from barque.api.types.core_v1 import ConfigMap, Event, Namespace, NamespaceCondition, NamespaceSpec, Pod, Secret
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.verbs import Create, Delete, Write
from tests.support.control_plane import ControlPlane
from tests.support.workloads import a_pod


@pytest.fixture
def plane() -> ControlPlane:
    plane = ControlPlane()
    namespace = Namespace(metadata=ObjectMeta(name="team"), spec=NamespaceSpec(finalizers=["kubernetes"]))
    namespace.status.phase = "Active"
    plane.verbs.put(namespace)
    return plane


def in_team(name: str = "settings", *finalizers: str) -> ObjectMeta:
    return ObjectMeta(name=name, namespace="team", finalizers=list(finalizers))


def condition(plane: ControlPlane, type: str) -> NamespaceCondition:
    found = conditions.find(plane.verbs.find(Namespace, "team").status.conditions, type)
    assert found is not None
    return found


async def delete_team(plane: ControlPlane) -> None:
    await plane.verbs.client.delete(Namespace, "team")
    await plane.settle()


async def test_it_stops_its_pods_then_deletes_the_rest_and_goes(plane: ControlPlane) -> None:
    plane.verbs.put(ConfigMap(metadata=in_team()))
    plane.verbs.put(a_pod("web-1", namespace="team", node="n1", ready=True))
    plane.verbs.put(a_pod("elsewhere"))
    async with plane.running():
        await delete_team(plane)
        assert plane.verbs.find(Pod, "web-1", "team").metadata.deletionTimestamp
        assert len(plane.verbs.all(ConfigMap)) == 1
        remaining = condition(plane, "NamespaceContentRemaining")
        assert (remaining.status, remaining.reason) == ("True", "SomeResourcesRemain")
        assert remaining.message == "Some resources are remaining: pods. has 1 resource instances"
        await plane.finish_stopping()
        assert plane.verbs.all(Namespace) == []
        assert plane.verbs.all(ConfigMap) == []
        assert [p.metadata.name for p in plane.pods] == ["elsewhere"]


async def test_it_says_which_finalizers_it_waits_for(plane: ControlPlane) -> None:
    plane.verbs.put(ConfigMap(metadata=in_team("a", "example.com/hold")))
    plane.verbs.put(Secret(metadata=in_team("b", "example.com/hold", "example.com/other")))
    async with plane.running():
        await delete_team(plane)
        held = plane.verbs.find(Namespace, "team").status.conditions
        assert [(c.type, c.status, c.reason, c.message) for c in held] == [
            (
                "NamespaceDeletionDiscoveryFailure",
                "False",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            (
                "NamespaceDeletionContentFailure",
                "False",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            (
                "NamespaceContentRemaining",
                "True",
                "SomeResourcesRemain",
                "Some resources are remaining: configmaps. has 1 resource instances, secrets. has 1 resource instances",
            ),
            (
                "NamespaceFinalizersRemaining",
                "True",
                "SomeFinalizersRemain",
                "Some content in the namespace has finalizers remaining: "
                "example.com/hold in 2 resource instances, example.com/other in 1 resource instances",
            ),
        ]
        plane.verbs.remove(plane.verbs.find(ConfigMap, "a", "team"))
        plane.verbs.remove(plane.verbs.find(Secret, "b", "team"))
        await plane.clock.advance(3)
        assert plane.verbs.all(Namespace) == []


async def test_it_says_what_refuses_to_be_deleted_and_tries_again(plane: ControlPlane) -> None:
    plane.verbs.put(ConfigMap(metadata=in_team()))

    def refuse(write: Write) -> ApiError | None:
        refused = isinstance(write, Delete) and write.target.resource.kind == "ConfigMap"
        return ApiError(403, "Forbidden", "not today") if refused else None

    plane.verbs.refuse = refuse
    async with plane.running():
        await delete_team(plane)
        failure = condition(plane, "NamespaceDeletionContentFailure")
        assert (failure.status, failure.reason) == ("True", "ContentDeletionFailed")
        assert failure.message == "Failed to delete all resource types, 1 remaining: not today"
        plane.verbs.refuse = lambda write: None
        await plane.clock.advance(60)
        assert plane.verbs.all(Namespace) == []


# Those that are records of their own: another version's go with these.
KEPT = [r for r in resources.RESOURCES if r.namespaced and "delete" in r.verbs and not r.kept_as]


@pytest.mark.parametrize("resource", KEPT, ids=lambda r: r.group_resource)
async def test_no_served_kind_is_left_behind(plane: ControlPlane, resource: resources.Resource) -> None:
    plane.verbs.put(resource.type(metadata=in_team()))
    # As the registry does in a namespace that is going; else the controllers of the kind would go on making things.
    plane.verbs.refuse = lambda write: ApiError(403, "Forbidden", "terminating") if isinstance(write, Create) else None
    async with plane.running():
        await delete_team(plane)
        assert plane.verbs.all(Namespace) == []
        assert plane.verbs.all(resource.type) == []


async def test_events_that_cannot_be_deleted_keep_no_namespace(plane: ControlPlane) -> None:
    plane.verbs.put(Event(metadata=in_team()))

    def refuse(write: Write) -> ApiError | None:
        away = isinstance(write, Delete) and write.target.resource.kind == "Event"
        return ApiError(503, "ServiceUnavailable", "the bus is away") if away else None

    plane.verbs.refuse = refuse
    async with plane.running():
        await delete_team(plane)
        assert plane.verbs.all(Namespace) == []


async def test_of_many_pods_that_go_together_not_each_is_looked_after(plane: ControlPlane) -> None:
    for number in range(50):
        plane.verbs.put(a_pod(f"web-{number}", namespace="team", node="n1", ready=True))
    async with plane.running():
        await delete_team(plane)
        before = plane.verbs.lists
        for pod in plane.pods[:49]:
            plane.verbs.remove(pod)
            await plane.clock.advance(0.001)
        await plane.settle()
        assert plane.verbs.lists - before <= 3


async def test_a_live_namespace_is_left_alone(plane: ControlPlane) -> None:
    plane.verbs.put(ConfigMap(metadata=in_team()))
    async with plane.running():
        await plane.clock.advance(10)
        assert len(plane.verbs.all(ConfigMap)) == 1
