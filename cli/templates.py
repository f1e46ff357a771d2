"""Changes of a pod template's containers: image, environment, resources. Pure; in and out are plain dictionaries.

Each returns the containers that change as a strategic merge patch has them, by name; nothing where all is so already.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from barque.api import names
from barque.cli.output import CliError

Containers = list[dict[str, Any]]
# The lists of containers that a template has, in the order in which they are looked through.
LISTS = ("initContainers", "containers")


class Field(NamedTuple):
    """Where a kind of object has its pod spec."""

    path: tuple[str, ...]

    def spec_of(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        found: Any = obj
        for step in self.path:
            found = found.get(step) or {}
        return dict(found)

    def patch(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = dict(spec)
        for step in reversed(self.path):
            made = {step: made}
        return made


def field_of(plural: str) -> Field:
    """Raises `CliError` for what has no containers."""
    match plural:
        case "pods":
            return Field(("spec",))
        case "cronjobs":
            return Field(("spec", "jobTemplate", "spec", "template", "spec"))
        case "deployments" | "replicasets" | "statefulsets" | "daemonsets" | "replicationcontrollers" | "jobs":
            return Field(("spec", "template", "spec"))
    raise CliError(f"{plural} have no containers")


def parse_images(words: Sequence[str]) -> dict[str, str]:
    """`CONTAINER=IMAGE`, `*` for every container. Raises `CliError`."""
    images: dict[str, str] = {}
    for word in words:
        name, equals, image = word.partition("=")
        if not name or not equals or not image:
            raise CliError(f"invalid image spec: {word}; it is CONTAINER=IMAGE, as in web=nginx:1.25")
        images[name] = image
    if "*" in images and len(images) > 1:
        raise CliError("all containers are already specified by *, but also some by name")
    return images


def change_images(spec: Mapping[str, Any], images: Mapping[str, str]) -> dict[str, Containers]:
    """Raises `CliError` for a name that no container has."""
    known = {container["name"] for listed in LISTS for container in spec.get(listed, ())}
    for name in images:
        if name != "*" and name not in known:
            raise CliError(f'unable to find container named "{name}"')

    def change(container: Mapping[str, Any]) -> dict[str, Any]:
        image = images.get("*", images.get(container["name"]))
        return {"image": image} if image is not None and image != container.get("image") else {}

    return _each(spec, "*", change)


class Variables(NamedTuple):
    """Environment variables to set, and names of those to take out."""

    wanted: dict[str, str]
    removed: tuple[str, ...] = ()


def parse_variables(words: Sequence[str]) -> Variables:
    """`NAME=VALUE`, `NAME-`. Raises `CliError`."""
    wanted: dict[str, str] = {}
    removed: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals and word.endswith("-"):
            removed.append(word.removesuffix("-"))
            continue
        faults = names.env_var_name(name)
        if not equals or faults:
            why = f": {faults[0]}" if faults and equals else "; it is NAME=VALUE, or NAME- to take it out"
            raise CliError(f"invalid environment variable {word!r}{why}")
        wanted[name] = value
    both = sorted(set(wanted) & set(removed))
    if both:
        raise CliError(f'"{both[0]}" is set and removed in one command')
    return Variables(wanted, tuple(removed))


def change_variables(
    spec: Mapping[str, Any], variables: Variables, containers: str = "*", *, overwrite: bool = True
) -> dict[str, Containers]:
    """Raises `CliError` where a value is set that is set already, unless they may be overwritten."""

    def change(container: Mapping[str, Any]) -> dict[str, Any]:
        present = {entry["name"]: entry for entry in container.get("env", ())}
        changes: list[dict[str, Any]] = []
        for name, value in variables.wanted.items():
            if name in present and present[name] == {"name": name, "value": value}:
                continue
            if name in present and not overwrite:
                raise CliError(
                    f"'{name}' already has a value ({present[name].get('value', '')}), and --overwrite is false"
                )
            # A value that came from elsewhere so far comes from there no more.
            other = {"valueFrom": None} if "valueFrom" in present.get(name, {}) else {}
            changes.append({"name": name, "value": value, **other})
        changes += [{"name": name, "$patch": "delete"} for name in variables.removed if name in present]
        return {"env": changes} if changes else {}

    return _each(spec, containers, change)


def parse_amounts(text: str, option: str) -> dict[str, str]:
    """`cpu=200m,memory=512Mi`; "" is nothing. Raises `CliError`."""
    from barque.api.quantity import parse

    amounts: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, amount = part.partition("=")
        if not name or not equals:
            raise CliError(f"invalid {option}: {part}; it is RESOURCE=AMOUNT, as in cpu=200m,memory=512Mi")
        try:
            parse(amount)
        except ValueError as error:
            raise CliError(f"invalid {option}: {part}: {error}") from None
        amounts[name] = amount
    return amounts


def change_resources(
    spec: Mapping[str, Any], limits: Mapping[str, str], requests: Mapping[str, str], containers: str = "*"
) -> dict[str, Containers]:
    def change(container: Mapping[str, Any]) -> dict[str, Any]:
        present = container.get("resources") or {}
        wanted = {"limits": limits, "requests": requests}
        changed = {
            kind: new
            for kind, amounts in wanted.items()
            if (new := {n: a for n, a in amounts.items() if (present.get(kind) or {}).get(n) != a})
        }
        return {"resources": changed} if changed else {}

    # An init container has its own needs, so it is meant only where it is named.
    return _each(spec, containers, change, lists=LISTS if containers != "*" else ("containers",))


def _each(spec: Mapping[str, Any], containers: str, change: Any, lists: Iterable[str] = LISTS) -> dict[str, Containers]:
    """The changes of the containers whose names match the pattern. Raises `CliError` where none does."""
    matched = False
    changed: dict[str, Containers] = {}
    for listed in lists:
        for container in spec.get(listed, ()):
            if not fnmatch.fnmatchcase(container["name"], containers):
                continue
            matched = True
            difference = change(container)
            if difference:
                changed.setdefault(listed, []).append({"name": container["name"], **difference})
    if not matched:
        raise CliError(f'unable to find container named "{containers}"')
    return changed
