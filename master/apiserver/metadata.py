"""The system's part of an object's metadata: what a create stamps, and what an update may not change.

Follows Kubernetes' `rest.BeforeCreate` and `rest.BeforeUpdate`. Who owns which field is settled last of all, by
`barque.api.apply`, which also judges the managedFields that a client sends.
"""

from __future__ import annotations

from random import Random

from barque.api.errors import ApiError, bad_request, conflict, invalid, invalid_object
from barque.api.resources import Resource
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.clock import random_uuid
from barque.client.verbs import Target

# Letters and digits that spell no words, as in Kubernetes' generated names.
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_LONGEST_GENERATED_NAME = 63


def match_namespace(meta: ObjectMeta, target: Target) -> None:
    """Give the object the namespace of the request. Raises 400 where it names another one."""
    if not target.resource.namespaced:
        if target.namespace or meta.namespace:
            raise bad_request(f"{target.resource.plural} are not namespaced; leave metadata.namespace out")
        return
    if not target.namespace:
        raise bad_request("an empty namespace may not be set during creation")
    if meta.namespace and meta.namespace != target.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    meta.namespace = target.namespace


def match_name(meta: ObjectMeta, target: Target) -> None:
    """Give the object the name of the request. Raises 400 where it has another one."""
    if target.name and meta.name and meta.name != target.name:
        raise bad_request(f"the name of the object ({meta.name}) does not match the name on the URL ({target.name})")
    meta.name = meta.name or target.name


def stamp(meta: ObjectMeta, now: str, entropy: Random, *, generation: bool) -> None:
    """Make the metadata that of a new object, born `now` (RFC 3339)."""
    if meta.resourceVersion not in ("", "0"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    meta.resourceVersion = ""
    meta.uid = random_uuid(entropy)
    meta.creationTimestamp = now
    meta.deletionTimestamp = ""
    meta.deletionGracePeriodSeconds = None
    meta.generation = 1 if generation else None
    meta.selfLink = ""


def generated_name(prefix: str, entropy: Random) -> str:
    """`prefix` and five random characters, never longer than a DNS label."""
    suffix = "".join(entropy.choices(_SUFFIX_ALPHABET, k=_SUFFIX_LENGTH))
    return prefix[: _LONGEST_GENERATED_NAME - _SUFFIX_LENGTH] + suffix


def no_name_found(taken: ApiError) -> ApiError:
    """409: so many generated names were taken that the user must choose; `taken` is what the last was refused with."""
    why = f"{taken.message}, the server was not able to generate a unique name for the object"
    return ApiError(taken.code, taken.reason, why, taken.details)


def expected_revision(meta: ObjectMeta) -> int | None:
    """The revision the caller has read, None ("" or "0") where any will do; takes it out of the object."""
    text, meta.resourceVersion = meta.resourceVersion, ""
    return parse_revision(text) or None if text else None


def parse_revision(text: str, path: str = "metadata.resourceVersion") -> int:
    """A resourceVersion as a revision; `path` is where it stood. Raises 400."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise bad_request(str(invalid(path, text, "must be a resource version of this cluster")))
    return int(text)


def keep_system_fields(meta: ObjectMeta, old: ObjectMeta, target: Target) -> None:
    """Carry over what only the system writes. Raises 409 where the caller means another object of the same name."""
    if meta.uid and meta.uid != old.uid:
        raise stale_uid(target, meta.uid, old.uid)
    meta.uid = old.uid
    meta.creationTimestamp = old.creationTimestamp
    meta.deletionTimestamp = old.deletionTimestamp
    meta.deletionGracePeriodSeconds = old.deletionGracePeriodSeconds
    meta.generateName = meta.generateName or old.generateName
    meta.generation = old.generation
    meta.selfLink = ""


def revision_missing(target: Target) -> ApiError:
    """422: an update of this kind must say which state it was made on."""
    resource = target.resource
    fault = invalid("metadata.resourceVersion", 0, "must be specified for an update")
    return invalid_object(resource.kind, resource.group, target.name, [fault])


def changed_meanwhile(target: Target) -> ApiError:
    """409: what the caller has read is no longer current."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(target.resource.plural, target.resource.group, target.name, why)


def stale_uid(target: Target, wanted: str, found: str) -> ApiError:
    why = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    return conflict(target.resource.plural, target.resource.group, target.name, why)


def gone_uid(target: Target, wanted: str) -> ApiError:
    """409: a configuration means one certain object, and there is none."""
    why = f"uid mismatch: the provided object specified uid {wanted}, and no existing object was found"
    return conflict(target.resource.plural, target.resource.group, target.name, why)


def unmet(kind: Resource, name: str, what: str, wanted: str, found: str, since: str) -> ApiError:
    """409: a delete means another state of the object, or another object of its name."""
    why = f"the {what} in the precondition ({wanted}) does not match the {what} in record ({found})"
    return conflict(kind.kind, kind.group, name, f"{why}. The object might have been {since}")
