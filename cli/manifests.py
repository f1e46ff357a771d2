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

from barque.api import resources, selectors, yaml_documents
from barque.api.decode import decode_object
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.cli.output import CliError
from barque.cli.session import Session
from barque.client.verbs import Target

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "standard input"
MAX_BYTES = 64 * 1024 * 1024
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
    if not paths:
        raise CliError("say which manifests with -f FILE; - is standard input")
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
        raise CliError(f"no objects in {', '.join(STDIN if path == '-' else path for path in paths)}")
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
    raws: list[Raw] = []
    try:
        for document in yaml_documents.read_documents(text):
            if document.duplicates:
                raise CliError(f"{source}: {'; '.join(document.duplicates)}")
            raws.append(Raw(source, document.line, document.data))
    except yaml_documents.YamlError as error:
        where = f":{error.line}:{error.column}" if error.line else ""
        raise CliError(f"{source}{where}: {error.why}") from None
    return raws


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
