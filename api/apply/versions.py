"""The owners of fields of an object that its kind is served as in several versions.

An entry names the fields as the version did that it was written through. Within a write all entries speak of the fields
as the version in hand names them; what did not change goes back as it was, the rest in its own version's names.
"""

from __future__ import annotations

from barque.api.apply import fieldset
from barque.api.apply.fieldset import FieldSet
from barque.api.apply.managers import Managers
from barque.api.conversion import renamed_members
from barque.api.types.base import Object


def seen_from(managers: Managers, kind: type[Object]) -> Managers:
    """The entries with their fields as this version names them."""
    return _translated(managers, kind, back=False)


def as_written(managers: Managers, kind: type[Object]) -> Managers:
    """The entries with their fields as their own versions name them."""
    return _translated(managers, kind, back=True)


def _translated(managers: Managers, kind: type[Object], *, back: bool) -> Managers:
    translated = {}
    for identity, ownership in managers.items():
        names = renamed_members(kind, ownership.version, back=back)
        if names and not (back and ownership.encoded is not None):
            ownership = ownership._replace(fields=_renamed(ownership.fields, names))
        translated[identity] = ownership
    return translated


def _renamed(fields: FieldSet, names: dict[str, str]) -> FieldSet:
    return fieldset.in_order({names.get(element, element): below for element, below in fields.items()})
