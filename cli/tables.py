"""Text tables as kubectl prints them: uppercase headers, columns three spaces apart, nothing after the last one.

`Table` lays out rows of strings; `ServerTable` the rows that a master has made of objects (metav1.Table). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# kubectl's tabwriter: three spaces between columns, and no column narrower than six with them.
PADDING = 3
MIN_WIDTH = 6
# The longest kind of change a watch brings; its column is that wide from the first row on.
_LONGEST_EVENT = "MODIFIED"
_LINE_ENDS = "\n\r\f"
_LINE_END = re.compile(f"[{_LINE_ENDS}]")


class Table:
    """Rows under headers. Widths only grow, so that rows printed later (a watch) line up with those before."""

    def __init__(self, headers: Sequence[str], *, show_headers: bool = True, as_written: bool = False) -> None:
        self._headers = list(headers) if as_written else [h.upper() for h in headers]
        self._widths = [0] * len(headers)
        self._pending_headers = show_headers

    def reserve(self, column: int, width: int) -> None:
        """Make a column as wide as a cell of this width would."""
        self._widths[column] = max(self._widths[column], width + PADDING)

    def render(self, rows: Iterable[Sequence[str]]) -> str:
        """The rows as lines, after the headers the first time; ends with a newline unless there is nothing to print."""
        columns = list(zip(*rows, strict=True))
        return self.render_columns(columns or [()] * len(self._headers))

    def render_columns(self, columns: Sequence[Sequence[str]]) -> str:
        """The same of columns: of tens of thousands of rows each costs a microsecond."""
        if self._pending_headers:
            columns = [[header, *column] for header, column in zip(self._headers, columns, strict=True)]
            self._pending_headers = False
        columns = [_one_lines(column) for column in columns]
        widths = [max(max(map(len, column), default=0) + PADDING, MIN_WIDTH) for column in columns]
        self._widths = list(map(max, self._widths, widths))
        line = "".join(f"%-{width}s" for width in self._widths)
        return "".join([(line % cells).rstrip() + "\n" for cells in zip(*columns, strict=True)])


class Layout(NamedTuple):
    """What is shown of a server's table besides its everyday columns. `prefix` stands before each name: `pod/`."""

    wide: bool = False
    namespaces: bool = False
    show_labels: bool = False
    label_columns: tuple[str, ...] = ()
    headers: bool = True
    events: bool = False
    prefix: str = ""


class ServerTable:
    """Lays out the rows of one resource type; `columns` are metav1.TableColumnDefinitions."""

    def __init__(self, columns: Sequence[dict[str, Any]], layout: Layout) -> None:
        self._layout = layout
        self._kept = [at for at, column in enumerate(columns) if layout.wide or not column.get("priority")]
        self._name = next((at for at in self._kept if columns[at]["name"].lower() == "name"), None)
        headers = [str(columns[at]["name"]) for at in self._kept]
        labels = [key.rpartition("/")[2] for key in layout.label_columns]
        self._table = Table(
            [
                *["Event"] * layout.events,
                *["Namespace"] * layout.namespaces,
                *headers,
                *labels,
                *["Labels"] * layout.show_labels,
            ],
            show_headers=layout.headers,
        )
        if layout.events:
            self._table.reserve(0, len(_LONGEST_EVENT))

    def render(self, rows: Iterable[dict[str, Any]], event: str = "") -> str:
        """metav1.TableRows with their objects' metadata as lines; `event` is the kind of change that brought them."""
        return self._table.render(self._cells(row, event) for row in rows)

    def _cells(self, row: dict[str, Any], event: str) -> list[str]:
        layout, meta = self._layout, row["object"]["metadata"]
        cells = [layout.prefix * (at == self._name) + _text(row["cells"][at]) for at in self._kept]
        labels = meta.get("labels") or {}
        shown = ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "<none>"
        return [
            *[event] * layout.events,
            *[meta.get("namespace", "")] * layout.namespaces,
            *cells,
            *(labels.get(key, "") for key in layout.label_columns),
            *[shown] * layout.show_labels,
        ]


def render(headers: Sequence[str], rows: Iterable[Sequence[str]], *, show_headers: bool = True) -> str:
    """A whole table at once."""
    return Table(headers, show_headers=show_headers).render(rows)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def _one_lines(cells: Sequence[str]) -> Sequence[str]:
    """Cells that do not break the table: of each only the first line is shown, marked as cut."""
    # Far quicker than to search for any of them.
    together = "".join(cells)
    if not any(end in together for end in _LINE_ENDS):
        return cells
    return [_one_line(cell) for cell in cells]


def _one_line(cell: str) -> str:
    first = _LINE_END.split(cell, maxsplit=1)[0]
    return first if first == cell else first + "..."
