"""Raft's promises under a random scheduler: messages lost, doubled and out of order, slow media, crashes, membership
changes, snapshots. A failing seed replays exactly.

    election safety       at most one leader in a term
    log matching          entries of one index and term are the same, and so are all before them
    leader completeness   a leader has every entry that was committed in an earlier term
    state machine safety  what one member applies at an index, no other member applies differently
    linearisable reads    a read is at least at the highest commit that anyone knew when it was asked
"""

from __future__ import annotations

import random

import pytest

from barque.master.raft.core import Core
from barque.master.raft.messages import Append, Configuration, Entry, Message
from barque.master.raft.ready import BusyError, CoreSettings, NotLeaderError, Role
from tests.support.raft import Machine, Medium, Snapshot, a_configuration

SEEDS = 240
STEPS = 1500
SETTINGS = CoreSettings(append_bytes=64, inflight_messages=4, inflight_bytes=256, uncommitted_bytes=2048)


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.machines: dict[str, Machine] = {}
        self.network: list[Message | Snapshot] = []
        self.lossy = self.random.choice([0.0, 0.02, 0.2])
        self.slow = self.random.choice([0.3, 0.7, 0.95])
        self.cut: list[str] = []
        self.calls = 0
        # By term, its leader; by index, what is committed; the reads under way and the least they may answer.
        self.leaders: dict[int, str] = {}
        self.committed: list[Entry] = []
        self.reads: dict[int, int] = {}
        self.figures = dict.fromkeys(("elections", "commits", "reads", "crashes", "changes", "snapshots"), 0)
        voters = ["a", "b", "c", "d", "e"][: self.random.choice([1, 2, 3, 3, 3, 4, 5])]
        for member in voters:
            self.add(member, Medium(a_configuration(voters)))
        for member in ("v", "w", "x", "y"):
            self.add(member, Medium(Configuration()))

    def add(self, member: str, medium: Medium) -> None:
        self.machines[member] = Machine(member, medium, random.Random(self.random.random()), SETTINGS)
        self.machines[member].boot(self.now)

    @property
    def up(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.up]

    def run(self, steps: int) -> None:
        acts = [self.deliver] * 24 + [self.write] * 8 + [self.pass_time] * 6 + [self.propose] * 4
        acts += [self.read, self.crash, self.boot, self.compact, self.change, self.transfer, self.cut_off]
        for _ in range(steps):
            self.random.choice(acts)()
            self.take()

    def calm_down(self) -> None:
        """Everyone is up, nothing is lost: a group that lives commits again."""
        self.lossy, self.slow, self.cut = 0.0, 1.0, []
        for machine in self.machines.values():
            if not machine.up:
                machine.boot(self.now)
        before = len(self.committed)
        for _ in range(4000):
            self.pass_time()
            self.take()
            for _ in range(30):
                self.write()
                self.deliver()
                self.take()
            leader = self.leader()
            if leader is not None:
                if len(self.committed) > before + 3 and all(
                    len(self.machines[member].applied) == len(self.committed)
                    for member in leader.core.configuration.voters
                ):
                    return
                self.propose()
        raise AssertionError("the group does not commit any more")

    def leader(self) -> Machine | None:
        leaders = [machine for machine in self.up if machine.core.role is Role.LEADER]
        return max(leaders, key=lambda machine: machine.core.term, default=None)

    def pass_time(self) -> None:
        self.now += self.random.choice([0.01, 0.05, 0.1, 0.3])
        for machine in self.up:
            if machine.core.deadline <= self.now:
                machine.core.tick(self.now)

    def deliver(self) -> None:
        if not self.network:
            return
        # Mostly in order, so that something comes about at all.
        at = 0 if self.random.random() < 0.8 else self.random.randrange(len(self.network))
        message = self.network.pop(at)
        machine, sender = self.machines[message.to], self.machines[message.sender]
        lost = not machine.up or message.to in self.cut or message.sender in self.cut
        if lost or self.random.random() < self.lossy:
            if isinstance(message, Snapshot) and sender.up:
                sender.core.reported(message.to, False)
            return
        if self.random.random() < self.lossy / 2:
            self.network.append(message)
        if isinstance(message, Snapshot):
            self.receive(machine, message)
        else:
            machine.core.step(message, self.now)

    def receive(self, machine: Machine, snapshot: Snapshot) -> None:
        while machine.writes:
            self.network += machine.write()
        if machine.install(snapshot):
            self.figures["snapshots"] += 1
        sender = self.machines[snapshot.sender]
        if sender.up:
            sender.core.reported(machine.member, self.random.random() < 0.7)

    def write(self) -> None:
        waiting = [machine for machine in self.up if machine.writes]
        if waiting and self.random.random() < self.slow:
            self.network += self.random.choice(waiting).write()

    def take(self) -> None:
        for machine in self.up:
            core = machine.core
            while core.has_ready:
                ready = machine.take()
                self.network += ready.now
                for member in ready.behind:
                    self.network.append(machine.snapshot_for(member))
                self.check_applied(machine, ready.committed)
            self.check_leader(core)
            for read in machine.reads:
                least = self.reads.pop(read.context)
                assert read.index == -1 or read.index >= least, f"read at {read.index}, {least} was known"
                self.figures["reads"] += read.index > 0
            machine.reads.clear()

    def propose(self) -> None:
        machine = self.leader() if self.random.random() < 0.8 else self.random.choice(list(self.machines.values()))
        if machine is not None and machine.up:
            self.calls += 1
            payloads = [b"%d.%d" % (self.calls, n) for n in range(self.random.choice([1, 1, 2, 8]))]
            try:
                machine.core.propose(payloads)
            except (NotLeaderError, BusyError):
                return

    def read(self) -> None:
        machine = self.random.choice(list(self.machines.values()))
        if machine.up:
            self.calls += 1
            self.reads[self.calls] = max(m.core.commit for m in self.up)
            machine.core.read(self.calls)

    def crash(self) -> None:
        if self.random.random() < 0.4 and self.up:
            self.random.choice(self.up).crash()
            self.figures["crashes"] += 1

    def boot(self) -> None:
        for machine in self.machines.values():
            if not machine.up:
                machine.boot(self.now)
                return

    def compact(self) -> None:
        machine = self.random.choice(list(self.machines.values()))
        if machine.up and not machine.writes and len(machine.applied) > machine.medium.base_index:
            machine.compact(self.random.randint(machine.medium.base_index, len(machine.applied)))

    def change(self) -> None:
        leader = self.leader()
        if leader is None or self.random.random() < 0.5:
            return
        free = [member for member in self.machines if member not in leader.core.configuration.removed]
        voters = self.random.sample(free, self.random.randint(1, min(4, len(free))))
        learners = [member for member in free if member not in voters and self.random.random() < 0.8]
        try:
            leader.core.propose_configuration(a_configuration(voters, learners))
            self.figures["changes"] += 1
        except (BusyError, ValueError):
            return

    def transfer(self) -> None:
        leader = self.leader()
        if leader is not None:
            try:
                leader.core.transfer(self.random.choice(list(self.machines)))
            except (BusyError, ValueError):
                return

    def cut_off(self) -> None:
        self.cut = [] if self.random.random() < 0.6 else [self.random.choice(list(self.machines))]

    def check_leader(self, core: Core) -> None:
        if core.role is not Role.LEADER:
            return
        if core.term not in self.leaders:
            self.figures["elections"] += 1
            assert core.last_index >= len(self.committed), "a leader lacks what was committed"
            for entry in self.committed[core.base_index :]:
                assert core.term_at(entry.index) == entry.term, "a leader has other entries than were committed"
        assert self.leaders.setdefault(core.term, core.member) == core.member, f"two leaders in term {core.term}"

    def check_applied(self, machine: Machine, entries: list[Entry]) -> None:
        for entry in entries:
            assert entry.index <= machine.core.durable_index
            if entry.index > len(self.committed):
                assert entry.index == len(self.committed) + 1
                self.committed.append(entry)
                self.figures["commits"] += 1
            assert self.committed[entry.index - 1] == entry, f"{machine.member} applies another entry {entry.index}"

    def check_logs(self) -> None:
        """Log matching, over what is on the media."""
        for one in self.machines.values():
            for other in self.machines.values():
                last = min(
                    one.medium.base_index + len(one.medium.entries), other.medium.base_index + len(other.medium.entries)
                )
                shared = False
                for index in range(last, max(one.medium.base_index, other.medium.base_index), -1):
                    left = one.medium.entries[index - one.medium.base_index - 1]
                    right = other.medium.entries[index - other.medium.base_index - 1]
                    shared = shared or left.term == right.term
                    assert not shared or left == right, f"{one.member} and {other.member} differ at {index}"


@pytest.mark.parametrize("part", range(8))
def test_promises_hold(part: int) -> None:
    total: dict[str, int] = {}
    for seed in range(part, SEEDS, 8):
        world = World(seed)
        try:
            world.run(STEPS)
            world.check_logs()
            world.calm_down()
            world.check_logs()
        except Exception as e:
            raise AssertionError(f"seed {seed}: {type(e).__name__}: {e}") from e
        for name, count in world.figures.items():
            total[name] = total.get(name, 0) + count
    assert min(total.values()) > 10, total


def test_the_same_seed_plays_the_same() -> None:
    one, other = World(7), World(7)
    for world in (one, other):
        world.run(STEPS)
    assert one.committed == other.committed
    assert one.network == other.network
    assert one.leaders == other.leaders


def test_an_append_that_comes_late_takes_nothing_back() -> None:
    medium = Medium(a_configuration(["a", "b"]))
    machine = Machine("b", medium, random.Random(1))
    machine.boot(0.0)
    entries = tuple(Entry(index, 1) for index in range(1, 5))
    for known in (4, 2):
        machine.core.step(Append("b", "a", 1, 0, 0, 0, entries[:known]), 0.0)
    assert machine.core.last_index == 4
