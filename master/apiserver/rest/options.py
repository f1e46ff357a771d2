"""What a request's query says besides the object: Kubernetes' Create-, Update-, Patch-, Delete- and ListOptions. Pure.

Names that Kubernetes does not know are ignored, as there; values that cannot be read are refused. What makes sense
together is the registry's to check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import msgspec

from barque.api.errors import ApiError, FieldError, bad_request, forbidden, invalid_object, not_supported
from barque.client.verbs import Page, Selection, WriteOptions

_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_MAX_MANAGER = 128
_LARGEST = 2**63 - 1

Query = Mapping[str, str]


def write_options(
    query: Query, kind: Literal["CreateOptions", "UpdateOptions", "PatchOptions"], user_agent: str, *, apply: bool
) -> WriteOptions:
    """The options of a write. Raises 400 and 422.

    Whoever does not say in whose name fields are to be owned is named by the program, but for an apply, which must say
    it. Unknown fields of whoever does not say what is to become of them are remarked and dropped.
    """
    if not query:
        return WriteOptions(field_manager="" if apply else manager_of(user_agent), field_validation="Warn")
    manager = query.get("fieldManager", "")
    # The registry checks it.
    validation = cast(Literal["Ignore", "Warn", "Strict"], query.get("fieldValidation") or "Warn")
    return WriteOptions(
        dry_run=_dry_run(query, kind),
        field_manager=manager or ("" if apply else manager_of(user_agent)),
        field_validation=validation,
        force=boolean(query, "force"),
    )


def manager_of(user_agent: str) -> str:
    """The program's name in a User-Agent, as Kubernetes names the owner of fields by it; "" for none."""
    name = user_agent.partition("/")[0]
    return name[:_MAX_MANAGER] if name.isprintable() else ""


def delete_options(query: Query, body: bytes) -> bytes:
    """metav1.DeleteOptions as JSON: the body where there is one, else what the query says."""
    if body:
        return body
    said: dict[str, Any] = {}
    if "gracePeriodSeconds" in query:
        said["gracePeriodSeconds"] = integer(query, "gracePeriodSeconds")
    if "orphanDependents" in query:
        said["orphanDependents"] = boolean(query, "orphanDependents")
    if query.get("propagationPolicy"):
        said["propagationPolicy"] = query["propagationPolicy"]
    if query.get("dryRun"):
        said["dryRun"] = [query["dryRun"]]
    return msgspec.json.encode({"kind": "DeleteOptions", "apiVersion": "v1", **said}) if said else b""


def selection(query: Query) -> Selection:
    return Selection(query.get("labelSelector", ""), query.get("fieldSelector", ""))


def page(query: Query) -> Page:
    """Which part of a list. Raises 400, and 422 for what only a watch may ask for."""
    if "sendInitialEvents" in query:
        why = "sendInitialEvents is forbidden for list"
        raise _refusal("ListOptions", [forbidden("sendInitialEvents", why)])
    integer(query, "timeoutSeconds")
    match = cast(Literal["", "Exact", "NotOlderThan"], query.get("resourceVersionMatch", ""))  # the registry checks it
    return Page(integer(query, "limit"), query.get("continue", ""), query.get("resourceVersion", ""), match)


def boolean(query: Query, name: str) -> bool:
    """A flag: absent is false, present without a value true, as Kubernetes reads it."""
    value = query.get(name)
    if value is None or value in _FALSE:
        return False
    return True if value == "" or value in _TRUE else _lenient(value)


def integer(query: Query, name: str) -> int:
    """A number; absent or empty is 0. Raises 400."""
    value = query.get(name, "")
    if not value:
        return 0
    digits = value[1:] if value[0] in "+-" else value
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19 or abs(int(value)) > _LARGEST:
        raise bad_request(f'strconv.ParseInt: parsing "{value[:80]}": invalid syntax')
    return int(value)


def _lenient(value: str) -> bool:
    """Kubernetes' conversion of a query's words takes whatever is neither false nor 0 for true."""
    return value.lower() not in ("false", "0")


def _dry_run(query: Query, kind: str) -> bool:
    value = query.get("dryRun", "")
    if value in ("", "All"):
        return bool(value)
    faults: Sequence[FieldError] = [not_supported("dryRun", [value], ["All"])]
    raise _refusal(kind, faults)


def _refusal(kind: str, faults: Sequence[FieldError]) -> ApiError:
    return invalid_object(kind, "meta.k8s.io", "", list(faults))
