"""JSONPath templates in Kubernetes' dialect, that of client-go: `{range .items[*]}{.metadata.name}{"\\n"}{end}`.

In: a template and JSON data (dictionaries, lists, scalars). Out: the values found, or the text printed. Pure.

Outside of braces everything is text. Inside stand steps, each applied to every value the step before it gave: `.name`,
`['name']` (a dot in a key is escaped: `app\\.kubernetes\\.io/name`), `[0]`, `[-1]`, `[1:5:2]`, `[*]`, `.*`, `..name`,
`['a','b']`, `[?(@.type=="Ready")]`, quoted text, and `range …`/`end`. A field that is missing gives nothing; an index
out of bounds is an error. Faults are told in client-go's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_TERMINATORS = frozenset(" \t\r\n.,[]$@{}")
_QUOTED_KEY = re.compile(r"'([^']*)'")
_SLICE = re.compile(r"(-?\d*)(:-?\d*)?(:-?\d*)?")
_COMPARISON = re.compile(r"([^!<>=]+)([!<>=]+)(.+)", re.DOTALL)
_OPERATORS = ("==", "!=", "<", "<=", ">", ">=")
_RELAXED = re.compile(r"\{\.?([^{}]+)\}|\.?([^{}]+)")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)?", re.DOTALL)
_ESCAPED = dict(zip("abfnrtv\\'\"", "\a\b\f\n\r\t\v\\'\"", strict=True))
# What Go calls the types of JSON, in messages.
_GO_TYPES: dict[type, str] = {
    str: "string",
    bool: "bool",
    int: "int64",
    float: "float64",
    dict: "map[string]interface {}",
}


class JsonPathError(Exception):
    """A template that cannot be read, or data it does not fit; one sentence."""


class Value(NamedTuple):
    """A literal: quoted text, a number, true or false."""

    value: Any


class Field(NamedTuple):
    """The member of that name; "" is the value itself."""

    name: str


class Wildcard(NamedTuple):
    """All elements of a list, all members of a map."""


class Recursive(NamedTuple):
    """The value and everything below it."""


class Slice(NamedTuple):
    """Elements from `start` to before `stop`; `only` where one index stands alone."""

    start: int | None
    stop: int | None
    step: int | None
    only: bool


class Filter(NamedTuple):
    """The elements for which the comparison holds; with no operator, those where `left` finds anything."""

    left: tuple[Step, ...]
    operator: str
    right: tuple[Step, ...]


class Union(NamedTuple):
    """What each alternative finds, one after the other."""

    alternatives: tuple[tuple[Step, ...], ...]


Step = Value | Field | Wildcard | Recursive | Slice | Filter | Union


class Loop(NamedTuple):
    """`{range STEPS}BODY{end}`."""

    steps: tuple[Step, ...]
    body: tuple[Part, ...]


# A text between braces is one `Value` step.
Part = tuple[Step, ...] | Loop


class JsonPath:
    """A template, read once: `JsonPath("{.metadata.name}").render(pod)`. Raises `JsonPathError`."""

    def __init__(self, template: str) -> None:
        self.template = template
        self._parts = _parse(template)

    def find(self, data: Any) -> list[list[Any]]:
        """The values that each part of the template found, in order, text among them."""
        return list(_find(self._parts, data))

    def values(self, data: Any) -> list[Any]:
        """All values found, in order."""
        return [value for found in _find(self._parts, data) for value in found]

    def render(self, data: Any) -> str:
        """The text kubectl's `-o jsonpath` prints: the values of one expression separated by spaces."""
        return "".join(" ".join(map(text_of, found)) for found in _find(self._parts, data))

    def render_json(self, data: Any) -> str:
        """As `-o jsonpath-as-json` prints it: a JSON array for each part."""
        return "".join(
            json.dumps(found, indent=4, ensure_ascii=False, sort_keys=True) + "\n" for found in self.find(data)
        )


def relaxed(path: str) -> str:
    """`name`, `.name`, `{name}` and `{.name}` as the template `{.name}`: how columns and sort keys are written."""
    if not path:
        return path
    found = _RELAXED.fullmatch(path)
    if found is None:
        raise JsonPathError(
            "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'"
        )
    return f"{{.{found[1] or found[2]}}}"


def text_of(value: Any) -> str:
    """A value as the template prints it: text as it is, lists and maps as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


# --- reading a template


def _parse(template: str) -> tuple[Part, ...]:
    # The bodies that are open, the outermost first; each but the first belongs to the `range` of `loops` beside it.
    bodies: list[list[Part]] = [[]]
    loops: list[tuple[Step, ...]] = []
    for steps, keyword in _Reader(template).actions():
        if keyword == "range":
            loops.append(steps)
            bodies.append([])
        elif keyword == "end":
            if not loops:
                raise JsonPathError("not in range, nothing to end")
            _close(bodies, loops)
        else:
            bodies[-1].append(steps)
    while loops:
        _close(bodies, loops)
    return tuple(bodies[0])


def _close(bodies: list[list[Part]], loops: list[tuple[Step, ...]]) -> None:
    body = tuple(bodies.pop())
    bodies[-1].append(Loop(loops.pop(), body))


def _steps(expression: str) -> tuple[Step, ...]:
    """An expression that stands inside of another: in a filter, in a union, a quoted key."""
    actions = list(_Reader(f"{{{expression}}}").actions())
    return actions[0][0]


class _Reader:
    """Walks over a template's characters."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def actions(self) -> Iterator[tuple[tuple[Step, ...], str]]:
        """Each text and each pair of braces as its steps, with the keyword that stands among them."""
        while self._at < len(self._text):
            brace = self._text.find("{", self._at)
            end = len(self._text) if brace < 0 else brace
            if end > self._at:
                yield (Value(self._text[self._at : end]),), ""
            self._at = end
            if brace >= 0:
                self._at += 1
                yield self._action()

    def _action(self) -> tuple[tuple[Step, ...], str]:
        steps: list[Step] = []
        keyword = ""
        while not self._take("}"):
            if self._take("[?("):
                steps.append(self._filter())
            elif self._take(".."):
                self._recursive(steps)
            elif self._take("."):
                steps.append(self._field())
            elif self._take("["):
                steps += self._brackets()
            elif not (self._take(" ") or self._take("@") or self._take("$")):
                step = self._word()
                if isinstance(step, str):
                    keyword = step
                else:
                    steps.append(step)
        return tuple(steps), keyword

    def _word(self) -> Step | str:
        """A literal, or the keywords `range` and `end`."""
        character = self._peek()
        if character in ("", "\r", "\n"):
            raise JsonPathError("unclosed action")
        if character in "\"'":
            return Value(self._quoted(character))
        if character in "+-" or character.isdigit():
            return Value(self._number())
        if not (character == "_" or character.isalpha()):
            raise JsonPathError(f"unrecognized character in action: U+{ord(character):04X} '{character}'")
        word = self._until(lambda c: c in _TERMINATORS)
        if word in ("true", "false"):
            return Value(word == "true")
        if word not in ("range", "end"):
            raise JsonPathError(f"unrecognized identifier {word}")
        return word

    def _recursive(self, steps: list[Step]) -> None:
        if steps and isinstance(steps[-1], Recursive):
            raise JsonPathError("invalid multiple recursive descent")
        steps.append(Recursive())
        if self._peek() == "_" or self._peek().isalnum():
            steps.append(self._field())

    def _field(self) -> Step:
        start = self._at
        while self._peek() and self._peek() not in _TERMINATORS:
            self._at += 2 if self._peek() == "\\" else 1
        self._at = min(self._at, len(self._text))
        name = self._text[start : self._at]
        return Wildcard() if name == "*" else Field(name.replace("\\", ""))

    def _brackets(self) -> list[Step]:
        inner = self._until(lambda c: c in "]\n")
        if not self._take("]"):
            raise JsonPathError("unterminated array")
        if inner == "*":
            inner = ":"
        if "," in inner:
            return [Union(tuple(_steps(f"[{each.strip(' ')}]") for each in inner.split(",")))]
        key = _QUOTED_KEY.fullmatch(inner)
        if key is not None:
            return list(_steps(f".{key[1]}"))
        return [_slice(inner)]

    def _filter(self) -> Filter:
        start, quote = self._at, ""
        while (character := self._peek()) != ")" or quote:
            if character in ("", "\n"):
                raise JsonPathError("unterminated filter")
            if character == quote and self._text[self._at - 1] != "\\":
                quote = ""
            elif character in "\"'" and not quote:
                quote = character
            self._at += 1
        condition = self._text[start : self._at]
        self._at += 1
        if not self._take("]"):
            raise JsonPathError("unclosed array expect ]")
        compared = _COMPARISON.fullmatch(condition)
        if compared is None:
            return Filter(_steps(condition), "", ())
        left, operator, right = compared.groups()
        if operator not in _OPERATORS:
            raise JsonPathError(f"unrecognized filter operator {operator}")
        return Filter(_steps(left), operator, _steps(right))

    def _quoted(self, quote: str) -> str:
        start = self._at
        self._at += 1
        while self._peek() != quote or self._text[self._at - 1] == "\\":
            if self._peek() in ("", "\n"):
                raise JsonPathError("unterminated quoted string")
            self._at += 1
        self._at += 1
        return _unescape(self._text[start + 1 : self._at - 1])

    def _number(self) -> int | float:
        start = self._at
        self._at += self._peek() in "+-"
        self._until(lambda c: c != "." and not c.isdigit())
        text = self._text[start : self._at]
        try:
            return float(text) if "." in text else int(text)
        except ValueError:
            raise JsonPathError(f"cannot parse number {text}") from None

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, token: str) -> bool:
        taken = self._text.startswith(token, self._at)
        self._at += len(token) * taken
        return taken

    def _until(self, ends: Any) -> str:
        start = self._at
        while self._peek() and not ends(self._peek()):
            self._at += 1
        return self._text[start : self._at]


def _slice(text: str) -> Slice:
    found = _SLICE.fullmatch(text)
    if found is None:
        raise JsonPathError(f"invalid array index {text}")
    try:
        start, stop, step = (int(part.removeprefix(":")) if part and part != ":" else None for part in found.groups())
    except ValueError:
        raise JsonPathError(f"array index {text} is not a number") from None
    only = found[2] is None
    if only and start is None:
        raise JsonPathError(f"invalid array index {text}")
    return Slice(start, stop, step, only)


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match[1] or ""
        if code[:1] in ("x", "u", "U") and len(code) > 1:
            return chr(int(code[1:], 16))
        if len(code) == 3:
            return chr(int(code, 8))
        if code not in _ESCAPED:
            raise JsonPathError(f'unquote string "{text}" error invalid syntax')
        return _ESCAPED[code]

    try:
        return _ESCAPE.sub(replace, text)
    except (ValueError, OverflowError):
        raise JsonPathError(f'unquote string "{text}" error invalid syntax') from None


# --- evaluating it


def _find(parts: Sequence[Part], data: Any) -> Iterator[list[Any]]:
    for part in parts:
        if isinstance(part, Loop):
            for value in _walk(part.steps, [data]):
                yield from _find(part.body, value)
        else:
            yield _walk(part, [data])


def _walk(steps: Sequence[Step], values: list[Any]) -> list[Any]:
    for step in steps:
        values = _take_step(step, values)
    return values


def _take_step(step: Step, values: list[Any]) -> list[Any]:
    match step:
        case Value(value):
            # Text stands for itself even where nothing was found before it; a number needs a value to be compared to.
            return [value] if isinstance(value, str) else [value for _ in values]
        case Field(name):
            return values if not name else [v[name] for v in values if isinstance(v, dict) and name in v]
        case Wildcard():
            return [member for value in values for member in _members(value)]
        case Recursive():
            return [found for value in values for found in _descend(value)]
        case Slice():
            return [element for value in values if value is not None for element in _cut(step, value)]
        case Filter():
            return [element for value in values for element in _filtered(step, value)]
        case Union(alternatives):
            return [found for steps in alternatives for found in _walk(steps, values)]


def _members(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _descend(value: Any) -> Iterator[Any]:
    """The value and all below it that has anything in it, depth first; numbers and truth values are left out."""
    if isinstance(value, (dict, list, str)) and value:
        yield value
        for member in _members(value):
            yield from _descend(member)


def _cut(step: Slice, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise JsonPathError(f"{_GO_TYPES[type(value)]} is not array or slice")
    length = len(value)
    start = _from_end(step.start or 0, length)
    stop = start + 1 if step.only else length if step.stop is None else _from_end(step.stop, length)
    if start == stop:
        return []
    if not 0 <= start < length:
        raise JsonPathError(f"array index out of bounds: index {start}, length {length}")
    if not 0 <= stop <= length:
        raise JsonPathError(f"array index out of bounds: index {stop - 1}, length {length}")
    if start > stop:
        raise JsonPathError(f"starting index {start} is greater than ending index {stop}")
    if step.step is not None and step.step <= 0:
        raise JsonPathError("step must be > 0")
    return value[start : stop : step.step or 1]


def _from_end(index: int, length: int) -> int:
    return index + length if index < 0 else index


def _filtered(step: Filter, value: Any) -> Iterator[Any]:
    if not isinstance(value, list):
        raise JsonPathError(f"{text_of(value)} is not array or slice and cannot be filtered")
    for element in value:
        lefts = _walk(step.left, [element])
        if not step.operator:
            if lefts:
                yield element
            continue
        rights = _walk(step.right, [element])
        if len(lefts) > 1 or len(rights) > 1:
            raise JsonPathError("can only compare one element at a time")
        if lefts and rights and _holds(lefts[0], step.operator, rights[0]):
            yield element


def _holds(left: Any, operator: str, right: Any) -> bool:
    if _family(left) != _family(right):
        raise JsonPathError("incompatible types for comparison")
    if operator in ("==", "!="):
        return bool(left == right) == (operator == "==")
    if _family(left) not in ("number", "text"):
        raise JsonPathError("invalid type for comparison")
    if operator.startswith("<"):
        return bool(left < right or (operator == "<=" and left == right))
    return bool(left > right or (operator == ">=" and left == right))


def _family(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    return "number" if isinstance(value, (int, float)) else "text" if isinstance(value, str) else type(value).__name__
