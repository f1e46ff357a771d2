"""What `-o` prints of whole objects: YAML, JSON, a JSONPath template or custom columns.

`printer_for` reads the format; tables and names are not its own: they need no more of an object than its metadata.
Pure, but for the files that a format names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from barque.cli.output import CliError, to_json, to_yaml

# Formats of rows and names, for which `printer_for` has no printer.
ROW_FORMATS = ("", "wide", "name")
ALLOWED = "custom-columns,custom-columns-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,wide,yaml"


class Printer(Protocol):
    """Objects as text. `all` prints a whole answer; `one` an object that a watch brought, with the kind of its change
    where that is wanted.
    """

    def all(self, items: Sequence[dict[str, Any]], *, single: bool) -> str: ...

    def one(self, item: dict[str, Any], event: str) -> str: ...


def printer_for(output: str, *, managed_fields: bool = False, headers: bool = True) -> Printer | None:
    """The printer of a format, None for those of `ROW_FORMATS`. Raises `CliError` on what is no format."""
    name, _, argument = output.partition("=")
    if output in ROW_FORMATS:
        return None
    if output in ("yaml", "json"):
        return _Documents(output, managed_fields)
    if name in ("jsonpath", "jsonpath-as-json", "jsonpath-file"):
        if not argument:
            raise CliError("template format specified but no template given")
        return _Template(_read(argument) if name == "jsonpath-file" else argument, as_json=name == "jsonpath-as-json")
    if name in ("custom-columns", "custom-columns-file"):
        return _Columns(argument, from_file=name == "custom-columns-file", headers=headers)
    if name in ("go-template", "go-template-file", "template", "templatefile"):
        raise CliError(
            "Go templates are not understood here; -o jsonpath=... has loops and filters too, "
            "and -o custom-columns=... makes tables"
        )
    raise CliError(
        f'unable to match a printer suitable for the output format "{output}", allowed formats are: {ALLOWED}'
    )


def without_managed_fields(item: dict[str, Any]) -> dict[str, Any]:
    """The object without what only server-side apply needs to know."""
    meta = item.get("metadata", {})
    if "managedFields" not in meta:
        return item
    return {**item, "metadata": {key: value for key, value in meta.items() if key != "managedFields"}}


def a_list(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several objects as one `v1` List."""
    return {"apiVersion": "v1", "items": list(items), "kind": "List", "metadata": {"resourceVersion": ""}}


class _Documents:
    """YAML or JSON."""

    def __init__(self, output: str, managed_fields: bool) -> None:
        self._write = to_yaml if output == "yaml" else to_json
        self._separator = "---\n" if output == "yaml" else ""
        self._shown = (lambda item: item) if managed_fields else without_managed_fields

    def all(self, items: Sequence[dict[str, Any]], *, single: bool) -> str:
        shown = [self._shown(item) for item in items]
        return self._write(shown[0] if single else a_list(shown))

    def one(self, item: dict[str, Any], event: str) -> str:
        shown = self._shown(item)
        return self._separator + self._write({"type": event, "object": shown} if event else shown)


class _Template:
    """A JSONPath template."""

    def __init__(self, template: str, *, as_json: bool) -> None:
        from barque.cli.jsonpath import JsonPath, JsonPathError

        try:
            self._path = JsonPath(template)
        except JsonPathError as error:
            raise CliError(f"error parsing jsonpath {template}, {error}") from None
        self._render = self._path.render_json if as_json else self._path.render

    def all(self, items: Sequence[dict[str, Any]], *, single: bool) -> str:
        return self._printed(items[0] if single else a_list(items))

    def one(self, item: dict[str, Any], event: str) -> str:
        return self._printed({"type": event, "object": item} if event else item)

    def _printed(self, data: dict[str, Any]) -> str:
        from barque.cli.jsonpath import JsonPathError

        try:
            return self._render(data)
        except JsonPathError as error:
            raise CliError(f'error executing jsonpath "{self._path.template}": {error}') from None


class _Columns:
    """Custom columns."""

    def __init__(self, spec: str, *, from_file: bool, headers: bool) -> None:
        from barque.cli.customcolumns import parse_columns, parse_columns_file
        from barque.cli.tables import Table

        if from_file and not spec:
            raise CliError("custom-columns format specified but no custom columns given")
        self._columns = parse_columns_file(_read(spec)) if from_file else parse_columns(spec)
        self._table = Table([column.header for column in self._columns], show_headers=headers, as_written=True)

    def all(self, items: Sequence[dict[str, Any]], *, single: bool) -> str:
        from barque.cli.customcolumns import row

        return self._table.render(row(self._columns, item) for item in items)

    def one(self, item: dict[str, Any], event: str) -> str:
        return self.all([item], single=True)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"error reading template {path}, {error}") from None
