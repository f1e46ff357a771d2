"""Clients that write and read a few ConfigMaps through every master, and note each call for the checker.

A process of its own, on any host, with the profile that is there: `python -m tests.support.history_client PREFIX`.
It prints "begun", goes on until its standard input ends, then prints the history as JSON lines and ends. What may have
happened, or may not, is noted as such. The ConfigMaps' names begin with the prefix, and none may be there before.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time

import msgspec

from barque.api.errors import ApiError
from barque.api.types.core_v1 import ConfigMap
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import target_of
from barque.client.profile import load
from barque.client.remote import Connection, connect
from tests.simulation.harness.linearizability import ABSENT, Call, Kind

KEYS = 5
NAMESPACE = "default"
# A client that thinks for so long between calls leaves the cluster time for other things.
_PAUSE_S = 0.03
_CALL_TIMEOUT_S = 15.0
_IDS = itertools.count(1)


class HistoryClient:
    """One client, which calls one after another."""

    def __init__(self, name: str, prefix: str, connection: Connection, dice: random.Random) -> None:
        self.history: list[Call] = []
        self._name = name
        self._prefix = prefix
        self._connection = connection
        self._dice = dice
        # What was last read of each key: its id and its resourceVersion.
        self._known: dict[str, tuple[int, str]] = {}

    async def run(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            key = f"{self._prefix}-{self._dice.randrange(KEYS)}"
            value, version = self._known.get(key, (ABSENT, ""))
            if self._dice.random() < 0.5:
                await self._read(key)
            elif not version:
                await self._write(key, Kind.SWAP, ABSENT, "")
            elif self._dice.random() < 0.85:
                await self._write(key, Kind.SWAP, value, version)
            else:
                await self._write(key, Kind.REMOVE, value, version)
            await asyncio.sleep(self._dice.uniform(0, 2 * _PAUSE_S))

    async def _read(self, key: str) -> None:
        invoked = time.monotonic()
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                found = await self._connection.client.get(ConfigMap, key, NAMESPACE)
        except (ApiError, TimeoutError) as failure:
            if not isinstance(failure, ApiError) or failure.code != 404:
                return  # A read that was not answered says nothing.
            self._known[key] = (ABSENT, "")
        else:
            self._known[key] = (int(found.data["id"]), found.metadata.resourceVersion)
        self._note(Call(self._name, key, Kind.READ, invoked, time.monotonic(), saw=self._known[key][0]))

    async def _write(self, key: str, kind: Kind, expected: int, version: str) -> None:
        value = next(_IDS) if kind is Kind.SWAP else ABSENT
        invoked, ok = time.monotonic(), None
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                self._known[key] = await self._carry_out(key, kind, value, version)
            ok = True
        except TimeoutError:
            self._known.pop(key, None)
        except ApiError as failure:
            self._known.pop(key, None)
            # 404: it is gone, which is not what was expected. Everything else may have happened, or yet happen.
            ok = False if failure.code in (404, 409) else None
        self._note(Call(self._name, key, kind, invoked, time.monotonic(), value, expected, ok))

    async def _carry_out(self, key: str, kind: Kind, value: int, version: str) -> tuple[int, str]:
        client = self._connection.client
        if kind is Kind.REMOVE:
            options = msgspec.json.encode({"preconditions": {"resourceVersion": version}})
            await client.verbs.delete(target_of(ConfigMap, key, NAMESPACE), options)
            return ABSENT, ""
        meta = ObjectMeta(name=key, namespace=NAMESPACE, resourceVersion=version)
        written = ConfigMap(metadata=meta, data={"id": str(value)})
        answer = await (client.update(written) if version else client.create(written))
        return value, answer.metadata.resourceVersion

    def _note(self, call: Call) -> None:
        self.history.append(call)


def calls_of(printed: str) -> list[Call]:
    """The history that such a process printed."""
    return [Call(*fields[:2], Kind(fields[2]), *fields[3:]) for fields in map(json.loads, printed.splitlines())]


async def main(prefix: str) -> None:
    known = load()
    clients = []
    for number in range(2 * len(known.masters)):
        at = number % len(known.masters)
        masters = [*known.masters[at:], *known.masters[:at]]
        connection = connect(msgspec.structs.replace(known, masters=masters))
        clients.append((HistoryClient(f"client-{number}", prefix, connection, random.Random(number)), connection))
    ended = asyncio.Event()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with asyncio.TaskGroup() as running:
        for client, _ in clients:
            running.create_task(client.run(ended))
        print("begun", flush=True)
        await lines.read()
        ended.set()
    for client, connection in clients:
        for call in client.history:
            print(json.dumps([*call[:2], call.kind.value, *call[3:]]))
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
