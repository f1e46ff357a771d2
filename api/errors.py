"""The errors a user meets, as Kubernetes words them.

`ApiError` carries a Kubernetes `Status`; every room raises it for what the user asked wrongly or the state refuses.
Unexpected failures are other exceptions and are never turned into one of these.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from barque.api.types.meta_v1 import ListMeta, Status, StatusCause, StatusDetails

# Each fault stands twice in an answer, and a body of a megabyte may have a hundred thousand of hundreds of characters:
# who reads slowly would hold all that in the master's memory.
_TOLD_CHARACTERS = 256 * 1024


class FieldError(NamedTuple):
    """One fault in an object: `reason` is a StatusCause reason (FieldValueRequired, …), `message` the whole wording."""

    path: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def required(path: str, detail: str = "") -> FieldError:
    return FieldError(path, "FieldValueRequired", f"Required value{f': {detail}' if detail else ''}")


def invalid(path: str, value: object, detail: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {_show(value)}: {detail}")


def forbidden(path: str, detail: str) -> FieldError:
    return FieldError(path, "FieldValueForbidden", f"Forbidden: {detail}")


def duplicate(path: str, value: object) -> FieldError:
    return FieldError(path, "FieldValueDuplicate", f"Duplicate value: {_show(value)}")


def not_supported(path: str, value: object, allowed: list[str]) -> FieldError:
    values = ", ".join(f'"{a}"' for a in allowed)
    return FieldError(path, "FieldValueNotSupported", f"Unsupported value: {_show(value)}: supported values: {values}")


def not_found_value(path: str, value: object) -> FieldError:
    return FieldError(path, "FieldValueNotFound", f"Not found: {_show(value)}")


def too_long(path: str, max_bytes: int) -> FieldError:
    return FieldError(path, "FieldValueTooLong", f"Too long: may not be more than {max_bytes} bytes")


def _show(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return msgspec.json.encode(value).decode()


class ApiError(Exception):
    """A refused request: HTTP code, Kubernetes reason, one sentence, and the faulty fields if any.

    `continue_` is the token by which a list that has lost its revision can be carried on with at the newest one.
    """

    def __init__(
        self, code: int, reason: str, message: str, details: StatusDetails | None = None, continue_: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.continue_ = continue_

    def status(self) -> Status:
        """The `Status` object that travels to the client."""
        return Status(
            metadata=ListMeta(continue_=self.continue_),
            status="Failure",
            code=self.code,
            reason=self.reason,
            message=self.message,
            details=self.details,
        )

    @classmethod
    def from_status(cls, status: Status) -> ApiError:
        return cls(status.code or 500, status.reason, status.message, status.details, status.metadata.continue_)


def invalid_object(kind: str, group: str, name: str, errors: list[FieldError]) -> ApiError:
    """422: the object's fields are wrong; every fault is named, or as many as somebody may want to read."""
    subject = f"{kind}.{group}" if group else kind
    told = _told(errors)
    words = [*map(str, told), *([f"and {len(errors) - len(told)} more"] if len(told) < len(errors) else [])]
    listed = words[0] if len(words) == 1 else "[" + ", ".join(words) + "]"
    causes = [StatusCause(field=e.path, reason=e.reason, message=e.message) for e in told]
    details = StatusDetails(name=name, group=group, kind=kind, causes=causes)
    return ApiError(422, "Invalid", f'{subject} "{name}" is invalid: {listed}', details)


def _told(errors: list[FieldError]) -> list[FieldError]:
    """The first ones, as many as fit; one at least."""
    size = 0
    for number, error in enumerate(errors):
        size += len(error.path) + len(error.message)
        if number and size > _TOLD_CHARACTERS:
            return errors[:number]
    return errors


def not_found(resource: str, group: str, name: str) -> ApiError:
    """404: no such object; `resource` is the plural."""
    subject = f"{resource}.{group}" if group else resource
    return ApiError(
        404, "NotFound", f'{subject} "{name}" not found', StatusDetails(name=name, group=group, kind=resource)
    )


def already_exists(resource: str, group: str, name: str) -> ApiError:
    subject = f"{resource}.{group}" if group else resource
    details = StatusDetails(name=name, group=group, kind=resource)
    return ApiError(409, "AlreadyExists", f'{subject} "{name}" already exists', details)


def conflict(resource: str, group: str, name: str, why: str) -> ApiError:
    """409: the object has changed since the caller read it, or its uid differs."""
    subject = f"{resource}.{group}" if group else resource
    message = f'Operation cannot be fulfilled on {subject} "{name}": {why}'
    return ApiError(409, "Conflict", message, StatusDetails(name=name, group=group, kind=resource))


def refused(resource: str, group: str, name: str, why: str) -> ApiError:
    """403: allowed to ask, but the cluster's state forbids it (a namespace being deleted, say)."""
    subject = f"{resource}.{group}" if group else resource
    details = StatusDetails(name=name, group=group, kind=resource)
    return ApiError(403, "Forbidden", f'{subject} "{name}" is forbidden: {why}', details)


def not_found_path() -> ApiError:
    """404 for a path or resource that the server does not know."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def unauthorized(why: str) -> ApiError:
    return ApiError(401, "Unauthorized", why)


def bad_request(why: str) -> ApiError:
    return ApiError(400, "BadRequest", why)


def method_not_allowed(verb: str, resource: str) -> ApiError:
    return ApiError(405, "MethodNotAllowed", f"{verb} is not supported on resources of kind {resource!r}")


def expired(why: str, continue_: str = "") -> ApiError:
    """410: the revision asked for is no longer in the history; list again, or go on from `continue_`."""
    return ApiError(410, "Expired", why, continue_=continue_)


def too_large_revision(wanted: int, current: int) -> ApiError:
    """504: the revision asked for is not reached yet, and was not within the time a read waits for one."""
    cause = StatusCause(reason="ResourceVersionTooLarge", message="Too large resource version")
    details = StatusDetails(causes=[cause], retryAfterSeconds=1)
    message = f"Timeout: Too large resource version: {wanted}, current: {current}"
    return ApiError(504, "Timeout", message, details)


def too_large_entity(limit_bytes: int) -> ApiError:
    """413: the object is larger than the cluster keeps, or the request than it reads."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit_bytes}")


def too_many_requests(why: str) -> ApiError:
    return ApiError(429, "TooManyRequests", why)


def unavailable(why: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", why)


def outcome_unknown(why: str) -> ApiError:
    """504: the write may or may not have happened; read before trying again."""
    return ApiError(504, "Timeout", f"outcome unknown: {why}")


def internal(why: str) -> ApiError:
    return ApiError(500, "InternalError", why)
