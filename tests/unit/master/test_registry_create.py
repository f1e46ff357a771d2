"""Create: what is stamped, what is refused, and that nothing half made is left."""

from typing import Any

import pytest

from barque.master.store.port import StoreUnavailableError, Unknown
from tests.support.memory_store import a_bench, refusal, target

POD: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "web:1"}]},
}


def config(name: str = "c", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


async def test_a_created_object_carries_what_the_system_writes() -> None:
    bench = await a_bench()
    made = await bench.create("pods", POD)
    meta = made["metadata"]
    assert meta["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert meta["generation"] == 1
    assert len(meta["uid"]) == 36
    assert meta["resourceVersion"] == str(bench.store.revision)
    assert meta["namespace"] == "default"
    assert (made["status"]["phase"], made["status"]["qosClass"]) == ("Pending", "BestEffort")
    assert made["spec"]["restartPolicy"] == "Always"
    assert await bench.get("pods", "web") == made


async def test_the_system_s_fields_are_not_the_creator_s_to_say() -> None:
    bench = await a_bench()
    meta = {"name": "web", "uid": "mine", "generation": 9, "managedFields": [{}]}
    meta["deletionTimestamp"] = "2020-01-01T00:00:00Z"
    made = await bench.create("pods", {**POD, "metadata": meta, "status": {"phase": "Running", "podIP": "1.2.3.4"}})
    assert made["metadata"]["uid"] != "mine"
    assert made["metadata"]["generation"] == 1
    assert "deletionTimestamp" not in made["metadata"]
    assert [owner["operation"] for owner in made["metadata"]["managedFields"]] == ["Update"]
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


async def test_a_worker_s_node_keeps_the_status_it_registers_with() -> None:
    bench = await a_bench()
    made = await bench.create("nodes", {"metadata": {"name": "n1"}, "status": {"capacity": {"cpu": "2"}}})
    assert made["status"]["capacity"] == {"cpu": "2"}


async def test_a_new_service_says_that_no_balancer_serves_it() -> None:
    bench = await a_bench()
    sent = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    sent["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    assert (await bench.create("services", sent))["status"] == {"loadBalancer": {}}


async def test_a_taken_name_is_refused() -> None:
    bench = await a_bench()
    await bench.create("configmaps", config())
    refused = await refusal(bench.create("configmaps", config()))
    assert (refused.code, refused.reason, refused.message) == (409, "AlreadyExists", 'configmaps "c" already exists')


async def test_a_generated_name_is_tried_again_where_it_is_taken() -> None:
    bench = await a_bench()
    generated = {"metadata": {"generateName": "c-"}}
    first = (await bench.create("configmaps", generated))["metadata"]["name"]
    assert first.startswith("c-")
    assert len(first) == 7

    names = iter([first.removeprefix("c-"), first.removeprefix("c-"), "bcdfg"])
    bench.registry.environment.entropy.choices = lambda _, k: list(next(names))  # type: ignore[method-assign,assignment,misc]
    assert (await bench.create("configmaps", generated))["metadata"]["name"] == "c-bcdfg"


async def test_a_server_that_finds_no_free_name_says_so() -> None:
    bench = await a_bench()
    bench.registry.environment.entropy.choices = lambda _, k: ["x"] * k  # type: ignore[method-assign,assignment,misc]
    await bench.create("configmaps", {"metadata": {"generateName": "c-"}})
    refused = await refusal(bench.create("configmaps", {"metadata": {"generateName": "c-"}}))
    assert (refused.code, refused.reason) == (409, "AlreadyExists")
    assert refused.message == (
        'configmaps "c-xxxxx" already exists, the server was not able to generate a unique name for the object'
    )


async def test_a_generated_name_fits_a_label() -> None:
    bench = await a_bench()
    made = await bench.create("configmaps", {"metadata": {"generateName": "x" * 100}})
    assert len(made["metadata"]["name"]) == 63


@pytest.mark.parametrize(
    ("plural", "body", "code", "words"),
    [
        ("configmaps", b"{", 400, "not JSON"),
        ("configmaps", b"[]", 400, "must be a JSON object"),
        ("configmaps", b'{"metadata":{"name":"c"},"dta":{}}', 400, 'unknown field "dta"'),
        ("configmaps", b'{"metadata":{"name":"c"},"data":{"a":1}}', 400, "data[a]"),
        ("configmaps", b'{"kind":"Pod","metadata":{"name":"c"}}', 400, "does not match the expected kind (ConfigMap)"),
        ("configmaps", b'{"metadata":{}}', 422, "name or generateName is required"),
        ("configmaps", b'{"metadata":{"name":"C_"}}', 422, "RFC 1123"),
        ("configmaps", b'{"metadata":{"name":"c","namespace":"other"}}', 400, "does not match the namespace sent"),
        ("configmaps", b'{"metadata":{"name":"c","resourceVersion":"5"}}', 400, "resourceVersion should not be set"),
        ("nodes", b'{"metadata":{"name":"n","namespace":"default"}}', 400, "not namespaced"),
        ("pods", b'{"metadata":{"name":"p"},"spec":{}}', 422, "spec.containers: Required value"),
    ],
)
async def test_bad_input_is_named_and_changes_nothing(plural: str, body: bytes, code: int, words: str) -> None:
    bench = await a_bench()
    refused = await refusal(bench.create(plural, body))
    assert refused.code == code
    assert words in refused.message
    assert bench.store.commits == 0


async def test_amounts_that_cannot_be_read_are_refused_before_anyone_reckons_with_them() -> None:
    bench = await a_bench()
    limits = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "much", "memory": "1Gi"}}
    container = {"name": "main", "image": "web:1", "resources": limits}
    refused = await refusal(bench.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": [container]}}))
    assert refused.code == 422
    assert 'spec.containers[0].resources.limits[cpu]: Invalid value: "much"' in refused.message


async def test_a_new_object_is_of_no_revision_yet() -> None:
    bench = await a_bench()
    made = await bench.create("configmaps", {"metadata": {"name": "c", "resourceVersion": "0"}})
    assert made["metadata"]["resourceVersion"] == str(bench.store.revision)


async def test_field_validation_may_warn_or_ignore() -> None:
    bench = await a_bench()
    await bench.create("configmaps", b'{"metadata":{"name":"a"},"dta":{}}', field_validation="Warn")
    assert bench.warnings == ['unknown field "dta"']
    await bench.create("configmaps", b'{"metadata":{"name":"b"},"dta":{}}', field_validation="Ignore")
    assert len(bench.warnings) == 1


async def test_an_absent_namespace_is_404_a_terminating_one_403() -> None:
    bench = await a_bench()
    refused = await refusal(bench.create("configmaps", config(), "nowhere"))
    assert (refused.code, refused.message) == (404, 'namespaces "nowhere" not found')
    await bench.create("namespaces", {"metadata": {"name": "going"}})
    await bench.create("configmaps", config(), "going")
    await bench.delete("namespaces", "going")
    refused = await refusal(bench.create("configmaps", config("d"), "going"))
    assert refused.code == 403
    assert refused.message == (
        'configmaps "d" is forbidden: unable to create new content in namespace going because it is being terminated'
    )
    assert refused.details is not None
    assert refused.details.causes[0].reason == "NamespaceTerminating"


async def test_a_namespace_deleted_at_the_same_moment_refuses_the_create() -> None:
    """The namespace is compared in the op itself, not looked at before it."""
    bench = await a_bench()
    await bench.create("namespaces", {"metadata": {"name": "going"}})
    bench.store.before_commit = lambda: bench.delete("namespaces", "going")
    refused = await refusal(bench.create("configmaps", config(), "going"))
    assert refused.code == 403
    assert await bench.names("configmaps", "going") == []


async def test_a_dry_run_answers_and_writes_nothing() -> None:
    bench = await a_bench()
    made = await bench.create("services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}, dry_run=True)
    assert made["spec"]["clusterIP"].startswith("10.")
    assert made["metadata"]["uid"], "it says what there would be"
    assert "resourceVersion" not in made["metadata"], "it is at no revision"
    assert bench.store.commits == 0
    assert (await refusal(bench.create("configmaps", config(), "nowhere", dry_run=True))).code == 404
    await bench.create("configmaps", config())
    assert (await refusal(bench.create("configmaps", config(), dry_run=True))).reason == "AlreadyExists"


async def test_what_is_too_large_is_413() -> None:
    bench = await a_bench()
    refused = await refusal(bench.create("configmaps", config(a="x" * (1536 * 1024))))
    assert (refused.code, refused.reason) == (413, "RequestEntityTooLarge")
    assert refused.message == "Request entity too large: limit is 1572864"


async def test_an_unknown_outcome_is_504_and_an_absent_store_503() -> None:
    bench = await a_bench()
    bench.store.answer = Unknown("the disk did not say")
    refused = await refusal(bench.create("configmaps", config()))
    assert (refused.code, refused.message) == (504, "outcome unknown: the disk did not say")
    bench.store.answer, bench.store.failure = None, StoreUnavailableError("the disk is full")
    refused = await refusal(bench.create("configmaps", config()))
    assert (refused.code, refused.reason, refused.message) == (503, "ServiceUnavailable", "the disk is full")


async def test_verbs_and_subresources_that_are_not_served() -> None:
    bench = await a_bench()
    assert (await refusal(bench.get("configmaps", "c", sub="status"))).code == 404
    assert (await refusal(bench.admin.create(target("pods", "p", subresource="status"), b"{}"))).code == 405
    assert (await refusal(bench.admin.delete(target("pods", "p", subresource="binding")))).code == 405
    assert (await refusal(bench.get("pods", ""))).code == 400


async def test_events_go_to_the_bus_and_still_need_their_namespace() -> None:
    bench = await a_bench()
    event = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"}}
    await bench.create("events", event)
    assert (bench.store.commits, bench.events.commits) == (0, 1)
    assert await bench.names("events", fields="involvedObject.name=web") == ["e"]
    event["involvedObject"]["namespace"] = "nowhere"
    assert (await refusal(bench.create("events", event, "nowhere"))).code == 404


async def test_the_field_manager_that_is_named_owns_what_it_made() -> None:
    bench = await a_bench()
    made = await bench.create("configmaps", config() | {"data": {"a": "b"}}, field_manager="me")
    assert [(owner["manager"], owner["operation"]) for owner in made["metadata"]["managedFields"]] == [("me", "Update")]


async def test_what_admission_adds_belongs_to_nobody() -> None:
    """As in Kubernetes: so no applier comes into conflict over what its predecessor never said."""
    bench = await a_bench()
    service = await bench.create("services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    owned = service["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert service["spec"]["clusterIP"]
    assert "f:ports" in owned
    assert not owned.keys() & {"f:clusterIP", "f:clusterIPs"}
    pod = await bench.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b"}]}})
    owned = pod["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert pod["spec"]["tolerations"]
    assert pod["spec"]["serviceAccountName"] == "default"
    assert not owned.keys() & {"f:tolerations", "f:volumes", "f:serviceAccount", "f:serviceAccountName"}
    assert "f:volumeMounts" not in owned["f:containers"]['k:{"name":"a"}']
