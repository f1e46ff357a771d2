"""Writes `messages.py`: the names and numbers of the fields of Kubernetes' messages.

The source is any kubectl: Go programs carry the descriptors of their messages, packed, in the program itself.

    python master/apiserver/rest/protobuf/generate.py "$(command -v kubectl)"
"""

from __future__ import annotations

import importlib
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

# What gzip files begin with as Go's compressor writes them.
_PACKED = re.compile(rb"\x1f\x8b\x08\x00\x00\x00\x00\x00[\x00-\xff]\xff")
_LARGEST = 1 << 20
_SCALARS = {
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_DOUBLE: "double",
}
_META = "apimachinery.pkg.apis.meta.v1"
# Messages without a struct of ours: what they are is known to `decoding`.
_KNOWN = {
    f"k8s.io.{_META}.Time", f"k8s.io.{_META}.MicroTime", f"k8s.io.{_META}.FieldsV1", f"k8s.io.{_META}.Duration",
    "k8s.io.apimachinery.pkg.api.resource.Quantity", "k8s.io.apimachinery.pkg.util.intstr.IntOrString",
    "k8s.io.apimachinery.pkg.runtime.RawExtension",
}  # fmt: skip
_HEAD = '''"""The fields of Kubernetes' messages: a message a line, `name=number:type` for each field.

Written by `generate`; do not edit. `*` marks what may be many, `{a:b}` a map, `^` a message whose fields stand in JSON
beside those of the one it is in.
"""

MESSAGES = """\\
'''


def files(program: bytes) -> Iterator[FileDescriptorProto]:
    """The descriptors of Kubernetes' own messages in a program."""
    for found in _PACKED.finditer(program):
        try:
            raw = zlib.decompressobj(31).decompress(program[found.start() : found.start() + _LARGEST])
            file = FileDescriptorProto.FromString(raw)
        except Exception:  # whatever else looks packed
            continue
        if file.package.startswith("k8s.io."):
            yield file


def short(full: str) -> str:
    """`.k8s.io.api.core.v1.Pod` is `core.v1.Pod` here."""
    words = full.removeprefix(".").split(".")
    return ".".join(words[-3:]) if "util" not in words and words[-2] not in ("resource", "runtime") else words[-1]


def struct_fields(message: str) -> list[str] | None:
    """The JSON names of the struct of a message, None where Barque has none."""
    group, version, name = message.split(".") if message.count(".") == 2 else ("", "", message)
    try:
        struct = getattr(importlib.import_module(f"barque.api.types.{group}_{version}"), name, None)
    except ImportError:
        return None
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        return None
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def line_of(name: str, message: DescriptorProto, names: list[str]) -> str:
    """One message as its line; fields that Barque does not know are left out."""
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    words = [name]
    for field in message.field:
        known = next((n for n in names if n.lower() == field.name.lower()), None)
        is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
        if known is None and (not is_message or field.label == FieldDescriptorProto.LABEL_REPEATED):
            continue
        entry = maps.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            shown = f"{{{type_of(entry.field[0])}:{type_of(entry.field[1])}}}"
        else:
            many = "*" if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
            shown = type_of(field) + (many or ("" if known else "^"))
        words.append(f"{known or field.name}={field.number}:{shown}")
    return " ".join(words)


def type_of(field: FieldDescriptorProto) -> str:
    return _SCALARS[field.type] if field.type in _SCALARS else short(field.type_name)


def main(program: Path) -> None:
    lines = []
    for file in sorted(files(program.read_bytes()), key=lambda file: file.package):
        for message in file.message_type:
            full = f"{file.package}.{message.name}"
            name = short(full)
            names = struct_fields(name)
            if names is None and _is_part(full):
                names = [field.name for field in message.field]
            if names is not None:
                lines.append(line_of(name, message, names))
    target = Path(__file__).with_name("messages.py")
    target.write_text(_HEAD + "\n".join(sorted(set(lines))) + '\n"""\n')
    print(f"{len(lines)} messages in {target.name}", file=sys.stderr)


def _is_part(full: str) -> bool:
    """Whether a message without a struct of its own is needed: its fields stand in others, or `decoding` knows it."""
    name = full.rpartition(".")[2]
    return full in _KNOWN or name in (
        "VolumeSource", "PersistentVolumeSource", "ProbeHandler", "EphemeralContainerCommon", "IngressRuleValue",
        "RuleWithOperations", "Rule", "LocalObjectReference", "ExtraValue", "DeleteOptions",
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
