"""The OpenAPI 3 documents: one for each group and version, and small ones for the paths that tell of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from barque.api.openapi.definitions import PREFIXES, reached, schema_of
from barque.api.openapi.operations import Operation, Parameter, Path, paths_of
from barque.api.openapi.v2 import DESCRIPTIONS, TOKEN_SECURITY, extensions, names_of
from barque.api.resources import Resource

Document = dict[str, Any]


class Part(NamedTuple):
    """One document; `key` is its place below `/openapi/v3/`."""

    key: str
    json: bytes


def parts(resources: Sequence[Resource], version: str) -> Iterator[Part | None]:
    """The documents of these resources: None after each slice of the work, and each document once it is whole."""
    by_document: dict[str, list[Path]] = {}
    for path in paths_of(resources):
        by_document.setdefault(path.document, []).append(path)
    yield None
    schemas: dict[str, msgspec.Raw] = {}
    for key, paths in sorted(by_document.items()):
        items: dict[str, msgspec.Raw] = {}
        for path in sorted(paths):
            items[path.path] = msgspec.Raw(msgspec.json.encode(render_path(path)))
            yield None
        names = []
        for name in reached(name for path in paths for name in names_of(path)):
            names.append(name)
            if name not in schemas:
                schemas[name] = msgspec.Raw(msgspec.json.encode(schema_of(name, "v3")))
                yield None
        document = {
            "openapi": "3.0.0",
            "info": {"title": "Barque", "version": version},
            "paths": items,
            "components": {
                "schemas": {name: schemas[name] for name in sorted(names)},
                "securitySchemes": TOKEN_SECURITY,
            },
            "security": [{name: [] for name in TOKEN_SECURITY}],
        }
        yield Part(key, msgspec.json.encode(document))


def render_path(path: Path) -> Document:
    """A path item in version 3's words."""
    item: Document = {operation.method: _operation(operation) for operation in path.operations}
    if path.parameters:
        item["parameters"] = [_parameter(parameter) for parameter in path.parameters]
    return item


def _operation(operation: Operation) -> Document:
    rendered: Document = {
        "tags": [operation.tag],
        "operationId": operation.id,
        "responses": {str(code): _answer(operation, code, name) for code, name in operation.answers.items()}
        | {"401": {"description": DESCRIPTIONS[401]}},
    }
    if operation.parameters:
        rendered["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body:
        schema = {"schema": _reference(operation.body)}
        body: Document = {"content": dict.fromkeys(operation.consumes, schema)}
        rendered["requestBody"] = body | ({"required": True} if operation.body_required else {})
    return rendered | extensions(operation)


def _answer(operation: Operation, code: int, name: str) -> Document:
    schema = {"schema": _reference(name) if name else {"type": "string"}}
    return {"description": DESCRIPTIONS[code], "content": dict.fromkeys(operation.produces, schema)}


def _reference(name: str) -> Document:
    return {"$ref": PREFIXES["v3"] + name}


def _parameter(parameter: Parameter) -> Document:
    rendered: Document = {
        "name": parameter.name, "in": parameter.place, "schema": {"type": parameter.type, "uniqueItems": True},
    }  # fmt: skip
    if parameter.place == "path":
        rendered["required"] = True
    return rendered
