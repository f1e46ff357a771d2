"""`make bench BENCH=bus`: Events, the change feed and usage, beside bare NATS with the same bytes in the same run.

Three masters on loopback are a cluster of three nats-servers with synced writes; all of it, and whoever asks, shares
the machine's processors. Parts may be named to run those alone: `python -m tests.bench.bus events feed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from barque.api import codec
from barque.api.resources import by_plural
from barque.api.types.core_v1 import ConfigMap, Event, ObjectReference, Pod
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.clock import SystemClock
from barque.client.recorder import EventRecorder
from barque.client.verbs import Page, Selection, Target
from barque.proto import cluster_pb2, resources_pb2
from tests.bench import cargo, usage_round, usage_top
from tests.bench.bus_feed import Feed
from tests.bench.bus_floor import floor
from tests.bench.generator import CONNECTIONS, COUNT, Generator, Measured, ensure_node
from tests.bench.master import Master
from tests.bench.raft_masters import three_masters
from tests.bench.report import Bench, median, publish, spread

ROUNDS = 3
# Events of one call, as the recorders send them, and how many each of three clients writes in a round.
BATCH, CALLS = 100, 20
SEEN, SEEN_PER_S = 200, 50.0
FED, FED_PER_S = 300, 100.0
ROUND_S = 3.0
DEAD_RUNS, DEAD_CALLS, DEAD_PER_S = 5, 800, 200
SAMPLED_PODS = 50
_SETTLE_S = 3.0
_TIMEOUT_S = 60.0
_CREATE, _BATCH = "/barque.v1.Resources/Create", "/barque.v1.Resources/Batch"
_EVENTS = by_plural("", "events")

GOALS = {
    "events_per_s": ">= 1500",
    "event_seen_p50_ms": "<= 20",
    "feed_p50_ms": "<= 5",
    "writes_with_feed": "ratio >= 0.75",
    "sample_50_pods_cpu_ms": "<= 20",
    "top_30000_pods_ms": "<= 200",
    "write_p99_nats_dead": "ratio <= 1.5",
}


def an_event(name: str, about: str) -> Event:
    """One as a worker records it."""
    return Event(
        metadata=ObjectMeta(name=name, namespace="default"),
        involvedObject=ObjectReference(apiVersion="v1", kind="Pod", namespace="default", name=about, uid=about),
        type="Normal", reason="Started", message="Started container web", count=1,
        reportingComponent="barque-worker", reportingInstance="node-1",
        firstTimestamp="2026-01-01T00:00:00Z", lastTimestamp="2026-01-01T00:00:00Z",
    )  # fmt: skip


def _await_bus(masters: Sequence[Master]) -> None:
    """Until every master says that its bus is well, with all the copies of its streams that there should be."""
    wanted = f"streams on {len(masters)} of {len(masters)}"

    async def well(master: Master) -> bool:
        async with master.connection() as connection:
            reply = await connection.cluster.Status(cluster_pb2.StatusRequest())
        (bus,) = [part for part in reply.components if part.name == "bus"]
        return bus.healthy and wanted in bus.message

    deadline = time.monotonic() + _TIMEOUT_S
    while not all(asyncio.run(well(master)) for master in masters):
        if time.monotonic() > deadline:
            raise RuntimeError("the bus does not become well")
        time.sleep(0.1)


def measure_events(bench: Bench) -> None:
    """Events recorded through all three masters at once until each of them serves them all; then one at a time until a
    watcher at another master sees it.
    """
    with three_masters() as masters:
        _await_bus(masters)
        rates = [_record_events(masters, number) for number in range(ROUNDS)]
        seen = asyncio.run(_seen_ms(masters))
        stored = asyncio.run(_an_event_as_stored(masters[0]))
    bare, bare_seen = asyncio.run(_bare_events(stored))
    remark = f"runs {spread(rates)}; {len(stored)} bytes each; bare {bare:.0f}"
    bench.add("events_per_s", median(rates), "/s", remark, against="bare NATS", floor=bare)
    remark = f"p99 {_at(seen, 0.99):.1f} ms; bare {median(bare_seen):.2f} ms"
    bench.add("event_seen_p50_ms", median(seen), "ms", remark, against="bare NATS", floor=median(bare_seen))


def _record_events(masters: Sequence[Master], number: int) -> float:
    """Events a second, from the first call until every master lists the last."""
    before = [asyncio.run(_count_events(master)) for master in masters]
    began = time.monotonic()
    with ThreadPoolExecutor(len(masters)) as pool:
        for done in [pool.submit(_load_events, master, f"{number}{n}") for n, master in enumerate(masters)]:
            done.result(_TIMEOUT_S)
    expected = BATCH * (CALLS + 1) * len(masters)
    for master, had in zip(masters, before, strict=True):
        while asyncio.run(_count_events(master)) - had < expected:
            if time.monotonic() - began > _TIMEOUT_S:
                raise RuntimeError("not every event is served by every master")
            time.sleep(0.01)
    return expected / (time.monotonic() - began)


def _load_events(master: Master, run: str) -> Measured:
    """Batches of Events as recorders send them, each about an object of its own."""
    message = resources_pb2.BatchRequest()
    for number in range(BATCH):
        event = an_event(f"e{run}-{number:03}-{COUNT}", f"p{run}-{number:03}-{COUNT}")
        message.writes.add().create.CopyFrom(
            resources_pb2.CreateRequest(target=cargo.wire_target("events", "default"), json=codec.encode(event))
        )
    with Generator(master.admin) as generator:
        body = generator.body(message.SerializeToString())
        # One call goes before the clock starts; it writes as much as every other.
        return generator.run(
            "paced", master.grpc_port, path=_BATCH, body=body, first=0, times=CALLS, per_s=1000, connections=1
        )


async def _count_events(master: Master) -> int:
    async with master.client() as client:
        listed = await client.verbs.list(Target(_EVENTS, "default"), Selection(), Page(limit=1))
    return len(listed.items) + (listed.remaining or 0)


async def _an_event_as_stored(master: Master) -> bytes:
    async with master.client() as client:
        listed = await client.verbs.list(Target(_EVENTS, "default"), Selection(), Page(limit=1))
    return listed.items[0]


async def _seen_ms(masters: Sequence[Master]) -> list[float]:
    """From the call of a recorder at the first master to the watcher at the last."""
    clock, sent, times = SystemClock(), dict[str, float](), list[float]()
    async with masters[0].client() as recording, masters[-1].client() as watching:
        recorder = EventRecorder(recording, "bench", "node-1", clock)
        running = asyncio.create_task(recorder.run())
        since = (await watching.verbs.list(Target(_EVENTS, "default"), page=Page(limit=1))).resource_version
        changes = watching.verbs.watch(Target(_EVENTS, "default"), Selection(), since)

        async def watch() -> None:
            async for batch in changes:
                for change in batch:
                    about = msgspec.json.decode(change.json, type=Event).involvedObject if change.json else None
                    if about is not None and about.name in sent:
                        times.append((time.monotonic() - sent[about.name]) * 1000)

        seeing = asyncio.create_task(watch())
        await asyncio.sleep(_SETTLE_S)
        began = time.monotonic()
        for number in range(SEEN):
            await asyncio.sleep(max(0.0, began + number / SEEN_PER_S - time.monotonic()))
            name = f"seen-{number}"
            sent[name] = time.monotonic()
            pod = Pod(metadata=ObjectMeta(name=name, namespace="default", uid=name))
            recorder.event(pod, "Normal", "Started", "Started container web")
        async with asyncio.timeout(_TIMEOUT_S):
            while len(times) < SEEN:
                await asyncio.sleep(0.01)
        for task in (seeing, running):
            task.cancel()
        await asyncio.gather(seeing, running, return_exceptions=True)
    return times


async def _bare_events(payload: bytes) -> tuple[float, list[float]]:
    async with floor() as bare:
        rates = [await bare.per_s(payload, BATCH * CALLS * 3) for _ in range(ROUNDS)]
        return median(rates), await bare.seen_ms(payload, SEEN, SEEN_PER_S)


def measure_feed(bench: Bench) -> None:
    """From a write's acknowledgement to a consumer of the feed's stream, at a steady rate."""
    with three_masters() as masters:
        _await_bus(masters)
        three = asyncio.run(_fed_ms(masters[0], masters[-1]))
    with Master() as alone:
        _await_bus([alone])
        fed = asyncio.run(_fed_ms(alone, alone))
    payload = json.dumps(cargo.configmap("fed-000")).encode()
    bare = asyncio.run(_bare_feed(payload, 1))
    remark = f"p99 {_at(fed, 0.99):.1f} ms; bare {median(bare):.2f} ms"
    bench.add("feed_p50_ms", median(fed), "ms", remark, against="bare NATS", floor=median(bare))
    bare = asyncio.run(_bare_feed(payload, 3))
    remark = f"p99 {_at(three, 0.99):.1f} ms; bare, three servers, {median(bare):.2f} ms"
    bench.add("feed_three_masters_p50_ms", median(three), "ms", remark, against="bare NATS", floor=median(bare))


async def _bare_feed(payload: bytes, servers: int) -> list[float]:
    async with floor(servers) as bare:
        return await bare.seen_ms(payload, FED, FED_PER_S)


async def _fed_ms(writing: Master, reading: Master) -> list[float]:
    """From when the store says that a write is committed (its answer) to the consumer, which may hear it before."""
    acknowledged, heard = dict[str, float](), dict[str, float]()

    def hear(name: str) -> None:
        heard[name] = time.monotonic()

    async with writing.client() as client, Feed(reading, "core.configmaps.>", hear):

        async def write(name: str) -> None:
            await client.create(
                ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data={"settings": "x" * 1000})
            )
            acknowledged[name] = time.monotonic()

        began, writes = time.monotonic(), []
        for number in range(FED):
            await asyncio.sleep(max(0.0, began + number / FED_PER_S - time.monotonic()))
            writes.append(asyncio.create_task(write(f"fed-{number}")))
        await asyncio.gather(*writes)
        async with asyncio.timeout(_TIMEOUT_S):
            while not acknowledged.keys() <= heard.keys():
                await asyncio.sleep(0.01)
    return [max(0.0, heard[name] - at) * 1000 for name, at in acknowledged.items()]


def measure_writes(bench: Bench) -> None:
    """Creates a second by 64 at once with the feed on and off, by turns."""
    with Master() as on, Master("--no-change-feed") as off:
        rates: dict[str, list[float]] = {"on": [], "off": []}
        for number in range(ROUNDS + 1):
            for name, master in (("on", on), ("off", off)):
                rate = _creates(master, ROUND_S)
                if number:
                    rates[name].append(rate)
                # The feed of the one must have caught up before the other is measured.
                time.sleep(_SETTLE_S)
    remark = f"runs {spread(rates['on'])}, off {spread(rates['off'])}"
    with_feed, without = median(rates["on"]), median(rates["off"])
    bench.add("writes_with_feed", with_feed, "/s", remark, against="without the feed", floor=without)


def _creates(master: Master, seconds: float) -> float:
    with Generator(master.admin) as generator:
        body = generator.body(cargo.create_message("configmaps", cargo.configmap("cm-", generate=True)))
        return generator.run(
            "calls", master.grpc_port, path=_CREATE, body=body, seconds=seconds,
            concurrency=64, connections=CONNECTIONS,
        )["per_s"]  # fmt: skip


def measure_usage(bench: Bench) -> None:
    """One round of a worker's sampling, and `top` over a large cluster."""
    rounds = [usage_round.measure(SAMPLED_PODS) for _ in range(ROUNDS)]
    ours, raw = median([r.cpu_ms for r in rounds]), median([r.floor_ms for r in rounds])
    bench.add("sample_50_pods_cpu_ms", ours, "ms", f"bare reads {raw:.2f} ms", against="bare reads", floor=raw)
    top = asyncio.run(usage_top.measure())
    bench.add("top_30000_pods_ms", top["ms"], "ms", f"of which the list {top['list_ms']:.0f} ms")


def measure_dead(bench: Bench) -> None:
    """Writes in a steady rhythm while every nats-server is killed as soon as it is there, against quiet."""
    with three_masters() as masters, Generator(masters[0].admin) as generator:
        _await_bus(masters)
        body = generator.body(cargo.create_message("configmaps", cargo.configmap("cm-", generate=True)))

        def p99_ms() -> float:
            return generator.run(
                "paced", masters[0].grpc_port, path=_CREATE, body=body, first=0, times=DEAD_CALLS, per_s=DEAD_PER_S,
                connections=CONNECTIONS,
            )["p99"]  # fmt: skip

        p99_ms()
        quiet, dead = [], []
        for _ in range(DEAD_RUNS):
            quiet.append(p99_ms())
            with _nats_killed(masters):
                dead.append(p99_ms())
            _await_bus(masters)
    ratio = median([d / q for d, q in zip(dead, quiet, strict=True)])
    remark = f"runs {spread(dead)}, quiet {spread(quiet)}"
    bench.add("write_p99_nats_dead", median(dead), "ms", remark, against="quiet", ratio=ratio)


@contextlib.contextmanager
def _nats_killed(masters: Sequence[Master]) -> Iterator[None]:
    """Every nats-server of these masters is killed, and so is each one that takes its place."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            for master in masters:
                for pid in master.children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


def _at(samples: Sequence[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]


PARTS: dict[str, Callable[[Bench], None]] = {
    "events": measure_events,
    "feed": measure_feed,
    "writes": measure_writes,
    "usage": measure_usage,
    "dead": measure_dead,
}


def main(parts: list[str]) -> None:
    ensure_node()
    bench = Bench(GOALS)
    for name in parts or PARTS:
        PARTS[name](bench)
    publish("bus", bench.figures)


if __name__ == "__main__":
    main(sys.argv[1:])
