"""Compares the numbers that services hold with the reservations of them, every minute, and mends what differs.

In: the registry's environment and a recorder. Out: ops that take missing reservations and free leaked ones, each bound
to the very state of the service that was judged, and a Warning event and a log line for every fault; another event
while a range is used up. What cannot be mended is only said: see `admission.reservations`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from barque.api import codec, resources
from barque.api.errors import ApiError
from barque.api.types.core_v1 import Service
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.recorder import EventRecorder
from barque.master.admission.claims import Claims
from barque.master.admission.reservations import Fault, find_faults, full_ranges
from barque.master.apiserver.environment import Environment, decode_stored
from barque.master.apiserver.proposals import put
from barque.master.store.port import Committed, Key, Op, RevisionIs, Stored

log = logging.getLogger(__name__)

_PERIOD_S = 60.0
# Services decoded before other tasks get the loop: some milliseconds.
_SLICE = 64


class ReservationRepair:
    """`run` until cancelled; `look` is one comparison."""

    def __init__(self, environment: Environment, recorder: EventRecorder) -> None:
        self._environment = environment
        self._recorder = recorder
        self._resource = resources.by_plural("", "services")

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except ApiError as error:
                log.info("the numbers of services are not compared now: %s", error.message)
            await self._environment.clock.sleep(_PERIOD_S)

    async def look(self) -> list[Fault]:
        """Compare once, say and mend what is wrong; returns it."""
        environment = self._environment
        # Both at the same moment: nothing is awaited in between.
        held = environment.store.reserved("")
        stored = {item.key: item for item in environment.store.list(self._resource.group_resource).items}
        services: dict[Key, Service] = {}
        for number, (key, item) in enumerate(stored.items(), 1):
            services[key] = codec.decode(Service, item.json)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        faults = find_faults(services, held, environment.settings)
        by_owner: dict[Key, list[Fault]] = {}
        for fault in faults:
            self._say(fault, services.get(fault.owner))
            by_owner.setdefault(fault.owner, []).append(fault)
        ops = [op for key, of in by_owner.items() if key in stored and (op := self._mend(stored[key], of)) is not None]
        for result in await environment.objects.commit(ops) if ops else ():
            if not isinstance(result, Committed):
                log.info("a reservation is not mended yet: %s", result)
        for said in full_ranges(held, environment.settings):
            self._recorder.event(_api_service(services.values()), "Warning", "RangeFull", said)
        return faults

    def _say(self, fault: Fault, service: Service | None) -> None:
        log.warning("service %s/%s: %s", fault.owner.namespace, fault.owner.name, fault.message)
        if service is not None:
            self._recorder.event(service, "Warning", fault.reason, fault.message)

    def _mend(self, stored: Stored, faults: list[Fault]) -> Op | None:
        """The service as it stands, with the reservations that it should have."""
        reserve = tuple(r for fault in faults for r in fault.reserve)
        release = tuple(r for fault in faults for r in fault.release)
        if not reserve and not release:
            return None
        service = decode_stored(self._resource, stored)
        compares = (RevisionIs(stored.key, stored.revision),)
        limit = self._environment.settings.max_object_bytes
        return put(self._resource, stored.key, service, compares, Claims(reserve, release), limit)[0]


def _api_service(services: Iterable[Service]) -> Service:
    """What every cluster has, and events of the whole are filed under."""
    default = Service(metadata=ObjectMeta(name="kubernetes", namespace="default"))
    held = (s for s in services if (s.metadata.namespace, s.metadata.name) == ("default", "kubernetes"))
    return next(held, default)
