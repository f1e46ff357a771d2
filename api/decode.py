"""What users send, read strictly: bytes to objects, with every fault named.

In: a JSON body and the resource it is meant for. Out: the object and the warnings. Raises ApiError 400 in Kubernetes'
words, listing every field of a wrong type, or (strictly) every unknown and duplicate field with its path. Nulls are
dropped: they mean "unset". The common case, a body without a fault, is decided by msgspec and one walk over the keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

import msgspec

from barque.api import codec, ranges
from barque.api.bulk import check_bulk
from barque.api.errors import ApiError, bad_request
from barque.api.resources import Resource
from barque.api.shapes import Container, FieldShape, shape_of
from barque.api.types.base import Object
from barque.api.yaml_documents import YamlError, read_documents

T = TypeVar("T")

_JSON_NAMES: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}
# So many unknown and duplicate fields of one body are told, as in Kubernetes.
_MOST_FAULTS = 100
# No kind nests half as deep; everything that walks a body may recurse safely.
_MAX_DEPTH = 100
# Of an operation of a JSON patch (RFC 6902).
_OPERATION_MEMBERS = frozenset(("op", "path", "from", "value"))
_raw_decoder = msgspec.json.Decoder()


def decode_object(body: bytes, resource: Resource, field_validation: str = "Strict") -> tuple[Object, list[str]]:
    """Decode a user's body.

    `field_validation` says what unknown and duplicate fields are: "Strict" (and "") an error, "Warn" warnings, "Ignore"
    nothing. `apiVersion` and `kind` may be missing but not contradict `resource`.
    """
    raw = parse_json(body)
    _check_kind(raw, resource)
    try:
        obj = codec.decode(resource.type, body)
    except msgspec.ValidationError as error:
        obj = _typed(raw, resource, error)
    _check_ranges(obj, resource)
    faults = [] if field_validation == "Ignore" else [*_unknown(resource.type, raw), *_duplicates(body, raw)]
    return obj, _judge(faults, resource, field_validation)


def parse_json(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises ApiError 400 saying what is not JSON about it, 413 where it holds too much."""
    check_bulk(body)
    try:
        raw = _raw_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(raw, dict):
        raise bad_request(f"the body must be a JSON object, not {_json_name(raw)}")
    if body.count(b"{") + body.count(b"[") > _MAX_DEPTH:
        _check_depth(raw)
    return raw


def parse_configuration(body: bytes, field_validation: str = "Strict") -> tuple[dict[str, Any], list[str]]:
    """An applied configuration, YAML or JSON, as it was written, and the warnings.

    Raises ApiError 400 where it cannot be read or, strictly, gives a key twice.
    """
    if body.lstrip()[:1] == b"{":
        check_bulk(body)
        try:
            raw = _raw_decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # it may still be YAML in flow style, whose reader has the better words if not
        else:
            _check_depth(raw)
            return raw, _judge_configuration(_duplicates(body, raw), field_validation)
    try:
        documents = list(read_documents(body))
    except YamlError as unreadable:
        raise bad_request(f"error decoding YAML: {unreadable}") from None
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise bad_request("error decoding YAML: the body must be one object")
    _check_depth(documents[0].data)
    return documents[0].data, _judge_configuration(documents[0].duplicates, field_validation)


def _judge_configuration(faults: list[str], field_validation: str) -> list[str]:
    faults = faults[:_MOST_FAULTS]
    if faults and field_validation in ("Strict", ""):
        raise bad_request(f"error strict decoding YAML: {', '.join(faults)}")
    return [] if field_validation == "Ignore" else faults


def parse_list(body: bytes) -> list[Any]:
    """The body as a JSON list (the operations of a JSON patch). Raises ApiError 400 and 413."""
    check_bulk(body)
    try:
        raw = _raw_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(raw, list):
        raise bad_request(f"the body must be a JSON list of operations, not {_json_name(raw)}")
    _check_depth(raw)
    return raw


def check_patch(body: bytes, patch: dict[str, Any] | list[Any], resource: Resource, field_validation: str) -> list[str]:
    """Warnings of what the body of a patch gives twice, or of an operation's member that means nothing.

    What is unknown in a merge or strategic patch shows in the patched object. Raises ApiError 400 where it is strict.
    """
    if field_validation == "Ignore":
        return []
    faults = _duplicates(body, patch)
    if isinstance(patch, list):
        faults = [f"json patch {fault}" for fault in [*_unknown_members(patch), *faults]]
    return _judge(faults, resource, field_validation)


def _unknown_members(operations: list[Any]) -> list[str]:
    members = ((i, name) for i, operation in enumerate(operations) if isinstance(operation, dict) for name in operation)
    return [f'unknown field "[{i}].{name}"' for i, name in members if name not in _OPERATION_MEMBERS]


def _check_depth(raw: Any) -> None:
    level = [raw]
    for _ in range(_MAX_DEPTH):
        level = [below for value in level for below in _members(value) if isinstance(below, (dict, list))]
        if not level:
            return
    raise _too_deep()


def _members(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _too_deep() -> ApiError:
    return bad_request(f"the body is nested more than {_MAX_DEPTH} levels deep")


def convert(data: dict[str, Any], resource: Resource, field_validation: str = "Strict") -> Object:
    """An object from a dictionary (a patched document, say), as strictly as `decode_object`."""
    return convert_with_warnings(data, resource, field_validation)[0]


def convert_with_warnings(
    data: dict[str, Any], resource: Resource, field_validation: str = "Strict"
) -> tuple[Object, list[str]]:
    """As `convert`, and what `decode_object` would warn of."""
    _check_kind(data, resource)
    faults = [] if field_validation == "Ignore" else _unknown(resource.type, data)
    try:
        obj: Object = codec.from_document(resource.type, data)
    except msgspec.ValidationError as error:
        obj = _typed(data, resource, error)
    _check_ranges(obj, resource)
    return obj, _judge(faults, resource, field_validation)


def _judge(faults: list[str], resource: Resource, field_validation: str) -> list[str]:
    faults = faults[:_MOST_FAULTS]
    if faults and field_validation in ("Strict", ""):
        raise _refusal(resource, f"strict decoding error: {', '.join(faults)}")
    return faults


def _check_ranges(obj: Object, resource: Resource) -> None:
    """Raises ApiError 400 where a number or a moment is none that clients can read; writes moments in one form."""
    faults = ranges.settle(obj)
    if faults:
        raise _refusal(resource, ", ".join(faults[:_MOST_FAULTS]))


def _refusal(resource: Resource, why: str) -> ApiError:
    return bad_request(f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}')


def _check_kind(raw: dict[str, Any], resource: Resource) -> None:
    for name, expected in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        given = raw.get(name)
        if given not in (None, "", expected):
            words = "API version" if name == "apiVersion" else name
            raise bad_request(
                f"the {words} in the data ({_show(given)}) does not match the expected {words} ({expected})"
            )


def _typed(raw: dict[str, Any], resource: Resource, error: msgspec.ValidationError) -> Object:
    """The slow path of a body msgspec did not take: without its nulls, or every wrong type named."""
    cleaned = _without_nulls(raw)
    faults = _wrong_types(resource.type, cleaned, "")
    if faults:
        raise _refusal(resource, ", ".join(faults))
    try:
        obj: Object = codec.from_document(resource.type, cleaned)
    except msgspec.ValidationError:
        raise _refusal(resource, str(error)) from None
    return obj


def _without_nulls(value: T) -> T:
    """Drops members that are null. A null in a list stays, to be refused: dropping it would shift its neighbours."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}  # type: ignore[return-value]
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]  # type: ignore[return-value]
    return value


def _unknown(kind: type[Object], raw: dict[str, Any]) -> list[str]:
    return [] if _is_known(kind, raw) else _unknown_fields(kind, raw)


def _is_known(kind: type[Object], raw: dict[str, Any]) -> bool:
    """Whether every field is one of the kind's: the common case, without the paths of those that are not."""
    names, structs = _names(kind)
    if not raw.keys() <= names:
        return False
    for name, value in raw.items():
        field = structs.get(name)
        if field is None:
            continue
        struct, container = field
        if container == "":
            inside: Iterable[Any] = (value,)
        elif container == "list":
            inside = value if isinstance(value, list) else ()
        else:
            inside = value.values() if isinstance(value, dict) else ()
        if not all(_is_known(struct, each) for each in inside if each.__class__ is dict):
            return False
    return True


@cache
def _names(kind: type[Object]) -> tuple[frozenset[str], dict[str, tuple[type[Object], Container]]]:
    """The names of a kind's fields, and what stands in those that hold structs."""
    shape = shape_of(kind)
    structs = {name: (field.struct, field.container) for name, field in shape.items() if field.struct is not None}
    return frozenset(shape), structs


def _unknown_fields(kind: type[Object], raw: dict[str, Any], path: str = "") -> list[str]:
    """`unknown field "spec.replica"` for each, in document order."""
    faults = []
    shape = shape_of(kind)
    for name, value in raw.items():
        field = shape.get(name)
        if field is None:
            faults.append(f'unknown field "{_join(path, name)}"')
        elif field.struct is not None and value.__class__ in (dict, list):
            faults += _unknown_within(field, field.struct, value, _join(path, name))
    return faults


def _unknown_within(field: FieldShape, struct: type[Object], value: Any, path: str) -> list[str]:
    faults: list[str] = []
    if field.container == "" and isinstance(value, dict):
        return _unknown_fields(struct, value, path)
    if field.container == "list" and isinstance(value, list):
        for index, element in enumerate(value):
            if isinstance(element, dict):
                faults += _unknown_fields(struct, element, f"{path}[{index}]")
    if field.container == "map" and isinstance(value, dict):
        for key, element in value.items():
            if isinstance(element, dict):
                faults += _unknown_fields(struct, element, f"{path}[{key}]")
    return faults


def _duplicates(body: bytes, raw: Any) -> list[str]:
    """`duplicate field "spec.replicas"` for each key that stands twice in one object.

    A body that equals its own re-encoding, but for white space, has none; only others are read key by key.
    """
    try:
        encoded = msgspec.json.encode(raw)
        if body == encoded or msgspec.json.format(body, indent=-1) == encoded:
            return []
    except msgspec.MsgspecError:  # it has a number or text that re-encodes differently; the scan below decides
        pass
    return _scan_duplicates(body)


class _Pairs(list[tuple[str, Any]]):
    """An object's members as they stand in the text, told apart from arrays."""


def _scan_duplicates(body: bytes) -> list[str]:
    faults: list[str] = []

    def visit(value: Any, path: str) -> None:
        if isinstance(value, _Pairs):
            seen: set[str] = set()
            for name, member in value:
                if name in seen:
                    faults.append(f'duplicate field "{_join(path, name)}"')
                seen.add(name)
                visit(member, _join(path, name))
        elif isinstance(value, list):
            for index, element in enumerate(value):
                visit(element, f"{path}[{index}]")

    visit(json.loads(body, object_pairs_hook=_Pairs), "")
    return list(dict.fromkeys(faults))


def _wrong_types(kind: type[Object], raw: dict[str, Any], path: str) -> list[str]:
    faults = []
    for name, value in raw.items():
        field = shape_of(kind).get(name)
        if field is not None:
            faults += _wrong_in_field(field, value, _join(path, name))
    return faults


def _wrong_in_field(field: FieldShape, value: Any, path: str) -> list[str]:
    if field.container == "list":
        if not isinstance(value, list):
            return [_mismatch(path, "array", value)]
        return [fault for i, element in enumerate(value) for fault in _wrong_value(field, element, f"{path}[{i}]")]
    if field.container == "map":
        if not isinstance(value, dict):
            return [_mismatch(path, "object", value)]
        return [fault for key, element in value.items() for fault in _wrong_value(field, element, f"{path}[{key}]")]
    return _wrong_value(field, value, path)


def _wrong_value(field: FieldShape, value: Any, path: str) -> list[str]:
    if field.struct is not None and isinstance(value, dict):
        return _wrong_types(field.struct, value, path)
    allowed = field.scalars if field.struct is None else field.scalars | {dict}
    if not allowed or type(value) in allowed:
        return []
    return [_mismatch(path, " or ".join(name for kind, name in _JSON_NAMES.items() if kind in allowed), value)]


def _mismatch(path: str, expected: str, value: Any) -> str:
    return f"{path}: expected {expected}, got {_json_name(value)}"


def _show(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _json_name(value: Any) -> str:
    return "null" if value is None else _JSON_NAMES[type(value)]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
