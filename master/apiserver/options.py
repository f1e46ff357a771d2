"""What a caller says besides the object itself: checked in Kubernetes' words before anything is read or written.

Follows the validation of metav1's CreateOptions, UpdateOptions, PatchOptions and DeleteOptions.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from barque.api.errors import (
    ApiError,
    FieldError,
    bad_request,
    forbidden,
    invalid,
    invalid_object,
    not_supported,
    required,
    too_long,
)
from barque.api.resources import RESOURCES
from barque.api.types.meta_v1 import DeleteOptions
from barque.api.unserved import UNSERVED
from barque.api.validation.checks import not_negative
from barque.client.verbs import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, WriteOptions
from barque.master.auth.identity import User

_MAX_MANAGER_BYTES = 128
_VALIDATIONS = ("", "Ignore", "Strict", "Warn")
_PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)
_POLICIES = ("Orphan", "Foreground", "Background")
# Kubernetes knows its options as of every group and version: clients write that of what they delete.
_OPTION_VERSIONS = frozenset(
    ("", "meta.k8s.io/v1", *(r.api_version for r in RESOURCES), *(u.api_version for u in UNSERVED))
)
# Under this name stand the fields that the workers write, whichever node they are of.
_WORKERS = "barque-worker"


def check_write(kind: Literal["CreateOptions", "UpdateOptions", "PatchOptions"], options: WriteOptions) -> None:
    """Options of a create, an update or a patch that is no apply. Raises 422."""
    if options.force:
        why = "may not be specified for non-apply patch"
        raise _refusal(kind, [forbidden("force", why), *_faults(options)])
    if options.field_manager or options.field_validation:
        faults = _faults(options)
        if faults:
            raise _refusal(kind, faults)


def check_apply(options: WriteOptions) -> None:
    """Options of a server-side apply. Raises 422."""
    faults = _faults(options)
    if not options.field_manager:
        faults.insert(0, required("fieldManager", "is required for apply patch"))
    if faults:
        raise _refusal("PatchOptions", faults)


def patch_type(content_type: str) -> str:
    """Which of the four patches a media type means. Raises 415."""
    media_type = content_type.partition(";")[0].strip()
    if media_type not in _PATCH_TYPES:
        why = "the body of the request was in an unknown format - accepted media types include: "
        raise ApiError(415, "UnsupportedMediaType", why + ", ".join(_PATCH_TYPES))
    return media_type


def manager_name(options: WriteOptions, user: User) -> str:
    """Who is to own the fields that are written: whom the caller names, else what the caller is known as."""
    if options.field_manager:
        return options.field_manager
    if user.node:
        return _WORKERS
    # `barque:scheduler` and `barque:master:m1` are parts of the cluster; which master it was is of no interest.
    return "-".join(user.name.split(":")[:2])


def read_delete(body: bytes) -> DeleteOptions:
    """metav1.DeleteOptions; empty for the defaults. Raises 400 or 422."""
    if not body:
        return DeleteOptions()
    try:
        options = msgspec.json.decode(body, type=DeleteOptions)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as unreadable:
        raise bad_request(f"the delete options cannot be read: {unreadable}") from None
    if options.kind not in ("", "DeleteOptions") or options.apiVersion not in _OPTION_VERSIONS:
        raise bad_request(f"decoded object cannot be converted to DeleteOptions: {options.apiVersion} {options.kind}")
    errors = []
    if options.propagationPolicy and options.orphanDependents is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(invalid("propagationPolicy", options.propagationPolicy, why))
    if options.propagationPolicy not in ("", *_POLICIES):
        errors.append(not_supported("propagationPolicy", options.propagationPolicy, [*_POLICIES, "nil"]))
    # Below zero means something else; what is above has an end that no date tells.
    errors += not_negative("gracePeriodSeconds", max(0, options.gracePeriodSeconds or 0))
    if options.dryRun not in ([], ["All"]):
        errors.append(not_supported("dryRun", options.dryRun, ["All"]))
    if options.ignoreStoreReadErrorWithClusterBreakingPotential:
        path = "ignoreStoreReadErrorWithClusterBreakingPotential"
        errors.append(invalid(path, True, "Barque stops on state it cannot read rather than deleting it unread"))
    if errors:
        raise invalid_object("DeleteOptions", "meta.k8s.io", "", errors)
    return options


def _faults(options: WriteOptions) -> list[FieldError]:
    faults = []
    manager = options.field_manager
    if len(manager.encode(errors="surrogatepass")) > _MAX_MANAGER_BYTES:
        faults.append(too_long("fieldManager", _MAX_MANAGER_BYTES))
    if not manager.isprintable():
        place, character = next((i, c) for i, c in enumerate(manager) if not c.isprintable())
        why = f"invalid character U+{ord(character):04X} (at position {place})"
        faults.append(invalid("fieldManager", manager, why))
    if options.field_validation not in _VALIDATIONS:
        faults.append(not_supported("fieldValidation", options.field_validation, list(_VALIDATIONS)))
    return faults


def _refusal(kind: str, faults: list[FieldError]) -> ApiError:
    return invalid_object(kind, "meta.k8s.io", "", faults)
