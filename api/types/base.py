"""What every object type shares: the struct base, list-merge rules, and the scalar aliases of Kubernetes' JSON."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec

# A resource amount as manifests write it ("500m", 2, 0.5); canonical strings once defaulted.
Quantity = str | int | float
# A port number or name, a count or a percentage.
IntOrString = int | str

T = TypeVar("T")


class Object(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """Base of every Kubernetes struct.

    Unknown fields are ignored when decoding, so that a daemon one release behind still reads; user input is checked for
    them by `barque.api.decode`. `gc=False` is sound because objects are trees.
    """


class ListRule(NamedTuple):
    """How a list merges.

    `list_type` (map, set or atomic) and `keys` are server-side apply's, `strategy` and `merge_key` strategic patch's.
    """

    list_type: str
    keys: tuple[str, ...]
    strategy: str
    merge_key: str


def always(factory: type[T]) -> T:
    """A default that is written even when zero: msgspec omits only literal defaults and builtin empty factories."""
    default: T = msgspec.field(default_factory=lambda: factory())
    return default
