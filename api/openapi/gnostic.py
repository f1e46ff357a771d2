"""OpenAPI 2 on the wire of protobuf (`openapi.v2.Document` of gnostic), as kubectl up to 1.27 asks for it. Pure.

In: the parts of a version 2 document as JSON has them. Out: bytes. Only what our documents have is written; the
numbers of fields are those of gnostic's OpenAPIv2.proto. Values of extensions and enums travel as YAML text, for which
JSON will do.
"""

from __future__ import annotations

from typing import Any

import msgspec

Document = dict[str, Any]

_OPERATIONS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}
_BYTES = 2  # the wire type of texts and messages; that of truth values and numbers is 0


def document(info: Document, paths: bytes, definitions: bytes) -> bytes:
    """The whole; `paths` and `definitions` as `path_item` and `definition` made them."""
    said = _text(1, info["title"]) + _text(2, info["version"])
    return _text(1, "2.0") + _message(2, said) + _message(8, paths) + _message(9, definitions)


def path_item(path: str, item: Document) -> bytes:
    """A field of `Paths`."""
    body = b"".join(_message(_OPERATIONS[method], _operation(item[method])) for method in _OPERATIONS if method in item)
    body += b"".join(_message(9, _parameter(each)) for each in item.get("parameters", ()))
    return _message(2, _text(1, path) + _message(2, body))


def definition(name: str, schema: Document) -> bytes:
    """A field of `Definitions`."""
    return _named(1, name, _schema(schema))


def _operation(operation: Document) -> bytes:
    answers = b"".join(_named(1, code, _message(1, _answer(answer))) for code, answer in operation["responses"].items())
    return b"".join(
        (
            *(_text(1, tag) for tag in operation["tags"]),
            _text(5, operation["operationId"]),
            *(_text(6, media_type) for media_type in operation["produces"]),
            *(_text(7, media_type) for media_type in operation["consumes"]),
            *(_message(8, _parameter(each)) for each in operation.get("parameters", ())),
            _message(9, answers),
            *(_text(10, scheme) for scheme in operation["schemes"]),
            _extensions(13, operation),
        )
    )


def _answer(answer: Document) -> bytes:
    schema = _message(2, _message(1, _schema(answer["schema"]))) if "schema" in answer else b""
    return _text(1, answer["description"]) + schema


def _parameter(parameter: Document) -> bytes:
    """A `ParametersItem`: it holds a parameter, which is one of a body, or else one of four kinds."""
    required = _flag(parameter.get("required"))
    if parameter["in"] == "body":
        body = _text(2, parameter["name"]) + _text(3, "body") + _true(4, required)
        return _message(1, _message(1, body + _message(5, _schema(parameter["schema"]))))
    place = parameter["in"]
    common = _true(1, required) + _text(2, place) + _text(4, parameter["name"])
    unique = _flag(parameter.get("uniqueItems"))
    if place == "path":
        kind, fields = 4, common + _text(5, parameter["type"]) + _true(19, unique)
    else:
        kind, fields = 3, common + _text(6, parameter["type"]) + _true(20, unique)
    return _message(1, _message(2, _message(kind, fields)))


def _schema(schema: Document) -> bytes:
    parts = []
    if "$ref" in schema:
        parts.append(_text(1, schema["$ref"]))
    if "format" in schema:
        parts.append(_text(2, schema["format"]))
    if "default" in schema:
        parts.append(_message(5, _any(schema["default"])))
    parts += [_text(19, name) for name in schema.get("required", ())]
    parts += [_message(20, _any(value)) for value in schema.get("enum", ())]
    if "additionalProperties" in schema:
        parts.append(_message(21, _message(1, _schema(schema["additionalProperties"]))))
    if "type" in schema:
        parts.append(_message(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_message(23, _message(1, _schema(schema["items"]))))
    if "properties" in schema:
        named = (_named(1, name, _schema(each)) for name, each in schema["properties"].items())
        parts.append(_message(25, b"".join(named)))
    parts.append(_extensions(31, schema))
    return b"".join(parts)


def _extensions(number: int, of: Document) -> bytes:
    return b"".join(_named(number, name, _any(value)) for name, value in of.items() if name.startswith("x-"))


def _any(value: Any) -> bytes:
    return _bytes(2, msgspec.json.encode(value))


def _named(number: int, name: str, value: bytes) -> bytes:
    """An entry of a map, which is ordered pairs here."""
    return _message(number, _text(1, name) + _message(2, value))


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _message(number: int, body: bytes) -> bytes:
    return _bytes(number, body)


def _bytes(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(body)) + body


def _true(number: int, value: bool) -> bytes:
    """A truth value; false is left out."""
    return _varint(number << 3) + b"\x01" if value else b""


def _flag(value: object) -> bool:
    return value is True


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
