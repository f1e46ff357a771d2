"""What a table is made of: column definitions, and the function that makes a row's cells of an object."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, NamedTuple

from barque.api.types.base import Object, always

# A cell as it travels: text, a whole number or a truth value.
Cell = str | int | bool


class ColumnDefinition(Object):
    """A metav1.TableColumnDefinition: `type` and `format` are OpenAPI's; a priority above 0 makes a wide column."""

    name: str = always(str)
    type: str = always(str)
    format: str = always(str)
    description: str = always(str)
    priority: int = always(int)


class Table(NamedTuple):
    """The columns of a kind, and one cell for each of an object at a moment."""

    columns: tuple[ColumnDefinition, ...]
    cells: Callable[[Any, datetime.datetime], list[Cell]]


def column(name: str, description: str, type: str = "string") -> ColumnDefinition:
    """A column that is always shown."""
    return ColumnDefinition(name=name, type=type, description=description)


def wide(name: str, description: str, type: str = "string") -> ColumnDefinition:
    """A column that is shown where there is room."""
    return ColumnDefinition(name=name, type=type, description=description, priority=1)


NAME = ColumnDefinition(name="Name", type="string", format="name", description="The object's name.")
AGE = column("Age", "The time since the object was created.")
