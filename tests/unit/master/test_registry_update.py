"""Update and patch: whose fields are whose, what a stale revision means, and that nothing is written for nothing."""

from typing import Any

import msgspec
import pytest

from barque.client.verbs import JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, WriteOptions
from tests.support.memory_store import Bench, a_bench, refusal, target

TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "web:1"}]},
}


def deployment(replicas: int = 1) -> dict[str, Any]:
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE}
    return {"metadata": {"name": "web"}, "spec": spec}


async def with_deployment() -> tuple[Bench, dict[str, Any]]:
    bench = await a_bench()
    return bench, await bench.create("deployments", deployment())


async def test_an_update_replaces_and_counts_the_generation() -> None:
    bench, old = await with_deployment()
    new = await bench.update("deployments", {**old, "spec": {**old["spec"], "replicas": 3}})
    assert (new["spec"]["replicas"], new["metadata"]["generation"]) == (3, 2)
    assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    assert new["metadata"]["uid"] == old["metadata"]["uid"]
    assert new["metadata"]["creationTimestamp"] == old["metadata"]["creationTimestamp"]


async def test_only_the_spec_counts_for_the_generation() -> None:
    bench, _ = await with_deployment()
    new = await bench.patch("deployments", "web", {"metadata": {"labels": {"tier": "a"}}})
    assert new["metadata"]["generation"] == 1
    assert new["metadata"]["labels"]["tier"] == "a"


async def test_what_is_handed_on_of_the_metadata_counts_for_the_generation() -> None:
    """A Deployment's annotations go to its ReplicaSets, and a slice's labels say which service it is of."""
    bench, _ = await with_deployment()
    annotated = {"metadata": {"annotations": {"note": "a"}}}
    assert (await bench.patch("deployments", "web", annotated))["metadata"]["generation"] == 2
    counted = {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}}}
    assert (await bench.patch("deployments", "web", counted))["metadata"]["generation"] == 2
    pod = {"metadata": {"name": "p"}, "spec": TEMPLATE["spec"]}
    assert (await bench.create("pods", pod))["metadata"]["generation"] == 1
    assert (await bench.patch("pods", "p", annotated))["metadata"]["generation"] == 1
    endpoints = [{"addresses": ["10.0.0.1"]}]
    await bench.create("endpointslices", {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": endpoints})
    assert (await bench.patch("endpointslices", "s", annotated))["metadata"]["generation"] == 1
    labelled = {"metadata": {"labels": {"kubernetes.io/service-name": "web"}}}
    assert (await bench.patch("endpointslices", "s", labelled))["metadata"]["generation"] == 2
    changed = await bench.patch("endpointslices", "s", {"endpoints": [{"addresses": ["10.0.0.2"]}]})
    assert changed["metadata"]["generation"] == 3


async def test_a_lease_is_taken_by_who_has_seen_it() -> None:
    bench = await a_bench()
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}}
    made = await bench.create("leases", lease)
    for revision in ("", "0"):
        unseen = {**lease, "metadata": {"name": "l", "resourceVersion": revision}}
        refused = await refusal(bench.update("leases", unseen))
        assert (refused.code, refused.message) == (
            422,
            'Lease.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0: '
            "must be specified for an update",
        )
    taken = await bench.update("leases", {**made, "spec": {"holderIdentity": "b"}})
    assert taken["spec"] == {"holderIdentity": "b"}
    assert (await refusal(bench.update("leases", {**made, "spec": {"holderIdentity": "c"}}))).code == 409


async def test_some_kinds_are_created_by_an_update() -> None:
    bench = await a_bench()
    event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "reason": "Began"}
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    for plural, obj in (("leases", {"metadata": {"name": "l"}}), ("events", event), ("services", service)):
        made = await bench.update(plural, obj)
        assert (made["metadata"]["uid"], made["metadata"]["creationTimestamp"]) != ("", "")
        assert await bench.get(plural, obj["metadata"]["name"]) == made
    assert made["spec"]["clusterIP"]
    assert made["metadata"]["managedFields"][0]["operation"] == "Update"
    absent = await refusal(bench.update("configmaps", {"metadata": {"name": "c"}}))
    assert (absent.code, absent.message) == (404, 'configmaps "c" not found')


async def test_who_means_an_object_that_is_gone_creates_none() -> None:
    bench = await a_bench()
    of_revision = await refusal(bench.update("leases", {"metadata": {"name": "l", "resourceVersion": "7"}}))
    of_uid = await refusal(bench.update("leases", {"metadata": {"name": "l", "uid": "u"}}))
    assert (of_revision.code, of_uid.code) == (404, 409)
    assert (await refusal(bench.get("leases", "l"))).code == 404


async def test_revision_zero_is_any_revision() -> None:
    bench, old = await with_deployment()
    any_of_them = {**deployment(3), "metadata": {"name": "web", "resourceVersion": "0"}}
    assert (await bench.update("deployments", any_of_them))["spec"]["replicas"] == 3
    assert old["spec"]["replicas"] == 1


async def test_a_stale_revision_is_a_conflict() -> None:
    bench, old = await with_deployment()
    await bench.patch("deployments", "web", {"spec": {"replicas": 2}})
    refused = await refusal(bench.update("deployments", old))
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert refused.message == (
        'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your '
        "changes to the latest version and try again"
    )


async def test_a_write_that_slips_in_between_is_a_conflict_for_who_named_a_revision() -> None:
    bench, old = await with_deployment()
    bench.store.before_commit = lambda: bench.patch("deployments", "web", {"spec": {"replicas": 2}})
    assert (await refusal(bench.update("deployments", {**old, "spec": {**old["spec"], "replicas": 9}}))).code == 409
    assert (await bench.get("deployments", "web"))["spec"]["replicas"] == 2


async def test_an_unconditional_update_and_a_patch_are_made_anew_on_the_fresh_object() -> None:
    bench, _ = await with_deployment()
    bench.store.before_commit = lambda: bench.patch("deployments", "web", {"metadata": {"labels": {"by": "other"}}})
    new = await bench.patch("deployments", "web", {"spec": {"replicas": 4}})
    assert (new["spec"]["replicas"], new["metadata"]["labels"]) == (4, {"by": "other"})

    bench.store.before_commit = lambda: bench.patch("deployments", "web", {"spec": {"replicas": 5}})
    new = await bench.update("deployments", deployment(7))
    assert (new["spec"]["replicas"], new["metadata"]["generation"]) == (7, 4)


async def test_a_write_that_never_gets_through_gives_up() -> None:
    bench, _ = await with_deployment()
    count = 0

    async def be_quicker() -> None:
        nonlocal count
        count += 1
        bench.store.before_commit = None
        await bench.patch("deployments", "web", {"metadata": {"labels": {"n": str(count)}}})
        bench.store.before_commit = be_quicker

    bench.store.before_commit = be_quicker
    assert (await refusal(bench.patch("deployments", "web", {"spec": {"replicas": 2}}))).code == 409
    assert 5 < count < 50


async def test_a_change_of_nothing_writes_nothing() -> None:
    bench, old = await with_deployment()
    bench.store.commits = 0
    assert await bench.update("deployments", old) == old
    assert await bench.patch("deployments", "web", {"spec": {"replicas": 1}}) == old
    assert await bench.patch("deployments", "web", {"spec": {"replicas": 1}}, "scale") == await bench.get(
        "deployments", "web", sub="scale"
    )
    assert bench.store.commits == 0


async def test_spec_and_status_are_written_apart() -> None:
    bench, old = await with_deployment()
    both = {**old, "spec": {**old["spec"], "replicas": 5}, "status": {"replicas": 4}}
    new = await bench.update("deployments", both)
    assert (new["spec"]["replicas"], new["status"]) == (5, {})
    both["metadata"] = {**new["metadata"], "labels": {"sneaked": "in"}}
    both["spec"] = {**old["spec"], "replicas": 9}
    new = await bench.update("deployments", both, "status")
    assert (new["spec"]["replicas"], new["status"]) == (5, {"replicas": 4})
    assert "labels" not in new["metadata"]
    assert new["metadata"]["generation"] == 2
    new = await bench.patch("deployments", "web", {"spec": {"replicas": 1}, "status": {"replicas": 5}}, "status")
    assert (new["spec"]["replicas"], new["status"]) == (5, {"replicas": 5})
    new = await bench.patch("deployments", "web", {"status": {"replicas": 0}})
    assert new["status"] == {"replicas": 5}


async def test_another_object_of_the_same_name_is_a_conflict() -> None:
    bench, old = await with_deployment()
    other = {**old, "metadata": {**old["metadata"], "uid": "another", "resourceVersion": ""}}
    refused = await refusal(bench.update("deployments", other))
    assert refused.code == 409
    assert "Precondition failed: UID in precondition: another" in refused.message


async def test_a_patch_may_name_the_revision_it_means() -> None:
    bench, old = await with_deployment()
    revision = old["metadata"]["resourceVersion"]
    await bench.patch("deployments", "web", {"metadata": {"resourceVersion": revision}, "spec": {"replicas": 2}})
    stale = {"metadata": {"resourceVersion": revision}, "spec": {"replicas": 3}}
    assert (await refusal(bench.patch("deployments", "web", stale))).code == 409
    garbage = {"metadata": {"resourceVersion": "x"}, "spec": {"replicas": 3}}
    assert (await refusal(bench.patch("deployments", "web", garbage))).code == 400


async def test_merge_and_strategic_patches_differ_in_lists() -> None:
    bench, _ = await with_deployment()
    second = {"spec": {"template": {"spec": {"containers": [{"name": "second", "image": "b:1"}]}}}}
    new = await bench.patch("deployments", "web", second)
    assert {c["name"] for c in new["spec"]["template"]["spec"]["containers"]} == {"main", "second"}
    new = await bench.patch("deployments", "web", second, kind=MERGE_PATCH)
    assert [c["name"] for c in new["spec"]["template"]["spec"]["containers"]] == ["second"]
    new = await bench.patch("deployments", "web", {"spec": {"minReadySeconds": 5}})
    assert new["spec"]["minReadySeconds"] == 5
    new = await bench.patch("deployments", "web", {"spec": {"minReadySeconds": None}}, kind=MERGE_PATCH)
    assert "minReadySeconds" not in new["spec"]


@pytest.mark.parametrize(
    ("kind", "patch", "code", "words"),
    [
        ("application/xml", b"{}", 415, "accepted media types include: application/json-patch+json"),
        (MERGE_PATCH, b"nonsense", 400, "not JSON"),
        (MERGE_PATCH, b"[1]", 400, "must be a JSON object"),
        (STRATEGIC_MERGE_PATCH, b'{"spec":{"replica":1}}', 422, 'unknown field "spec.replica"'),
        (STRATEGIC_MERGE_PATCH, b'{"spec":{"replicas":"x"}}', 422, "spec.replicas: expected integer"),
        (STRATEGIC_MERGE_PATCH, b'{"spec":{"replicas":-1}}', 422, "greater than or equal to 0"),
        (STRATEGIC_MERGE_PATCH, b'{"metadata":{"name":"other"}}', 400, "does not match the name on the URL"),
        (STRATEGIC_MERGE_PATCH, b'{"spec":{"$patch":"gibberish"}}', 400, "unknown patch type"),
    ],
)
async def test_bad_patches_are_named_and_change_nothing(kind: str, patch: bytes, code: int, words: str) -> None:
    bench, old = await with_deployment()
    refused = await refusal(bench.admin.patch(target("deployments", "web"), kind, patch))
    assert refused.code == code
    assert words in refused.message
    assert await bench.get("deployments", "web") == old


@pytest.mark.parametrize(
    ("kind", "patch", "shown", "why"),
    [
        (
            STRATEGIC_MERGE_PATCH, {"spec": {"replicas": "many", "paused": None}, "x": [1, True]},
            '"map[spec:map[paused:<nil> replicas:many] x:[1 true]]"',
            'Deployment in version "v1" cannot be handled as a Deployment: spec.replicas: expected integer, got string',
        ),
        (
            STRATEGIC_MERGE_PATCH, {"spec": {"replica": 2}}, '"map[spec:map[replica:2]]"',
            'strict decoding error: unknown field "spec.replica"',
        ),
        (MERGE_PATCH, {"spec": {"replica": 2}}, None, 'strict decoding error: unknown field "spec.replica"'),
        (
            JSON_PATCH, [{"op": "add", "path": "/spec/replicas", "value": "x"}], None,
            'Deployment in version "v1" cannot be handled as a Deployment: spec.replicas: expected integer, got string',
        ),
        (
            MERGE_PATCH, {"kind": "ReplicaSet"}, None,
            "the kind in the data (ReplicaSet) does not match the expected kind (Deployment)",
        ),
    ],
)  # fmt: skip
async def test_a_patch_that_spoils_the_object_is_invalid(kind: str, patch: Any, shown: str | None, why: str) -> None:
    bench, old = await with_deployment()
    refused = await refusal(bench.admin.patch(target("deployments", "web"), kind, msgspec.json.encode(patch)))
    assert (refused.code, refused.reason) == (422, "Invalid")
    assert refused.details is not None
    (cause,) = refused.details.causes
    assert (cause.field, cause.reason) == ("patch", "FieldValueInvalid")
    assert refused.message == f' "" is invalid: patch: {cause.message}'
    value, _, said = cause.message.removeprefix("Invalid value: ").rpartition(f": {why}")
    assert said == ""
    if shown is not None:
        assert value == shown
    else:
        assert msgspec.json.decode(msgspec.json.decode(value))["metadata"]["name"] == "web"
    assert await bench.get("deployments", "web") == old


async def test_of_a_spoilt_object_no_more_is_shown_than_anyone_reads() -> None:
    bench, _ = await with_deployment()
    patch = {"metadata": {"annotations": {"long": "x" * 200_000}}, "spec": {"replica": 2}}
    refused = await refusal(bench.admin.patch(target("deployments", "web"), MERGE_PATCH, msgspec.json.encode(patch)))
    assert refused.code == 422
    assert 16_000 < len(refused.message) < 20_000
    assert refused.message.endswith('…": strict decoding error: unknown field "spec.replica"')


TWICE = b'{"spec":{"replicas":2},"spec":{"replicas":3}}'


@pytest.mark.parametrize(
    ("kind", "patch", "fault"),
    [
        (MERGE_PATCH, TWICE, 'duplicate field "spec"'),
        (STRATEGIC_MERGE_PATCH, TWICE, 'duplicate field "spec"'),
        (
            JSON_PATCH, b'[{"op":"replace","path":"/spec/replicas","value":1,"value":3}]',
            'json patch duplicate field "[0].value"',
        ),
        (
            JSON_PATCH, b'[{"op":"replace","path":"/spec/replicas","value":3,"was":1}]',
            'json patch unknown field "[0].was"',
        ),
    ],
)  # fmt: skip
async def test_what_a_patch_says_twice_is_refused_or_remarked(kind: str, patch: bytes, fault: str) -> None:
    bench, old = await with_deployment()
    refused = await refusal(bench.admin.patch(target("deployments", "web"), kind, patch))
    assert (refused.code, f"strict decoding error: {fault}" in refused.message) == (422, True), refused.message
    assert await bench.get("deployments", "web") == old
    await bench.admin.patch(target("deployments", "web"), kind, patch, WriteOptions(field_validation="Ignore"))
    assert bench.warnings == []
    await bench.admin.patch(target("deployments", "web"), kind, patch, WriteOptions(field_validation="Warn"))
    assert bench.warnings == [fault]
    assert (await bench.get("deployments", "web"))["spec"]["replicas"] == 3


async def test_owned_fields_within_a_template_are_data_like_any_other() -> None:
    bench = await a_bench()
    template = {"metadata": {"labels": {"app": "web"}}, "spec": TEMPLATE["spec"]}
    await bench.create("podtemplates", {"metadata": {"name": "t"}, "template": template})
    owned = [{"manager": "me", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}}]
    changed = await bench.patch("podtemplates", "t", {"template": {"metadata": {"managedFields": owned}}})
    assert changed["template"]["metadata"]["managedFields"] == owned
    assert (await bench.create("podtemplates", {**changed, "metadata": {"name": "u"}}))["template"] == changed[
        "template"
    ]


async def test_what_is_not_there_cannot_be_changed() -> None:
    bench = await a_bench()
    assert (await refusal(bench.update("deployments", deployment()))).code == 404
    assert (await refusal(bench.patch("deployments", "web", {}))).code == 404


async def test_an_object_deleted_in_between_is_404_and_for_who_means_that_very_one_a_conflict() -> None:
    bench, old = await with_deployment()
    scale = await bench.get("deployments", "web", sub="scale")
    bench.store.before_commit = lambda: bench.delete("deployments", "web")
    assert (await refusal(bench.patch("deployments", "web", {"spec": {"replicas": 2}}))).code == 404
    bench, old = await with_deployment()
    bench.store.before_commit = lambda: bench.delete("deployments", "web")
    changed = {**old, "spec": {**old["spec"], "replicas": 2}}
    for write in (bench.update("deployments", changed), bench.update("deployments", old, "status")):
        refused = await refusal(write)
        assert (refused.code, refused.reason) == (409, "Conflict")
        assert f"UID in precondition: {old['metadata']['uid']}, UID in object meta: " in refused.message
    assert (await refusal(bench.update("deployments", scale, "scale"))).code == 409


async def test_a_dry_run_of_a_change() -> None:
    bench, old = await with_deployment()
    bench.store.commits = 0
    options = WriteOptions(dry_run=True)
    body = b'{"spec":{"replicas":8}}'
    answer = await bench.admin.patch(target("deployments", "web"), MERGE_PATCH, body, options)
    assert b'"replicas":8' in answer
    assert await bench.get("deployments", "web") == old
    assert bench.store.commits == 0


async def test_a_scale_reads_and_writes_the_replicas() -> None:
    bench, old = await with_deployment()
    scale = await bench.get("deployments", "web", sub="scale")
    assert scale["kind"] == "Scale"
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 0, "selector": "app=web"}
    assert scale["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]

    scale = await bench.update("deployments", {**scale, "spec": {"replicas": 3}}, "scale")
    new = await bench.get("deployments", "web")
    assert (new["spec"]["replicas"], new["metadata"]["generation"]) == (3, 2)
    assert scale["metadata"]["resourceVersion"] == new["metadata"]["resourceVersion"]

    stale = {**scale, "metadata": {**scale["metadata"], "resourceVersion": old["metadata"]["resourceVersion"]}}
    assert (await refusal(bench.update("deployments", {**stale, "spec": {"replicas": 4}}, "scale"))).code == 409
    refused = await refusal(bench.patch("deployments", "web", {"spec": {"replicas": -1}}, "scale"))
    assert refused.code == 422
    why = "Invalid value: -1: must be greater than or equal to 0"
    assert refused.message == f'Scale.autoscaling "web" is invalid: spec.replicas: {why}'
    bench.store.before_commit = lambda: bench.patch("deployments", "web", {"spec": {"paused": True}})
    await bench.patch("deployments", "web", {"spec": {"replicas": 6}}, "scale", MERGE_PATCH)
    new = await bench.get("deployments", "web")
    assert (new["spec"]["replicas"], new["spec"]["paused"]) == (6, True)


async def test_a_binding_is_given_once() -> None:
    bench = await a_bench()
    await bench.create("pods", {"metadata": {"name": "p"}, "spec": TEMPLATE["spec"]})
    bound = await bench.bind("p", "n1")
    assert bound["spec"]["nodeName"] == "n1"
    assert [(c["type"], c["status"]) for c in bound["status"]["conditions"]] == [("PodScheduled", "True")]
    assert await bench.names("pods", fields="spec.nodeName=n1") == ["p"]
    refused = await refusal(bench.bind("p", "n2"))
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert refused.message == (
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"'
    )
    assert (await refusal(bench.bind("none", "n1"))).code == 404
    assert (await refusal(bench.bind("p", ""))).code == 422


async def test_two_schedulers_bind_at_once_and_one_wins() -> None:
    bench = await a_bench()
    await bench.create("pods", {"metadata": {"name": "p"}, "spec": TEMPLATE["spec"]})
    bench.store.before_commit = lambda: bench.bind("p", "n2")
    assert (await refusal(bench.bind("p", "n1"))).code == 409
    assert (await bench.get("pods", "p"))["spec"]["nodeName"] == "n2"


async def test_a_pod_on_its_way_out_is_not_bound() -> None:
    bench = await a_bench()
    pod = {"metadata": {"name": "p", "finalizers": ["example.com/wait"]}, "spec": TEMPLATE["spec"]}
    await bench.create("pods", pod)
    await bench.delete("pods", "p")
    assert "is being deleted" in (await refusal(bench.bind("p", "n1"))).message
