"""Bodies in protobuf, as kubectl 1.32 sends them."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from barque.api.bulk import MOST_EXPONENTS, MOST_VALUES
from barque.api.errors import ApiError
from barque.master.apiserver.rest.protobuf import decoding
from barque.master.apiserver.rest.protobuf.decoding import Schema, json_of

# Recorded: `kubectl create deployment web --image=nginx:1 --replicas=0`, `create secret generic s --from-literal=a=b`,
# `auth can-i get pods`, `create token default --duration=10m`.
DEPLOYMENT = (
    "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50Eq0BCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEnwIABIMCgoKA2FwcBIDd2ViGmIK"
    "HAoAEgAaACIAKgAyADgAQgBaCgoDYXBwEgN3ZWISQhIkCgVuZ2lueBIHbmdpbng6MSoAQgBqAHIAgAEAiAEAkAEAogEAGgAyAEIASgBSAFgAYABo"
    "AIIBAIoBAJoBAMIBACICCgAoADgAGgwIABAAGAAgACgAOAAaACIA"
)
SECRET = "azhzAAoMCgJ2MRIGU2VjcmV0Eh0KEQoBcxIAGgAiACoAMgA4AEIAEgYKAWESAWIaABoAIgA="
REVIEW = (
    "azhzAAoyChdhdXRob3JpemF0aW9uLms4cy5pby92MRIXU2VsZlN1YmplY3RBY2Nlc3NSZXZpZXcSPAoQCgASABoAIgAqADIAOABCABIeChwKB2Rl"
    "ZmF1bHQSA2dldBoAIgAqBHBvZHMyADoAGggIABIAGgAgABoAIgA="
)
TOKEN = "azhzAAooChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESDFRva2VuUmVxdWVzdBIdChAKABIAGgAiACoAMgA4AEIAEgMg2AQaBAoAEgAaACIA"


def read(body: str) -> dict[str, object]:
    found: dict[str, object] = msgspec.json.decode(json_of(base64.b64decode(body)))
    return found


def test_a_deployment_says_what_its_json_would() -> None:
    container = {"name": "nginx", "image": "nginx:1", "resources": {}}
    assert read(DEPLOYMENT) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
            "strategy": {},
        },
        "status": {f"{some}eplicas": 0 for some in ("r", "updatedR", "availableR", "unavailableR", "readyR")},
    }  # fmt: skip


def test_bytes_become_base64_and_reviews_are_read() -> None:
    assert read(SECRET)["data"] == {"a": "Yg=="}
    assert read(REVIEW)["spec"] == {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}
    assert read(TOKEN)["spec"] == {"expirationSeconds": 600}


def test_times_quantities_and_inlined_messages() -> None:
    schema = decoding._schema()
    pod = schema.classes["core.v1.Pod"]()
    pod.metadata.creationTimestamp.seconds = 1_700_000_000  # type: ignore[attr-defined]
    pod.metadata.deletionTimestamp.SetInParent()  # type: ignore[attr-defined]
    volume = pod.spec.volumes.add(name="v")  # type: ignore[attr-defined]
    volume.volumeSource.configMap.localObjectReference.name = "c"
    container = pod.spec.containers.add(name="c", tty=False)  # type: ignore[attr-defined]
    container.resources.limits["cpu"].string = "100m"
    container.livenessProbe.handler.httpGet.port.type = 1
    container.livenessProbe.handler.httpGet.port.strVal = "web"
    container.readinessProbe.handler.tcpSocket.port.intVal = 80
    claim = schema.classes["core.v1.PersistentVolumeClaim"]()
    claim.spec.storageClassName = ""  # type: ignore[attr-defined]
    assert schema.fields(pod) == {
        "metadata": {"creationTimestamp": "2023-11-14T22:13:20Z"},
        "spec": {
            "volumes": [{"name": "v", "configMap": {"name": "c"}}],
            "containers": [
                {
                    "name": "c",
                    "resources": {"limits": {"cpu": "100m"}},
                    "livenessProbe": {"httpGet": {"port": "web"}},
                    "readinessProbe": {"tcpSocket": {"port": 80}},
                }
            ],
        },
    }
    assert schema.fields(claim) == {"spec": {"storageClassName": ""}}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"k8s\x00", 415),
        (b"k8s\x00\xff\xff", 400),
        (base64.b64decode(DEPLOYMENT)[:60], 400),
        (base64.b64decode(SECRET).replace(b"Secret", b"Sekret"), 415),
        (base64.b64decode(SECRET).replace(b"\x1a\x00\x22\x00", b"\x1a\x01z\x22\x00")[:-1], 400),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        json_of(body)
    assert refused.value.code == code


def owned(fields: bytes, seconds: int = 1) -> bytes:
    """The body of a ConfigMap whose owners have these fields."""
    classes = decoding._schema().classes
    made: Any = classes["core.v1.ConfigMap"]()
    made.metadata.creationTimestamp.seconds = seconds
    made.metadata.managedFields.add(manager="m").fieldsV1.Raw = fields
    envelope: Any = classes["Unknown"]()
    envelope.typeMeta.kind, envelope.typeMeta.apiVersion = "ConfigMap", "v1"
    envelope.raw = made.SerializeToString()
    return b"k8s\x00" + bytes(envelope.SerializeToString())


@pytest.mark.parametrize(
    ("fields", "code", "why"),
    [
        (b"[%b1]" % (b"1e308," * (MOST_EXPONENTS + 1)), 413, "too many numbers with large exponents"),
        (b"[%b1]" % (b"{}," * MOST_VALUES), 413, "too many values"),
        (b"[" * 100_000, 400, "unable to decode ConfigMap: the JSON in it is nested too deeply"),
        (b"{", 400, "unable to decode ConfigMap: Input data was truncated"),
    ],
)
def test_json_within_is_looked_at_before_it_is_read(fields: bytes, code: int, why: str) -> None:
    with pytest.raises(ApiError, match=why) as refused:
        json_of(owned(fields))
    assert refused.value.code == code


@pytest.mark.parametrize(("seconds", "told"), [(-33_000_000_000, "0924-04-09T13:20:00Z"), (1, "1970-01-01T00:00:01Z")])
def test_times_of_any_year(seconds: int, told: str) -> None:
    metadata = msgspec.json.decode(json_of(owned(b"{}", seconds)))["metadata"]
    assert metadata == {"creationTimestamp": told, "managedFields": [{"manager": "m", "fieldsV1": {}}]}


def test_fields_of_unknown_types_are_left_out() -> None:
    schema = Schema(["a.v1.A name=1:string other=2:b.v1.Gone more=3:{string:b.v1.Gone}"])
    assert [field.name for field in schema.classes["a.v1.A"].DESCRIPTOR.fields] == ["name"]
