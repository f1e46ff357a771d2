"""The OpenAPI 2 document: everything in one, as JSON and on the wire of protobuf.

Parameters stand with each operation, not in a common list: older kubectls look for `dryRun` and `fieldValidation` only
there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from barque.api.openapi import gnostic
from barque.api.openapi.definitions import PREFIXES, reached, schema_of
from barque.api.openapi.operations import Operation, Parameter, Path, paths_of
from barque.api.resources import Resource

Document = dict[str, Any]
T = TypeVar("T")

TOKEN_SECURITY: Document = {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header"}}

DESCRIPTIONS = {200: "OK", 201: "Created", 202: "Accepted", 401: "Unauthorized"}


class Whole(NamedTuple):
    """The document in both forms."""

    json: bytes
    protobuf: bytes


def whole(resources: Sequence[Resource], version: str) -> Iterator[Whole | None]:
    """The document of these resources: None after each slice of the work, and at last the document."""
    paths: dict[str, msgspec.Raw] = {}
    definitions: dict[str, msgspec.Raw] = {}
    wire_paths: dict[str, bytes] = {}
    wire_definitions: dict[str, bytes] = {}
    wanted: list[str] = []
    for path in paths_of(resources):
        item = render_path(path)
        paths[path.path] = msgspec.Raw(msgspec.json.encode(item))
        wire_paths[path.path] = gnostic.path_item(path.path, item)
        wanted += names_of(path)
        yield None
    for name in reached(wanted):
        schema = schema_of(name, "v2")
        definitions[name] = msgspec.Raw(msgspec.json.encode(schema))
        wire_definitions[name] = gnostic.definition(name, schema)
        yield None
    info: Document = {"title": "Barque", "version": version}
    document: Document = {
        "swagger": "2.0",
        "info": info,
        "paths": _by_name(paths),
        "definitions": _by_name(definitions),
        "securityDefinitions": TOKEN_SECURITY,
        "security": [{name: [] for name in TOKEN_SECURITY}],
    }
    wire = gnostic.document(info, *(b"".join(_by_name(each).values()) for each in (wire_paths, wire_definitions)))
    yield Whole(msgspec.json.encode(document), wire)


def _by_name(parts: dict[str, T]) -> dict[str, T]:
    return dict(sorted(parts.items()))


def names_of(path: Path) -> list[str]:
    """The definitions that a path's bodies and answers are."""
    named = [(operation.body, *operation.answers.values()) for operation in path.operations]
    return [name for names in named for name in names if name]


def render_path(path: Path) -> Document:
    """A path item in version 2's words."""
    item: Document = {operation.method: _operation(operation) for operation in path.operations}
    if path.parameters:
        item["parameters"] = [_parameter(parameter) for parameter in path.parameters]
    return item


def _operation(operation: Operation) -> Document:
    parameters = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body:
        body: Document = {"name": "body", "in": "body", "schema": _reference(operation.body)}
        if operation.body_required:
            body["required"] = True
        parameters.insert(0, body)
    rendered: Document = {
        "consumes": list(operation.consumes),
        "produces": list(operation.produces),
        "schemes": ["https"],
        "tags": [operation.tag],
        "operationId": operation.id,
        "responses": {str(code): _answer(code, name) for code, name in operation.answers.items()}
        | {"401": {"description": DESCRIPTIONS[401]}},
    }
    if parameters:
        rendered["parameters"] = parameters
    return rendered | extensions(operation)


def extensions(operation: Operation) -> Document:
    """What Kubernetes' clients read of an operation besides."""
    if not operation.action:
        return {}
    group, version, kind = operation.kind
    of_kind = {"group": group, "kind": kind, "version": version}
    return {"x-kubernetes-action": operation.action, "x-kubernetes-group-version-kind": of_kind}


def _answer(code: int, name: str) -> Document:
    return {"description": DESCRIPTIONS[code], "schema": _reference(name) if name else {"type": "string"}}


def _reference(name: str) -> Document:
    return {"$ref": PREFIXES["v2"] + name}


def _parameter(parameter: Parameter) -> Document:
    rendered: Document = {
        "name": parameter.name, "in": parameter.place, "type": parameter.type, "uniqueItems": True,
    }  # fmt: skip
    if parameter.place == "path":
        rendered["required"] = True
    return rendered
