"""One client for etcd and for Barque's Raft: puts of 1 KB through etcd's `KV.Put`, so that both are asked the same way.

Requests are bytes made once and answers are not decoded, so that little of what is measured is the client; its share
of a core is printed all the same. Run as `python -m tests.bench.kv_client JOB`, a JSON object; prints one.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

PUT = "/etcdserverpb.KV/Put"
VALUE_BYTES = 1024
# Distinct keys, written again and again: the state stays small, the log grows.
KEYS = 4096
_DEADLINE_S = 10.0
_CONNECTIONS = 4


def put_request(number: int, value: bytes) -> bytes:
    """etcd's PutRequest: field 1 the key, field 2 the value."""
    key = b"bench-%08d" % number
    return b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


async def measure(address: str, concurrency: int, seconds: float, pace_s: float = 0.0) -> dict[str, Any]:
    """Put without pause from `concurrency` writers (each every `pace_s`) for so long: rate, latencies (ms), failures,
    and the client's share of a core.
    """
    channels = [grpc.aio.insecure_channel(address) for _ in range(min(concurrency, _CONNECTIONS))]
    puts: list[Callable[..., Any]] = [channel.unary_unary(PUT) for channel in channels]
    requests = [put_request(number, b"x" * VALUE_BYTES) for number in range(KEYS)]
    latencies: list[float] = []
    failures: list[str] = []
    await puts[0](requests[0], timeout=_DEADLINE_S)
    began, before = time.monotonic(), _cpu_s()

    async def write(writer: int) -> None:
        put, number = puts[writer % len(puts)], writer
        while (sent := time.monotonic()) - began < seconds:
            number = (number + concurrency) % KEYS
            try:
                await put(requests[number], timeout=_DEADLINE_S)
                latencies.append(time.monotonic() - sent)
            except grpc.aio.AioRpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
            if pace_s:
                await asyncio.sleep(max(0.0, pace_s - (time.monotonic() - sent)))

    await asyncio.gather(*(write(number) for number in range(concurrency)))
    took, cpu = time.monotonic() - began, _cpu_s() - before
    for channel in channels:
        await channel.close()
    latencies.sort()
    return {
        "per_s": len(latencies) / took,
        "p50_ms": statistics.median(latencies) * 1000 if latencies else 0.0,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000 if latencies else 0.0,
        "failed": len(failures),
        "failure": failures[0] if failures else "",
        "cpu": cpu / took,
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(**json.loads(sys.argv[1])))))
