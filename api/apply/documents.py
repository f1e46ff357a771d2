"""Objects as the documents whose fields are owned.

Nobody owns what the system sets (`metadata.uid`, `resourceVersion`, …) nor what tells an object apart, and a write
through one door owns nothing of what only another may write: `status` belongs to the status subresource.
Source: apimachinery's stripMeta, and the reset fields of Kubernetes' strategies.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from barque.api import codec
from barque.api.types.base import Object

Document = dict[str, Any]

STATUS = "status"
# What is never owned, of every object and of its metadata.
_IDENTITY = ("apiVersion", "kind")
_SYSTEM_METADATA = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
)


def document_of(obj: Any) -> Document:
    """The whole object but its managedFields."""
    bare = replace(obj, metadata=replace(obj.metadata, managedFields=[])) if obj.metadata.managedFields else obj
    document: Document = codec.to_builtins(bare)
    return document


def written_through(document: Document, subresource: str) -> Document:
    """The document without what a write through this subresource ("" for the object itself) does not reach."""
    if subresource == STATUS:
        return {name: value for name, value in document.items() if name in (*_IDENTITY, "metadata", STATUS)}
    return {name: value for name, value in document.items() if name != STATUS}


def trackable(document: Document, subresource: str) -> Document:
    """What of the document a writer through this subresource may own."""
    if subresource == STATUS:
        return {STATUS: document[STATUS]} if STATUS in document else {}
    tracked = {name: value for name, value in document.items() if name != STATUS and name not in _IDENTITY}
    metadata = tracked.get("metadata")
    if isinstance(metadata, dict):
        own = {name: value for name, value in metadata.items() if name not in _SYSTEM_METADATA}
        if own:
            tracked["metadata"] = own
        else:
            del tracked["metadata"]
    return tracked


def without_nulls(value: Any) -> Any:
    """The document without nulls: they mean "unset"."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def version_of(kind: type[Object]) -> str:
    """The apiVersion of a kind's objects."""
    version: str = kind().apiVersion  # type: ignore[attr-defined]
    return version
