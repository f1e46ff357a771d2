"""Label and field selectors: parsing, matching, printing.

In: a selector as users write it or a `LabelSelector`. Out: `Labels` and `Fields`, immutable. Bad input: ApiError 400.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from barque.api import names
from barque.api.errors import bad_request
from barque.api.resources import Resource
from barque.api.types.meta_v1 import LabelSelector

_TOKEN = re.compile(r"\s*(?:(==|!=|[=!(),<>])|([^\s=!(),<>]+))")
_SET_OPERATORS = {"In": "in", "NotIn": "notin"}
_KEY_OPERATORS = {"Exists": "", "DoesNotExist": "!"}
# Values that are as quickly compared one by one.
_FEW = 8


class Requirement(NamedTuple):
    """One clause: operator is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case _:
                return value is not None and self._compares(value)

    def _compares(self, value: str) -> bool:
        try:
            have, bound = int(value), int(self.values[0])
        except ValueError:
            return False
        return have > bound if self.operator == "Gt" else have < bound

    def __str__(self) -> str:
        match self.operator:
            case "In" if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
            case "NotIn" if len(self.values) == 1:
                return f"{self.key}!={self.values[0]}"
            case "In" | "NotIn":
                return f"{self.key} {_SET_OPERATORS[self.operator]} ({','.join(sorted(self.values))})"
            case "Gt" | "Lt":
                return f"{self.key}{'>' if self.operator == 'Gt' else '<'}{self.values[0]}"
            case _:
                return f"{_KEY_OPERATORS[self.operator]}{self.key}"


class _AmongMany(NamedTuple):
    """An In, or else NotIn, of so many values that they are better looked up than looked through."""

    key: str
    inside: bool
    values: frozenset[str | None]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return (labels.get(self.key) in self.values) is self.inside


@dataclass(frozen=True)
class Labels:
    """A label selector: all requirements hold. Without requirements it matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self._quick)

    @cached_property
    def _quick(self) -> tuple[Requirement | _AmongMany, ...]:
        return tuple(
            _AmongMany(each.key, each.operator == "In", frozenset(each.values))
            if each.operator in _SET_OPERATORS and len(each.values) > _FEW
            else each
            for each in self.requirements
        )

    @property
    def empty(self) -> bool:
        """Whether it matches everything."""
        return not self.requirements

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Labels()
# A contradiction, so that its text, too, selects nothing.
NOTHING = Labels((Requirement("barque.io/nothing", "Exists"), Requirement("barque.io/nothing", "DoesNotExist")))


class FieldRequirement(NamedTuple):
    field: str
    equal: bool
    value: str


@dataclass(frozen=True)
class Fields:
    """A field selector: every field equals, or differs from, its value."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether `fields`, as `barque.api.fields.selectable` gives them, are selected."""
        return all((fields.get(r.field, "") == r.value) == r.equal for r in self.requirements)

    def equal(self, field: str) -> str | None:
        """The value that `field` must have; None where the selector does not pin it."""
        return next((r.value for r in self.requirements if r.equal and r.field == field), None)

    @property
    def empty(self) -> bool:
        return not self.requirements

    def __str__(self) -> str:
        return ",".join(f"{r.field}{'=' if r.equal else '!='}{_escape(r.value)}" for r in self.requirements)


@lru_cache(maxsize=1024)
def parse_labels(text: str) -> Labels:
    """Parse "app=web,tier in (a,b),!canary,rank>3"; "" matches everything. Raises ApiError 400."""
    tokens = _Tokens(text)
    if tokens.peek() == "":
        return EVERYTHING
    found = [_requirement(tokens)]
    while (separator := tokens.take()) != "":
        if separator != ",":
            raise tokens.fault(f"found '{separator}', expected: ',' or 'end of string'")
        found.append(_requirement(tokens))
    return Labels(tuple(found))


def from_label_selector(selector: LabelSelector | None) -> Labels:
    """The selector of an object: None matches nothing, `{}` everything. Raises ApiError 400 on an unknown operator."""
    if selector is None:
        return NOTHING
    found = [Requirement(key, "In", (value,)) for key, value in sorted(selector.matchLabels.items())]
    for expression in selector.matchExpressions:
        if expression.operator not in (*_SET_OPERATORS, *_KEY_OPERATORS):
            raise bad_request(f'"{expression.operator}" is not a valid label selector operator')
        found.append(Requirement(expression.key, expression.operator, tuple(expression.values)))
    return Labels(tuple(found))


def parse_fields(text: str, resource: Resource) -> Fields:
    """Parse "spec.nodeName=n1,status.phase!=Failed". Raises ApiError 400 on a field that is not selectable here."""
    found = []
    for clause in _split_clauses(text):
        name, equal, value = _split_clause(clause)
        if name not in ("metadata.name", "metadata.namespace", *resource.fields):
            raise bad_request(f"field label not supported: {name}")
        found.append(FieldRequirement(name, equal, value))
    return Fields(tuple(found))


class _Tokens:
    """The words and signs of a label selector, one after another; "" is its end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = list(self._scan())
        self._position = 0

    def _scan(self) -> Iterator[str]:
        position, end = 0, len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None:  # unreachable by construction: a token is a sign or anything else
                raise self.fault(f"cannot read from character {position}")
            yield match[1] or match[2]
            position = match.end()

    def peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self._position += 1
        return token

    def fault(self, why: str) -> Exception:
        return bad_request(f"unable to parse requirement: {why} in {self.text!r}")


def _requirement(tokens: _Tokens) -> Requirement:
    negated = tokens.peek() == "!" and bool(tokens.take())
    key = _checked(tokens, "key", tokens.take(), names.qualified_name)
    if negated:
        return Requirement(key, "DoesNotExist")
    match tokens.peek():
        case "" | ",":
            return Requirement(key, "Exists")
        case "=" | "==" | "!=":
            operator = "NotIn" if tokens.take() == "!=" else "In"
            return Requirement(key, operator, (_value(tokens),))
        case "in" | "notin":
            operator = "In" if tokens.take() == "in" else "NotIn"
            return Requirement(key, operator, tuple(sorted(set(_values(tokens)))))
        case ">" | "<":
            operator = "Gt" if tokens.take() == ">" else "Lt"
            return Requirement(key, operator, (_number(tokens),))
    raise tokens.fault(f"found '{tokens.peek()}', expected: in, notin, =, ==, !=, >, <")


def _value(tokens: _Tokens) -> str:
    if tokens.peek() in ("", ","):
        return ""
    return _checked(tokens, "value", tokens.take(), names.label_value)


def _values(tokens: _Tokens) -> Sequence[str]:
    if tokens.take() != "(":
        raise tokens.fault("expected '(' after a set operator")
    found = []
    while True:
        token = tokens.peek()
        found.append("" if token in (",", ")") else _checked(tokens, "value", tokens.take(), names.label_value))
        match tokens.take():
            case ")":
                return found
            case ",":
                continue
            case other:
                raise tokens.fault(f"found '{other}', expected: ',' or ')'")


def _number(tokens: _Tokens) -> str:
    token = tokens.take()
    if not re.fullmatch(r"-?[0-9]{1,19}", token, re.ASCII):
        raise tokens.fault("for 'Gt', 'Lt' operators, the value must be an integer")
    return token


def _checked(tokens: _Tokens, what: str, word: str, check: Callable[[str], list[str]]) -> str:
    if faults := check(word):
        raise tokens.fault(f'{what} "{word}": {"; ".join(faults)}')
    return word


def _split_clauses(text: str) -> list[str]:
    """Split at commas that no backslash protects."""
    return [clause for clause in re.findall(r"(?:\\.|[^,\\])+", text.strip()) if clause.strip()]


def _split_clause(clause: str) -> tuple[str, bool, str]:
    match = re.match(r"((?:\\.|[^=!\\])*)(==|!=|=)(.*)", clause.strip(), re.DOTALL)
    if match is None:
        raise bad_request(f"invalid selector: '{clause}'; can't understand '{clause}'")
    return match[1].strip(), match[2] != "!=", re.sub(r"\\(.)", r"\1", match[3].strip())


def _escape(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)
