"""Validation of Event."""

from __future__ import annotations

from barque.api.errors import FieldError, invalid, required
from barque.api.types.core_v1 import Event
from barque.api.validation.checks import not_negative


def check(event: Event) -> list[FieldError]:
    """An event lives in the namespace of what it is about; of a cluster-wide object, in any."""
    if event.involvedObject is None:
        return [required("involvedObject")]
    namespace = event.involvedObject.namespace
    faults = not_negative("count", event.count)
    if namespace and namespace != event.metadata.namespace:
        faults.append(invalid("involvedObject.namespace", namespace, "does not match event.namespace"))
    return faults
