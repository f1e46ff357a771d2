"""Protobuf bodies as JSON: the envelope that Kubernetes puts around an object, and the object in it.

The wire itself is read by the protobuf library, from descriptors made of `messages` at the first such body. What
follows is where JSON says a thing another way: times, quantities, inlined messages, lists that are messages, and what
Go leaves out of its JSON. Unknown fields are dropped, as Go does.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import msgspec
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError, Message

from barque.api.bulk import check_bulk
from barque.api.errors import ApiError, bad_request
from barque.master.apiserver.rest.protobuf.messages import MESSAGES

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_PACKAGE = "kubernetes"
_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
}
# The envelope, of which no struct of ours knows.
_ENVELOPE = (
    "TypeMeta apiVersion=1:string kind=2:string",
    "Unknown typeMeta=1:TypeMeta raw=2:bytes contentEncoding=3:string contentType=4:string",
)
# Kinds that are the same in every group.
_OF_ALL_GROUPS = ("DeleteOptions", "Status")
# Go writes every field that is no pointer, empty or not, but leaves these out of its JSON where they are; of all others
# that are 0 or false somebody has said so. Texts are left out where they are empty, but for the one below.
_PLAIN = frozenset(
    ("failureThreshold", "generation", "globalDefault", "healthCheckNodePort", "hostIPC", "hostNetwork", "hostPID",
     "hostPort", "initialDelaySeconds", "minReadySeconds", "nodePort", "number", "observedGeneration", "paused",
     "periodSeconds", "publishNotReadyAddresses", "readOnly", "stdin", "stdinOnce", "successThreshold", "tty",
     "unschedulable")
)  # fmt: skip
_PLAIN_OF_SOME = frozenset((("core.v1.Probe", "timeoutSeconds"),))
_SAID_EMPTY = "storageClassName"
# In UTC, as all of them are.
_EPOCH = datetime.datetime(1970, 1, 1)
_NANO = 1_000_000_000
_NO_TEXT = "string field contains invalid UTF-8"


def json_of(body: bytes) -> bytes:
    """The object of a body as JSON. Raises 400 for what cannot be read, 413 for JSON of too many values within it, 415
    for a kind that has no such form.
    """
    if not body.startswith(_MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    envelope = _read("Unknown", body[len(_MAGIC) :])
    kind, api_version = envelope.typeMeta.kind, envelope.typeMeta.apiVersion
    if envelope.contentEncoding or envelope.contentType not in ("", MEDIA_TYPE):
        raise bad_request(f"unable to decode an object of content type {envelope.contentType!r}")
    if not isinstance(kind, str) or not isinstance(api_version, str):
        raise bad_request(f"unable to decode Unknown: {_NO_TEXT}")
    name = _name_of(api_version, kind)
    if name not in _schema().classes:
        raise ApiError(415, "UnsupportedMediaType", f"{kind} of {api_version or 'no version'} is taken as JSON only")
    found = _read(name, envelope.raw)
    try:
        return msgspec.json.encode({"apiVersion": api_version, "kind": kind, **_schema().fields(found)})
    except (ValueError, OverflowError, msgspec.DecodeError) as error:
        raise bad_request(f"unable to decode {kind}: {error}") from None


class Schema:
    """The message classes by name, and how their messages are told in JSON."""

    def __init__(self, lines: Iterable[str]) -> None:
        described = {name: words for name, *words in (line.split() for line in lines)}
        self._inline = {
            (name, word.partition("=")[0]) for name, words in described.items() for word in words if word.endswith("^")
        }
        file = FileDescriptorProto(name="kubernetes.proto", package=_PACKAGE, syntax="proto2")
        for name, words in described.items():
            message = file.message_type.add(name=_flat(name))
            for word in words:
                _add_field(message, word, described)
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self.classes: dict[str, type[Message]] = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{_flat(name)}"))
            for name in described
        }
        self._names = {_flat(name): name for name in described}

    def fields(self, message: Message) -> dict[str, Any]:
        """A message as a JSON object."""
        name = self._names[message.DESCRIPTOR.name]
        told: dict[str, Any] = {}
        for field, value in message.ListFields():
            if field.message_type is None:
                if field.is_repeated:
                    told[field.name] = [_scalar(each, field.type) for each in value]
                elif value or not _is_left_out(name, field.name, value):
                    told[field.name] = _scalar(value, field.type)
            elif field.message_type.GetOptions().map_entry:
                kind = field.message_type.fields_by_name["value"].type
                told[field.name] = {key: self._value(each, kind) for key, each in value.items()}
            elif field.is_repeated:
                told[field.name] = [self._value(each) for each in value]
            elif (name, field.name) in self._inline:
                told.update(self.fields(value))
            elif (one := self._value(value)) is not None:
                told[field.name] = one
        return told

    def _value(self, value: Any, kind: int = FieldDescriptorProto.TYPE_MESSAGE) -> Any:
        """One value of a field of this type, as JSON has it."""
        if not isinstance(value, Message):
            return _scalar(value, kind)
        special = _SPECIAL.get(self._names[value.DESCRIPTOR.name].rpartition(".")[2])
        return special(value) if special is not None else self.fields(value)


@cache
def _schema() -> Schema:
    """Made once, in some tens of milliseconds: call `json_of` in a thread."""
    return Schema([*_ENVELOPE, *MESSAGES.splitlines()])


def _read(name: str, data: bytes) -> Any:
    message: Any = _schema().classes[name]()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise bad_request(f"unable to decode {name}: {error}") from None
    return message


def _name_of(api_version: str, kind: str) -> str:
    """The message of a kind: `apps.v1.Deployment`."""
    if kind in _OF_ALL_GROUPS:
        return f"meta.v1.{kind}"
    group, _, version = api_version.rpartition("/")
    return f"{group.partition('.')[0] or 'core'}.{version}.{kind}"


def _add_field(message: DescriptorProto, word: str, described: dict[str, list[str]]) -> None:
    """A field of a word of `messages`; of a type that is not described it is left out."""
    name, _, rest = word.partition("=")
    number, _, shown = rest.partition(":")
    field = FieldDescriptorProto(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
    if shown.startswith("{"):
        key, _, value = shown.strip("{}").partition(":")
        if not _is_described(value, described):
            return
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        for number_of, (part, of) in enumerate((("key", key), ("value", value)), 1):
            made = entry.field.add(name=part, number=number_of, label=FieldDescriptorProto.LABEL_OPTIONAL)
            _set_type(made, of)
        field.label = FieldDescriptorProto.LABEL_REPEATED
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
    else:
        of = shown.rstrip("*^")
        if not _is_described(of, described):
            return
        if shown.endswith("*"):
            field.label = FieldDescriptorProto.LABEL_REPEATED
        _set_type(field, of)
    message.field.append(field)


def _is_described(of: str, described: dict[str, list[str]]) -> bool:
    return of in _SCALARS or of in described


def _set_type(field: FieldDescriptorProto, of: str) -> None:
    if of in _SCALARS:
        field.type = _SCALARS[of]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{_flat(of)}"


def _flat(name: str) -> str:
    """A message's name without dots, which would make packages of it."""
    return name.replace(".", "_")


def _is_left_out(message: str, field: str, empty: object) -> bool:
    """Whether Go's JSON would not have this field, which is empty."""
    if isinstance(empty, (str, bytes)):
        return field != _SAID_EMPTY
    return field in _PLAIN or (message, field) in _PLAIN_OF_SOME


def _scalar(value: Any, kind: int) -> Any:
    """As JSON has it. Raises ValueError for text that is none, which the library leaves as bytes."""
    if not isinstance(value, bytes):
        return value
    if kind == FieldDescriptorProto.TYPE_STRING:
        raise ValueError(_NO_TEXT)
    return base64.b64encode(value).decode()


def _time(value: Any) -> str | None:
    """RFC 3339; the zero time, which is an empty message, is null."""
    if not value.ListFields():
        return None
    return f"{_moment(value).isoformat(timespec='seconds')}Z"


def _micro_time(value: Any) -> str | None:
    if not value.ListFields():
        return None
    return f"{_moment(value).isoformat(timespec='seconds')}.{value.nanos // 1000:06d}Z"


def _moment(value: Any) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(seconds=value.seconds)


def _raw_json(value: Any) -> msgspec.Raw | None:
    """JSON that travels as bytes; it must be some, and not too much."""
    raw = value.Raw if "Raw" in value.DESCRIPTOR.fields_by_name else value.raw
    if not raw:
        return None
    check_bulk(raw)
    try:
        msgspec.json.decode(raw)
    except RecursionError:
        raise ValueError("the JSON in it is nested too deeply") from None
    return msgspec.Raw(raw)


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "Quantity": lambda value: value.string,
    "IntOrString": lambda value: value.strVal if value.type else value.intVal,
    "Time": _time,
    "MicroTime": _micro_time,
    "Duration": lambda value: f"{value.duration / _NANO:g}s",
    "FieldsV1": _raw_json,
    "RawExtension": _raw_json,
    "ExtraValue": lambda value: list(value.items),
}
