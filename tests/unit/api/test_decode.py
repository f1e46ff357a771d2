"""Reading what users send: strict, complete, in Kubernetes' words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from barque.api import codec, decode, resources
from barque.api.errors import ApiError
from barque.api.types import apps_v1, core_v1
from tests.support.builders import a_deployment, a_pod, a_service

PODS = resources.by_plural("", "pods")
DEPLOYMENTS = resources.by_plural("apps", "deployments")


def pod(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "main", "image": "web:1"}], **spec},
    }


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


def refusal(data: bytes, resource: resources.Resource = PODS, field_validation: str = "Strict") -> str:
    with pytest.raises(ApiError) as caught:
        decode.decode_object(data, resource, field_validation)
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
    return caught.value.message


def test_what_barque_writes_it_reads() -> None:
    for built in (a_pod().on("n1").ready().build(), a_deployment().build(), a_service().port(80).build()):
        again, warnings = decode.decode_object(codec.encode(built), resources.by_type(type(built)))
        assert again == built
        assert warnings == []


def test_every_unknown_field_is_listed_with_its_path() -> None:
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "lables": {}},
        "spec": {
            "replica": 3,
            "template": {"spec": {"containers": [{"name": "main", "imge": "x", "env": [{"nme": "A"}]}]}},
        },
    }
    assert refusal(body(document), DEPLOYMENTS) == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
        'unknown field "metadata.lables", unknown field "spec.replica", '
        'unknown field "spec.template.spec.containers[0].imge", '
        'unknown field "spec.template.spec.containers[0].env[0].nme"'
    )


def test_duplicate_fields_are_listed_too() -> None:
    text = b'{"spec": {"nodeName": "a", "containers": [{"name": "x", "name": "y"}], "nodeName": "b", "nodeName": "c"}}'
    assert refusal(text).endswith(
        'strict decoding error: duplicate field "spec.containers[0].name", duplicate field "spec.nodeName"'
    )


def test_text_that_reencodes_differently_is_no_duplicate() -> None:
    text = b'{"metadata":{"name":"web","annotations":{"a":"\\u003cb\\u003e","c":"\\/"}}}'
    obj, warnings = decode.decode_object(text, PODS)
    assert isinstance(obj, core_v1.Pod)
    assert obj.metadata.annotations == {"a": "<b>", "c": "/"}
    assert warnings == []


def test_unknown_fields_may_be_warned_of_or_ignored() -> None:
    obj, warnings = decode.decode_object(body(pod(foo=1)), PODS, "Warn")
    assert warnings == ['unknown field "spec.foo"']
    assert decode.decode_object(body(pod(foo=1)), PODS, "Ignore") == (obj, [])
    assert "spec.foo" in refusal(body(pod(foo=1)), field_validation="")


def test_every_wrong_type_is_named_with_both_types() -> None:
    document = pod(
        terminationGracePeriodSeconds="30",
        containers=[
            {"name": 1, "image": "web:1", "env": [{"name": "A", "value": 8080}], "args": "now"},
            None,
        ],
        nodeSelector=["a"],
        hostNetwork="yes",
    )
    assert refusal(body(document)) == (
        'Pod in version "v1" cannot be handled as a Pod: '
        "spec.containers[0].name: expected string, got integer, "
        "spec.containers[0].env[0].value: expected string, got integer, "
        "spec.containers[0].args: expected array, got string, "
        "spec.containers[1]: expected object, got null, "
        "spec.terminationGracePeriodSeconds: expected integer, got string, "
        "spec.nodeSelector: expected object, got array, "
        "spec.hostNetwork: expected boolean, got string"
    )
    assert "expected integer, got number" in refusal(body(pod(terminationGracePeriodSeconds=1.5)))
    assert "expected integer, got boolean" in refusal(body(pod(terminationGracePeriodSeconds=True)))


def test_nulls_mean_unset() -> None:
    document = pod(nodeName=None, tolerations=None)
    document["metadata"] |= {"creationTimestamp": None, "labels": None}
    document["status"] = None
    obj, _ = decode.decode_object(body(document), PODS)
    assert isinstance(obj, core_v1.Pod)
    assert obj.spec.nodeName == ""
    assert obj.metadata.labels == {}
    assert obj.status == core_v1.PodStatus()


def test_a_null_in_a_map_is_nothing_under_a_key_as_in_go() -> None:
    document = pod(nodeSelector={"a": None, "b": "c"})
    document["spec"]["containers"][0]["resources"] = {"limits": {"cpu": None, "memory": 5}}
    obj, _ = decode.decode_object(body(document), PODS)
    assert isinstance(obj, core_v1.Pod)
    assert obj.spec.nodeSelector == {"a": "", "b": "c"}
    assert obj.spec.containers[0].resources == core_v1.ResourceRequirements(limits={"cpu": "0", "memory": 5})


def test_an_unknown_field_is_found_beside_a_null() -> None:
    assert 'unknown field "spec.foo"' in refusal(body(pod(nodeName=None, foo=1)))


def test_an_unknown_field_that_is_null_is_unknown() -> None:
    assert 'unknown field "spec.foo"' in refusal(body(pod(foo=None)))


def test_the_body_must_be_of_the_resource() -> None:
    assert refusal(body({"kind": "Service"})) == (
        "the kind in the data (Service) does not match the expected kind (Pod)"
    )
    assert "API version in the data (v2)" in refusal(body({"apiVersion": "v2", "kind": "Pod"}))
    assert "(3)" in refusal(body({"kind": 3}))
    unnamed, _ = decode.decode_object(b'{"metadata":{"name":"web"}}', PODS)
    assert isinstance(unnamed, core_v1.Pod)
    assert (unnamed.apiVersion, unnamed.kind) == ("v1", "Pod")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"{'a': 1}", b'{"a": 1,}', b"\xff", b'{"a":"\xff"}', b"[" * 10**5, b"apiVersion: v1"]
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    assert "not JSON" in refusal(text) or "nested" in refusal(text)


def test_only_an_object_is_a_body() -> None:
    assert refusal(b"[]") == "the body must be a JSON object, not array"
    assert refusal(b"null") == "the body must be a JSON object, not null"


def test_a_body_may_not_be_nested_without_end() -> None:
    text = b'{"metadata":{"managedFields":[{"fieldsV1":' + b'{"a":' * 150 + b"1" + b"}" * 150 + b"}]}}"
    assert "nested more than 100 levels" in refusal(text)


def test_a_wide_body_is_not_a_deep_one() -> None:
    wide, _ = decode.decode_object(body(pod(containers=[{"name": f"c{i}", "image": "x"} for i in range(200)])), PODS)
    assert isinstance(wide, core_v1.Pod)
    assert len(wide.spec.containers) == 200


def test_convert_is_as_strict() -> None:
    assert isinstance(decode.convert(pod(nodeName=None), PODS), core_v1.Pod)
    with pytest.raises(ApiError, match="unknown field"):
        decode.convert(pod(foo=1), PODS)
    with pytest.raises(ApiError, match="expected string, got integer"):
        decode.convert(pod(nodeName=1), PODS)
    assert decode.convert_with_warnings(pod(foo=1), PODS, "Warn")[1] == ['unknown field "spec.foo"']


def test_an_int_or_string_takes_both() -> None:
    text = body({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}}})
    obj, _ = decode.decode_object(text, DEPLOYMENTS)
    assert isinstance(obj, apps_v1.Deployment)
    assert obj.spec.strategy is not None
    assert obj.spec.strategy.rollingUpdate == apps_v1.RollingUpdateDeployment(maxSurge=1, maxUnavailable="25%")
    wrong = body({"spec": {"strategy": {"rollingUpdate": {"maxSurge": [1]}}}})
    assert "spec.strategy.rollingUpdate.maxSurge: expected string or integer, got array" in refusal(wrong, DEPLOYMENTS)


def test_oddities_are_told_in_the_order_in_which_they_stand() -> None:
    data = (
        b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","name":"x","labels":{"a":"1","a":"2"},"odd":{"b":1,"b":2}},'
        b'"odd":1,"odd":2,"spec":{"containers":[{"name":"main","image":"web:1","imge":"x","image":"web:2"}]}}'
    )
    assert decode.decode_object(data, PODS, "Warn")[1] == [
        'duplicate field "metadata.name"',
        'duplicate field "metadata.labels.a"',
        'unknown field "metadata.odd"',
        'unknown field "odd"',
        'unknown field "spec.containers[0].imge"',
        'duplicate field "spec.containers[0].image"',
    ]
