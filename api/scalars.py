"""Which plain YAML scalars are not strings: the rules of Kubernetes' own YAML reader, used to read and to write.

PyYAML's defaults differ where it hurts: to it `1:30` is 90, `2026-01-01` a date, and `1e3` and `0o644` are text.
"""

from __future__ import annotations

import re
from typing import Any

_TAG = "tag:yaml.org,2002:"

# (tag, pattern, characters it may begin with)
READ_RULES: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?(0b[01_]+|0o[0-7_]+|0[0-7_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
)
# Written in quotes besides, because other readers take them for a date or a boolean.
WRITE_RULES: tuple[tuple[str, str, str], ...] = (
    *READ_RULES,
    ("timestamp", r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?", "0123456789"),
    ("bool", r"[yYnN]", "yYnN"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("int", r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?", "-+0123456789"),
)


def with_rules(base: type[Any], rules: tuple[tuple[str, str, str], ...]) -> type[Any]:
    """A PyYAML loader or dumper like `base` that follows `rules` alone."""
    made = type("Ruled", (base,), {"yaml_implicit_resolvers": {}})
    for tag, pattern, first in rules:
        made.add_implicit_resolver(  # type: ignore[attr-defined]
            _TAG + tag, re.compile(f"^(?:{pattern})$"), ["" if c == "\0" else c for c in first]
        )
    return made


def value_of(tag: str, text: str) -> Any:
    """What a scalar with that resolved tag means. Raises `ValueError` for a tag that no API value has."""
    kind = tag.removeprefix(_TAG)
    if kind in ("str", "binary", "merge", "timestamp"):
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("yes", "true", "on")
    if kind == "int":
        return _integer(text.replace("_", ""))
    if kind == "float":
        return float(text.replace("_", ""))
    raise ValueError(f"the tag {tag} has no meaning in a manifest")


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.removeprefix("+"))
    if len(digits) > 1 and digits[0] == "0" and digits[1] not in "box":
        return sign * int(digits, 8)
    return sign * int(digits, 0)
