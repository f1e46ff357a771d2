"""The page of `explain`: what a kind or one of its fields is, and the fields below it, in kubectl's layout.

The fields and their types are read from the object types themselves; the sentences are `cli.explanations`'. Pure.
"""

from __future__ import annotations

import difflib
import re
import textwrap
import types
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import msgspec

from barque.api.resources import Resource
from barque.api.shapes import FieldShape, shape_of
from barque.api.types.base import Object
from barque.api.validation.support import SUPPORTED
from barque.cli.explanations import EVERYWHERE, EXPLANATIONS, REQUIRED
from barque.cli.output import CliError

WIDTH = 80
_LINE = re.compile(r"(\w*)(?: \{(.*?)\})?(?: =(\S+))?: (.*)")
_SCALARS = (
    (frozenset({str, int, float}), "Quantity"),
    (frozenset({str, int}), "IntOrString"),
    (frozenset({str}), "string"),
    (frozenset({int}), "integer"),
    (frozenset({float}), "number"),
    (frozenset({bool}), "boolean"),
)


class Explanation(NamedTuple):
    """What is known of a field: its sentence, the only values there are, and its default; each "" or empty if not."""

    text: str = ""
    values: tuple[str, ...] = ()
    default: str = ""


class Field(NamedTuple):
    """One field as it is shown. `supported` is False where a manifest that has it is refused."""

    name: str
    shape: FieldShape
    type: str
    required: bool
    supported: bool
    known: Explanation


def page(resource: Resource, path: Sequence[str], *, recursive: bool) -> str:
    """The page of a kind or, below it, of the field at `path`. Raises `CliError` where there is no such field."""
    head = [f"GROUP:      {resource.group}"] if resource.group else []
    head += [f"KIND:       {resource.kind}", f"VERSION:    {resource.version}", ""]
    struct: type[Object] | None = resource.type
    texts = [_struct_text(resource.type)]
    for name in path:
        field = _find(struct, name)
        struct = field.shape.struct
        texts = [field.known.text, _struct_text(struct) if struct is not None else ""]
    if path:
        head += [f"FIELD: {field.name} {field.type}{_marks(field)}", *_choices(field.known, "ENUM:", "DEFAULT:"), ""]
    described = [_wrapped(text, 4) for text in dict.fromkeys(texts) if text]
    lines = [*head, "DESCRIPTION:", *(described or ["    <no description>"]), "    "]
    if struct is not None:
        below = _tree(struct, 1, (struct,)) if recursive else (line for f in fields_of(struct) for line in _entry(f))
        lines += ["FIELDS:", *below]
    return "\n".join(lines).rstrip() + "\n"


@cache
def fields_of(struct: type[Object]) -> tuple[Field, ...]:
    """The fields of a struct in the order of their names."""
    known = _explanations(struct)
    everywhere = _parsed(EVERYWHERE)
    factories = {info.encode_name: info.default_factory for info in msgspec.structs.fields(struct)}
    supported = SUPPORTED.get(struct)
    return tuple(
        Field(
            name,
            shape,
            _type_word(shape),
            any((word, name) in REQUIRED for word in _names_of(struct)) or _always(factories[name]),
            supported is None or name in supported,
            known.get(name) or everywhere.get(name) or Explanation(),
        )
        for name, shape in sorted(shape_of(struct).items())
    )


def _always(factory: object) -> bool:
    """Whether the field is written even when zero: how the types mark the required ones."""
    return isinstance(factory, types.FunctionType) and not factory()


def _type_word(shape: FieldShape) -> str:
    """`<[]Container>`, `<map[string]string>`, `<Object>`."""
    prefix = {"list": "[]", "map": "map[string]", "": ""}[shape.container]
    if shape.struct is not None:
        return f"<{prefix}{shape.struct.__name__}>"
    word = next((word for scalars, word in _SCALARS if scalars == shape.scalars), "")
    if shape.container == "map" and not word:
        return "<Object>"
    return f"<{prefix}{word or 'Object'}>"


def _find(struct: type[Object] | None, name: str) -> Field:
    fields = fields_of(struct) if struct is not None else ()
    found = next((field for field in fields if field.name == name), None)
    if found is None:
        near = difflib.get_close_matches(name, [field.name for field in fields], n=2)
        raise CliError(f'field "{name}" does not exist' + (f"; did you mean {' or '.join(near)}?" if near else ""))
    return found


def _entry(field: Field) -> Iterator[str]:
    yield f"  {field.name}\t{field.type}{_marks(field)}"
    yield from (f"  {line}" for line in _choices(field.known, "enum:", "default:"))
    if field.known.text:
        yield _wrapped(field.known.text, 4)
    yield ""


def _tree(struct: type[Object], level: int, above: tuple[type[Object], ...]) -> Iterator[str]:
    """All fields below, indented; a struct within itself is not gone into again."""
    for field in fields_of(struct):
        yield f"{'  ' * level}{field.name}\t{field.type}{_marks(field)}"
        below = field.shape.struct
        if below is not None and below not in above:
            yield from _tree(below, level + 1, (*above, below))


def _marks(field: Field) -> str:
    return " -required-" * field.required + " -refused here-" * (not field.supported)


def _choices(known: Explanation, enum: str, default: str) -> list[str]:
    values = [f"{enum} {', '.join(known.values)}"] if known.values else []
    return values + ([f"{default} {known.default}"] if known.default else [])


def _wrapped(text: str, indent: int) -> str:
    margin = " " * indent
    return textwrap.fill(text, WIDTH, initial_indent=margin, subsequent_indent=margin)


def _struct_text(struct: type[Object]) -> str:
    return _explanations(struct).get("", Explanation()).text


def _explanations(struct: type[Object]) -> dict[str, Explanation]:
    names = _names_of(struct)
    return {field: found for name in names for field, found in _parsed(EXPLANATIONS.get(name, "")).items()}


def _names_of(struct: type[Object]) -> Iterable[str]:
    """Under which names a struct is explained, the more special ones last: an ephemeral container is as any other
    container is, and one version's Event as any Event.
    """
    module = struct.__module__.rpartition(".")[2]
    name = struct.__name__
    return dict.fromkeys((name.removeprefix("Ephemeral"), name, f"{module}.{name}"))


@cache
def _parsed(text: str) -> dict[str, Explanation]:
    found = (_LINE.fullmatch(line) for line in text.strip().splitlines())
    return {
        line[1]: Explanation(line[4], tuple(line[2].split(",")) if line[2] else (), line[3] or "")
        for line in found
        if line is not None
    }
