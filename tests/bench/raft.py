"""`make bench BENCH=raft`: three members on one machine, every write synced, beside three of Debian's etcd.

Both are asked by the same client (`kv_client`) in turns. Members are processes with the real engine, log and transport;
`raft_member` says what they are. Parts may be named to run those alone: `python -m tests.bench.raft puts kills`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc

from tests.bench import raft_masters
from tests.bench.kv_client import PUT, put_request
from tests.bench.raft_group import Group, Member, etcd_group
from tests.bench.report import Bench, median, publish, spread

ROUNDS = 3
ROUND_S = 3.0
KILLS = 50
TRANSFERS = 9
# Objects of this size make the state that a follower is behind, and that a start reads.
OBJECT_BYTES = 8 * 1024
STATE_BYTES = 256 * 1024 * 1024
# One write every 10 ms each: what a quiet cluster's clients do while a follower catches up.
_PACE_S, _PACED_WRITERS = 0.01, 8
_QUIET_S = 8.0
_WRITE_TIMEOUT_S = 0.5
# Two stretches between snapshots of 24 MiB each, but for a little.
_LONG_LOG_MIB = 46.0
_TIMEOUT_S = 120.0

GOALS = {
    "put_c64_per_s": "ratio >= 0.5",
    "put_c1_p50_ms": "ratio <= 2",
    "propose_in_process_c64_per_s": ">= 5000",
    "leader_killed_to_write_p50_s": "<= 2",
    "leader_killed_to_write_p99_s": "<= 3",
    "transfer_ms": "<= 300",
    "transfer_failed_requests": "<= 0",
    "snapshot_catch_up_write_p99_ratio": "<= 3",
    "api_three_masters": "ratio >= 0.6",
    "restart_ready_s": "<= 2.5",
}


def client(address: str, concurrency: int, seconds: float = ROUND_S, pace_s: float = 0.0) -> dict[str, Any]:
    """One run of the client, a process of its own."""
    return _answer(_begin_client(address, concurrency, seconds, pace_s))


def _begin_client(address: str, concurrency: int, seconds: float, pace_s: float = 0.0) -> subprocess.Popen[str]:
    job = {"address": address, "concurrency": concurrency, "seconds": seconds, "pace_s": pace_s}
    argv = [sys.executable, "-m", "tests.bench.kv_client", json.dumps(job)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = process.communicate(timeout=_TIMEOUT_S)
    answer: dict[str, Any] = json.loads(said)
    return answer


def measure_puts(bench: Bench) -> None:
    """1 KB puts by one and by 64 writers, and proposals from inside of the leader's process."""
    with Group() as group, etcd_group() as etcd:
        leader = group.leader()
        runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
        inside = []
        for _ in range(ROUNDS):
            for concurrency in (64, 1):
                for name, address in (("etcd", etcd[0]), ("barque", leader.address)):
                    runs.setdefault((name, concurrency), []).append(client(address, concurrency))
            inside.append(leader.tell("propose", seconds=ROUND_S, concurrency=64, size=1024)["per_s"])
        for name, concurrency, of, unit in (("put_c64_per_s", 64, "per_s", "/s"), ("put_c1_p50_ms", 1, "p50_ms", "ms")):
            ours, theirs = runs["barque", concurrency], runs["etcd", concurrency]
            floor = median([run[of] for run in theirs])
            remark = f"runs {spread([run[of] for run in ours])}, p99 {median([run['p99_ms'] for run in ours]):.1f} ms, "
            remark += f"client {max(run['cpu'] for run in ours):.2f} cores, with etcd "
            remark += f"{max(run['cpu'] for run in theirs):.2f}; etcd {floor:.2f}"
            bench.add(name, median([run[of] for run in ours]), unit, remark, against="etcd", floor=floor)
        bench.add("propose_in_process_c64_per_s", median(inside), "/s", f"runs {spread(inside)}")


def measure_kills(bench: Bench) -> None:
    """The leader is killed; how long until a write is acknowledged by one of the others."""
    waits = []
    with Group() as group, contextlib.closing(_Writer(group)) as writer:
        for _ in range(KILLS):
            leader = group.leader()
            leader.end(signal.SIGKILL)
            waits.append(writer.until_written(time.monotonic()))
            leader.start()
            group.settle()
    waits.sort()
    bench.add("leader_killed_to_write_p50_s", median(waits), "s", f"{KILLS} kills, fastest {waits[0]:.2f}")
    at_99 = waits[min(len(waits) - 1, len(waits) * 99 // 100)]
    bench.add("leader_killed_to_write_p99_s", at_99, "s", f"slowest {waits[-1]:.2f}")


class _Writer:
    """Writes to each member in turn, one after another, with short deadlines."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._channels: dict[str, grpc.Channel] = {}
        self._number = 0

    def until_written(self, since: float) -> float:
        """Seconds from `since` to the first acknowledged write."""
        while time.monotonic() - since < _TIMEOUT_S:
            for member in self._group.alive:
                with contextlib.suppress(grpc.RpcError):
                    self._number = (self._number + 1) % 4096
                    request = put_request(self._number, b"x" * 1024)
                    self._put(member)(request, timeout=_WRITE_TIMEOUT_S)
                    return time.monotonic() - since
        raise RuntimeError("no write is acknowledged")

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def _put(self, member: Member) -> Callable[..., Any]:
        channel = self._channels.get(member.address)
        if channel is None:
            channel = self._channels[member.address] = grpc.insecure_channel(member.address)
        put: Callable[..., Any] = channel.unary_unary(PUT)
        return put


def measure_transfer(bench: Bench) -> None:
    """Leadership handed over again and again under 64 writers at a member that stays."""
    with Group() as group:
        times = []
        leader = group.leader()
        elsewhere = next(member for member in group.members if member is not leader)
        load = _begin_client(elsewhere.address, 64, TRANSFERS + 3.0)
        time.sleep(1.0)
        for _ in range(TRANSFERS):
            times.append(group.leader().tell("transfer")["ms"])
            time.sleep(0.8)
        said = _answer(load)
        bench.add("transfer_ms", median(times), "ms", f"runs {spread(times)}")
        remark = (
            f"{TRANSFERS} transfers under {said['per_s']:.0f} writes/s, p99 {said['p99_ms']:.0f} ms {said['failure']}"
        )
        bench.add("transfer_failed_requests", said["failed"], "", remark)


def measure_catch_up(bench: Bench) -> None:
    """A follower comes back 256 MiB behind; what writers feel of it."""
    with Group() as group:
        leader = group.leader()
        follower = next(member for member in group.members if member is not leader)
        quiet = client(leader.address, _PACED_WRITERS, _QUIET_S, _PACE_S)
        follower.end(signal.SIGKILL)
        leader.tell("fill", count=STATE_BYTES // OBJECT_BYTES, size=OBJECT_BYTES)
        goal = leader.tell("status")["applied"]
        load = _begin_client(leader.address, _PACED_WRITERS, 4 * _QUIET_S, _PACE_S)
        began = time.monotonic()
        follower.start()
        while follower.tell("status")["applied"] < goal:
            time.sleep(0.05)
        took = time.monotonic() - began
        behind = _answer(load)
        remark = f"{behind['p99_ms']:.1f} ms, quiet {quiet['p99_ms']:.1f} ms; caught up in {took:.1f} s; "
        remark += f"leader {leader.tell('status')['rss_mib']:.0f} MiB at most"
        bench.add("snapshot_catch_up_write_p99_ratio", behind["p99_ms"] / quiet["p99_ms"], "x", remark)


def measure_restart(bench: Bench) -> None:
    """A group of one with 256 MiB of state and as much log as there ever is: from opening to leading."""
    with Group(1) as group:
        (member,) = group.members
        objects = STATE_BYTES // OBJECT_BYTES
        member.tell("fill", count=objects, size=OBJECT_BYTES)
        starts, logs = [], []
        for _ in range(ROUNDS):
            logs.append(_lengthen_log(member))
            member.end()
            member.start(alone=True)
            starts.append(member.ready_s)
            found = member.tell("status")["objects"]
            if found < objects:
                raise RuntimeError(f"{found} of {objects} objects are there after the start")
        bench.add("restart_ready_s", median(starts), "s", f"runs {spread(starts)}, log of {spread(logs)} MiB")


def _lengthen_log(member: Member) -> float:
    """Write until the next snapshot is near, so that the log is as long as it gets; its length in MiB."""
    said: list[float] = []
    while True:
        member.tell("fill", count=64, size=OBJECT_BYTES)
        time.sleep(_PACE_S)
        said.append(member.tell("status")["log_bytes"] / 2**20)
        # It has been cut at least once since we began, and is near its limit again.
        if any(later < earlier for earlier, later in itertools.pairwise(said)) and said[-1] > _LONG_LOG_MIB:
            return said[-1]


def measure_api(bench: Bench) -> None:
    """Creates through the API of the leader of three masters against those of one alone."""
    one, three = raft_masters.creates(ROUNDS, ROUND_S)
    for kind in one:
        remark = f"runs {spread(three[kind])}, one master {spread(one[kind])}"
        bench.add(f"api_three_masters_{kind}", median(three[kind]), "/s", remark)
    ratios = [median(three[kind]) / median(one[kind]) for kind in one]
    bench.add("api_three_masters", min(ratios), "x", against="one master", ratio=min(ratios))


PARTS: dict[str, Callable[[Bench], None]] = {
    "puts": measure_puts,
    "transfer": measure_transfer,
    "kills": measure_kills,
    "catchup": measure_catch_up,
    "restart": measure_restart,
    "api": measure_api,
}


def main(parts: list[str]) -> None:
    bench = Bench(GOALS)
    for name in parts or PARTS:
        PARTS[name](bench)
    publish("raft", bench.figures)


if __name__ == "__main__":
    main(sys.argv[1:])
