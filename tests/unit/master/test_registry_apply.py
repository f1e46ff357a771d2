"""Server-side apply through the registry: who owns what, what a conflict says, and what happens at the same moment."""

from typing import Any

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.client.verbs import APPLY_PATCH, MERGE_PATCH, WriteOptions
from barque.master.auth.identity import User
from tests.support.memory_store import Bench, a_bench, node_user, refusal, target

SPEC = {"containers": [{"name": "main", "image": "web:1"}]}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": SPEC}


def config(name: str = "c", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(**spec: Any) -> dict[str, Any]:
    described = {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": described}


async def apply(
    bench: Bench, plural: str, configuration: Any, manager: str = "me", sub: str = "", **options: Any
) -> dict[str, Any]:
    body = configuration if isinstance(configuration, bytes) else msgspec.json.encode(configuration)
    name = "c" if isinstance(configuration, bytes) else configuration["metadata"]["name"]
    how = WriteOptions(field_manager=manager, **options)
    return msgspec.json.decode(  # type: ignore[no-any-return]
        await bench.admin.patch(target(plural, name, "default", sub), APPLY_PATCH, body, how)
    )


def owners(obj: dict[str, Any]) -> dict[tuple[str, str, str], Any]:
    """The owned fields by manager, operation and subresource."""
    entries = obj["metadata"]["managedFields"]
    return {(e["manager"], e["operation"], e.get("subresource", "")): e["fieldsV1"] for e in entries}


async def test_an_apply_of_what_is_not_there_creates_it() -> None:
    bench = await a_bench()
    made = await apply(bench, "configmaps", config(a="1"))
    assert made["data"] == {"a": "1"}
    assert made["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert owners(made) == {("me", "Apply", ""): {"f:data": {"f:a": {}}}}
    assert await bench.get("configmaps", "c") == made


async def test_a_field_left_out_goes_unless_someone_else_owns_it() -> None:
    bench = await a_bench()
    await apply(bench, "configmaps", config(a="1", b="2"))
    await apply(bench, "configmaps", config(b="2", c="3"), "you")
    changed = await apply(bench, "configmaps", config(d="4"))
    assert changed["data"] == {"b": "2", "c": "3", "d": "4"}
    assert set(owners(changed)) == {("me", "Apply", ""), ("you", "Apply", "")}


async def test_a_field_of_another_s_is_a_conflict_that_force_settles() -> None:
    bench = await a_bench()
    await apply(bench, "configmaps", config(a="1"))
    before = await apply(bench, "configmaps", config(b="2"), "you")
    refused = await refusal(apply(bench, "configmaps", config(a="9"), "you"))
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert refused.message == 'Apply failed with 1 conflict: conflict with "me": .data.a'
    assert refused.details is not None
    assert [(c.reason, c.message, c.field) for c in refused.details.causes] == [
        ("FieldManagerConflict", 'conflict with "me"', ".data.a")
    ]
    assert await bench.get("configmaps", "c") == before
    forced = await apply(bench, "configmaps", config(a="9"), "you", force=True)
    assert forced["data"] == {"a": "9"}
    assert set(owners(forced)) == {("you", "Apply", "")}


async def test_what_was_written_otherwise_is_owned_too() -> None:
    bench = await a_bench()
    made = await bench.create("configmaps", config(a="1", b="2"), field_manager="editor")
    assert owners(made) == {("editor", "Update", ""): {"f:data": {".": {}, "f:a": {}, "f:b": {}}}}
    refused = await refusal(apply(bench, "configmaps", config(a="9")))
    assert refused.message == 'Apply failed with 1 conflict: conflict with "editor" using v1: .data.a'
    taken = await apply(bench, "configmaps", config(a="1"))
    assert ("me", "Apply", "") in owners(taken)
    changed = await bench.patch("configmaps", "c", {"data": {"b": "3"}}, kind=MERGE_PATCH)
    assert owners(changed)["barque-admin", "Update", ""] == {"f:data": {"f:b": {}}}


async def test_who_writes_is_who_the_caller_is_known_as() -> None:
    bench = await a_bench()
    await bench.create("nodes", {"metadata": {"name": "n1"}})
    await bench.create("pods", {"metadata": {"name": "p"}, "spec": SPEC})
    await bench.bind("p", "n1")
    worker = bench.registry.as_user(node_user("n1"))
    status = b'{"status":{"phase":"Running"}}'
    changed = msgspec.json.decode(await worker.patch(target("pods", "p", "default", "status"), MERGE_PATCH, status))
    assert owners(changed)["barque-worker", "Update", "status"] == {"f:status": {"f:phase": {}}}


async def test_an_apply_of_nothing_new_writes_nothing() -> None:
    bench = await a_bench()
    made = await apply(bench, "deployments", deployment(replicas=2))
    bench.store.commits = 0
    await bench.clock.advance(60)
    assert await apply(bench, "deployments", deployment(replicas=2)) == made
    assert bench.store.commits == 0
    shared = await apply(bench, "deployments", deployment(replicas=2), "you")
    assert (bench.store.commits, shared["metadata"]["generation"]) == (1, 1)


async def test_an_object_created_in_between_is_applied_to() -> None:
    bench = await a_bench()
    bench.store.before_commit = lambda: bench.create("configmaps", config(other="1"))
    made = await apply(bench, "configmaps", config(a="1"))
    assert made["data"] == {"other": "1", "a": "1"}
    bench.store.before_commit = lambda: bench.patch("configmaps", "c", {"data": {"other": "2"}}, kind=MERGE_PATCH)
    assert (await apply(bench, "configmaps", config(a="2")))["data"] == {"other": "2", "a": "2"}


async def test_an_object_deleted_in_between_is_created_anew() -> None:
    bench = await a_bench()
    first = await bench.create("configmaps", config(other="1"))
    bench.store.before_commit = lambda: bench.delete("configmaps", "c")
    made = await apply(bench, "configmaps", config(a="1"))
    assert made["data"] == {"a": "1"}
    assert made["metadata"]["uid"] != first["metadata"]["uid"]
    assert set(owners(made)) == {("me", "Apply", "")}


async def test_created_and_deleted_in_between_time_and_again() -> None:
    """One apply may have to begin as a create, go on as a change, and end as a create."""
    bench = await a_bench()

    async def vanish() -> None:
        await bench.delete("configmaps", "c")

    async def appear() -> None:
        await bench.create("configmaps", config(other="1"))
        bench.store.before_commit = vanish

    bench.store.before_commit = appear
    made = await apply(bench, "configmaps", config(a="1"))
    assert made["data"] == {"a": "1"}
    assert owners(made) == {("me", "Apply", ""): {"f:data": {"f:a": {}}}}
    assert await bench.get("configmaps", "c") == made


async def test_a_namespace_on_its_way_out_refuses_an_apply_that_creates() -> None:
    bench = await a_bench()
    await bench.create("namespaces", {"metadata": {"name": "going"}})
    bench.store.before_commit = lambda: bench.delete("namespaces", "going")
    body, options = msgspec.json.encode(config()), WriteOptions(field_manager="me")
    refused = await refusal(bench.admin.patch(target("configmaps", "c", "going"), APPLY_PATCH, body, options))
    assert refused.code == 403
    assert refused.details is not None
    assert refused.details.causes[0].reason == "NamespaceTerminating"


async def test_a_configuration_may_name_the_revision_it_means() -> None:
    bench = await a_bench()
    named = config(a="1")
    named["metadata"]["resourceVersion"] = "5"
    assert (await refusal(apply(bench, "configmaps", named))).code == 409
    made = await apply(bench, "configmaps", config(a="1"))
    named["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    named["data"] = {"a": "2"}
    assert (await apply(bench, "configmaps", named))["data"] == {"a": "2"}
    named["data"] = {"a": "3"}
    assert (await refusal(apply(bench, "configmaps", named))).code == 409


async def test_a_configuration_that_means_another_object_creates_none() -> None:
    bench = await a_bench()
    named = config(a="1")
    named["metadata"]["uid"] = "u"
    refused = await refusal(apply(bench, "configmaps", named))
    assert (refused.code, refused.reason) == (409, "Conflict")
    why = "uid mismatch: the provided object specified uid u, and no existing object was found"
    assert refused.message == f'Operation cannot be fulfilled on configmaps "c": {why}'
    made = await apply(bench, "configmaps", config(a="1"))
    assert "UID in precondition: u" in (await refusal(apply(bench, "configmaps", named))).message
    named["metadata"]["uid"] = made["metadata"]["uid"]
    named["data"] = {"a": "2"}
    assert (await apply(bench, "configmaps", named))["data"] == {"a": "2"}


async def test_services_keep_their_address_and_never_share_one() -> None:
    bench = await a_bench()
    described = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    first = await apply(bench, "services", described)
    described["spec"] = {"ports": [{"port": 81}]}
    second = await apply(bench, "services", described)
    assert second["spec"]["clusterIP"] == first["spec"]["clusterIP"]
    assert [port["port"] for port in second["spec"]["ports"]] == [81]


async def test_status_and_scale_are_applied_apart() -> None:
    bench = await a_bench()
    made = await apply(bench, "deployments", deployment(replicas=2))
    status = {**deployment(), "status": {"replicas": 2}}
    del status["spec"]
    changed = await apply(bench, "deployments", status, "controller", "status")
    assert (changed["status"], changed["spec"]) == ({"replicas": 2}, made["spec"])
    assert owners(changed)["controller", "Apply", "status"] == {"f:status": {"f:replicas": {}}}

    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}}
    refused = await refusal(apply(bench, "deployments", scale, "scaler", "scale"))
    assert refused.message == 'Apply failed with 1 conflict: conflict with "me": .spec.replicas'
    scaled = await apply(bench, "deployments", scale, "scaler", "scale", force=True)
    assert (scaled["kind"], scaled["spec"]) == ("Scale", {"replicas": 5})
    now = await bench.get("deployments", "web")
    assert (now["spec"]["replicas"], now["metadata"]["generation"]) == (5, 2)
    assert owners(now)["scaler", "Apply", "scale"] == {"f:spec": {"f:replicas": {}}}
    gone = {**status, "metadata": {"name": "absent"}}
    assert (await refusal(apply(bench, "deployments", gone, "controller", "status"))).code == 404


async def test_yaml_and_dry_runs() -> None:
    bench = await a_bench()
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  a: 'yes'\n"
    assert (await apply(bench, "configmaps", text, dry_run=True))["data"] == {"a": "yes"}
    assert bench.store.commits == 0
    assert (await apply(bench, "configmaps", text))["data"] == {"a": "yes"}


@pytest.mark.parametrize(
    ("body", "options", "code", "words"),
    [
        (config(), {"manager": ""}, 422, "fieldManager: Required value: is required for apply patch"),
        (config(), {"manager": "x" * 129}, 422, "fieldManager: Too long: may not be more than 128 bytes"),
        ({**config(), "kind": "Secret"}, {}, 400, "Secret"),
        ({**config(), "metadata": {"name": "c", "namespace": "other"}}, {}, 400, "namespace"),
        ({**config(), "metadata": {"name": "c", "managedFields": [{"manager": "x"}]}}, {}, 400, "managedFields"),
        ({**config(), "dta": {}}, {}, 400, "dta"),
        ({**config(), "data": {"a": 1}}, {}, 400, "data"),
        ({**config(), "data": {"a/b": "c"}}, {}, 422, "data[a/b]"),
        (b"{", {}, 400, "error decoding YAML"),
        (b"a: b: c", {}, 400, "error decoding YAML"),
        (b"a: 1\na: 2\n", {}, 400, 'key "a" already set in map'),
        (b"[]", {}, 400, "must be one object"),
    ],
)
async def test_bad_configurations_change_nothing(body: Any, options: dict[str, Any], code: int, words: str) -> None:
    bench = await a_bench()
    refused = await refusal(apply(bench, "configmaps", body, **options))
    assert (refused.code, words in refused.message) == (code, True), refused.message
    assert bench.store.commits == 0


async def test_fields_given_twice_may_be_remarked_or_ignored() -> None:
    bench = await a_bench()
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: x\n  a: y\n"
    assert (await refusal(apply(bench, "configmaps", text))).code == 400
    assert (await apply(bench, "configmaps", text, field_validation="Warn"))["data"] == {"a": "y"}
    assert bench.warnings == ['line 6: key "a" already set in map']
    await apply(bench, "configmaps", text, field_validation="Ignore")
    assert len(bench.warnings) == 1


async def test_force_is_for_apply_alone() -> None:
    bench = await a_bench()
    await bench.create("configmaps", config())
    options = WriteOptions(field_manager="me", force=True)
    refused = await refusal(bench.admin.patch(target("configmaps", "c"), MERGE_PATCH, b"{}", options))
    assert (refused.code, "may not be specified for non-apply patch" in refused.message) == (422, True)


async def test_who_may_not_create_may_not_apply_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await a_bench()
    await apply(bench, "configmaps", config(a="1"))
    authorizer = bench.registry.environment.authorizer

    async def authorize(user: User, verb: str, *_: object) -> None:
        if verb == "create":
            raise ApiError(403, "Forbidden", f'User "{user.name}" cannot create')

    monkeypatch.setattr(authorizer, "authorize", authorize)
    assert (await apply(bench, "configmaps", config(a="2")))["data"] == {"a": "2"}
    assert (await refusal(apply(bench, "configmaps", config("new")))).code == 403
    bench.store.before_commit = lambda: bench.delete("configmaps", "c")
    assert (await refusal(apply(bench, "configmaps", config(a="3")))).code == 403
    assert await bench.names("configmaps") == []
