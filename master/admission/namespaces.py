"""The life of namespaces: nothing is created in one that is absent or going away, and three are never deleted."""

from __future__ import annotations

from barque.api.errors import ApiError, not_found, refused
from barque.api.resources import Resource
from barque.api.types.meta_v1 import StatusCause
from barque.master.store.port import FieldIs, Key, Stored

NAMESPACES = "namespaces"
PHASE = "status.phase"
ACTIVE = "Active"
TERMINATING = "Terminating"
IMMORTAL = ("default", "kube-system", "kube-public")


def key(name: str) -> Key:
    return Key(NAMESPACES, "", name)


def is_live(name: str) -> FieldIs:
    """The compare that a create in this namespace carries."""
    return FieldIs(key(name), PHASE, ACTIVE)


def check_live(namespace: Stored | None, resource: Resource, name: str, namespace_name: str) -> None:
    """Refuse the creation of `name` where its namespace is absent (404) or terminating (403)."""
    if namespace is None:
        raise not_found(NAMESPACES, "", namespace_name)
    if namespace.fields.get(PHASE) != ACTIVE:
        why = f"unable to create new content in namespace {namespace_name} because it is being terminated"
        error = refused(resource.plural, resource.group, name, why)
        if error.details is not None:
            cause = f"namespace {namespace_name} is being terminated"
            error.details.causes.append(
                StatusCause(field="metadata.namespace", message=cause, reason="NamespaceTerminating")
            )
        raise error


def check_deletable(name: str) -> None:
    if name in IMMORTAL:
        raise refused(NAMESPACES, "", name, "this namespace may not be deleted")


def not_empty(name: str, left: list[str]) -> ApiError:
    """409: the namespace is terminating and these resources still have objects in it."""
    message = f'namespaces "{name}" is terminating and still holds {", ".join(left)}'
    return ApiError(409, "Conflict", message)
