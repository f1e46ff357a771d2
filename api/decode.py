"""What users send, read strictly: bytes to objects, with every fault named.

In: a JSON body and the resource it is meant for. Out: the object and the warnings. Raises ApiError 400 in Kubernetes'
words, listing every field of a wrong type, or (strictly) every unknown and duplicate field with its path. Nulls mean
"unset" (but see `_without_nulls`). The common case, a body without a fault, is decided by msgspec and one walk over the
keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import msgspec

from barque.api import codec, ranges
from barque.api.bulk import check_bulk
from barque.api.errors import ApiError, bad_request, invalid, invalid_object
from barque.api.resources import Resource
from barque.api.shapes import Container, FieldShape, shape_of
from barque.api.types.base import Object
from barque.api.yaml_documents import YamlError, read_documents

_JSON_NAMES: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}
# What stands in a map in a null's place: of texts, and of amounts.
_ZEROS: dict[frozenset[type], str] = {frozenset((str,)): "", frozenset((str, int, float)): "0"}
# So many unknown and duplicate fields of one body are told, as in Kubernetes.
_MOST_FAULTS = 100
# So much of an object that a patch has spoilt is shown, twice in each answer.
_MOST_SHOWN = 16 * 1024
# No kind nests half as deep; everything that walks a body may recurse safely.
_MAX_DEPTH = 100
# Of an operation of a JSON patch (RFC 6902).
_OPERATION_MEMBERS = frozenset(("op", "path", "from", "value"))
_TOO_LARGE = 413
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
    faults = [] if field_validation == "Ignore" else _oddities(resource.type, body, raw)
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


def patch_oddities(body: bytes, patch: dict[str, Any] | list[Any]) -> list[str]:
    """What the body of a patch gives twice, and members of its operations that mean nothing.

    What is unknown in a merge or strategic patch shows in the patched object.
    """
    faults = _duplicates(body, patch)
    if isinstance(patch, list):
        faults = [f"json patch {fault}" for fault in [*_unknown_members(patch), *faults]]
    return faults


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


def convert(
    data: dict[str, Any], resource: Resource, field_validation: str = "Strict", old: Object | None = None
) -> Object:
    """An object from a dictionary, as strictly as `decode_object`; of `old`, the object before a configuration was
    applied to it, what is out of range may stay.
    """
    faults = [] if field_validation == "Ignore" else _unknown(resource.type, data)
    obj = _converted(data, resource, old)
    _judge(faults, resource, field_validation)
    return obj


def convert_with_warnings(
    data: dict[str, Any], resource: Resource, field_validation: str = "Strict"
) -> tuple[Object, list[str]]:
    """As `convert`, and what `decode_object` would warn of."""
    faults = [] if field_validation == "Ignore" else _unknown(resource.type, data)
    return _converted(data, resource), _judge(faults, resource, field_validation)


def convert_patched(
    data: dict[str, Any],
    resource: Resource,
    field_validation: str,
    oddities: Iterable[str],
    shown: Callable[[], str],
    old: Object | None = None,
) -> tuple[Object, list[str]]:
    """The object of a patched document, and warnings; `oddities` are what is odd about the patch itself.

    Of `old`, the object before the patch, what is out of range may stay. Raises ApiError 422 in Kubernetes' words;
    `shown` gives what stands there as the faulty value. 413 where the patch has copied too much.
    """
    try:
        obj = _converted(data, resource, old)
    except ApiError as refused:
        if refused.code == _TOO_LARGE:
            raise
        raise _unfit(shown(), refused.message) from None
    if field_validation == "Ignore":
        return obj, []
    faults = [*oddities, *_unknown(resource.type, data)][:_MOST_FAULTS]
    if faults and field_validation in ("Strict", ""):
        raise _unfit(shown(), f"strict decoding error: {', '.join(faults)}")
    return obj, faults


def _converted(data: dict[str, Any], resource: Resource, old: Object | None = None) -> Object:
    _check_kind(data, resource)
    try:
        obj: Object = codec.from_document(resource.type, data)
    except msgspec.ValidationError as error:
        obj = _typed(data, resource, error)
    _check_ranges(obj, resource, old)
    return obj


def _unfit(shown: str, why: str) -> ApiError:
    if len(shown) > _MOST_SHOWN:
        shown = f"{shown[:_MOST_SHOWN]}…"
    return invalid_object("", "", "", [invalid("patch", shown, why)])


def _judge(faults: list[str], resource: Resource, field_validation: str) -> list[str]:
    faults = faults[:_MOST_FAULTS]
    if faults and field_validation in ("Strict", ""):
        raise _refusal(resource, f"strict decoding error: {', '.join(faults)}")
    return faults


def _check_ranges(obj: Object, resource: Resource, old: Object | None = None) -> None:
    """Raises ApiError 400 where a number or a moment is none that clients can read; writes moments in one form."""
    faults = ranges.settle(obj)
    if faults and old is not None:
        # What was stored before anybody looked must not keep the object from being changed, or rid of its finalizers.
        known = frozenset(ranges.settle(codec.decode(type(old), codec.encode(old))))
        faults = [fault for fault in faults if fault not in known]
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
    cleaned = _without_nulls(resource.type, raw)
    faults = _wrong_types(resource.type, cleaned, "")
    if faults:
        raise _refusal(resource, ", ".join(faults))
    try:
        obj: Object = codec.from_document(resource.type, cleaned)
    except msgspec.ValidationError:
        raise _refusal(resource, str(error)) from None
    return obj


def _without_nulls(kind: type[Object], raw: dict[str, Any]) -> dict[str, Any]:
    """Drops members that are null. A null in a list stays, to be refused: dropping it would shift its neighbours; in a
    map it is the zero of what the map holds, as in Go, and the key stays.
    """
    shape = shape_of(kind)
    return {
        name: _settle_nulls(shape[name], value) if name in shape else value
        for name, value in raw.items()
        if value is not None
    }


def _settle_nulls(field: FieldShape, value: Any) -> Any:
    struct = field.struct
    if field.container == "list" and isinstance(value, list):
        return [_without_nulls(struct, each) if struct and isinstance(each, dict) else each for each in value]
    if field.container == "map" and isinstance(value, dict):
        zero = _ZEROS.get(field.scalars)
        settled = {key: zero if each is None else each for key, each in value.items()}
        return {key: each for key, each in settled.items() if each is not None}
    return _without_nulls(struct, value) if struct and isinstance(value, dict) else value


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


def _oddities(kind: type[Object], body: bytes, raw: dict[str, Any]) -> list[str]:
    """`unknown field "spec.replica"` and `duplicate field "spec.replicas"`, in the order in which they stand."""
    if _is_known(kind, raw) and not _may_repeat(body, raw):
        return []
    return _scan(body, kind)


def _duplicates(body: bytes, raw: Any) -> list[str]:
    """`duplicate field "spec.replicas"` for each key that stands twice in one object."""
    return _scan(body, None) if _may_repeat(body, raw) else []


def _may_repeat(body: bytes, raw: Any) -> bool:
    """Whether a key may stand twice: not so where a body equals its own re-encoding but for white space."""
    try:
        encoded = msgspec.json.encode(raw)
        return not (body == encoded or msgspec.json.format(body, indent=-1) == encoded)
    except msgspec.MsgspecError:  # it has a number or text that re-encodes differently
        return True


class _Pairs(list[tuple[str, Any]]):
    """An object's members as they stand in the text, told apart from arrays."""


def _scan(body: bytes, kind: type[Object] | None) -> list[str]:
    """Each oddity once, as they stand in the body of an object of this kind, or of anything where it is None."""
    return list(dict.fromkeys(_visit(json.loads(body, object_pairs_hook=_Pairs), "", kind, "")))


def _visit(value: Any, path: str, struct: type[Object] | None, container: Container) -> Iterator[str]:
    if isinstance(value, _Pairs):
        shape = shape_of(struct) if struct is not None and container == "" else None
        member_struct = struct if container == "map" else None
        seen: set[str] = set()
        for name, member in value:
            where = _join(path, name)
            if shape is not None and name not in shape:
                yield f'unknown field "{where}"'
                continue
            if name in seen:
                yield f'duplicate field "{where}"'
            seen.add(name)
            if shape is None:
                yield from _visit(member, where, member_struct, "")
            else:
                yield from _visit(member, where, shape[name].struct, shape[name].container)
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from _visit(element, f"{path}[{index}]", struct if container == "list" else None, "")


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
