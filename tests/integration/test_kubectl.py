"""kubectl, unmodified, against one master: the one of today, and Debian's 1.20 where it asks for something else.

Nobody runs pods here, so this is what needs none; streams, rollouts and drains are tested in the lab.
"""

from __future__ import annotations

import base64
import itertools
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from barque.cli.main import cli
from barque.client.pki import Subject, create_request
from tests.support import kubectl as clients
from tests.support.expecting import expect_soon
from tests.support.rest_master import Kubectl, RestMaster

# Long enough for a slow machine, and no test waits that long where all is well.
SOON_S = 60.0
NUMBERS = itertools.count(1)
pytestmark = pytest.mark.timeout(400)


# What the old one does by other paths: discovery group by group, schemas of OpenAPI v2.
both_ages = pytest.mark.parametrize("client", ["modern", "old"], indirect=True)


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> clients.ClientBinary:
    find: Callable[[], clients.ClientBinary] = getattr(clients, getattr(request, "param", "modern"))
    try:
        return find()
    except clients.MissingClientError as missing:
        pytest.skip(f"not tested with this client: {missing}")


@pytest.fixture
def kubectl(rest_master: RestMaster, client: clients.ClientBinary, request: pytest.FixtureRequest) -> Kubectl:
    """As an administrator, in a namespace of the test's own."""
    word = request.node.originalname.removeprefix("test_").replace("_", "-")[:40].rstrip("-")
    namespace = f"{word}-{next(NUMBERS)}"
    path = rest_master.write_kubeconfig(f"admin-{namespace}", rest_master.identity("root", "system:masters"), namespace)
    body = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}).encode()
    assert rest_master.ask("/api/v1/namespaces", "POST", body, Content_Type="application/json").status == 201
    # What controllers put into each namespace, in their own time.
    given = [
        f"/api/v1/namespaces/{namespace}/{each}" for each in ("configmaps/kube-root-ca.crt", "serviceaccounts/default")
    ]
    expect_soon(lambda: {rest_master.ask(path).status for path in given} == {200}, SOON_S, f"all that {namespace} gets")
    return Kubectl(client, path)


def read(kubectl: Kubectl, *arguments: str) -> Any:
    return json.loads(kubectl("get", *arguments, "-o", "json"))


def manifest(*documents: dict[str, Any]) -> str:
    return yaml.safe_dump_all(documents)


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, replicas: int = 2) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "busybox"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


@pytest.mark.shows("configmaps")
@both_ages
def test_apply_creates_then_changes_and_forgets_what_is_left_out(kubectl: Kubectl) -> None:
    assert kubectl("apply", "-f", "-", stdin=manifest(configmap("c", one="1", two="2"))) == "configmap/c created\n"
    assert kubectl("apply", "-f", "-", stdin=manifest(configmap("c", one="1", two="2"))) == "configmap/c unchanged\n"
    assert kubectl("apply", "-f", "-", stdin=manifest(configmap("c", one="3"))) == "configmap/c configured\n"
    assert read(kubectl, "configmap", "c")["data"] == {"one": "3"}


@both_ages
def test_apply_on_the_server(kubectl: Kubectl) -> None:
    arguments = ("apply", "--server-side", "-f", "-")
    assert kubectl(*arguments, stdin=manifest(configmap("c", one="1"))) == "configmap/c serverside-applied\n"
    kubectl(*arguments, "--field-manager=other", stdin=manifest(configmap("c", two="2")))
    assert read(kubectl, "configmap", "c")["data"] == {"one": "1", "two": "2"}
    why = kubectl.refused(*arguments, "--field-manager=other", stdin=manifest(configmap("c", one="9")))
    assert 'conflict with "kubectl": .data.one' in why
    kubectl(*arguments, "--field-manager=other", "--force-conflicts", stdin=manifest(configmap("c", one="9")))
    assert read(kubectl, "configmap", "c")["data"] == {"one": "9"}


def test_get_shows_tables_in_every_form(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=manifest(deployment("web", 3), configmap("a"), configmap("b")))
    lines = kubectl("get", "deployments").splitlines()
    assert lines[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert lines[1].split()[0] == "web"
    wide = kubectl("get", "deploy/web", "-o", "wide").splitlines()[0].split()
    assert wide == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    names = kubectl("get", "configmaps,deployments", "-o", "name").split()
    assert names == ["configmap/a", "configmap/b", "configmap/kube-root-ca.crt", "deployment.apps/web"]
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "3"
    assert kubectl("get", "cm", "-l", "no=such", "-o", "name") == ""
    assert kubectl("get", "cm", "--field-selector", "metadata.name=b", "-o", "name") == "configmap/b\n"
    assert 'configmaps "none" not found' in kubectl.refused("get", "cm", "none")
    assert kubectl("get", "cm", "--chunk-size=1", "-o", "name").split() == names[:3]


def test_get_watches(kubectl: Kubectl) -> None:
    watching = kubectl.begin("get", "configmaps", "--watch", "--output-watch-events", "--no-headers")
    try:
        assert watching.stdout is not None
        # Between them it may say that it is slow.
        told = (line.split()[:2] for line in watching.stdout if line.split()[0] in ("ADDED", "DELETED"))
        assert next(told) == ["ADDED", "kube-root-ca.crt"]
        kubectl("create", "configmap", "seen")
        assert next(told) == ["ADDED", "seen"]
        kubectl("delete", "configmap", "seen")
        assert next(told) == ["DELETED", "seen"]
    finally:
        watching.kill()
        watching.communicate()


def test_describe_tells_an_object_and_its_events(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=manifest(deployment("web", 1)))
    expect_soon(lambda: "ScalingReplicaSet" in kubectl("describe", "deployment", "web"), SOON_S, "its event")
    said = kubectl("describe", "deployment", "web")
    assert "Replicas:               1 desired" in said
    assert "Selector:               app=web" in said


@both_ages
def test_explain_knows_fields(kubectl: Kubectl) -> None:
    said = kubectl("explain", "deployment.spec.replicas")
    assert "Deployment" in said
    assert "replicas" in said
    assert "<integer>" in said
    assert 'field "nothing" does not exist' in kubectl.refused("explain", "pod.spec.nothing")


@both_ages
def test_api_resources_and_versions(kubectl: Kubectl) -> None:
    assert {"pods", "deployments.apps", "clusterroles.rbac.authorization.k8s.io"} <= set(
        kubectl("api-resources", "-o", "name").split()
    )
    assert {"v1", "apps/v1", "rbac.authorization.k8s.io/v1"} <= set(kubectl("api-versions").split())
    assert "scale" in json.dumps(json.loads(kubectl("get", "--raw", "/apis/apps/v1")))
    assert "Server Version" in kubectl("version")


@pytest.mark.shows("deployments.apps/scale")
def test_scale_changes_replicas(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=manifest(deployment("web", 1)))
    assert kubectl("scale", "deployment/web", "--replicas=4") == "deployment.apps/web scaled\n"
    assert read(kubectl, "deploy", "web")["spec"]["replicas"] == 4
    why = kubectl.refused("scale", "deployment/web", "--current-replicas=1", "--replicas=2")
    assert "Expected replicas to be 1, was 4" in why


@pytest.mark.shows("deployments.apps")
def test_rollout_history_pause_undo_and_restart(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=manifest(deployment("web", 1)))
    expect_soon(lambda: "1 " in kubectl("rollout", "history", "deploy/web"), SOON_S, "the first revision")
    kubectl("set", "image", "deploy/web", "web=busybox:2")
    expect_soon(lambda: "\n2 " in kubectl("rollout", "history", "deploy/web"), SOON_S, "the second revision")
    assert kubectl("rollout", "pause", "deploy/web") == "deployment.apps/web paused\n"
    assert read(kubectl, "deploy", "web")["spec"]["paused"] is True
    kubectl("rollout", "resume", "deploy/web")
    kubectl("rollout", "undo", "deploy/web")
    (container,) = read(kubectl, "deploy", "web")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "busybox"
    kubectl("rollout", "restart", "deploy/web")
    template = read(kubectl, "deploy", "web")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]

    def waits() -> bool:
        # On a busy machine its time may be over before it says anything.
        status = kubectl.run("rollout", "status", "deploy/web", "--timeout=3s")
        return (status.returncode, "Waiting for deployment" in status.stdout) == (1, True)

    expect_soon(waits, SOON_S, "a rollout that is waited for")


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("merge", '{"data":{"two":"2","gone":null}}'),
        ("strategic", '{"data":{"two":"2","gone":null}}'),
        ("json", '[{"op":"add","path":"/data/two","value":"2"},{"op":"remove","path":"/data/gone"}]'),
    ],
    ids=["merge", "strategic", "json"],
)
def test_patch(kubectl: Kubectl, kind: str, patch: str) -> None:
    kubectl("apply", "-f", "-", stdin=manifest(configmap(kind, one="1", gone="x")))
    assert kubectl("patch", "cm", kind, "--type", kind, "-p", patch) == f"configmap/{kind} patched\n"
    assert read(kubectl, "cm", kind)["data"] == {"one": "1", "two": "2"}


def test_edit_writes_what_the_editor_left(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c", "--from-literal=word=before")
    kubectl("edit", "configmap", "c", KUBE_EDITOR="sed -i s/before/after/")
    assert read(kubectl, "cm", "c")["data"] == {"word": "after"}


def test_diff_shows_what_apply_would_change(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=manifest(configmap("c", one="1")))
    assert kubectl("diff", "-f", "-", stdin=manifest(configmap("c", one="1"))) == ""
    differs = kubectl.run("diff", "-f", "-", stdin=manifest(configmap("c", one="2")))
    assert differs.returncode == 1
    assert '-  one: "1"' in differs.stdout
    assert '+  one: "2"' in differs.stdout
    assert read(kubectl, "cm", "c")["data"] == {"one": "1"}


def test_dry_run_on_the_server_changes_nothing(kubectl: Kubectl) -> None:
    said = kubectl("create", "configmap", "c", "--dry-run=server", "-o", "json")
    assert json.loads(said)["metadata"]["uid"]
    assert "not found" in kubectl.refused("get", "cm", "c")


def test_labels_and_annotations(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c")
    assert "labeled" in kubectl("label", "cm", "c", "tier=back")
    assert kubectl("get", "cm", "-l", "tier in (back)", "-o", "name") == "configmap/c\n"
    assert "annotated" in kubectl("annotate", "cm", "c", "note=a b")
    kubectl("label", "cm", "c", "tier-")
    meta = read(kubectl, "cm", "c")["metadata"]
    assert "labels" not in meta
    assert meta["annotations"]["note"] == "a b"


@pytest.mark.shows("nodes")
def test_taint_cordon_and_drain_an_empty_node(kubectl: Kubectl) -> None:
    name = f"n-{next(NUMBERS)}"
    kubectl("create", "-f", "-", stdin=manifest({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))
    kubectl("taint", "node", name, "kind=gpu:NoSchedule")
    assert {"key": "kind", "value": "gpu", "effect": "NoSchedule"} in read(kubectl, "node", name)["spec"]["taints"]
    kubectl("taint", "node", name, "kind-")
    assert "cordoned" in kubectl("cordon", name)
    assert "SchedulingDisabled" in kubectl("get", "node", name)
    assert f"node/{name}" in kubectl("drain", name)
    assert "uncordoned" in kubectl("uncordon", name)
    kubectl("delete", "node", name)


@pytest.mark.shows(
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
)
def test_auth_can_i_and_reconcile(rest_master: RestMaster, kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "delete", "nodes") == "yes\n"
    namespace = kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}")
    reader = Kubectl(
        kubectl.client, rest_master.write_kubeconfig(f"r-{namespace}", rest_master.identity("reader"), namespace)
    )
    denied = reader.run("auth", "can-i", "get", "configmaps")
    assert (denied.stdout, denied.returncode) == ("no\n", 1)
    why = reader.refused("get", "configmaps")
    assert f'User "reader" cannot list resource "configmaps" in API group "" in the namespace "{namespace}"' in why
    kubectl("create", "role", "read", "--verb=get,list", "--resource=configmaps")
    kubectl("create", "rolebinding", "read", "--role=read", "--user=reader")
    expect_soon(lambda: reader.run("auth", "can-i", "get", "configmaps").returncode == 0, SOON_S, "the role to hold")
    assert "configmaps" in reader("auth", "can-i", "--list")
    assert "kube-root-ca.crt" in reader("get", "configmaps", "-o", "name")
    assert kubectl("auth", "can-i", "get", "configmaps", "--as=reader") == "yes\n"
    assert kubectl.run("auth", "can-i", "delete", "configmaps", "--as=reader").stdout == "no\n"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "read", "namespace": namespace},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    }  # fmt: skip
    kubectl("auth", "reconcile", "-f", "-", stdin=manifest(role))
    assert len(read(kubectl, "role", "read")["rules"]) == 2


@pytest.mark.shows("selfsubjectreviews.authentication.k8s.io")
def test_auth_whoami(kubectl: Kubectl) -> None:
    said = kubectl("auth", "whoami", "-o", "json")
    info = json.loads(said)["status"]["userInfo"]
    assert info["username"] == "root"
    assert "system:masters" in info["groups"]


@pytest.mark.shows(
    "certificatesigningrequests.certificates.k8s.io", "certificatesigningrequests.certificates.k8s.io/approval"
)
def test_certificates_are_approved_and_denied(kubectl: Kubectl) -> None:
    made = create_request(Subject("dora", ("crew",)))
    names = [f"{word}-{next(NUMBERS)}" for word in ("good", "bad")]
    for name in names:
        spec = {
            "request": base64.b64encode(made.csr_pem).decode(), "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client",
        }  # fmt: skip
        request = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        kubectl("create", "-f", "-", stdin=manifest({**request, "metadata": {"name": name}, "spec": spec}))
    good, bad = names
    assert "Pending" in kubectl("get", "csr", good)
    assert "approved" in kubectl("certificate", "approve", good)
    assert "denied" in kubectl("certificate", "deny", bad)
    expect_soon(lambda: "certificate" in read(kubectl, "csr", good)["status"], SOON_S, "the certificate")
    issued = x509.load_pem_x509_certificate(base64.b64decode(read(kubectl, "csr", good)["status"]["certificate"]))
    key = serialization.load_pem_private_key(made.key_pem, None)
    assert issued.public_key() == key.public_key()
    assert "Denied" in kubectl("get", "csr", bad)
    assert "certificate" not in read(kubectl, "csr", bad)["status"]


def test_wait_ends_when_it_is_so(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c")
    waiting = kubectl.begin("wait", "--for=delete", "configmap/c", "--timeout=60s", "-v=6")
    try:
        assert waiting.stdout is not None
        # One that is not there when it is looked for first is an error.
        assert any("/configmaps" in line and "200 OK" in line for line in waiting.stdout)
        kubectl("delete", "configmap", "c")
        waiting.communicate(timeout=SOON_S)
        assert waiting.returncode == 0
    finally:
        waiting.kill()
        waiting.communicate()
    kubectl("apply", "-f", "-", stdin=manifest(deployment("web", 0)))
    kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
    kubectl("scale", "deploy/web", "--replicas=1")
    words = "timed out waiting for the condition"
    expect_soon(
        lambda: words in kubectl.refused("wait", "--for=condition=Nothing", "deployment/web", "--timeout=1s"),
        SOON_S, words,
    )  # fmt: skip


@pytest.mark.shows("events")
def test_events_are_listed(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=manifest(deployment("web", 1)))
    expect_soon(lambda: "ScalingReplicaSet" in kubectl("events"), SOON_S, "the event of the deployment")
    only = kubectl("get", "events", "--field-selector", "reason=ScalingReplicaSet", "--no-headers")
    assert "deployment/web" in only


def test_create_and_expose(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=busybox", "--port=80")
    assert kubectl("expose", "deployment", "web", "--port=8080", "--target-port=80") == "service/web exposed\n"
    service = read(kubectl, "service", "web")["spec"]
    assert service["ports"] == [{"port": 8080, "protocol": "TCP", "targetPort": 80}]
    assert service["selector"] == {"app": "web"}
    kubectl("create", "secret", "generic", "s", "--from-literal=word=abc")
    assert base64.b64decode(read(kubectl, "secret", "s")["data"]["word"]) == b"abc"
    kubectl("create", "serviceaccount", "sa")
    kubectl("run", "one", "--image=busybox", "--restart=Never")
    assert read(kubectl, "pod", "one")["spec"]["restartPolicy"] == "Never"


@pytest.mark.shows("serviceaccounts/token")
def test_tokens_let_an_account_in(rest_master: RestMaster, kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "robot")
    token = kubectl("create", "token", "robot", "--duration=15m").strip()
    namespace = kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}")
    bare = (
        "--kubeconfig=/dev/null",
        f"--server={rest_master.url}",
        f"--certificate-authority={rest_master.master.pki}/ca.pem",
    )
    said = kubectl(*bare, f"--token={token}", "auth", "whoami", "-o", "json")
    assert json.loads(said)["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:robot"
    refused = kubectl.refused(*bare, f"--token={token[:-8]}AAAAAAAA", "get", "pods")
    assert "You must be logged in" in refused or "Unauthorized" in refused


def test_replace_delete_and_deletecollection(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=manifest(*(configmap(f"c{n}", one="1") for n in range(3))))
    assert kubectl("replace", "-f", "-", stdin=manifest(configmap("c0", one="2"))) == "configmap/c0 replaced\n"
    assert read(kubectl, "cm", "c0")["data"] == {"one": "2"}
    kubectl("delete", "cm", "c0")
    kubectl("delete", "cm", "--all")
    left = kubectl("get", "cm", "-o", "name").split()
    assert set(left) <= {"configmap/kube-root-ca.crt"}
    kubectl("apply", "-f", "-", stdin=manifest(deployment("web", 2)))
    expect_soon(lambda: len(read(kubectl, "pods")["items"]) == 2, SOON_S, "its pods")
    kubectl("delete", "deploy", "web", "--cascade=foreground", "--timeout=60s")
    expect_soon(lambda: not read(kubectl, "pods,rs")["items"], SOON_S, "nothing of it to be left")


def test_proxy_lets_plain_http_in(kubectl: Kubectl) -> None:
    proxy = kubectl.begin("proxy", "--port=0")
    try:
        assert proxy.stdout is not None
        port = proxy.stdout.readline().strip().rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/namespaces/default", timeout=30) as answer:
            assert json.load(answer)["metadata"]["name"] == "default"

        def ready() -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz?verbose", timeout=30) as answer:
                return bool(answer.read().endswith(b"readyz check passed\n"))

        expect_soon(ready, SOON_S, "the master is ready")
    finally:
        proxy.kill()
        proxy.communicate()


def test_what_is_wrong_is_refused_in_words(kubectl: Kubectl) -> None:
    bad = deployment("web")
    bad["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    why = kubectl.refused("apply", "--validate=false", "-f", "-", stdin=manifest(bad))
    assert "`selector` does not match template `labels`" in why
    odd = {**configmap("c"), "odd": 1}
    assert "odd" in kubectl.refused("apply", "-f", "-", stdin=manifest(odd))
    why = kubectl.refused("get", "--raw", "/apis/rbac.authorization.k8s.io/v1/roles/read")
    assert "the server could not find the requested resource" in why
    nothing = {"apiVersion": "none.example/v1", "kind": "Nothing", "metadata": {"name": "x"}}
    assert "no matches for kind" in kubectl.refused("apply", "-f", "-", stdin=manifest(nothing))


def service(name: str) -> dict[str, Any]:
    spec = {"clusterIP": "None", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def as_applied(item: dict[str, Any]) -> dict[str, Any]:
    """Of an object what who applied it has said, and what became of that; nothing of who, when and in which order."""
    metadata = dict(item["metadata"])
    for name in ("uid", "resourceVersion", "creationTimestamp", "namespace"):
        del metadata[name]
    owned = [entry["fieldsV1"] for entry in metadata.pop("managedFields") if entry["operation"] == "Apply"]
    # What its controller writes comes when it comes.
    metadata.pop("annotations", None)
    return {**item, "metadata": metadata, "owned": owned, "status": None}


def all_applied(master: RestMaster, namespace: str) -> list[dict[str, Any]]:
    """What was applied there, of the kinds that are."""
    below = f"/namespaces/{namespace}/"
    paths = (f"/api/v1{below}configmaps", f"/api/v1{below}services", f"/apis/apps/v1{below}deployments")
    items = [item for path in paths for item in json.loads(master.ask(path).body)["items"]]
    return [as_applied(item) for item in items if item["metadata"]["name"] != "kube-root-ca.crt"]


def test_several_hundred_objects_are_applied_the_same_by_both_doors(
    rest_master: RestMaster, kubectl: Kubectl, tmp_path: Path
) -> None:
    documents = [configmap(f"c{n:03}", word=str(n)) for n in range(280)] + [service(f"s{n}") for n in range(20)]
    documents += [deployment(f"d{n}", 0) for n in range(20)]
    path = tmp_path / "many.yaml"
    path.write_text(manifest(*documents))
    # kubectl, to validate, would read the schema of all of v1 once for each.
    arguments = ("apply", "--server-side", "--validate=false", "-f", str(path))
    said = kubectl(*arguments, timeout_s=200)
    assert said.count("serverside-applied") == 320
    path.write_text(manifest(*documents[280:]))
    assert kubectl(*arguments, timeout_s=200).count("serverside-applied") == 40
    other = f"by-grpc-{next(NUMBERS)}"
    kubectl("create", "namespace", other)
    path.write_text(manifest(*documents))
    profile = ("--config", str(rest_master.master.directory.parent / "profile"))
    arguments = (*profile, "apply", "--server-side", "--namespace", other, "-f", str(path))
    done = CliRunner().invoke(cli, arguments, env={"HOME": str(tmp_path), "NO_COLOR": "1"})
    assert (done.exit_code, done.stdout.count("created")) == (0, 320), done.output
    namespace = kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}")
    by_rest, by_grpc = all_applied(rest_master, namespace), all_applied(rest_master, other)
    assert len(by_rest) == 320
    assert all(item["owned"] for item in by_rest)
    assert by_rest == by_grpc
