"""The entries of `metadata.managedFields`: who owns what, in memory and on the wire.

An entry is known by its manager, operation and subresource; an updater's also by its API version. Sets are decoded only
where they are looked at and encoded only where they changed. Source: apimachinery's managedfields.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from msgspec import Raw

from barque.api.apply import fieldset
from barque.api.apply.fieldset import FieldSet
from barque.api.errors import FieldError, invalid, invalid_object, required, too_long
from barque.api.types.meta_v1 import ManagedFieldsEntry

APPLY: Literal["Apply"] = "Apply"
UPDATE: Literal["Update"] = "Update"
_FIELDS_TYPE = "FieldsV1"
# More updaters than this are of no use to a reader; the oldest are merged. Kubernetes' number.
_MAX_UPDATERS = 10
_MERGED_NAME = "ancient-changes"
_MAX_NAME_BYTES = 128

_SCALE_VERSION = "autoscaling/v1"
_REPLICAS = ("f:spec", "f:replicas")


class Manager(NamedTuple):
    """Who writes, how, through which subresource ("" for the object itself) and when (RFC 3339 to the second)."""

    name: str
    operation: Literal["Apply", "Update"]
    subresource: str = ""
    time: str = ""


class Identity(NamedTuple):
    """What tells the entries of one object apart. `version` is empty for appliers: their next apply replaces it."""

    name: str
    operation: str
    version: str
    subresource: str


class Ownership(NamedTuple):
    """One entry. `encoded` is what it was decoded from, kept where nothing of it changed."""

    identity: Identity
    version: str
    fields: FieldSet
    time: str
    encoded: ManagedFieldsEntry | None = None

    def holding(self, fields: FieldSet) -> Ownership:
        """The same entry with another set, of the same time."""
        return self if fields is self.fields else self._replace(fields=fields, encoded=None)


Managers = dict[Identity, Ownership]


def identify(manager: Manager, version: str) -> Identity:
    """The entry this manager writes to on an object of this API version."""
    of_version = "" if manager.operation == APPLY else version
    return Identity(manager.name, manager.operation, of_version, manager.subresource)


def decode(entries: Iterable[ManagedFieldsEntry]) -> Managers:
    """The entries of a stored object, which `encode` has made."""
    managers: Managers = {}
    for entry in entries:
        identity = _identity(entry)
        fields = fieldset.load(bytes(entry.fieldsV1))
        managers[identity] = Ownership(identity, entry.apiVersion, fields, entry.time, entry)
    return managers


def decode_sent(entries: Iterable[ManagedFieldsEntry]) -> Managers:
    """The entries that a client sent. Raises ValueError where one is malformed."""
    managers: Managers = {}
    for entry in entries:
        if entry.operation not in (APPLY, UPDATE):
            raise ValueError("operation must be `Apply` or `Update`")
        if not entry.apiVersion or entry.fieldsType != _FIELDS_TYPE:
            raise ValueError("a managedFields entry needs an apiVersion and the fieldsType FieldsV1")
        identity = _identity(entry)
        fields = fieldset.parse(bytes(entry.fieldsV1))
        managers[identity] = Ownership(identity, entry.apiVersion, fields, entry.time)
    return managers


def _identity(entry: ManagedFieldsEntry) -> Identity:
    of_version = "" if entry.operation == APPLY else entry.apiVersion
    return Identity(entry.manager, entry.operation, of_version, entry.subresource)


def encode(managers: Managers) -> list[ManagedFieldsEntry]:
    """The entries as objects carry them: appliers first, then by age; those that own nothing left out."""
    entries = [_encoded(ownership) for ownership in managers.values() if ownership.fields]
    if len(entries) > 1:
        entries.sort(key=lambda e: (e.operation, e.time, e.manager, e.apiVersion, e.subresource))
    return entries


def _encoded(ownership: Ownership) -> ManagedFieldsEntry:
    if ownership.encoded is not None:
        return ownership.encoded
    return ManagedFieldsEntry(
        apiVersion=ownership.version,
        fieldsType=_FIELDS_TYPE,
        fieldsV1=Raw(fieldset.render(ownership.fields)),
        manager=ownership.identity.name,
        operation=ownership.identity.operation,
        subresource=ownership.identity.subresource,
        time=ownership.time,
    )


def is_reset(entries: list[ManagedFieldsEntry]) -> bool:
    """Whether a client asks to forget all owners: a list of one empty entry."""
    return len(entries) == 1 and entries[0] == ManagedFieldsEntry()


def cap(managers: Managers) -> Managers:
    """At most ten updaters: the oldest of each API version are merged into one, as young as the youngest of them."""
    updaters = [o for o in managers.values() if o.identity.operation == UPDATE]
    if len(updaters) <= _MAX_UPDATERS:
        return managers
    capped = dict(managers)
    surplus = len(updaters) - _MAX_UPDATERS
    firsts: dict[str, Ownership] = {}
    for ownership in sorted(updaters, key=lambda o: (o.time, o.identity)):
        if surplus == 0:
            break
        version = ownership.version
        if version not in firsts:
            firsts[version] = ownership
            continue
        bucket = Identity(_MERGED_NAME, UPDATE, version, "")
        merged = capped.get(bucket) or capped.pop(firsts[version].identity)
        fields = fieldset.union(merged.fields, ownership.fields)
        del capped[ownership.identity]
        capped[bucket] = Ownership(bucket, version, fields, ownership.time)
        surplus -= 1
    return capped


def manager_name(field_manager: str, user_agent: str) -> str:
    """The name under which a request's fields are tracked: the one it gives, else its user agent's up to the "/"."""
    if field_manager:
        return field_manager
    name = "".join(c for c in user_agent.partition("/")[0] if c.isprintable())
    return name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore") or "unknown"


def check_manager(field_manager: str, operation: str) -> None:
    """Raises 422 on a name that is too long or not printable, or that is missing where it is required, on apply."""
    errors: list[FieldError] = []
    if operation == APPLY and not field_manager:
        errors.append(required("fieldManager", "is required for apply patch"))
    if len(field_manager.encode()) > _MAX_NAME_BYTES:
        errors.append(too_long("fieldManager", _MAX_NAME_BYTES))
    errors.extend(
        invalid("fieldManager", field_manager, f"invalid character U+{ord(character):04X} (at position {position})")
        for position, character in enumerate(field_manager)
        if not character.isprintable()
    )
    if errors:
        kind = "PatchOptions" if operation == APPLY else "UpdateOptions"
        raise invalid_object(kind, "meta.k8s.io", "", errors)


def scale_managed(managed: list[ManagedFieldsEntry]) -> list[ManagedFieldsEntry]:
    """What a Scale object shows of its parent's owners: those of `.spec.replicas`, which has the same path in both."""
    replicas: FieldSet = {"f:spec": {"f:replicas": fieldset.LEAF}}
    shown: Managers = {}
    for identity, ownership in decode(managed).items():
        if fieldset.has(ownership.fields, _REPLICAS):
            version = _SCALE_VERSION if identity.version else ""
            scaled = identity._replace(version=version)
            shown[scaled] = Ownership(scaled, _SCALE_VERSION, replicas, ownership.time)
    return encode(shown)
