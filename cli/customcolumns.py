"""`-o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName`: headers, and a JSONPath for each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from barque.cli.jsonpath import JsonPath, JsonPathError, relaxed
from barque.cli.output import CliError

NONE = "<none>"


class CustomColumn(NamedTuple):
    header: str
    path: JsonPath


def parse_columns(spec: str) -> list[CustomColumn]:
    """The columns of a specification as it stands on the command line. Raises `CliError`."""
    if not spec:
        raise CliError("custom-columns format specified but no custom columns given")
    columns = []
    for part in spec.split(","):
        header, colon, path = part.partition(":")
        if not colon or not header or not path or ":" in path:
            raise CliError(f"unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>")
        columns.append(_column(header, path))
    return columns


def parse_columns_file(text: str) -> list[CustomColumn]:
    """The columns of a file: a line of headers, a line of paths, both separated by spaces. Raises `CliError`."""
    lines = text.splitlines()
    if len(lines) < 2:
        raise CliError("invalid template file: it has two lines, one of headers and one of paths")
    headers, paths = lines[0].split(), lines[1].split()
    if len(headers) != len(paths):
        raise CliError(f"number of headers ({len(headers)}) and field specifications ({len(paths)}) don't match")
    return [_column(header, path) for header, path in zip(headers, paths, strict=True)]


def row(columns: Sequence[CustomColumn], data: Any) -> list[str]:
    """An object's cells; several values of one column are separated by commas. Raises `CliError`."""
    try:
        found = [column.path.values(data) for column in columns]
    except JsonPathError as error:
        raise CliError(str(error)) from None
    return [",".join(map(_cell, values)) if values else NONE for values in found]


def _column(header: str, path: str) -> CustomColumn:
    try:
        return CustomColumn(header, JsonPath(relaxed(path)))
    except JsonPathError as error:
        raise CliError(f"{path}: {error}") from None


def _cell(value: Any) -> str:
    """As Go prints values, because scripts know kubectl's cells: `map[app:web]`, `[a b]`, `<nil>`."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_cell(member)}' for key, member in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_cell, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
