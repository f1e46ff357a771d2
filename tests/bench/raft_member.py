"""One member of a benchmark's group, a process of its own: the real engine, log and transport, and a door that speaks
etcd's `KV.Put`. Told what to do by JSON lines on stdin, answers by JSON lines on stdout; ends when stdin does.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import uvloop

from barque.client.clock import SystemClock
from barque.client.cycles import freeze_survivors
from barque.client.pki import Identity
from barque.master.raft.admission import refusal
from barque.master.raft.disk import Disk
from barque.master.raft.lanes import ThreadLane
from barque.master.raft.messages import MemberInfo
from barque.master.raft.ports import Ground
from barque.master.raft.transport import PeerDoor
from barque.master.store.engine_raft import EngineRaft, Joining, Settings, open_raft_store
from barque.master.store.port import Committed, Key, Op, StoreUnavailableError

_JSON = b'{"metadata":{"resourceVersion":""},"data":"%b"}'
_SLOT = _JSON.index(b'""') + 1
_SWITCH_INTERVAL_S = 0.002


def put_op(name: str, value: bytes) -> Op:
    return Op("put", Key("bench", "", name), _JSON % value, _SLOT, fields={})


class Door:
    """`KV.Put` on the engine: the same request as etcd's, decoded by hand."""

    def __init__(self, store: EngineRaft) -> None:
        self._store = store

    async def put(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        key_end = 2 + request[1]
        value_at = key_end + 1
        while request[value_at] > 0x7F:
            value_at += 1
        try:
            (result,) = await self._store.commit([put_op(request[2:key_end].decode(), request[value_at + 1 :])])
        except StoreUnavailableError as away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(away))
        if not isinstance(result, Committed):
            await context.abort(grpc.StatusCode.UNKNOWN, str(result))
        return b""

    async def serve(self, address: str) -> grpc.aio.Server:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(self.put)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.KV", {"Put": handler}),))
        server.add_insecure_port(address)
        await server.start()
        return server


class Told:
    """What the bench may tell a member to do."""

    def __init__(self, store: EngineRaft) -> None:
        self._store = store

    async def status(self) -> dict[str, Any]:
        figures = self._store.group_figures()
        return {
            "leads": self._store.leads,
            "leader": figures.leader,
            "applied": figures.applied,
            "revision": self._store.revision,
            "peers": {peer.info.name: [peer.voter, peer.match, peer.snapshot] for peer in figures.peers},
            "log_bytes": self._store.figures().log_bytes,
            "objects": self._store.figures().objects,
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "cpu_s": time.process_time(),
        }

    async def add(self, info: dict[str, Any]) -> dict[str, Any]:
        await self._store.add_member(MemberInfo(**info))
        return {}

    async def transfer(self) -> dict[str, Any]:
        began = time.monotonic()
        leader = await self._store.transfer()
        return {"leader": leader, "ms": (time.monotonic() - began) * 1000}

    async def propose(self, seconds: float, concurrency: int, size: int) -> dict[str, Any]:
        """Commits without pause from inside of the process."""
        value, began, done = b"x" * size, time.monotonic(), 0

        async def write(writer: int) -> None:
            nonlocal done
            number = writer
            while time.monotonic() - began < seconds:
                number = (number + concurrency) % 4096
                await self._store.commit([put_op(f"bench-{number:08}", value)])
                done += 1

        await asyncio.gather(*(write(number) for number in range(concurrency)))
        return {"per_s": done / (time.monotonic() - began)}

    async def fill(self, count: int, size: int, first: int = 0) -> dict[str, Any]:
        """So many objects of their own, in batches; a third of each is random, as of real ones."""
        words, random_bytes = b"barque " * size, size // 6
        for start in range(first, first + count, 32):
            ops = []
            for number in range(start, min(start + 32, first + count)):
                value = os.urandom(random_bytes).hex().encode()
                ops.append(put_op(f"object-{number:08}", value + words[: size - len(value)]))
            await self._store.commit(ops)
        return {}


async def run(job: dict[str, Any]) -> None:
    directory = Path(job["directory"])
    identity = Identity.load(Path(job["pki"]), job["name"])
    door = PeerDoor(lambda: identity)
    await door.listen(f"127.0.0.1:{job['info']['peer_port']}", identity.server_credentials())
    info = MemberInfo(**job["info"])
    founding = None if "cluster" in job else info
    joining = Joining(job["cluster"], info) if "cluster" in job else None
    ground = Ground(SystemClock(), Disk(), ThreadLane, random.Random(), os.urandom)
    began = time.monotonic()
    store = await open_raft_store(
        directory / "store", ground, door.attach, Settings(), founding=founding, joining=joining
    )

    def admit(cluster: str, member: str, subject: Any) -> str:
        return refusal(store.standing, store.cluster_id, cluster, member, subject)

    door.serve(store.cluster_id, msgspec.structs.replace(info, id=store.member_id), admit)
    if job.get("alone"):
        await store.led(leads=True)
    ready_s = time.monotonic() - began
    server = await Door(store).serve(f"127.0.0.1:{job['port']}")
    survivors = asyncio.create_task(freeze_survivors(SystemClock()))
    print(json.dumps({"cluster": store.cluster_id, "id": store.member_id, "ready_s": ready_s}), flush=True)
    told = Told(store)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        order = json.loads(line)
        act: Callable[..., Awaitable[dict[str, Any]]] = getattr(told, order.pop("do"))
        try:
            answer = await act(**order)
        except Exception as failure:
            answer = {"failure": repr(failure)}
        print(json.dumps(answer), flush=True)
    survivors.cancel()
    await server.stop(0)
    await store.close()
    await door.close()


if __name__ == "__main__":
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    uvloop.run(run(json.loads(sys.argv[1])))
