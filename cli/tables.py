"""Text tables as kubectl prints them: uppercase headers, columns three spaces apart, nothing after the last one.

Pure: rows of strings in, text out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# kubectl's tabwriter: three spaces between columns, and no column narrower than six with them.
PADDING = 3
MIN_WIDTH = 6


class Table:
    """Rows under headers. Widths only grow, so that rows printed later (a watch) line up with those before."""

    def __init__(self, headers: Sequence[str], *, show_headers: bool = True) -> None:
        self._headers = [h.upper() for h in headers]
        self._widths = [0] * len(headers)
        self._pending_headers = show_headers

    def render(self, rows: Iterable[Sequence[str]]) -> str:
        """The rows as lines, after the headers the first time; ends with a newline unless there is nothing to print."""
        lines = [[_one_line(cell) for cell in row] for row in rows]
        if self._pending_headers:
            lines.insert(0, self._headers)
            self._pending_headers = False
        for line in lines:
            self._widths = [max(w, len(cell) + PADDING, MIN_WIDTH) for w, cell in zip(self._widths, line, strict=True)]
        return "".join(self._line(line) for line in lines)

    def _line(self, cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        return "".join(padded).rstrip() + "\n"


def render(headers: Sequence[str], rows: Iterable[Sequence[str]], *, show_headers: bool = True) -> str:
    """A whole table at once."""
    return Table(headers, show_headers=show_headers).render(rows)


def _one_line(cell: str) -> str:
    """A cell may not break the table: only its first line is shown, marked as cut."""
    first, rest, _ = cell.partition("\n")
    return first + "..." if rest else first
