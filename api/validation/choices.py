"""The small checks that the parts of a pod share: enumerations, ids, paths of files, addresses.

Supported values are listed in the order in which Kubernetes lists them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from barque.api.errors import FieldError, invalid, not_supported, required
from barque.api.validation.checks import INT32_MAX

_MAX_MODE = 0o777
_ANY_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def choice(path: str, value: str, allowed: Sequence[str]) -> list[FieldError]:
    """One of `allowed`; empty is a fault of its own."""
    if value in allowed:
        return []
    return [not_supported(path, value, list(allowed))] if value else [required(path)]


def choice_if_set(path: str, value: str | None, allowed: Sequence[str]) -> list[FieldError]:
    """One of `allowed`, or nothing."""
    return choice(path, value, allowed) if value else []


def within(path: str, number: int | None, lowest: int, highest: int) -> list[FieldError]:
    if number is None or lowest <= number <= highest:
        return []
    return [invalid(path, number, f"must be between {lowest} and {highest}, inclusive")]


def unix_id(path: str, number: int | None) -> list[FieldError]:
    """A user's or a group's number."""
    return within(path, number, 0, INT32_MAX)


def positive(path: str, number: int) -> list[FieldError]:
    if number <= 0:
        return [invalid(path, number, "must be greater than zero")]
    return [invalid(path, number, f"must be less than or equal to {INT32_MAX}")] if number > INT32_MAX else []


def too_many(path: str, count: int, most: int) -> list[FieldError]:
    """The fault of a list with more than `most` entries."""
    if count <= most:
        return []
    return [FieldError(path, "FieldValueTooMany", f"Too many: {count}: must have at most {most} items")]


def file_mode(path: str, mode: int | None) -> list[FieldError]:
    if mode is None or 0 <= mode <= _MAX_MODE:
        return []
    return [invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive")]


def no_backsteps(path: str, target: str) -> list[FieldError]:
    return [invalid(path, target, "must not contain '..'")] if ".." in target.split("/") else []


def descending(path: str, target: str) -> list[FieldError]:
    """A path that leads down from wherever it starts."""
    faults = [invalid(path, target, "must be a relative path")] if target.startswith("/") else []
    return [*faults, *no_backsteps(path, target)]


def own_file(path: str, target: str) -> list[FieldError]:
    """A file of a volume: stays inside it, and leaves the names that begin with two dots to the volume itself."""
    faults = descending(path, target)
    if target.startswith("..") and not target.startswith("../"):
        faults.append(invalid(path, target, "must not start with '..'"))
    return faults


def ip_address(path: str, address: str) -> list[FieldError]:
    """An address in the one form that no two readers take differently."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        why = "must not have leading 0s" if _has_leading_zeros(address) else _ANY_ADDRESS
        return [invalid(path, address, why)]
    if "%" in address:
        return [invalid(path, address, _ANY_ADDRESS)]
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        return [invalid(path, address, "must not be an IPv4-mapped IPv6 address")]
    return []


def _has_leading_zeros(address: str) -> bool:
    """Whether the address would be one but for zeros that some readers take for octal."""
    parts = address.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) <= 16 for part in parts):
        return False
    return all(int(part) <= 255 for part in parts)
