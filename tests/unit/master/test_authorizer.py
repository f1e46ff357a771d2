"""What a worker may and may not do, as a table; and that the rule holds at the registry."""

import datetime
from typing import Any

import msgspec
import pytest

from barque.api.types.core_v1 import (
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    ConfigMapVolumeSource,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    LocalObjectReference,
    ProjectedVolumeSource,
    SecretEnvSource,
    SecretKeySelector,
    SecretProjection,
    SecretVolumeSource,
    Volume,
    VolumeProjection,
)
from barque.client.pki import ADMIN, create_authority, master_subject, node_subject
from barque.client.verbs import MERGE_PATCH, Selection, WriteOptions
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import User, user_of_certificate
from barque.master.auth.node_authorizer import (
    Allowed,
    Denied,
    IfOwnPod,
    IfReferenced,
    Reference,
    check_node_write,
    node_verdict,
    references,
)
from tests.support.builders import a_node, a_pod
from tests.support.memory_store import Bench, a_bench, node_user, refusal, target

OWN = Selection(fields="spec.nodeName=n1")
OTHER = Selection(fields="spec.nodeName=n2")
NONE = Selection()


@pytest.mark.parametrize(
    ("verb", "plural", "name", "sub", "selection", "expected"),
    [
        ("get", "pods", "p", "", NONE, IfOwnPod),
        ("list", "pods", "", "", OWN, Allowed),
        ("watch", "pods", "", "", OWN, Allowed),
        ("list", "pods", "", "", Selection("a=b", "spec.nodeName=n1,status.phase!=Failed"), Allowed),
        ("list", "pods", "", "", OTHER, Denied),
        ("list", "pods", "", "", NONE, Denied),
        ("watch", "pods", "", "", Selection(fields="spec.nodeName!=n2"), Denied),
        ("create", "pods", "", "", NONE, Allowed),
        ("update", "pods", "p", "", NONE, Denied),
        ("patch", "pods", "p", "", NONE, Denied),
        ("update", "pods", "p", "status", NONE, IfOwnPod),
        ("patch", "pods", "p", "status", NONE, IfOwnPod),
        ("delete", "pods", "p", "", NONE, IfOwnPod),
        ("create", "pods", "p", "binding", NONE, Denied),
        ("create", "pods", "p", "eviction", NONE, IfOwnPod),
        ("create", "serviceaccounts", "a", "token", NONE, IfReferenced),
        ("get", "serviceaccounts", "a", "", NONE, Denied),
        ("create", "serviceaccounts", "", "", NONE, Denied),
        ("get", "secrets", "s", "", NONE, IfReferenced),
        ("list", "secrets", "", "", NONE, Denied),
        ("watch", "secrets", "", "", Selection(fields="metadata.name=s"), Denied),
        ("create", "secrets", "", "", NONE, Denied),
        ("delete", "secrets", "s", "", NONE, Denied),
        ("get", "configmaps", "c", "", NONE, IfReferenced),
        ("update", "configmaps", "c", "", NONE, Denied),
        ("list", "configmaps", "", "", NONE, Denied),
        ("get", "services", "s", "", NONE, Allowed),
        ("watch", "services", "", "", NONE, Allowed),
        ("create", "services", "", "", NONE, Denied),
        ("update", "services", "s", "status", NONE, Denied),
        ("list", "endpointslices", "", "", NONE, Allowed),
        ("patch", "endpointslices", "e", "", NONE, Denied),
        ("get", "services", "s", "proxy", NONE, Denied),
        ("get", "nodes", "n2", "", NONE, Allowed),
        ("get", "nodes", "n2", "proxy", NONE, Denied),
        ("get", "nodes", "n1", "proxy", NONE, Denied),
        ("list", "nodes", "", "", NONE, Allowed),
        ("create", "nodes", "", "", NONE, Allowed),
        ("update", "nodes", "n1", "", NONE, Allowed),
        ("patch", "nodes", "n1", "status", NONE, Allowed),
        ("patch", "nodes", "n2", "status", NONE, Denied),
        ("create", "nodes", "n2", "", NONE, Denied),
        ("delete", "nodes", "n1", "", NONE, Denied),
        ("get", "namespaces", "x", "", NONE, Allowed),
        ("list", "namespaces", "", "", NONE, Denied),
        ("create", "namespaces", "", "", NONE, Denied),
        ("create", "events", "", "", NONE, Allowed),
        ("patch", "events", "e", "", NONE, Allowed),
        ("list", "events", "", "", NONE, Denied),
        ("delete", "events", "e", "", NONE, Denied),
        ("get", "deployments", "d", "", NONE, Denied),
        ("patch", "deployments", "d", "scale", NONE, Denied),
        ("list", "replicasets", "", "", NONE, Denied),
    ],
)
def test_what_a_worker_may_do(
    verb: str, plural: str, name: str, sub: str, selection: Selection, expected: type
) -> None:
    asked = Attributes.of(node_user("n1"), verb, target(plural, name, "default", sub), selection)
    assert type(node_verdict("n1", asked)) is expected


def test_every_way_a_pod_references_something_is_known() -> None:
    pod = (
        a_pod()
        .container(
            "main",
            env=[
                EnvVar(name="A", valueFrom=EnvVarSource(secretKeyRef=SecretKeySelector(name="s1", key="k"))),
                EnvVar(name="B", valueFrom=EnvVarSource(configMapKeyRef=ConfigMapKeySelector(name="c1", key="k"))),
                EnvVar(name="C", value="plain"),
            ],
            envFrom=[
                EnvFromSource(secretRef=SecretEnvSource(name="s2")),
                EnvFromSource(configMapRef=ConfigMapEnvSource(name="c2")),
            ],
        )
        .with_spec(
            serviceAccountName="a1",
            imagePullSecrets=[LocalObjectReference(name="s3")],
            volumes=[
                Volume(name="v1", secret=SecretVolumeSource(secretName="s4")),
                Volume(name="v2", configMap=ConfigMapVolumeSource(name="c4")),
                Volume(
                    name="v3",
                    projected=ProjectedVolumeSource(sources=[VolumeProjection(secret=SecretProjection(name="s5"))]),
                ),
            ],
        )
        .build()
    )
    assert references(pod) == {
        *(Reference("secrets", name) for name in ("s1", "s2", "s3", "s4", "s5")),
        *(Reference("configmaps", name) for name in ("c1", "c2", "c4")),
        Reference("serviceaccounts", "a1"),
    }


def test_a_worker_leaves_its_own_spec_alone() -> None:
    at = target("nodes", "n1")
    before = a_node("n1").pod_cidr("10.244.0.0/24").build()
    assert check_node_write("n1", at, before, a_node("n1").pod_cidr("10.244.0.0/24").labelled(zone="a").build()) == ""
    assert "change its own spec" in check_node_write("n1", at, before, a_node("n1").build())
    cordoned = a_node("n1").pod_cidr("10.244.0.0/24").unschedulable().build()
    assert "change its own spec" in check_node_write("n1", at, before, cordoned)
    assert "change its own spec" in check_node_write("n1", at, cordoned, before)
    assert "not allowed to modify node 'n2'" in check_node_write("n1", at, None, a_node("n2").build())
    assert "given by the masters" in check_node_write("n1", at, None, before)
    guarded = a_node("n1").labelled({"node-restriction.kubernetes.io/tier": "gold"}).build()
    assert "node-restriction.kubernetes.io/tier" in check_node_write("n1", at, None, guarded)


@pytest.mark.parametrize(
    ("label", "may"),
    [
        ("zone", True), ("example.com/zone", True), ("kubernetes.io/hostname", True),
        ("topology.kubernetes.io/zone", True), ("node.kubernetes.io/tier", True), ("a.kubelet.kubernetes.io/b", True),
        ("mykubernetes.io/tier", True), ("node-role.kubernetes.io/control-plane", False), ("kubernetes.io/tier", False),
        ("k8s.io/tier", False), ("a.k8s.io/tier", False), ("mine.node-restriction.kubernetes.io/tier", False),
    ],
)  # fmt: skip
def test_a_worker_says_no_more_of_itself_than_a_kubelet(label: str, may: bool) -> None:
    at, plain, labelled = target("nodes", "n1"), a_node("n1").build(), a_node("n1").labelled({label: "x"}).build()
    making, setting = check_node_write("n1", at, None, labelled), check_node_write("n1", at, plain, labelled)
    removing = check_node_write("n1", at, labelled, plain)
    if may:
        assert (making, setting, removing) == ("", "", "")
    else:
        assert making == f'node "n1" is not allowed to set the following labels: {label}'
        assert setting == removing == f"is not allowed to modify labels: {label}"


SECRET_POD = {
    "containers": [{"name": "main", "image": "web:1"}],
    "volumes": [{"name": "v", "secret": {"secretName": "mine"}}],
}


async def with_two_nodes() -> Bench:
    """n1 runs `own`, which needs the secret `mine`; n2 runs `foreign`, which needs `theirs`."""
    bench = await a_bench()
    for node, pod, secret in [("n1", "own", "mine"), ("n2", "foreign", "theirs")]:
        await bench.create("nodes", {"metadata": {"name": node}})
        await bench.create("secrets", {"metadata": {"name": secret}, "stringData": {"a": "b"}})
        volumes = [{"name": "v", "secret": {"secretName": secret}}]
        await bench.create("pods", {"metadata": {"name": pod}, "spec": {**SECRET_POD, "volumes": volumes}})
        await bench.bind(pod, node)
    return bench


async def test_a_worker_gets_its_own_pods_and_what_they_reference_nothing_else() -> None:
    bench = await with_two_nodes()
    n1 = bench.as_node("n1")
    await n1.get(target("pods", "own"))
    await n1.get(target("secrets", "mine"))
    refused = await refusal(n1.get(target("secrets", "theirs")))
    assert (refused.code, refused.reason) == (403, "Forbidden")
    assert refused.message == (
        'secrets "theirs" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the '
        "namespace \"default\": no relationship found between node 'n1' and this object"
    )
    assert (await refusal(n1.get(target("secrets", "absent")))).code == 403
    assert (await refusal(n1.get(target("secrets", "mine", "kube-system")))).code == 403
    assert (await refusal(n1.get(target("pods", "foreign")))).code == 403
    assert (await refusal(n1.get(target("pods", "absent")))).code == 404
    status = b'{"status":{"phase":"Running"}}'
    await n1.patch(target("pods", "own", "default", "status"), MERGE_PATCH, status)
    assert (await refusal(n1.patch(target("pods", "foreign", "default", "status"), MERGE_PATCH, status))).code == 403
    assert (await refusal(n1.delete(target("pods", "foreign")))).code == 403
    assert (await refusal(n1.list(target("pods")))).code == 403
    assert (await refusal(anext(n1.watch(target("pods"), OTHER)))).code == 403
    assert len((await n1.list(target("pods"), OWN)).items) == 1
    await n1.delete(target("pods", "own"), b'{"gracePeriodSeconds":0}')
    assert (await refusal(n1.get(target("secrets", "mine")))).code == 403


async def test_references_are_those_of_the_pods_as_they_are_now() -> None:
    bench = await with_two_nodes()
    n1 = bench.as_node("n1")
    await bench.create("secrets", {"metadata": {"name": "late"}})
    assert (await refusal(n1.get(target("secrets", "late")))).code == 403
    volumes = [{"name": "v", "secret": {"secretName": "late"}}]
    await bench.create("pods", {"metadata": {"name": "later"}, "spec": {**SECRET_POD, "volumes": volumes}})
    assert (await refusal(n1.get(target("secrets", "late")))).code == 403
    await bench.bind("later", "n1")
    await n1.get(target("secrets", "late"))
    await bench.delete("pods", "later", gracePeriodSeconds=0)
    await bench.create("pods", {"metadata": {"name": "later"}, "spec": SECRET_POD})
    await bench.bind("later", "n1")
    assert (await refusal(n1.get(target("secrets", "late")))).code == 403


async def test_a_pod_that_changed_hands_meanwhile_is_not_written() -> None:
    """The second half of the rule sees the very object that is written."""
    bench = await with_two_nodes()
    n1 = bench.as_node("n1")

    async def replace_by_a_pod_elsewhere() -> None:
        await bench.delete("pods", "own", gracePeriodSeconds=0)
        await bench.create("pods", {"metadata": {"name": "own"}, "spec": SECRET_POD})
        await bench.bind("own", "n2")

    bench.store.before_commit = replace_by_a_pod_elsewhere
    status = b'{"status":{"phase":"Failed"}}'
    refused = await refusal(n1.patch(target("pods", "own", "default", "status"), MERGE_PATCH, status))
    assert refused.code == 403
    assert (await bench.get("pods", "own"))["status"]["phase"] == "Pending"


async def test_a_worker_writes_its_own_node_and_no_other() -> None:
    bench = await a_bench()
    n1 = bench.as_node("n1")
    made = await n1.create(target("nodes"), b'{"metadata":{"name":"n1","labels":{"zone":"a"}}}')
    assert msgspec.json.decode(made)["spec"]["podCIDR"] == "10.244.0.0/24"
    assert (await refusal(n1.create(target("nodes"), b'{"metadata":{"name":"n2"}}'))).code == 403
    await n1.patch(target("nodes", "n1", "", "status"), MERGE_PATCH, b'{"status":{"capacity":{"cpu":"4"}}}')
    await n1.patch(target("nodes", "n1"), MERGE_PATCH, b'{"metadata":{"labels":{"zone":"b"}}}')
    for patch in (b'{"spec":{"unschedulable":true}}', b'{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}'):
        refused = await refusal(n1.patch(target("nodes", "n1"), MERGE_PATCH, patch))
        assert refused.code == 403
        assert "is not allowed to change its own spec" in refused.message
    await bench.create("nodes", {"metadata": {"name": "n2"}})
    assert (await refusal(n1.patch(target("nodes", "n2"), MERGE_PATCH, b"{}"))).code == 403
    assert (await refusal(n1.delete(target("nodes", "n1")))).code == 403


async def test_a_worker_records_events() -> None:
    bench = await a_bench()
    event = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}}
    await bench.as_node("n1").create(target("events"), msgspec.json.encode(event))
    assert (await refusal(bench.as_node("n1").get(target("events", "e")))).code == 403


async def test_strangers_get_nothing_and_masters_everything() -> None:
    bench = await a_bench()
    for user in (
        User("someone"),
        User("system:node:n1"),
        User("system:node:", ("system:nodes",)),
        User("n1", ("system:nodes",)),
    ):
        verbs = bench.registry.as_user(user)
        assert (await refusal(verbs.list(target("services")))).code == 403
        assert (await refusal(verbs.get(target("pods", "p")))).code == 403
        assert (await refusal(verbs.create(target("pods"), b"{}", WriteOptions(dry_run=True)))).code == 403
    master = bench.registry.as_user(User("barque:master:m1", ("barque:masters",)))
    await master.list(target("secrets"))


async def test_a_worker_s_batch_is_judged_write_by_write() -> None:
    bench = await with_two_nodes()
    from barque.client.verbs import Patch

    status = b'{"status":{"phase":"Running"}}'
    patches = [Patch(target("pods", p, "default", "status"), MERGE_PATCH, status) for p in ("own", "foreign")]
    own, foreign = await bench.as_node("n1").batch(patches)
    assert isinstance(own, bytes)
    assert getattr(foreign, "code", None) == 403


def test_a_certificate_names_its_user() -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    authority = create_authority(now)
    node = user_of_certificate(authority.identity(node_subject("n1"), now).cert_pem)
    assert (node.name, node.node, node.is_master) == ("system:node:n1", "n1", False)
    assert node.groups == ("system:nodes", "system:authenticated")
    admin = user_of_certificate(authority.identity(ADMIN, now).cert_pem)
    assert (admin.node, admin.is_master) == ("", True)
    assert user_of_certificate(authority.identity(master_subject("m1"), now).cert_pem).is_master
    assert node_user("n1") == node


def test_a_worker_creates_mirrors_of_its_own_pods_only() -> None:
    def why_not(node: str = "n1", mirror: bool = True, **spec: Any) -> str:
        pod = a_pod("etcd-n1").on(node).build()
        pod.metadata.annotations = {"kubernetes.io/config.mirror": "x"} if mirror else {}
        for name, value in spec.items():
            setattr(pod.spec, name, value)
        return check_node_write("n1", target("pods", "etcd-n1", "default"), None, pod)

    secret = Volume(name="s", secret=SecretVolumeSource(secretName="s"))
    assert why_not() == ""
    assert "can only create mirror pods" in why_not(mirror=False)
    assert "spec.nodeName set to itself" in why_not("n2")
    # Else a worker could read whatever it names.
    assert why_not(volumes=[secret]) == 'node "n1" can not create pods that reference secrets'
