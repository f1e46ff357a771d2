"""What people type: resource types and names in kubectl's forms, and durations. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from barque.api import resources
from barque.api.errors import ApiError
from barque.api.resources import Resource
from barque.cli.output import CliError

# Within a category kubectl shows what users make before what is made for them.
_LAST_IN_CATEGORY = ("replicasets",)
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Wanted(NamedTuple):
    """One resource type asked for; `names` is empty where all of them are meant."""

    resource: Resource
    names: tuple[str, ...] = ()


def resource_of(word: str) -> Resource:
    """The resource type a person means. An unknown one is refused with near names."""
    try:
        return resources.by_word(word)
    except ApiError as error:
        raise CliError(error.message) from None


def parse_wanted(arguments: Sequence[str], *, verb: str, example: str = "pods") -> list[Wanted]:
    """`pods`, `pods,svc`, `all`, `pod a b`, `pod/a svc/b` as the resource types and names they mean.

    The order asked for is kept; names of one type asked for in a row stay together. `example` is a type for the verb.
    """
    if not arguments:
        raise CliError(f"say which resource type, as in `barque {verb} {example}`; `barque api-resources` lists them")
    if any("/" in argument for argument in arguments):
        return _parse_slashed(arguments, verb, example)
    types = [r for word in arguments[0].split(",") for r in _resources_of(word)]
    names = tuple(arguments[1:])
    if names and len(types) > 1 and arguments[0] == "all":
        raise CliError("names cannot be given with several resource types at once; use type/name")
    return [Wanted(resource, names) for resource in dict.fromkeys(types)]


def _parse_slashed(arguments: Sequence[str], verb: str, example: str) -> list[Wanted]:
    found: list[Wanted] = []
    for argument in arguments:
        word, slash, name = argument.partition("/")
        if not slash:
            raise CliError(
                f"{argument!r} is not type/name; give either types and names apart (`barque {verb} {example} a b`) "
                f"or every object as type/name (`barque {verb} {example}/a {example}/b`)"
            )
        if not word or not name or "/" in name or "," in word:
            raise CliError(f"arguments in type/name form must have one type and one name, not {argument!r}")
        resource = resource_of(word)
        if found and found[-1].resource is resource:
            found[-1] = Wanted(resource, (*found[-1].names, name))
        else:
            found.append(Wanted(resource, (name,)))
    return found


def parse_one(arguments: Sequence[str], *, verb: str, default: str = "") -> tuple[Resource, str]:
    """Exactly one object: `deployment/web`, `deployment web`, or a bare name of the `default` type."""
    if len(arguments) == 1 and "/" not in arguments[0] and default:
        return resource_of(default), arguments[0]
    wanted = parse_wanted(arguments, verb=verb, example=default or "deployment")
    if len(wanted) != 1 or len(wanted[0].names) != 1:
        raise CliError(f"give exactly one object as type/name, as in `barque {verb} {default or 'deployment'}/web`")
    return wanted[0].resource, wanted[0].names[0]


def _resources_of(word: str) -> list[Resource]:
    category = resources.by_category(word.lower())
    if category:
        return sorted(category, key=lambda r: r.plural in _LAST_IN_CATEGORY)
    return [resource_of(word)]


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `1m30s`, `500ms`, `2h`. Raises `CliError` on anything else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise CliError(f"{text!r} is not a duration; write it as 30s, 5m or 1h30m")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
