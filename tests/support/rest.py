"""A master's REST door of a test's own, with as much behind it as the test needs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from barque.api.errors import unauthorized
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.apiserver.rest.calls import Calls, Handlers
from barque.master.apiserver.rest.door import RestDoor
from barque.master.apiserver.rest.health import Check, Health
from barque.master.apiserver.rest.joining import joining_paths


def joining_door(ca_pem: bytes, join: Any, join_master: Any = None, fault: Callable[[], str] = str) -> RestDoor:
    """A door for those who are not known yet: health, the CA, joining. Nobody is known at it."""

    async def stored() -> str:
        return fault()

    return a_door({**joining_paths(ca_pem, join, join_master), **Health(ready=[Check("store", stored)]).paths()})


def a_door(paths: Mapping[str, Handler]) -> RestDoor:
    """A door with these paths alone, at which nobody is known."""
    calls = Calls(Handlers(_nobody, _nobody, {}, paths), _Strangers(), None, Bounds())  # type: ignore[arg-type]
    return RestDoor(calls)


@asynccontextmanager
async def served(door: RestDoor, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port on loopback where this door lets in meanwhile."""
    port = await door.start("127.0.0.1:0", context)
    running = asyncio.create_task(door.run())
    try:
        yield port
    finally:
        await door.stop()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


class _Strangers:
    async def sender(self, request: Any) -> Any:
        raise unauthorized("Unauthorized")


async def _nobody(call: RestCall) -> Any:
    raise AssertionError("nobody is known at this door")
