"""How objects are called in messages: `deployment.apps/web`, `deployment.apps "web"`. Pure."""

from __future__ import annotations

from barque.api.resources import Resource


def singular(resource: Resource) -> str:
    """`pod`, `deployment.apps`."""
    return f"{resource.singular}.{resource.group}" if resource.group else resource.singular


def slashed(resource: Resource, name: str) -> str:
    """`deployment.apps/web`: also what `-o name` prints and what every verb takes."""
    return f"{singular(resource)}/{name}"


def quoted(resource: Resource, name: str) -> str:
    """`deployment.apps "web"`."""
    return f'{singular(resource)} "{name}"'
