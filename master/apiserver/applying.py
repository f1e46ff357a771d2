"""Server-side apply: a configuration into the object that is there, or a new object where there is none.

Which of the two it is may change between two attempts; a conflict with another owner is refused on the state it was
found on. See `barque.api.apply` for the rules of ownership.
"""

from __future__ import annotations

from typing import Any

from barque.api.apply.configuration import check_configuration
from barque.api.decode import parse_configuration
from barque.api.errors import ApiError, not_found
from barque.api.types.autoscaling_v1 import Scale
from barque.api.types.meta_v1 import ManagedFieldsEntry
from barque.client.clock import timestamp
from barque.master.apiserver import metadata
from barque.master.apiserver.creation import Creation
from barque.master.apiserver.environment import Call, Environment, ExistingObject
from barque.master.apiserver.modification import Modification
from barque.master.apiserver.patching import Configure
from barque.master.apiserver.proposals import Plan
from barque.master.apiserver.scale import ConfigureScale
from barque.master.store.port import Refused


class Applying(ExistingObject):
    """The `Writer` of one apply."""

    def __init__(self, environment: Environment, call: Call, body: bytes) -> None:
        super().__init__(environment, call)
        configuration, warnings = parse_configuration(body, call.options.field_validation)
        call.warn(warnings)
        scaled = call.target.subresource == "scale"
        if scaled:
            check_configuration(Scale, configuration)
        named = configuration.get("metadata")
        self._names_revision = isinstance(named, dict) and bool(named.get("resourceVersion"))
        now = timestamp(environment.clock.wall())
        self._change: Configure | ConfigureScale = (ConfigureScale if scaled else Configure)(call, configuration, now)
        self._existing = Modification(environment, call, "patch", self._change)
        self._writer: Creation | Modification = self._existing

    async def plan(self) -> Plan:
        stored = await self.backend.get(self._key)
        if stored is not None:
            self._writer = self._existing
            return await self._existing.plan_on(stored)
        if self._call.target.subresource:
            raise not_found(self._resource.plural, self._resource.group, self._key.name)
        if self._names_revision:
            raise metadata.changed_meanwhile(self._call.target)
        await self._environment.authorizer.authorize(self._call.user, "create", self._call.target)
        if not isinstance(self._writer, Creation):  # one that was refused knows what it must look at this time
            self._writer = Creation(self._environment, self._call, self._begin, self._owners)
        return await self._writer.plan()

    def _begin(self) -> Any:
        assert isinstance(self._change, Configure)
        return self._change.configure(None)[0]

    def _owners(self, obj: Any) -> list[ManagedFieldsEntry]:
        return self._change.owners(None, obj, "")

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        if isinstance(self._writer, Creation) and refusal.compare == 0:
            return  # someone else has just created it: there is an object to apply to now
        if isinstance(self._writer, Modification) and refusal.compare >= 0:
            return  # changed, or gone: either way another attempt sees it
        self._writer.handle_refusal(plan, refusal)

    def give_up(self) -> ApiError:
        return self._writer.give_up()
