"""The objects that simulated clients write: small, and each telling the id of the write that made it."""

from __future__ import annotations

from barque.master.store.port import Compare, Key, Op

RESOURCES = ("configmaps", "secrets")
KEYS = tuple(
    Key(resource, "default", name) for resource, names in zip(RESOURCES, ("abcdef", "s"), strict=True) for name in names
)

_START = b'{"metadata":{"resourceVersion":"'
_MIDDLE = b'"},"filler":"'
_END = b'","write":'


def put(key: Key, write: int, *compares: Compare, name: tuple[str, int] = ("", 0), filler: int = 0) -> Op:
    """An op that writes the object of this write; `name` as in `Op` (boot id and sequence)."""
    json = b"%b%b%b%b%d}" % (_START, _MIDDLE, b"." * filler, _END, write)
    return Op("put", key, json, len(_START), compares=compares, boot_id=name[0], sequence=name[1])


def delete(key: Key, *compares: Compare, name: tuple[str, int] = ("", 0)) -> Op:
    return Op("delete", key, compares=compares, boot_id=name[0], sequence=name[1])


def write_of(json: bytes) -> int:
    """The id of the write that made these bytes."""
    return int(json[json.rindex(b":") + 1 : -1])
