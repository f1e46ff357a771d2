"""The OpenAPI documents: what they say of kinds against the published data, and of verbs, in each form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import yaml

from barque.api.errors import FieldError
from barque.api.openapi import v2, v3
from barque.api.openapi.definitions import DELETE_OPTIONS, module_of, name_of, schema_of, struct_of
from barque.api.openapi.enums import _WORDS, enum_of
from barque.api.resources import RESOURCES, by_plural
from barque.api.shapes import shape_of
from barque.api.types.generate import load_definitions
from barque.api.validation import pods, validate
from tests.support.builders import a_service
from tests.support.full_pod import planted

VERSION = "v1.36.0+barque-0.1.0"


@cache
def whole() -> v2.Whole:
    (made,) = [each for each in v2.whole(RESOURCES, VERSION) if each is not None]
    return made


@cache
def parts() -> dict[str, Any]:
    return {part.key: json.loads(part.json) for part in v3.parts(RESOURCES, VERSION) if part is not None}


def document() -> dict[str, Any]:
    return json.loads(whole().json)  # type: ignore[no-any-return]


# --- definitions


@cache
def data() -> dict[str, Any]:
    return load_definitions()


def published(name: str) -> dict[str, Any]:
    """The definition of the schema data, as version 2 of OpenAPI writes it."""
    return _plain(data()[name])  # type: ignore[no-any-return]


def _plain(schema: Any) -> Any:
    """Without descriptions, and without what the data's makers added: nulls, and kinds as enumerations."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "oneOf" in schema:
        integer = any("integer" in each["type"] for each in schema["oneOf"])
        return {"type": "string"} | ({"format": "int-or-string"} if integer else {})
    plain = {}
    for key, value in schema.items():
        if key == "properties":
            plain[key] = {name: _plain(each) for name, each in value.items()}
        elif key == "type" and isinstance(value, list):
            plain[key] = value[0]
        elif key == "$ref":
            plain[key] = value.replace("#/$defs/", "#/definitions/")
        elif key not in ("description", "enum", "x-kubernetes-unions"):
            plain[key] = _plain(value)
    return plain


def _comparable(schema: dict[str, Any]) -> dict[str, Any]:
    """Ours without what the data does not have: closed sets of words, defaults, and that free-form JSON is kept."""

    def strip(of: Any) -> Any:
        if isinstance(of, list):
            return [strip(each) for each in of]
        if not isinstance(of, dict):
            return of
        left_out = ("enum", "x-kubernetes-preserve-unknown-fields")
        kept = {key: strip(value) for key, value in of.items() if key not in left_out}
        if of.get("type") == "string" and of.get("default") == "TCP":
            del kept["default"]
        return kept

    stripped: dict[str, Any] = strip(schema)
    return stripped


def test_every_definition_says_what_the_published_one_does() -> None:
    definitions, known = document()["definitions"], data()
    compared = 0
    for name in sorted(definitions.keys() & known.keys() - {DELETE_OPTIONS}):
        ours, theirs = _comparable(definitions[name]), published(name)
        theirs["required"] = sorted(theirs.get("required", []))
        ours.setdefault("required", [])
        assert ours == theirs, name
        compared += 1
    assert compared > 250
    unknown = {name.rpartition(".")[0] for name in definitions.keys() - known.keys()}
    assert unknown <= {"io.k8s.metrics.pkg.apis.metrics.v1beta1", "io.k8s.apimachinery.pkg.version"}


def test_lists_say_how_they_merge_and_keys_what_they_default_to() -> None:
    ports = schema_of("io.k8s.api.core.v1.Container", "v2")["properties"]["ports"]
    assert ports == {
        "type": "array",
        "items": {"$ref": "#/definitions/io.k8s.api.core.v1.ContainerPort"},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
        "x-kubernetes-patch-merge-key": "containerPort",
        "x-kubernetes-patch-strategy": "merge",
    }
    protocol = schema_of("io.k8s.api.core.v1.ContainerPort", "v2")["properties"]["protocol"]
    assert protocol == {"type": "string", "enum": ["SCTP", "TCP", "UDP"], "default": "TCP"}


def test_version_3_writes_two_types_and_references_its_own_way() -> None:
    assert schema_of("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "v3") == {
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    }
    claim = schema_of("io.k8s.api.core.v1.PersistentVolumeSpec", "v3")["properties"]["claimRef"]
    assert claim == {
        "allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.ObjectReference"}],
        "x-kubernetes-map-type": "granular",
    }


def test_metrics_are_described_by_their_own_structs() -> None:
    metrics = schema_of("io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics", "v2")
    assert metrics["required"] == ["containers", "timestamp", "window"]
    assert metrics["properties"]["timestamp"] == {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Time"}
    assert metrics["x-kubernetes-group-version-kind"] == [
        {"group": "metrics.k8s.io", "kind": "PodMetrics", "version": "v1beta1"}
    ]


def test_enumerated_fields_exist_and_are_texts() -> None:
    for (module, struct), fields in _WORDS.items():
        kind = struct_of(name_of(module, struct))
        assert kind is not None
        for field, words in fields.items():
            assert shape_of(kind)[field].scalars == {str}, (struct, field)
            assert list(words) == sorted(words)


OF_PODS = {
    ("Container", "imagePullPolicy"): "containers/0/imagePullPolicy",
    ("Container", "terminationMessagePolicy"): "containers/0/terminationMessagePolicy",
    ("ContainerPort", "protocol"): "containers/0/ports/0/protocol",
    ("HTTPGetAction", "scheme"): "containers/0/livenessProbe/httpGet/scheme",
    ("PodSecurityContext", "fsGroupChangePolicy"): "securityContext/fsGroupChangePolicy",
    ("PodSpec", "dnsPolicy"): "dnsPolicy",
    ("PodSpec", "preemptionPolicy"): "preemptionPolicy",
    ("PodSpec", "restartPolicy"): "restartPolicy",
    ("SeccompProfile", "type"): "securityContext/seccompProfile/type",
    ("SecurityContext", "procMount"): "containers/0/securityContext/procMount",
    ("Toleration", "effect"): "tolerations/0/effect",
    ("Toleration", "operator"): "tolerations/0/operator",
    ("TopologySpreadConstraint", "whenUnsatisfiable"): "topologySpreadConstraints/0/whenUnsatisfiable",
    ("VolumeMount", "mountPropagation"): "containers/0/volumeMounts/0/mountPropagation",
}


def _supported(faults: list[FieldError], field: str) -> list[str]:
    """The words that validation says the field takes."""
    (message,) = [fault.message for fault in faults if fault.path.endswith(field) and "Unsupported" in fault.message]
    return sorted(re.findall('"([^"]*)"', message.partition("supported values: ")[2]))


@pytest.mark.parametrize(("struct", "field"), OF_PODS)
def test_the_words_of_pods_are_those_that_validation_takes(struct: str, field: str) -> None:
    faults = pods.check(planted({OF_PODS[struct, field]: "Bogus"}))
    assert _supported(faults, field) == list(enum_of("core_v1", struct, field))


@pytest.mark.parametrize("field", sorted(set(_WORDS["core_v1", "ServiceSpec"]) - {"ipFamilies"}))
def test_the_words_of_services_are_those_that_validation_takes(field: str) -> None:
    service = a_service("web").type("NodePort").port(80).build()
    setattr(service.spec, field, "Bogus")
    assert _supported(validate(service), field) == list(enum_of("core_v1", "ServiceSpec", field))


# --- the documents as wholes


def _referred(of: Any) -> Iterator[str]:
    if isinstance(of, list):
        for each in of:
            yield from _referred(each)
    elif isinstance(of, dict):
        if isinstance(of.get("$ref"), str):
            yield of["$ref"]
        for each in of.values():
            yield from _referred(each)


def test_every_name_that_is_referred_to_is_defined() -> None:
    swagger = document()
    assert {name.removeprefix("#/definitions/") for name in _referred(swagger)} <= swagger["definitions"].keys()
    for key, part in parts().items():
        names = {name.removeprefix("#/components/schemas/") for name in _referred(part)}
        assert names <= part["components"]["schemas"].keys(), key


def test_operations_have_names_of_their_own_in_both_versions_alike() -> None:
    def ids(paths: dict[str, Any]) -> list[str]:
        return [
            each["operationId"] for item in paths.values() for method, each in item.items() if method != "parameters"
        ]

    named = ids(document()["paths"])
    assert len(named) == len(set(named))
    assert sorted(named) == sorted(each for part in parts().values() for each in ids(part["paths"]))


def test_each_group_and_version_has_a_document_and_a_path_for_every_verb() -> None:
    actions = {"post": "create", "put": "update"}
    for resource in RESOURCES:
        key = f"{'apis' if resource.group else 'api'}/{resource.api_version}"
        found = {
            actions.get(operation["x-kubernetes-action"], operation["x-kubernetes-action"])
            for path, item in parts()[key]["paths"].items()
            if path.removesuffix("/{name}").endswith(f"/{resource.plural}")
            for method, operation in item.items()
            if method != "parameters"
        }
        assert found == set(resource.verbs) - {"watch"}, resource.kind


@pytest.mark.parametrize("resource", [r for r in RESOURCES if "list" in r.verbs], ids=lambda r: r.group_resource)
def test_what_is_listed_has_a_kind_of_list(resource: Any) -> None:
    assert struct_of(name_of(module_of(resource.api_version), f"{resource.kind}List")) is not None


def test_the_same_rows_give_the_same_bytes() -> None:
    (again,) = [each for each in v2.whole(RESOURCES, VERSION) if each is not None]
    assert again == whole()


# --- operations


def test_a_collection_in_version_2() -> None:
    item = document()["paths"]["/api/v1/namespaces/{namespace}/configmaps"]
    listed = item["get"]
    assert listed["operationId"] == "listCoreV1NamespacedConfigMap"
    assert listed["x-kubernetes-action"] == "list"
    assert listed["x-kubernetes-group-version-kind"] == {"group": "", "kind": "ConfigMap", "version": "v1"}
    assert listed["produces"] == ["application/json", "application/yaml", "application/json;stream=watch"]
    assert [parameter["name"] for parameter in listed["parameters"]] == [
        "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
        "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
    ]  # fmt: skip
    assert item["post"]["parameters"][0] == {
        "name": "body",
        "in": "body",
        "required": True,
        "schema": {"$ref": "#/definitions/io.k8s.api.core.v1.ConfigMap"},
    }
    assert sorted(item["post"]["responses"]) == ["200", "201", "202", "401"]
    assert item["delete"]["operationId"] == "deleteCoreV1CollectionNamespacedConfigMap"
    assert [(p["name"], p["in"]) for p in item["parameters"]] == [("namespace", "path"), ("pretty", "query")]


def test_a_patch_in_version_3() -> None:
    item = parts()["apis/apps/v1"]["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    patch = item["patch"]
    assert list(patch["requestBody"]["content"]) == [
        "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ]  # fmt: skip
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "kind": "Deployment", "version": "v1"}
    assert [(p["name"], p["schema"]["type"]) for p in patch["parameters"]] == [
        ("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean"),
    ]  # fmt: skip
    assert item["delete"]["requestBody"].get("required") is None


def test_subresources_speak_of_their_own_kinds() -> None:
    paths = document()["paths"]
    scale = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["put"]
    assert scale["operationId"] == "replaceAppsV1NamespacedDeploymentScale"
    assert scale["x-kubernetes-group-version-kind"] == {"group": "autoscaling", "kind": "Scale", "version": "v1"}
    assert scale["parameters"][0]["schema"] == {"$ref": "#/definitions/io.k8s.api.autoscaling.v1.Scale"}
    evicted = paths["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"]
    assert evicted["operationId"] == "createCoreV1NamespacedPodEviction"


def test_streams_and_proxies_connect() -> None:
    row = by_plural("", "pods")
    pods = replace(row, subresources=("log", "exec", "proxy"))
    (made,) = [each for each in v2.whole([pods], VERSION) if each is not None]
    paths = json.loads(made.json)["paths"]
    one = "/api/v1/namespaces/{namespace}/pods/{name}"
    log, ran, proxied = paths[f"{one}/log"], paths[f"{one}/exec"], paths[f"{one}/proxy/{{path}}"]
    assert log["get"]["operationId"] == "readCoreV1NamespacedPodLog"
    assert log["get"]["x-kubernetes-action"] == "get"
    assert log["get"]["responses"]["200"] == {"description": "OK", "schema": {"type": "string"}}
    assert {method: ran[method]["operationId"] for method in ("get", "post")} == {
        "get": "connectCoreV1GetNamespacedPodExec", "post": "connectCoreV1PostNamespacedPodExec",
    }  # fmt: skip
    assert ran["get"]["x-kubernetes-group-version-kind"]["kind"] == "PodExecOptions"
    assert proxied["delete"]["operationId"] == "connectCoreV1DeleteNamespacedPodProxyWithPath"
    assert {"name": "path", "in": "path", "type": "string", "uniqueItems": True, "required": True} in proxied[
        "parameters"
    ]


# --- on the wire of protobuf, read here by the numbers of gnostic's OpenAPIv2.proto


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            assert tag & 7 == 2
            length = varint()
            yield tag >> 3, message[at : at + length]
            at += length


def one(message: bytes, number: int) -> Any:
    (value,) = [value for at, value in fields(message) if at == number]
    return value


def every(message: bytes, number: int) -> list[Any]:
    return [value for at, value in fields(message) if at == number]


def value_of(any_message: bytes) -> Any:
    return yaml.safe_load(one(any_message, 2))


def named(messages: list[bytes]) -> dict[str, bytes]:
    return {one(message, 1).decode(): one(message, 2) for message in messages}


def schema_from(message: bytes) -> dict[str, Any]:
    readers: dict[int, tuple[str, Any]] = {
        1: ("$ref", bytes.decode),
        2: ("format", bytes.decode),
        5: ("default", value_of),
        21: ("additionalProperties", lambda item: schema_from(one(item, 1))),
        22: ("type", lambda item: one(item, 1).decode()),
        23: ("items", lambda item: schema_from(one(item, 1))),
        25: ("properties", lambda item: {k: schema_from(v) for k, v in named(every(item, 1)).items()}),
    }
    schema: dict[str, Any] = {}
    for number, value in fields(message):
        if number in readers:
            key, read = readers[number]
            schema[key] = read(value)
        elif number == 19:
            schema.setdefault("required", []).append(value.decode())
        elif number == 20:
            schema.setdefault("enum", []).append(value_of(value))
        elif number == 31:
            schema[one(value, 1).decode()] = value_of(one(value, 2))
        else:
            raise AssertionError(f"field {number}")
    return schema


def test_the_protobuf_says_what_the_json_does() -> None:
    swagger, wire = document(), whole().protobuf
    assert one(wire, 1) == b"2.0"
    assert one(one(wire, 2), 2).decode() == VERSION
    definitions = named(every(one(wire, 9), 1))
    assert {name: schema_from(message) for name, message in definitions.items()} == swagger["definitions"]
    paths = named(every(one(wire, 8), 2))
    assert list(paths) == list(swagger["paths"])
    numbers = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
    for path, message in paths.items():
        item = swagger["paths"][path]
        assert len(every(message, 9)) == len(item.get("parameters", []))
        for method, number in numbers.items():
            found = every(message, number)
            assert len(found) == (method in item)
            if found:
                operation = item[method]
                assert one(found[0], 5).decode() == operation["operationId"]
                assert [value.decode() for value in every(found[0], 7)] == operation["consumes"]
                extensions = {name: value_of(value) for name, value in named(every(found[0], 13)).items()}
                assert extensions == {key: value for key, value in operation.items() if key.startswith("x-")}


def test_the_protobuf_has_the_parameters_that_kubectl_looks_for() -> None:
    paths = named(every(one(whole().protobuf, 8), 2))
    patch = one(paths["/api/v1/namespaces/{namespace}/pods/{name}"], 8)
    parameters = [one(each, 1) for each in every(patch, 8)]
    body = one(parameters[0], 1)
    assert (one(body, 2), one(body, 3), one(body, 4)) == (b"body", b"body", 1)
    assert schema_from(one(body, 5)) == {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}
    queries = [one(one(each, 2), 3) for each in parameters[1:]]
    assert [(one(each, 2), one(each, 4), one(each, 6)) for each in queries] == [
        (b"query", b"dryRun", b"string"), (b"query", b"fieldManager", b"string"),
        (b"query", b"fieldValidation", b"string"), (b"query", b"force", b"boolean"),
    ]  # fmt: skip
    of_path = [one(one(each, 1), 2) for each in every(paths["/api/v1/namespaces/{namespace}/pods/{name}"], 9)]
    assert [one(one(each, 4), 4) for each in of_path[:2]] == [b"name", b"namespace"]
