"""Manifests: files, folders and standard input in, checked objects out.

Every document is parsed and decoded before the first is sent, so that a malformed one changes nothing. Faults name the
file, the line and, where YAML itself is broken, the column; all faulty documents are named at once.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from barque.api import resources, selectors
from barque.api.decode import decode_object
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.cli.output import CliError
from barque.cli.scalars import READ_RULES, value_of, with_rules
from barque.cli.session import Session
from barque.client.verbs import Target

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "standard input"
# Aliases may repeat a part many times over; no honest manifest comes near these.
MAX_NODES = 1_000_000
MAX_DEPTH = 200
MAX_BYTES = 64 * 1024 * 1024
_COLLECTIONS = ("", "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_SPACE = re.compile(r"\s*")
# YAML may be UTF-16 with a byte order mark; anything else that holds null bytes is no text.
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Raw(NamedTuple):
    """One document as written; `line` is where it begins."""

    source: str
    line: int
    data: Any

    def where(self) -> str:
        return f"{self.source}:{self.line}"


class Document(NamedTuple):
    """One object of a manifest as it is written, found to be of this resource; `warnings` are of unknown fields."""

    source: str
    data: dict[str, Any]
    resource: Resource
    warnings: list[str]

    @property
    def name(self) -> str:
        return str(self.data["metadata"].get("name") or "")

    @property
    def namespace(self) -> str:
        return str(self.data["metadata"].get("namespace") or "")


def read_documents(paths: Sequence[str], *, recursive: bool = False, validation: str = "Strict") -> list[Document]:
    """All objects of the files, folders and `-` given, in order. Raises `CliError` naming every malformed document.

    `validation` says what unknown fields are, as in `decode_object`; "" where only which object is meant matters.
    """
    documents: list[Document] = []
    faults: list[str] = []
    for source, text in read_texts(paths, recursive=recursive):
        try:
            raws = [item for raw in parse(source, text) for item in expand_lists(raw)]
        except CliError as error:
            faults.append(error.message)
            continue
        for raw in raws:
            try:
                documents.append(decode(raw, validation))
            except CliError as error:
                faults.append(error.message)
    if faults:
        raise CliError("\nerror: ".join([*faults, "nothing was sent"]) if len(faults) > 1 else faults[0])
    if not documents:
        raise CliError(f"no objects in {', '.join(paths)}")
    return documents


def select(documents: Sequence[Document], labels: str) -> list[Document]:
    """Those whose labels match. Raises `CliError` where the selector cannot be read, or selects none."""
    if not labels:
        return list(documents)
    try:
        selector = selectors.parse_labels(labels)
    except ApiError as error:
        raise CliError(error.message) from None
    selected = [d for d in documents if selector.matches(d.data["metadata"].get("labels") or {})]
    if not selected:
        raise CliError(f"no object of the manifests has the labels {labels}")
    return selected


def read_texts(paths: Sequence[str], *, recursive: bool) -> Iterator[tuple[str, bytes]]:
    """(name, contents) of every file meant."""
    for path in paths:
        if path == "-":
            yield STDIN, sys.stdin.buffer.read(MAX_BYTES)
            continue
        if path.startswith(("http://", "https://")):
            raise CliError(f"{path}: fetch it first; manifests are files, folders or - for standard input")
        for file in _files(Path(path), recursive):
            try:
                yield str(file), file.read_bytes()
            except OSError as error:
                raise CliError(f"{file}: {(error.strerror or str(error)).lower()}") from None


def _files(path: Path, recursive: bool) -> list[Path]:
    if not path.exists():
        raise CliError(f'the path "{path}" does not exist')
    if not path.is_dir():
        return [path]
    found = sorted(
        f for f in (path.rglob("*") if recursive else path.glob("*")) if f.suffix in SUFFIXES and f.is_file()
    )
    if not found:
        hint = "" if recursive else "; -R looks into the folders below it too"
        raise CliError(f"no {', '.join(SUFFIXES)} file in folder {path}{hint}")
    return found


def parse(source: str, text: bytes) -> list[Raw]:
    """The documents of one file, YAML or JSON. Empty ones are left out."""
    if len(text) >= MAX_BYTES:
        raise CliError(f"{source}: larger than {MAX_BYTES // 2**20} MiB")
    if b"\0" in text and not text.startswith(_UTF16):
        raise CliError(f"{source}: binary data, not a manifest (a null byte at {text.index(0)})")
    if text.lstrip()[:1] == b"{":
        found = _parse_json(source, text)
        if found is not None:
            return found
    return _parse_yaml(source, text)


def _parse_json(source: str, text: bytes) -> list[Raw] | None:
    """JSON documents one after another; None where it is not JSON after all but YAML in flow style."""
    try:
        whole = text.decode()
    except UnicodeDecodeError as error:
        raise CliError(f"{source}: not UTF-8 text at byte {error.start}") from None
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: _unique(source, pairs))
    found: list[Raw] = []
    at = 0
    while (at := _SPACE.match(whole, at).end()) < len(whole):  # type: ignore[union-attr]  # it matches nothing too
        line = whole.count("\n", 0, at) + 1
        try:
            data, at = decoder.raw_decode(whole, at)
        except json.JSONDecodeError as error:
            if source.endswith(".json"):
                raise CliError(f"{source}:{error.lineno}:{error.colno}: {error.msg}") from None
            return None
        except RecursionError:
            raise CliError(f"{source}:{line}: nested too deeply") from None
        except ValueError as error:
            raise CliError(f"{source}:{line}: {error}") from None
        found.append(Raw(source, line, data))
    return found


def _unique(source: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise CliError(f'{source}: key "{key}" is given twice in one object')
        made[key] = value
    return made


def _parse_yaml(source: str, text: bytes) -> list[Raw]:
    import yaml

    try:
        return list(_Reader(source, text).documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise CliError(f"{source}{where}: {error.problem or error.context or 'not YAML'}") from None
    except yaml.YAMLError as error:
        raise CliError(f"{source}: not YAML: {' '.join(str(error).split())}") from None


class _Reader:
    """Plain values from YAML's events.

    PyYAML's own composer recurses without a limit in C and lets duplicate keys pass; here depth and size are bounded.
    """

    def __init__(self, source: str, text: bytes) -> None:
        import yaml

        self._yaml = yaml
        self._source = source
        self._events: Any = with_rules(getattr(yaml, "CSafeLoader", yaml.SafeLoader), READ_RULES)(text)
        self._nodes = 0
        # By anchor: the value, and of how many nodes it is.
        self._anchors: dict[str, tuple[Any, int]] = {}

    def documents(self) -> Iterator[Raw]:
        """Every document that is not empty."""
        self._events.get_event()
        while not self._events.check_event(self._yaml.StreamEndEvent):
            self._events.get_event()
            self._nodes, self._anchors = 0, {}
            line = self._events.peek_event().start_mark.line + 1
            data = self._value(0)[0]
            self._events.get_event()
            if data is not None:
                yield Raw(self._source, line, data)

    def _value(self, depth: int) -> tuple[Any, str]:
        """The next value and its tag."""
        event = self._events.get_event()
        before = self._nodes
        self._count(event, 1, depth)
        if isinstance(event, self._yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._fault(event, f"the alias *{event.anchor} stands for nothing")
            value, size = self._anchors[event.anchor]
            self._count(event, size, depth)
            return value, ""
        if isinstance(event, self._yaml.ScalarEvent):
            value, tag = self._scalar(event)
        else:
            tag = event.tag or ""
            if tag not in _COLLECTIONS:
                raise self._fault(event, f"the tag {tag} has no meaning in a manifest")
            inside = self._sequence if isinstance(event, self._yaml.SequenceStartEvent) else self._mapping
            value = inside(depth + 1)
        if event.anchor:
            self._anchors[event.anchor] = value, self._nodes - before
        return value, tag

    def _count(self, event: Any, nodes: int, depth: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._fault(event, "too large once its aliases are written out")
        if depth > MAX_DEPTH:
            raise self._fault(event, "nested too deeply")

    def _scalar(self, event: Any) -> tuple[Any, str]:
        tag = "tag:yaml.org,2002:str" if event.tag == "!" else event.tag
        if tag is None:
            tag = self._events.resolve(self._yaml.ScalarNode, event.value, event.implicit)
        try:
            return value_of(tag, event.value), tag
        except ValueError as error:
            raise self._fault(event, str(error)) from None

    def _sequence(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not self._events.check_event(self._yaml.SequenceEndEvent):
            items.append(self._value(depth)[0])
        self._events.get_event()
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        while not self._events.check_event(self._yaml.MappingEndEvent):
            event = self._events.peek_event()
            key, tag = self._value(depth)
            if tag.endswith(":merge"):
                merged = self._merged(event, self._value(depth)[0]) | merged
                continue
            if isinstance(key, bool | int | float):
                key = json.dumps(key)
            if not isinstance(key, str):
                raise self._fault(event, "a key must be a plain word")
            if key in own:
                raise self._fault(event, f'key "{key}" is given twice')
            own[key] = self._value(depth)[0]
        self._events.get_event()
        return merged | own

    def _merged(self, event: Any, value: Any) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, dict):
                raise self._fault(event, "only a mapping can be merged with <<")
            merged = part | merged
        return merged

    def _fault(self, event: Any, why: str) -> CliError:
        mark = event.start_mark
        return CliError(f"{self._source}:{mark.line + 1}:{mark.column + 1}: {why}")


def expand_lists(raw: Raw) -> Iterator[Raw]:
    """The document itself, or the items of a `kind: List`."""
    data = raw.data
    if not isinstance(data, dict):
        raise CliError(f"{raw.where()}: an object is expected, with apiVersion, kind and metadata")
    kind = data.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(data.get("items"), list):
        for item in data["items"]:
            yield from expand_lists(Raw(raw.source, raw.line, item))
    else:
        yield raw


def decode(raw: Raw, validation: str = "Strict") -> Document:
    """Check one document. Raises `CliError` with the place and every unknown field."""
    data = raw.data
    for field in ("apiVersion", "kind"):
        if not isinstance(data.get(field), str) or not data[field]:
            raise CliError(f"{raw.where()}: {field} is missing")
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        raise CliError(f"{raw.where()}: {data['kind']}: metadata is missing")
    name = metadata.get("name") or metadata.get("generateName")
    if not name:
        raise CliError(f"{raw.where()}: {data['kind']}: metadata.name is missing")
    subject = f'{raw.where()}: {data["kind"]} "{name}": '
    for field in ("name", "namespace"):
        if not isinstance(metadata.get(field) or "", str):
            raise CliError(f"{subject}metadata.{field}: expected string, got {json.dumps(metadata[field])}")
    resource = _resource_of(subject, data)
    if not validation:
        return Document(raw.source, data, resource, [])
    try:
        _, warnings = decode_object(json.dumps(data).encode(), resource, validation)
    except ApiError as error:
        raise CliError(subject + error.message) from None
    return Document(raw.source, data, resource, warnings)


def _resource_of(subject: str, data: dict[str, Any]) -> Resource:
    try:
        return resources.by_kind(data["apiVersion"], data["kind"])
    except ApiError as error:
        unknown = f'no matches for kind "{data["kind"]}" in version "{data["apiVersion"]}"'
        why = error.message if error.message.startswith(unknown) else f"{unknown}: {error.message}"
        raise CliError(subject + why) from None


def check_namespace(session: Session, document: Document) -> None:
    """-n and the manifest must agree. Raises `CliError` in kubectl's words."""
    given = session.namespace_given
    if given and document.resource.namespaced and document.namespace not in ("", given):
        raise CliError(
            f'{document.source}: the namespace from the provided object "{document.namespace}" does not match the '
            f"namespace \"{given}\". You must pass '--namespace={document.namespace}' to perform this operation."
        )


def target_of(session: Session, document: Document) -> Target:
    """Where the document's object stands."""
    namespace = (document.namespace or session.namespace) if document.resource.namespaced else ""
    return Target(document.resource, namespace, document.name)
