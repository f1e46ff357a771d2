"""What `wait --for` waits for, as a test of what an object is now: a condition, a value, its beginning or end. Pure."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

from barque.cli.jsonpath import JsonPath, JsonPathError, relaxed, text_of
from barque.cli.output import CliError

FORMS = "condition=NAME[=VALUE], jsonpath=PATH[=VALUE], create or delete"


class Met(Protocol):
    """Whether the goal is reached by an object as it is, None where there is none. Raises `CliError`."""

    def __call__(self, present: dict[str, Any] | None) -> bool: ...


class Goal(NamedTuple):
    """`met` is the test of a `state`; creation and deletion are told by the object's being there."""

    kind: Literal["state", "create", "delete"]
    met: Met


def parse_goal(text: str) -> Goal:
    """The goal that `--for` names. Raises `CliError`."""
    kind, equals, rest = text.partition("=")
    match kind.lower():
        case "delete" if not equals:
            return Goal("delete", lambda present: present is None)
        case "create" if not equals:
            return Goal("create", lambda present: present is not None)
        case "condition" if rest:
            name, _, value = rest.partition("=")
            return Goal("state", _condition(name, value or "True"))
        case "jsonpath":
            return Goal("state", _value(rest))
    raise CliError(f'unrecognized condition: "{text}"; use {FORMS}')


def _condition(name: str, value: str) -> Met:
    def met(present: dict[str, Any] | None) -> bool:
        status = (present or {}).get("status", {})
        for condition in status.get("conditions", []):
            if str(condition.get("type", "")).lower() == name.lower():
                # What was observed before the newest change of the spec says nothing about that.
                observed = condition.get("observedGeneration") or status.get("observedGeneration") or 0
                fresh = not observed or observed >= (present or {})["metadata"].get("generation", 0)
                return fresh and str(condition.get("status", "")).lower() == value.lower()
        return False

    return met


def _value(text: str) -> Met:
    path_text, equals, value = _split(text)
    value = _unquoted(value)
    if equals and not value:
        raise CliError("jsonpath wait has to have a value after the equals sign")
    try:
        path = JsonPath(relaxed(_unquoted(path_text)))
    except JsonPathError as error:
        raise CliError(f"{path_text}: {error}") from None
    if not path_text:
        raise CliError("jsonpath expression cannot be empty")

    def met(present: dict[str, Any] | None) -> bool:
        try:
            found = path.values(present) if present is not None else []
        except JsonPathError:
            return False  # an index that is out of bounds now may be within them soon
        if not equals or not found:
            return bool(found)
        if len(found) > 1:
            raise CliError("given jsonpath expression matches more than one value")
        if isinstance(found[0], (dict, list)):
            raise CliError("jsonpath leads to a nested object or list which is not supported")
        return text_of(found[0]) == value

    return met


def _split(text: str) -> tuple[str, str, str]:
    """PATH and VALUE: at the first `=` behind the braces, since a filter within them has `==`."""
    start = text.rfind("}") + 1
    path, equals, value = text[start:].partition("=")
    if start:
        return text[:start] + path.strip("'\" "), equals, value
    return path, equals, value


def _unquoted(text: str) -> str:
    """Quotes that a shell has left standing."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text.strip("'\"")
