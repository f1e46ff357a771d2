"""The page `describe` prints: lines of cells on levels, columns aligned as kubectl's tabwriter does it.

A column is as wide as its widest cell among neighbouring lines that have it, plus two spaces. Pure.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

PADDING = 2
INDENT = "  "
# Longer annotation values start on their own line, as kubectl shows them.
LONG_VALUE = 140


class Page:
    """Collects lines; `render` aligns them."""

    def __init__(self) -> None:
        self._lines: list[list[str]] = []

    def line(self, level: int, *cells: str) -> None:
        """One line; all cells but the last are columns."""
        if cells:
            self._lines.append([INDENT * level + cells[0], *cells[1:]])
        else:
            self._lines.append([""])

    def field(self, level: int, name: str, value: object) -> None:
        """`Name:  value`."""
        self.line(level, f"{name}:", str(value))

    def several(self, level: int, name: str, values: Sequence[str]) -> None:
        """A field of several lines, the name at the first alone."""
        for position, value in enumerate(values or ["<none>"]):
            self.line(level, "" if position else f"{name}:", value)

    def pairs(self, level: int, name: str, values: Mapping[str, str], separator: str = "=") -> None:
        """Labels and their like, sorted."""
        self.several(level, name, [f"{k}{separator}{v}" for k, v in sorted(values.items())])

    def table(
        self, level: int, name: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *, ruled: bool
    ) -> None:
        """A small table below its name."""
        self.line(level, f"{name}:")
        self.line(level + 1, *headers)
        if ruled:
            self.line(level + 1, *("-" * len(header) for header in headers))
        for row in rows:
            self.line(level + 1, *row)

    def render(self) -> str:
        return "".join(line.rstrip() + "\n" for line in align(self._lines))


def align(lines: Sequence[Sequence[str]]) -> list[str]:
    """Elastic tabstops: every cell but a line's last is a column; a column's block is a run of lines that have it."""
    widths = [[0] * len(line) for line in lines]
    for column in range(max((len(line) for line in lines), default=1) - 1):
        start = 0
        while start < len(lines):
            end = start
            while end < len(lines) and len(lines[end]) - 1 > column:
                end += 1
            width = max((len(lines[i][column]) for i in range(start, end)), default=0) + PADDING
            for i in range(start, end):
                widths[i][column] = width
            start = end + 1
    return [
        "".join(cell.ljust(width) for cell, width in zip(line, widths[i], strict=True)) for i, line in enumerate(lines)
    ]


def moment(timestamp: str) -> str:
    """`Mon, 05 Jan 2026 10:00:00 +0000`, in UTC; what is no timestamp stays as it is."""
    try:
        parsed = datetime.datetime.fromisoformat(timestamp)
    except ValueError:
        return timestamp or "<none>"
    return parsed.astimezone(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")


def annotation_field(page: Page, values: Mapping[str, str]) -> None:
    """The annotations, without the one that only apply reads."""
    shown = {k: v for k, v in values.items() if k != "kubectl.kubernetes.io/last-applied-configuration"}
    lines: list[str] = []
    for key, value in sorted(shown.items()):
        if len(value) < LONG_VALUE and "\n" not in value:
            lines.append(f"{key}: {value}")
        else:
            cut = value if len(value) < LONG_VALUE else value[: LONG_VALUE - 1] + "..."
            lines += [f"{key}:", *(f"  {part}" for part in cut.splitlines())]
    page.several(0, "Annotations", lines)


def heading(page: Page, obj: Any, *, namespaced: bool = True) -> None:
    """Name, namespace, labels, annotations: how most pages begin."""
    meta = obj.metadata
    page.field(0, "Name", meta.name)
    if namespaced:
        page.field(0, "Namespace", meta.namespace)
    page.pairs(0, "Labels", meta.labels)
    annotation_field(page, meta.annotations)


def event_table(page: Page, found: list[Any] | str, now: datetime.datetime) -> None:
    """The events' table; a string in its place says why there is none."""
    from barque.api.columns.events import interval
    from barque.api.occurrences import said_by

    if isinstance(found, str):
        page.field(0, "Events", f"<not available: {found}>")
        return
    if not found:
        page.field(0, "Events", "<none>")
        return
    page.line(0, "Events:")
    headers = ("Type", "Reason", "Age", "From", "Message")
    page.line(1, *headers)
    page.line(1, *("-" * (4 if h == "Age" else len(h)) for h in headers))
    for event in found:
        page.line(1, event.type, event.reason, interval(event, now), said_by(event), event.message.strip())
