"""Lists as bytes: Kubernetes' `List` kinds, joined from those of stored objects, undecoded."""

from __future__ import annotations

import msgspec

from barque.api.resources import Resource
from barque.client.verbs import RawList

# Objects joined in one go: some tens of microseconds of copying.
_JOINED = 64


def list_pieces(listed: RawList, resource: Resource) -> list[bytes]:
    """The list as pieces to be sent one after another."""
    pieces = [list_head(resource, listed)]
    items = listed.items
    for start in range(0, len(items), _JOINED):
        piece = b",".join(items[start : start + _JOINED])
        pieces.append(piece if start == 0 else b"," + piece)
    pieces.append(b"]}\n")
    return pieces


def list_head(resource: Resource, listed: RawList) -> bytes:
    """All of a list that comes before its items."""
    return b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        f"{resource.kind}List".encode(),
        resource.api_version.encode(),
        list_metadata(listed.resource_version, listed.continue_, listed.remaining),
    )


def list_metadata(resource_version: str, continue_: str, remaining: int | None) -> bytes:
    """metav1.ListMeta."""
    metadata: dict[str, object] = {"resourceVersion": resource_version}
    if continue_:
        metadata["continue"] = continue_
    if remaining is not None and continue_:
        metadata["remainingItemCount"] = remaining
    return msgspec.json.encode(metadata)
