"""The view of kind ComponentStatus: how the parts of the answering master are, each as one condition `Healthy`.

The parts are those that `cluster status` shows, and those that run on the leader alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from barque.api import codec
from barque.api.types.core_v1 import ComponentCondition, ComponentStatus
from barque.api.types.meta_v1 import ObjectMeta
from barque.master.apiserver.view import View
from barque.master.store.port import Filter, Key, Listing, Stored
from barque.proto.cluster_pb2 import Component

RESOURCE = "componentstatuses"
_REVISION = 1


class ComponentView(View):
    """`components` is asked on every request."""

    def __init__(self, components: Callable[[], Sequence[Component]]) -> None:
        self._components = components

    async def get(self, key: Key) -> Stored | None:
        return next((stored for stored in self._stored() if stored.key.name == key.name), None)

    async def list(self, resource: str, selected: Filter = Filter(), revision: int | None = None) -> Listing:
        found = [stored for stored in self._stored() if selected.name in ("", stored.key.name)]
        return Listing(sorted(found, key=lambda stored: stored.key), _REVISION)

    def _stored(self) -> Sequence[Stored]:
        return [
            Stored(Key(RESOURCE, "", part.name), codec.encode(status_of(part)), _REVISION, {}, {})
            for part in self._components()
        ]


def status_of(part: Component) -> ComponentStatus:
    """A part as Kubernetes shows one: of a healthy one what it says, of another what is wrong with it."""
    condition = ComponentCondition(type="Healthy", status="True" if part.healthy else "False")
    if part.healthy:
        condition.message = part.message or "ok"
    else:
        condition.error = part.message
    return ComponentStatus(metadata=ObjectMeta(name=part.name), conditions=[condition])
