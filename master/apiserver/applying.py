"""Server-side apply: a configuration into the object that is there, or a new object where there is none.

A conflict with another owner is refused on the state it was found on. See `barque.api.apply` for the rules of
ownership.
"""

from __future__ import annotations

from typing import Any

from barque.api.apply.configuration import check_configuration
from barque.api.decode import parse_configuration
from barque.api.types.autoscaling_v1 import Scale
from barque.api.types.meta_v1 import ManagedFieldsEntry
from barque.client.clock import timestamp
from barque.master.apiserver import metadata
from barque.master.apiserver.environment import Call, Environment
from barque.master.apiserver.patching import Configure
from barque.master.apiserver.scale import ConfigureScale
from barque.master.apiserver.upsert import Upsert


class Applying(Upsert):
    """The `Writer` of one apply."""

    def __init__(self, environment: Environment, call: Call, body: bytes) -> None:
        configuration, warnings = parse_configuration(body, call.options.field_validation)
        call.warn(warnings)
        scaled = call.target.subresource == "scale"
        if scaled:
            check_configuration(Scale, configuration)
        named = configuration.get("metadata")
        self._named: dict[str, Any] = named if isinstance(named, dict) else {}
        now = timestamp(environment.clock.wall())
        self._change: Configure | ConfigureScale = (ConfigureScale if scaled else Configure)(call, configuration, now)
        super().__init__(environment, call, "patch", self._change, len(body))

    def _check_creatable(self) -> None:
        if self._named.get("resourceVersion"):
            raise metadata.changed_meanwhile(self._call.target)
        if self._named.get("uid"):
            raise metadata.gone_uid(self._call.target, str(self._named["uid"]))

    def _begin(self) -> Any:
        assert isinstance(self._change, Configure)
        return self._change.configure(None)[0]

    def _owners(self, obj: Any) -> list[ManagedFieldsEntry]:
        return self._change.owners(None, obj, "")
