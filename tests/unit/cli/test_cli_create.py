"""`barque create`: objects of manifests and of options, and what is said when they cannot be."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from barque.api.errors import unavailable
from barque.client.pki import create_authority, node_subject
from tests.support.registry_cluster import RegistryCluster, run

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"


def made(*arguments: str) -> dict[str, Any]:
    """What `create … --dry-run=client -o yaml` prints; no master is asked."""
    cluster = RegistryCluster()
    kind, name = arguments[:-1], arguments[-1:]
    if "--" in arguments:
        kind, name = arguments[: arguments.index("--")], arguments[arguments.index("--") :]
    result = run(cluster, "create", *kind, "--dry-run=client", "-o", "yaml", *name)
    assert result.exit_code == 0, result.stderr
    assert cluster.calls == []
    document: dict[str, Any] = yaml.safe_load(result.stdout)
    return document


def stored(plural: str, *arguments: str) -> dict[str, Any]:
    """What the registry makes of it; the name is the first argument that is no kind."""
    cluster = RegistryCluster()
    result = run(cluster, "create", *arguments)
    assert result.exit_code == 0, result.stderr
    name = result.stdout.split()[0].rpartition("/")[2]
    return cluster.one(plural, name)


def error(*arguments: str) -> str:
    cluster = RegistryCluster()
    revision = cluster.revision
    result = run(cluster, "create", *arguments)
    assert result.exit_code != 0
    assert cluster.revision == revision
    return result.stderr


def test_of_a_manifest() -> None:
    cluster = RegistryCluster()
    result = run(cluster, "create", "-f", "-", stdin=f"{MAP % 'a'}---\n{MAP % 'b'}")
    assert result.stdout == "configmap/a created\nconfigmap/b created\n"
    again = run(cluster, "create", "-f", "-", stdin=f"{MAP % 'a'}---\n{MAP % 'c'}")
    assert again.stdout == "configmap/c created\n"
    assert again.stderr == (
        'Error from server (AlreadyExists): error when creating "standard input": configmaps "a" already exists\n'
    )
    assert again.exit_code == 1


def test_a_master_that_is_gone_ends_it() -> None:
    cluster = RegistryCluster()

    def on_call(*_: object) -> None:
        raise unavailable("the connection to the master broke: connection closed")

    cluster.on_call = on_call
    result = run(cluster, "create", "-f", "-", stdin=f"{MAP % 'a'}---\n{MAP % 'b'}")
    assert result.stderr.count("connection closed") == 1
    assert len(cluster.calls) == 1


def test_a_generated_name() -> None:
    cluster = RegistryCluster()
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: run-}\n"
    result = run(cluster, "create", "-f", "-", "-o", "name", stdin=manifest)
    assert result.stdout.startswith("configmap/run-")
    assert cluster.names("configmaps") == [result.stdout.strip().removeprefix("configmap/")]


def test_the_namespace_of_the_option() -> None:
    cluster = RegistryCluster()
    assert run(cluster, "create", "namespace", "shop").stdout == "namespace/shop created\n"
    assert run(cluster, "create", "-n", "shop", "cm", "a", "--from-literal=k=v").exit_code == 0
    assert cluster.one("configmaps", "a", "shop")["data"] == {"k": "v"}
    clash = run(cluster, "create", "-n", "shop", "-f", "-", stdin=MAP.replace("%s}", "a, namespace: other}"))
    assert 'the namespace from the provided object "other" does not match' in clash.stderr


def test_a_missing_namespace_is_named() -> None:
    assert error("cm", "a", "-n", "shop") == 'Error from server (NotFound): namespaces "shop" not found\n'


def test_dry_runs_and_output() -> None:
    cluster = RegistryCluster()
    revision = cluster.revision
    client = run(cluster, "create", "ns", "shop", "--dry-run=client")
    assert client.stdout == "namespace/shop created (dry run)\n"
    server = run(cluster, "create", "ns", "shop", "--dry-run=server")
    assert server.stdout == "namespace/shop created (server dry run)\n"
    assert cluster.revision == revision
    printed = json.loads(run(cluster, "create", "ns", "shop", "-o", "json").stdout)
    assert printed["metadata"]["uid"] == cluster.one("namespaces", "shop", "")["metadata"]["uid"]
    assert "managedFields" not in printed["metadata"]
    assert made("ns", "shop") == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


def test_several_objects_are_printed_as_a_list() -> None:
    printed = run(RegistryCluster(), "create", "-f", "-", "-o", "yaml", stdin=f"{MAP % 'a'}---\n{MAP % 'b'}").stdout
    shown = yaml.safe_load(printed)
    assert (shown["kind"], [item["metadata"]["name"] for item in shown["items"]]) == ("List", ["a", "b"])


def test_config_maps(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("colour red\n")
    (tmp_path / "logo").write_bytes(b"\xff\x00")
    (tmp_path / "web.env").write_text("# comment\n\nCOLOUR=red\n  SIZE=a b # c\n")
    found = stored("configmaps", "configmap", "web", "--from-literal=k='v=w'", f"--from-file={tmp_path}/a.conf")
    assert found["data"] == {"k": "v=w", "a.conf": "colour red\n"}
    named = made("configmap", "web", f"--from-file=logo.png={tmp_path}/logo")
    assert named["binaryData"] == {"logo.png": base64.b64encode(b"\xff\x00").decode()}
    assert "data" not in named
    variables = made("configmap", "web", f"--from-env-file={tmp_path}/web.env")
    assert variables["data"] == {"COLOUR": "red", "SIZE": "a b # c"}
    assert set(made("cm", "web", f"--from-file={tmp_path}")["data"]) == {"a.conf", "web.env"}


def test_secrets(tmp_path: Path) -> None:
    found = stored("secrets", "secret", "generic", "db", "--from-literal=password=swordfish")
    assert (found["data"], found["type"]) == ({"password": base64.b64encode(b"swordfish").decode()}, "Opaque")
    assert made("secret", "generic", "db", "--type=example.org/login")["type"] == "example.org/login"
    login = ("--docker-server=registry.example.org", "--docker-username=me", "--docker-password=swordfish")
    hub = stored("secrets", "secret", "docker-registry", "hub", *login)
    assert hub["type"] == "kubernetes.io/dockerconfigjson"
    config = json.loads(base64.b64decode(hub["data"][".dockerconfigjson"]))
    auth = base64.b64encode(b"me:swordfish").decode()
    assert config == {"auths": {"registry.example.org": {"username": "me", "password": "swordfish", "auth": auth}}}
    (tmp_path / "config.json").write_text('{"auths":{}}')
    own = made("secret", "docker-registry", "hub", f"--from-file={tmp_path}/config.json")
    assert base64.b64decode(own["data"][".dockerconfigjson"]) == b'{"auths":{}}'


def test_a_tls_secret_is_of_a_pair(tmp_path: Path) -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    authority = create_authority(now)
    for name in ("web", "other"):
        identity = authority.identity(node_subject(name), now)
        (tmp_path / f"{name}.crt").write_bytes(identity.cert_pem)
        (tmp_path / f"{name}.key").write_bytes(identity.key_pem)
    pair = (f"--cert={tmp_path}/web.crt", f"--key={tmp_path}/web.key")
    found = stored("secrets", "secret", "tls", "web", *pair)
    assert found["type"] == "kubernetes.io/tls"
    assert base64.b64decode(found["data"]["tls.crt"]) == (tmp_path / "web.crt").read_bytes()
    mixed = error("secret", "tls", "web", f"--cert={tmp_path}/web.crt", f"--key={tmp_path}/other.key")
    assert mixed == "error: tls: private key does not match public key\n"
    (tmp_path / "web.crt").write_text("not a certificate")
    assert error("secret", "tls", "web", *pair).startswith("error: a certificate and its key are wanted, both as PEM")


def test_deployments() -> None:
    found = stored("deployments", "deployment", "web", "--image=registry.example.org/shop/web:1", "--replicas=3",
                   "--port=8080")  # fmt: skip
    spec, container = found["spec"], found["spec"]["template"]["spec"]["containers"][0]
    assert (spec["replicas"], spec["selector"]["matchLabels"], found["metadata"]["labels"]) == (
        3, {"app": "web"}, {"app": "web"},
    )  # fmt: skip
    assert (container["name"], container["image"]) == ("web", "registry.example.org/shop/web:1")
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    both = made("deploy", "web", "--image=web:1", "--image=sidecar@sha256:ab")
    assert [c["name"] for c in both["spec"]["template"]["spec"]["containers"]] == ["web", "sidecar"]
    tick = made("deploy", "tick", "--image=busybox", "--", "sh", "-c", "date")
    assert tick["spec"]["template"]["spec"]["containers"][0]["command"] == ["sh", "-c", "date"]


def test_services() -> None:
    web = stored("services", "service", "clusterip", "web", "--tcp=80:8080", "--tcp=443:tls")
    assert [(p["name"], p["port"], p["targetPort"]) for p in web["spec"]["ports"]] == [
        ("80-8080", 80, 8080),
        ("443-tls", 443, "tls"),
    ]
    assert web["spec"]["selector"] == {"app": "web"}
    assert stored("services", "svc", "clusterip", "db", "--clusterip=None")["spec"]["clusterIP"] == "None"
    door = stored("services", "service", "nodeport", "web", "--tcp=80", "--node-port=30080")
    assert door["spec"]["ports"][0]["nodePort"] == 30080
    assert door["spec"]["ports"][0]["targetPort"] == 80


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "error: say what: -f FILE, or a kind as in `barque create namespace shop`\n"),
        (("cm", "a", "--from-literal=k"), "error: invalid literal source k, expected key=value\n"),
        (("cm", "a", "--from-literal=k=1", "--from-literal=k=2"), 'cannot add key "k", another key by that name'),
        (("cm", "a", "--from-literal=a b=1"), '"a b" is not a valid key'),
        (("cm", "a", "--from-file=/nowhere/x"), "error: error reading /nowhere/x: no such file or directory\n"),
        (("svc", "clusterip", "a"), "at least one port must be specified"),
        (("svc", "clusterip", "a", "--tcp=web"), '"web" is not a port'),
        (("secret", "docker-registry", "a"), "either --from-file or --docker-username"),
        (("cm", "Web_1"), 'The ConfigMap "Web_1" is invalid: metadata.name: Invalid value: "Web_1"'),
        (("deploy", "a", "--image=x", "--image=y", "--", "sh"), "cannot specify multiple --image options and command"),
        (("job", "a"), "error: no such command 'job'"),
        (("-f", "x.yaml", "ns", "shop"), "give either -f FILE or a kind and its name"),
    ],
)  # fmt: skip
def test_what_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in error(*arguments)


def test_unknown_fields_as_validate_says() -> None:
    wrong = f"{MAP % 'a'}dta: {{k: v}}\n"
    cluster = RegistryCluster()
    strict = run(cluster, "create", "-f", "-", stdin=wrong)
    assert 'standard input:1: ConfigMap "a": ' in strict.stderr
    assert 'unknown field "dta"' in strict.stderr
    assert cluster.calls == []
    warned = run(cluster, "create", "-f", "-", "--validate=warn", stdin=wrong)
    assert warned.stdout == "configmap/a created\n"
    assert 'Warning: unknown field "dta"' in warned.stderr


def test_service_accounts() -> None:
    assert made("sa", "robot") == {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    assert stored("serviceaccounts", "serviceaccount", "robot")["metadata"]["namespace"] == "default"


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def test_tokens_of_service_accounts() -> None:
    cluster = RegistryCluster()
    plain = claims_of(run(cluster, "create", "token", "default").stdout)
    assert plain["sub"] == "system:serviceaccount:default:default"
    assert plain["exp"] - plain["iat"] == 3600
    assert "pod" not in plain["kubernetes.io"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}
    pod["spec"] = {"containers": [{"name": "web", "image": "web:1"}]}
    assert run(cluster, "create", "-f", "-", stdin=json.dumps(pod)).exit_code == 0
    asked = ("--duration", "10m", "--audience", "vault", "--bound-object-kind", "Pod", "--bound-object-name", "web")
    bound = claims_of(run(cluster, "create", "token", "default", *asked).stdout)
    assert (bound["exp"] - bound["iat"], bound["aud"]) == (600, ["vault"])
    assert bound["kubernetes.io"]["pod"]["name"] == "web"
    whole = json.loads(run(cluster, "create", "token", "default", "-o", "json").stdout)
    assert whole["kind"] == "TokenRequest"
    assert whole["status"]["token"].count(".") == 2
    assert yaml.safe_load(run(cluster, "create", "token", "default", "-o", "yaml").stdout)["status"]["token"]


def test_tokens_that_cannot_be_had() -> None:
    assert error("token", "nobody") == 'Error from server (NotFound): serviceaccounts "nobody" not found\n'
    assert "may not specify a duration less than 10 minutes" in error("token", "default", "--duration", "5m")
    assert "less than seconds" in error("token", "default", "--duration", "1500ms")
    kind = ("--bound-object-kind", "Pod")
    assert "--bound-object-name is required" in error("token", "default", *kind)
    assert "--bound-object-kind is required" in error("token", "default", "--bound-object-name", "web")
    assert 'pods "web" not found' in error("token", "default", *kind, "--bound-object-name", "web")
