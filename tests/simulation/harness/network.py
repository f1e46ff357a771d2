"""The net between the members: it loses, doubles, delays, reorders, and can be cut one way or both, by seed.

Every message passes through the wire's encoding. One may arrive after its receiver was started anew, or after its
sender has ended: queues and sockets outlive processes, and Raft must bear it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from barque.master.raft.messages import MemberInfo, Message, decode_messages, encode_messages
from barque.master.raft.ports import Connector
from tests.simulation.harness.loop import Process, SimLoop


class Weather(NamedTuple):
    """Chances per message and seconds of delay; a `late` one takes up to `late_s` and so comes out of order."""

    lost: float = 0.0
    doubled: float = 0.0
    delay_s: tuple[float, float] = (0.0002, 0.002)
    late: float = 0.0
    late_s: float = 0.0


FAIR = Weather()


class _Door(NamedTuple):
    """Where a member's messages go in. Whoever has called can be answered, also where no configuration knows it yet."""

    machine: str
    process: Process
    receive: Callable[[Message], None]
    callers: dict[str, None]


class SimNetwork:
    """Members are known by id, cables run between machines."""

    def __init__(self, loop: SimLoop, choice: random.Random, fired: Counter[str]) -> None:
        self.weather = FAIR
        # (from, to): nothing passes in this direction while it is cut at least once.
        self.cuts: Counter[tuple[str, str]] = Counter()
        # What an observer wants to see of each delivery.
        self.observe: Callable[[str, str, Message], None] | None = None
        self.delivered: Counter[str] = Counter()
        self._loop = loop
        self._choice = choice
        self._fired = fired
        self._doors: dict[str, _Door] = {}

    def connector(self, machine: str, process: Process, member: str) -> Connector:
        """What the process is handed; `member` is "" where it has no id yet."""

        def connect(receive: Callable[[Message], None]) -> SimTransport:
            door = _Door(machine, process, receive, {})
            if member:
                self.open(member, door)
            return SimTransport(self, door)

        return connect

    def open(self, member: str, door: _Door) -> None:
        """From now on messages to the member go in here."""
        self._doors[member] = door

    def send(self, machine: str, message: Message) -> None:
        weather, chance = self.weather, self._choice.random
        if weather.lost and chance() < weather.lost:
            self._fired["message lost"] += 1
            return
        self._deliver_later(machine, message)
        if weather.doubled and chance() < weather.doubled:
            self._fired["message doubled"] += 1
            self._deliver_later(machine, message)

    def _deliver_later(self, machine: str, message: Message) -> None:
        weather, chance = self.weather, self._choice.random
        least, most = weather.delay_s
        delay = least + (most - least) * chance()
        if weather.late and chance() < weather.late:
            self._fired["message late"] += 1
            delay += weather.late_s * chance()
        self._loop.call_in(self._loop.conductor, delay, self._deliver, machine, message)

    def _deliver(self, machine: str, message: Message) -> None:
        door = self._doors.get(message.to)
        if door is None or not door.process.alive:
            return
        if self.cuts[machine, door.machine] > 0:
            self._fired["message cut off"] += 1
            return
        if self.observe is not None:
            self.observe(machine, door.machine, message)
        door.callers[message.sender] = None
        self._loop.enter(door.process, door.receive, message)


class SimTransport:
    """Implements `ports.Transport`."""

    def __init__(self, network: SimNetwork, door: _Door) -> None:
        self._network = network
        self._door = door
        self._peers: dict[str, MemberInfo] = {}
        self._closed = False

    def send(self, message: Message) -> None:
        if not self._closed and (message.to in self._peers or message.to in self._door.callers):
            self._network.send(self._door.machine, decode_messages(encode_messages([message]))[0])

    def connect(self, peers: Sequence[MemberInfo]) -> None:
        self._peers = {peer.id: peer for peer in peers if peer.name != self._door.machine}
        for peer in peers:
            if peer.name == self._door.machine:
                self._network.open(peer.id, self._door)

    def faults(self) -> dict[str, str]:
        return {}

    async def close(self) -> None:
        self._closed = True
