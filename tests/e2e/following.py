"""Runs inside the host: follows ConfigMaps through an informer until standard input ends, then prints what it saw.

The output is one JSON object: how often it listed, and the names of all ConfigMaps of the default namespace it was told
of, each once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from barque.api.types.core_v1 import ConfigMap
from barque.client import profile
from barque.client.clock import SystemClock
from barque.client.informer import Informer
from barque.client.remote import connect


async def follow() -> None:
    connection = connect(profile.load())
    informer = Informer(connection.client, ConfigMap, namespace="default", clock=SystemClock())
    told: list[str] = []

    def note(old: Any, new: Any) -> None:
        if old is None:
            told.append(new.metadata.name)

    informer.add_handler(note)
    running = asyncio.create_task(informer.run())
    await informer.wait_synced()
    print("synced", flush=True)
    last = (await asyncio.to_thread(sys.stdin.readline)).strip()
    for _ in range(1200):
        if last in told:
            break
        await asyncio.sleep(0.1)
    running.cancel()
    await connection.close()
    print(json.dumps({"lists": informer.lists, "told": told}), flush=True)


asyncio.run(follow())
