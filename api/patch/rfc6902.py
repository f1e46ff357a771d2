"""RFC 6902, JSON patch: add, remove, replace, move, copy and test, all of them or none.

In: a document and the decoded operations. Out: the patched document. Raises ApiError in the words of Kubernetes (its
JSON patch library's): 422 for an operation that does not apply, 400 for what is no patch, 413 for too many operations.
Where that library departs from the RFC (negative indexes, pointers that do not begin with "/", copies of what is not
there, operations without a value), the RFC holds. Pointers: RFC 6901.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from barque.api.errors import ApiError, bad_request

Document = dict[str, Any]
Container = dict[str, Any] | list[Any]

# Kubernetes' limits. What copies may add together keeps a short patch from growing a document without bound.
_MAX_OPERATIONS = 10_000
_MAX_COPIED_BYTES = 3 * 1024 * 1024
# No kind nests half as deep; everything that walks the result may recurse safely.
_MAX_DEPTH = 100

_INDEX = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_BAD_ESCAPE = re.compile(r"~(?![01])")
_MISSING = object()
_LACKING = "missing value"
_BAD_INDEX = "invalid index referenced"


class _Place(NamedTuple):
    """A location: its container (None where there is none) and the last part of its pointer."""

    container: Container | None
    token: str


class _Patching:
    """One document while it is patched. `root` holds it under "", so that the whole document has a place too."""

    def __init__(self, document: Document) -> None:
        self.root: Document = {"": _copied(document)}
        self._copied_bytes = 0

    def apply(self, operation: dict[str, Any]) -> None:
        kind = operation.get("op", "unknown")
        match kind:
            case "add":
                self._add(_pointer(operation, kind, "path"), _value(operation, kind))
            case "remove":
                self._remove(_pointer(operation, kind, "path"))
            case "replace":
                self._replace(_pointer(operation, kind, "path"), _value(operation, kind))
            case "move":
                self._move(_pointer(operation, kind, "from"), _pointer(operation, kind, "path"))
            case "copy":
                self._copy(_pointer(operation, kind, "from"), _pointer(operation, kind, "path"))
            case "test":
                self._test(_pointer(operation, kind, "path"), _value(operation, kind))
            case _:
                raise _refused(f"Unexpected kind: {kind}")

    def _add(self, path: str, value: Any) -> None:
        place = self._find(path)
        if place.container is None:
            raise _refused(f'add operation does not apply: doc is missing path: "{path}": {_LACKING}')
        _insert(place.container, place.token, value, f"error in add for path: '{path}'")

    def _remove(self, path: str) -> None:
        place = self._find(path)
        if place.container is None:
            raise _refused(f'remove operation does not apply: doc is missing path: "{path}": {_LACKING}')
        _take(place.container, place.token, f"error in remove for path: '{path}'")

    def _replace(self, path: str, value: Any) -> None:
        place = self._find(path)
        if place.container is None:
            raise _refused(f"replace operation does not apply: doc is missing path: {path}: {_LACKING}")
        if _get(place.container, place.token) is _MISSING:
            raise _refused(f"replace operation does not apply: doc is missing key: {path}: {_LACKING}")
        if isinstance(place.container, list):
            place.container[int(place.token)] = value
        else:
            place.container[place.token] = value

    def _move(self, source: str, path: str) -> None:
        if path.startswith(f"{source}/"):
            raise _refused(f"move operation does not apply: {source} cannot be moved into itself: {path}")
        place = self._find(source)
        if place.container is None:
            raise _refused(f"move operation does not apply: doc is missing from path: {source}: {_LACKING}")
        value = _take(place.container, place.token, f"error in move for path: '{place.token}'")
        target = self._find(path)
        if target.container is None:
            raise _refused(f"move operation does not apply: doc is missing destination path: {path}: {_LACKING}")
        _insert(target.container, target.token, value, f"error in move for path: '{path}'")

    def _copy(self, source: str, path: str) -> None:
        place = self._find(source)
        value = _MISSING if place.container is None else _get(place.container, place.token)
        if value is _MISSING:
            raise _refused(f"copy operation does not apply: doc is missing from path: {source}: {_LACKING}")
        target = self._find(path)
        if target.container is None:
            raise _refused(f"copy operation does not apply: doc is missing destination path: {path}: {_LACKING}")
        self._copied_bytes += len(msgspec.json.encode(value))
        if self._copied_bytes > _MAX_COPIED_BYTES:
            size = f"the accumulated size increase of copy is {self._copied_bytes}"
            raise _refused(f"Unable to complete the copy, {size}, exceeding the limit {_MAX_COPIED_BYTES}")
        _insert(target.container, target.token, _copied(value), "error while adding value during copy")

    def _test(self, path: str, value: Any) -> None:
        place = self._find(path)
        found = _MISSING if place.container is None else _get(place.container, place.token)
        if found is _MISSING:
            raise _refused(f"test operation does not apply: is missing path: {path}: {_LACKING}")
        if not _same(found, value):
            raise _refused(f"testing value {path} failed: test failed")

    def _find(self, path: str) -> _Place:
        """The place that the pointer names; the value need not be there, its container must be."""
        tokens = [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")]
        found: Any = self.root
        for token in tokens[:-1]:
            found = _get(found, token) if isinstance(found, dict | list) else _MISSING
        return _Place(found if isinstance(found, dict | list) else None, tokens[-1])


def json_patch(document: Document, operations: Any) -> Document:
    """The document after all operations."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise bad_request("a JSON patch must be a list of operations, each a JSON object")
    if len(operations) > _MAX_OPERATIONS:
        why = f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {why}")
    try:
        patching = _Patching(document)
        for operation in operations:
            patching.apply(operation)
    except RecursionError:
        raise bad_request("the patch is nested too deeply") from None
    patched = patching.root.get("")
    if not isinstance(patched, dict):
        raise _refused("the patched document is not a JSON object")
    if _is_too_deep(patched):
        raise bad_request("the patch is nested too deeply")
    return patched


def _refused(why: str) -> ApiError:
    return ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")


def _pointer(operation: dict[str, Any], kind: str, member: str) -> str:
    pointer = operation.get(member)
    if not isinstance(pointer, str):
        raise _refused(f"{kind} operation failed to decode {member}: operation missing {member} field: {_LACKING}")
    if (pointer and not pointer.startswith("/")) or _BAD_ESCAPE.search(pointer):
        raise _refused(f"{kind} operation failed to decode {member}: not a JSON pointer: {pointer}")
    return pointer


def _value(operation: dict[str, Any], kind: str) -> Any:
    if "value" not in operation:
        raise _refused(f"{kind} operation, missing value field: {_LACKING}")
    return _copied(operation["value"])


def _get(container: Container, token: str) -> Any:
    if isinstance(container, dict):
        return container.get(token, _MISSING)
    in_range = _INDEX.fullmatch(token) and int(token) < len(container)
    return container[int(token)] if in_range else _MISSING


def _insert(container: Container, token: str, value: Any, doing: str) -> None:
    if isinstance(container, dict):
        container[token] = value
    elif token == "-":
        container.append(value)
    else:
        container.insert(_index(token, len(container), doing), value)


def _take(container: Container, token: str, doing: str) -> Any:
    if isinstance(container, list):
        return container.pop(_index(token, len(container) - 1, doing))
    if token not in container:
        raise _refused(f"{doing}: Unable to remove nonexistent key: {token}: {_LACKING}")
    return container.pop(token)


def _index(token: str, highest: int, doing: str) -> int:
    if not _INDEX.fullmatch(token):
        raise _refused(f"{doing}: value was not a proper array index: '{token}'")
    if int(token) > highest:
        raise _refused(f"{doing}: Unable to access invalid index: {token}: {_BAD_INDEX}")
    return int(token)


def _same(a: Any, b: Any) -> bool:
    """Equality of JSON values: numbers by size, but true is not 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(value, b[name]) for name, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _is_too_deep(document: Document) -> bool:
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        below = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in below for value in values if isinstance(value, dict | list)]
        if not level:
            return False
    return True
