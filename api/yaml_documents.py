"""YAML text to plain JSON values, bounded in depth and size.

PyYAML's own composer recurses without a limit in C, writes aliases out without end and lets duplicate keys pass. Here
all of it is counted, duplicate keys are told by line (the last one holds, as in Kubernetes' lenient reader), and plain
scalars mean what they mean to Kubernetes (`barque.api.scalars`). Raises `YamlError`, which has the place of the fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from barque.api.scalars import READ_RULES, value_of, with_rules

# Aliases may repeat a part many times over; no honest manifest comes near these. The latter is of aliases alone.
MAX_NODES = 1_000_000
MAX_REPEATED_CHARACTERS = 4 * 1024 * 1024
MAX_DEPTH = 200
_COLLECTIONS = ("", "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class YamlError(Exception):
    """What cannot be read; `line` and `column` count from 1, 0 where the place is not known."""

    def __init__(self, why: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"line {line}, column {column}: {why}" if line else why)
        self.why = why
        self.line = line
        self.column = column


class YamlDocument(NamedTuple):
    """One document that is not empty; `line` is where it begins, `duplicates` one sentence per key given twice."""

    line: int
    data: Any
    duplicates: list[str]


def read_documents(text: bytes) -> Iterator[YamlDocument]:
    """Every document of the text, in order. Raises `YamlError`."""
    # Imported here: reading JSON, which most bodies are, needs none of it.
    import yaml

    try:
        yield from _Reader(yaml, text).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else ()
        raise YamlError(error.problem or error.context or "not YAML", *place) from None
    except yaml.YAMLError as error:
        raise YamlError(f"not YAML: {' '.join(str(error).split())}") from None


class _Reader:
    """Plain values from YAML's events."""

    def __init__(self, yaml: Any, text: bytes) -> None:
        self._yaml = yaml
        self._events: Any = with_rules(getattr(yaml, "CSafeLoader", yaml.SafeLoader), READ_RULES)(text)
        # Of the document so far, its aliases written out: the nodes, all characters, and those of aliases.
        self._nodes, self._characters, self._repeated = 0, 0, 0
        # By anchor: the value, and of how many nodes and characters it is.
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._duplicates: list[str] = []

    def documents(self) -> Iterator[YamlDocument]:
        self._events.get_event()
        while not self._events.check_event(self._yaml.StreamEndEvent):
            self._events.get_event()
            self._nodes, self._characters, self._repeated = 0, 0, 0
            self._anchors, self._duplicates = {}, []
            line = self._events.peek_event().start_mark.line + 1
            data = self._value(0)[0]
            self._events.get_event()
            if data is not None:
                yield YamlDocument(line, data, self._duplicates)

    def _value(self, depth: int) -> tuple[Any, str]:
        """The next value and its tag."""
        event = self._events.get_event()
        nodes, characters = self._nodes, self._characters
        self._count(event, 1, depth)
        if isinstance(event, self._yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _fault(event, f"the alias *{event.anchor} stands for nothing")
            value, size, length = self._anchors[event.anchor]
            self._repeated += length
            self._characters += length
            self._count(event, size, depth)
            return value, ""
        if isinstance(event, self._yaml.ScalarEvent):
            self._characters += len(event.value)
            value, tag = self._scalar(event)
        else:
            tag = event.tag or ""
            if tag not in _COLLECTIONS:
                raise _fault(event, f"the tag {tag} has no meaning in a manifest")
            inside = self._sequence if isinstance(event, self._yaml.SequenceStartEvent) else self._mapping
            value = inside(depth + 1)
        if event.anchor:
            self._anchors[event.anchor] = value, self._nodes - nodes, self._characters - characters
        return value, tag

    def _count(self, event: Any, nodes: int, depth: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES or self._repeated > MAX_REPEATED_CHARACTERS:
            raise _fault(event, "too large once its aliases are written out")
        if depth > MAX_DEPTH:
            raise _fault(event, "nested too deeply")

    def _scalar(self, event: Any) -> tuple[Any, str]:
        tag = "tag:yaml.org,2002:str" if event.tag == "!" else event.tag
        if tag is None:
            tag = self._events.resolve(self._yaml.ScalarNode, event.value, event.implicit)
        try:
            return value_of(tag, event.value), tag
        except ValueError as error:
            raise _fault(event, str(error)) from None

    def _sequence(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not self._events.check_event(self._yaml.SequenceEndEvent):
            items.append(self._value(depth)[0])
        self._events.get_event()
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        while not self._events.check_event(self._yaml.MappingEndEvent):
            event = self._events.peek_event()
            key, tag = self._value(depth)
            if tag.endswith(":merge"):
                merged = _merged(event, self._value(depth)[0]) | merged
                continue
            if isinstance(key, bool | int | float):
                key = json.dumps(key)
            if not isinstance(key, str):
                raise _fault(event, "a key must be a plain word")
            if key in own:
                self._duplicates.append(f'line {event.start_mark.line + 1}: key "{key}" already set in map')
            own[key] = self._value(depth)[0]
        self._events.get_event()
        return merged | own


def _merged(event: Any, value: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in value if isinstance(value, list) else [value]:
        if not isinstance(part, dict):
            raise _fault(event, "only a mapping can be merged with <<")
        merged = part | merged
    return merged


def _fault(event: Any, why: str) -> YamlError:
    mark = event.start_mark
    return YamlError(why, mark.line + 1, mark.column + 1)
