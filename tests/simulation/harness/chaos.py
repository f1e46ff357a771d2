"""What happens to the masters in a run: faults at moments chosen by the seed, each undone after a while, then peace.

Every method of `Chaos` that is named in `_KINDS` is one kind of fault; `fired` counts what really happened. At most a
few overlap. Never more than one disk at a time has lost what it had acknowledged: Raft bears no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from barque.master.raft.messages import AppendReply, Configuration, MemberInfo, Message, VoteReply
from barque.master.raft.ports import UnavailableError
from barque.master.raft.ready import BusyError, NotLeaderError
from barque.master.store.engine_raft import EngineRaft
from barque.master.store.group import GroupError
from barque.master.store.port import SnapshotRefusedError, StoreUnavailableError
from tests.simulation.harness.clients import Clients
from tests.simulation.harness.fleet import CutOffError, DownError, Fleet, Master, member_of
from tests.simulation.harness.network import FAIR, Weather
from tests.simulation.harness.world import BrokenError, World

# Kinds of faults and how often each is chosen.
_KINDS = {
    "kill": 5,
    "power_cut": 5,
    "power_cut_inside": 5,
    "everyone_loses_power": 1,
    "pause": 5,
    "isolate": 5,
    "split": 3,
    "one_way": 4,
    "storm": 4,
    "slow_disk": 3,
    "failing_disk": 3,
    "full_disk": 3,
    "clock_jump": 3,
    "bit_flip": 2,
    "replace_member": 3,
    "grow": 2,
    "churn": 3,
    "figure_8": 6,
    "reshape": 3,
    "transfer": 4,
    "restore": 1,
}

_MASTERS_AT_MOST = 5
_NOT_NOW = (StoreUnavailableError, DownError, CutOffError, TimeoutError)


class Chaos:
    def __init__(self, fleet: Fleet, world: World, clients: Clients, choice: random.Random) -> None:
        self._fleet = fleet
        self._world = world
        self._clients = clients
        self._choice = choice
        self._loop = fleet.loop
        self._fired = fleet.fired
        self._restoring = False
        # The one machine whose disk may lie, and whether the group's membership is being changed.
        self._liar: Master | None = None
        # Leaders fall as soon as they are chosen.
        self._churning = False
        self._led_at = 0.0
        # For who waits for the next leader; and the leader whose next follower's answer is its last, with how many.
        self._elected: asyncio.Future[str] | None = None
        self._answers_left: dict[str, int] = {}
        self._changing = False
        self._over = False
        self._under_way: list[asyncio.Task[None]] = []

    async def rage(self, seconds: float) -> None:
        """Faults for so long; what is under way then ends by itself or in `heal`."""
        until = self._loop.time() + seconds
        kinds, weights = list(_KINDS), list(_KINDS.values())
        while self._loop.time() < until:
            await asyncio.sleep(self._choice.uniform(0.1, 2.5))
            (kind,) = self._choice.choices(kinds, weights)
            fault: Callable[[], Coroutine[Any, Any, None]] = getattr(self, kind)
            self._spawn(fault(), kind)

    async def heal(self) -> None:
        """Mend everything: cables, disks, sleepers; let what is under way end; start what is down."""
        self._over = True
        self._mend_all()
        while left := [task for task in self._under_way if not task.done()]:
            await asyncio.wait(left, timeout=0.5)
            await self._start_all()
        self._mend_all()
        await self._start_all()
        self._fleet.note("everything is mended")

    async def _start_all(self) -> None:
        for master in self._fleet.masters:
            if master.state == "damaged":
                await self._mend(master)
            if master.state == "down":
                await master.start()

    def _mend_all(self) -> None:
        self._fleet.network.weather = FAIR
        self._fleet.network.cuts.clear()
        for master in self._fleet.masters:
            medium = master.medium
            medium.space, medium.failing, medium.slow_s, medium.stop_in = None, False, 0.0, None
            if master.process is not None and master.process.paused:
                self._loop.resume(master.process)

    def _spawn(self, doing: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.spawn(self._loop.conductor, doing, name)
        self._under_way.append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        failure = task.exception()
        if failure is not None and self._world.broken is None:
            self._world.broken = BrokenError(f"the conductor's {task.get_name()}: {failure!r}")

    # Stops.

    async def kill(self) -> None:
        if (master := self._victim()) is not None:
            self._fired["kill"] += 1
            master.crash(power=False)
            await self._start_again(master)

    async def power_cut(self) -> None:
        if (master := self._victim()) is not None:
            self._fired["power cut"] += 1
            master.crash(power=True)
            await self._start_again(master)

    async def power_cut_inside(self) -> None:
        """In the middle of what the disk does next."""
        if (master := self._victim()) is not None:
            master.medium.stop_in = self._choice.randint(1, 12)
            for _ in range(40):
                await asyncio.sleep(0.1)
                if master.process is None or master.medium.stop_in is None:
                    break
            master.medium.stop_in = None
            await self._start_again(master)

    async def everyone_loses_power(self) -> None:
        self._fired["power cut of all"] += 1
        masters = [master for master in self._fleet.masters if master.process is not None]
        for master in masters:
            master.crash(power=True)
        for master in masters:
            await self._start_again(master)

    async def churn(self) -> None:
        """For a while nobody leads for long: each new leader falls, or is cut off, within moments (see `led`). What it
        had appended is on few disks then, in terms that follow each other quickly: figure 8 of Raft's paper.
        """
        if self._churning:
            return
        self._churning = True
        self._fired["churn"] += 1
        self._fleet.note("no leader shall last")
        if (leader := self._fleet.leader()) is not None:
            self._spawn(self._fall(leader), "fall")
        await asyncio.sleep(self._choice.uniform(3, 9))
        self._churning = False

    def led(self, member: str, term: int) -> None:
        """A member has begun to lead."""
        self._led_at = self._loop.time()
        if self._elected is not None and not self._elected.done():
            self._elected.set_result(member)
        leader = next((master for master in self._fleet.serving() if master.info.id == member), None)
        self._fleet.note(f"{leader.name if leader is not None else member} leads in term {term}")
        if leader is not None and self._churning and not self._over:
            self._spawn(self._fall(leader), "fall")

    async def figure_8(self) -> None:
        """The story of figure 8 of Raft's paper. A leader has entries that nobody else has; another leads next, whose
        first entry nobody else gets; then the first leads again, hands its old entries on and is cut off right then;
        and the second comes back with a newer term in its log.
        """
        first = self._fleet.leader()
        if first is None or self._elected is not None or len(self._fleet.serving()) < 3:
            return
        self._fleet.note(f"figure 8 begins with {first.name}")
        cuts = self._sever_from_all(first)
        for _ in range(3):
            self._spawn(self._clients.write_at(first), "write")
        second = await self._next_leader()
        if second is not None and second is not first:
            others = self._sever_from_all(second)
            self._mend_cuts(cuts)
            cuts = others
            if await self._next_leader() is first:
                self._answers_left[first.info.id] = len(self._fleet.members()) // 2
                await asyncio.sleep(self._choice.uniform(0.1, 1))
                self._answers_left.clear()
                self._fired["figure 8"] += 1
        self._mend_cuts(cuts)

    async def _next_leader(self) -> Master | None:
        """Who leads next; None where nobody does for long."""
        self._elected = self._loop.create_future()
        try:
            async with asyncio.timeout(6):
                member = await self._elected
        except TimeoutError:
            return None
        finally:
            self._elected = None
        return next((master for master in self._fleet.serving() if master.info.id == member), None)

    def _sever_from_all(self, master: Master) -> list[tuple[str, str]]:
        return self._sever([(master, other) for other in self._fleet.masters if other is not master], both=True)

    async def _fall(self, leader: Master) -> None:
        choice = self._choice
        others = [other for other in self._fleet.masters if other is not leader]
        if choice.random() < 0.5:
            # Some hear it at first, or nobody.
            deaf = choice.sample(others, choice.randint(0, len(others)))
            cut = [(leader.name, other.name) for other in deaf]
            self._fleet.network.cuts.update(cut)
            await asyncio.sleep(choice.choice((0.002, 0.01, 0.1, 1.0)) * choice.random())
            self._fleet.network.cuts.subtract(cut)
        else:
            await asyncio.sleep(choice.choice((0.002, 0.01, 0.05)) * choice.random())
        if choice.random() < 0.6:
            leader.crash(power=choice.random() < 0.5)
            await asyncio.sleep(choice.uniform(0.05, 2.5))
            await self._start_again(leader)
        else:
            await self._cut([(leader, other) for other in others], both=True)

    async def pause(self) -> None:
        if (master := self._victim()) is not None and master.process is not None:
            process = master.process
            self._fired["pause"] += 1
            self._fleet.note(f"{master.name} is paused")
            self._loop.pause(process)
            await asyncio.sleep(self._choice.uniform(0.05, 5))
            self._fleet.note(f"{master.name} goes on")
            self._loop.resume(process)

    # The net.

    async def isolate(self) -> None:
        """Cut one machine, the leader by preference, off from all others."""
        one = self._fleet.leader() if self._choice.random() < 0.6 else self._choice.choice(self._fleet.masters)
        if one is not None:
            await self._cut([(one, other) for other in self._fleet.masters if other is not one], both=True)
            self._fired["one cut off"] += 1

    async def split(self) -> None:
        """Two sides, by lot."""
        left = [master for master in self._fleet.masters if self._choice.random() < 0.5]
        right = [master for master in self._fleet.masters if master not in left]
        await self._cut([(a, b) for a in left for b in right], both=True)
        self._fired["net split"] += 1

    async def one_way(self) -> None:
        """A pair of machines of which one does not hear the other."""
        if len(self._fleet.masters) < 2:
            return
        one, other = self._choice.sample(self._fleet.masters, 2)
        await self._cut([(one, other)], both=False)
        self._fired["one-way cut"] += 1

    async def storm(self) -> None:
        """Messages are lost, doubled, late."""
        chance = self._choice.random
        self._fleet.network.weather = Weather(
            lost=chance() * 0.2,
            doubled=chance() * 0.2,
            delay_s=(0.0002, 0.05 * chance()),
            late=chance() * 0.2,
            late_s=1.5,
        )
        await asyncio.sleep(self._choice.uniform(1, 6))
        self._fleet.network.weather = FAIR

    # Disks and clocks.

    async def slow_disk(self) -> None:
        medium = self._choice.choice(self._fleet.masters).medium
        medium.slow_s = 0.2
        await asyncio.sleep(self._choice.uniform(0.5, 4))
        medium.slow_s = 0.0

    async def failing_disk(self) -> None:
        medium = self._choice.choice(self._fleet.masters).medium
        medium.failing = True
        await asyncio.sleep(self._choice.uniform(0.05, 3))
        medium.failing = False

    async def full_disk(self) -> None:
        medium = self._choice.choice(self._fleet.masters).medium
        medium.space = self._choice.randint(0, 3000)
        await asyncio.sleep(self._choice.uniform(0.2, 4))
        medium.space = None

    async def clock_jump(self) -> None:
        self._fired["clock jump"] += 1
        self._choice.choice(self._fleet.masters).jump(self._choice.uniform(-5, 5) * 3600)

    async def bit_flip(self) -> None:
        """A bit of one machine's acknowledged data turns while it is down: its next start says so, or does not need
        that bit.
        """
        master = self._victim()
        if master is None or (self._liar or master) is not master or master.unflip is not None:
            return
        self._liar = master
        master.crash(power=True)
        master.unflip = master.medium.flip_bit()
        self._fired["bit flipped"] += 1
        await self._start_again(master)

    # The group.

    async def transfer(self) -> None:
        if len(self._fleet.members()) < 2:
            return
        to = self._choice.choice(self._fleet.members())
        try:
            await self._clients.some().call(lambda engine: engine.transfer(to.name), 10)
        except (GroupError, *_NOT_NOW) as e:
            self._fleet.note(f"no transfer to {to.name}: {e}")
        else:
            self._fired["leadership transferred"] += 1

    async def reshape(self) -> None:
        """Some voters become learners, all in one change; they are made voters again by the leader itself."""
        leader = self._fleet.leader()
        if leader is None or leader.engine is None or self._changing:
            return
        choice, voters = self._choice, leader.engine.configuration.voters
        kept = choice.sample(voters, choice.randint(1, max(1, len(voters) - 1)))
        if choice.random() < 0.6:
            # The leader and so many that the others are still a majority of the old voters.
            others = [voter for voter in voters if voter != leader.info.id]
            kept = [leader.info.id, *choice.sample(others, max(0, (len(voters) - 1) // 2 - 1))]

        def fewer(configuration: Configuration) -> Configuration:
            learners = (*configuration.learners, *(voter for voter in configuration.voters if voter not in kept))
            staying = tuple(voter for voter in configuration.voters if voter in kept)
            return msgspec.structs.replace(configuration, voters=staying, learners=learners)

        self._changing = True
        if choice.random() < 0.7:
            # Those who stay do not hear the others: only one side may go on.
            sides = [[m for m in self._fleet.members() if (m.info.id in kept) is side] for side in (True, False)]
            self._spawn(self._cut([(a, b) for a in sides[0] for b in sides[1]], both=True), "cut")
        with contextlib.suppress(NotLeaderError, BusyError, ValueError, UnavailableError, *_NOT_NOW):
            await leader.call(lambda engine: member_of(engine).change(fewer), 40)
            self._fired["voters reshaped"] += 1
        self._changing = False

    def sees(self, message: Message) -> None:
        """A message arrives, which may be the moment for a fault."""
        if isinstance(message, AppendReply):
            self._acknowledged(message)
        elif isinstance(message, VoteReply):
            self._voted(message)

    def _acknowledged(self, reply: AppendReply) -> None:
        """A follower has taken what a fresh leader sent: a good moment for the next of it not to arrive."""
        if reply.rejected or self._over or not (self._churning or self._answers_left):
            return
        leader = next((master for master in self._fleet.serving() if master.info.id == reply.to), None)
        if leader is None or leader.engine is None:
            return
        if reply.to in self._answers_left:
            if reply.index > leader.engine.group_figures().commit:
                self._answers_left[reply.to] -= 1
            if self._answers_left[reply.to] <= 0:
                del self._answers_left[reply.to]
                self._spawn(self._mend_later(self._sever_from_all(leader), 5), "mend")
        elif self._churning and self._loop.time() - self._led_at < 0.3 and self._choice.random() < 0.2:
            cuts = self._sever([(leader, other) for other in self._fleet.masters if other is not leader], both=False)
            self._spawn(self._mend_later(cuts), "mend")

    def _voted(self, message: VoteReply) -> None:
        """A member has given its vote: a good moment to lose power, and the vote with it."""
        if message.granted and not message.pre:
            if self._choice.random() > (0.4 if self._churning else 0.1):
                return
            voter = next((m for m in self._fleet.serving() if m.info.id == message.sender), None)
            if voter is not None and not self._over:
                self._fired["power cut after a vote"] += 1
                voter.crash(power=True)
                self._spawn(self._start_again(voter), "start again")

    async def grow(self) -> None:
        """A new master joins."""
        if self._changing or len(self._fleet.masters) >= _MASTERS_AT_MOST:
            return
        self._changing = True
        await self.join(self._fleet.add_machine())
        self._changing = False

    async def replace_member(self) -> None:
        """A member is removed for good; sometimes it comes back with its old data, then it joins as a new one."""
        if self._changing or len(self._fleet.members()) < 3:
            return
        self._changing = True
        await self._replace(self._choice.choice(self._fleet.members()))
        self._changing = False

    async def restore(self) -> None:
        """Save a snapshot, and a while later put it in the place of the state."""
        if self._restoring:
            return
        self._restoring = True
        # Its Secrets are sealed with this master's own keys.
        master = self._clients.some()
        try:
            chunks, revision = await master.call(_save, 10)
        except _NOT_NOW as e:
            self._fleet.note(f"no snapshot is saved: {e!r}")
        else:
            await asyncio.sleep(self._choice.uniform(0, 3))
            await self._restore(master, chunks, revision)
        self._restoring = False

    async def join(self, master: Master) -> bool:
        """Make the blank machine a member; whether it serves in the end."""
        info = MemberInfo(self._fleet.new_member_id(), master.name, master.name)
        if not await self._ask(lambda engine: engine.add_member(info)):
            return False
        master.info, master.joined = info, self._fleet.cluster_id
        self._fired["member added"] += 1
        for _ in range(30):
            if await master.start():
                return True
            if master.state == "down" or self._over:
                return False
            await asyncio.sleep(0.5)
        return False

    async def _restore(self, master: Master, chunks: list[bytes], revision: int) -> None:
        world = self._world
        world.restoring = world.state_at(revision)
        began = self._loop.time()

        async def stream() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        known = True
        try:
            await master.call(lambda engine: engine.restore_snapshot(stream()), 20)
        except (DownError, SnapshotRefusedError) as e:
            self._fleet.note(f"no restore: {e!r}")
            return
        except _NOT_NOW as e:
            self._fleet.note(f"a restore is cut short: {e!r}")
            if "nothing was restored" in str(e):
                return
            known = False
        self._clients.restored("restore", began, world.restoring, known=known)

    async def _replace(self, master: Master) -> None:
        gone = master.info.id
        self._world.leaving[gone] = None
        if not await self._ask(lambda engine: engine.remove_member(gone)):
            return
        master.state = "removed" if master.process is None else master.state
        self._fired["member removed"] += 1
        self._fleet.note(f"{master.name} ({gone}) is removed")
        await asyncio.sleep(self._choice.uniform(0, 3))
        if self._choice.random() < 0.5 and master.unflip is None:
            self._fired["old member returned"] += 1
            master.crash(power=False)
            await master.start()
            await asyncio.sleep(self._choice.uniform(0.5, 5))
        master.crash(power=True)
        master.state = "removed"
        await asyncio.sleep(self._choice.uniform(0, 2))
        self.blank(master)
        await self.join(master)

    def blank(self, master: Master) -> None:
        """Move its directory away."""
        master.medium.wipe()
        master.unflip = None
        if self._liar is master:
            self._liar = None
        master.state, master.info = "blank", MemberInfo("", master.name, master.name)

    async def _ask(self, what: Callable[[EngineRaft], Awaitable[None]]) -> bool:
        """Until it is done, or refused, or has been tried for long."""
        for _ in range(12):
            if self._over:
                break
            try:
                await self._clients.some().call(what, 40)
            except GroupError as e:
                self._fleet.note(f"refused: {e}")
                # An earlier attempt has done it.
                return "was removed already" in str(e)
            except _NOT_NOW as e:
                self._fleet.note(f"not now: {e!r}")
                await asyncio.sleep(0.5)
            else:
                return True
        return False

    def _victim(self) -> Master | None:
        running = [master for master in self._fleet.masters if master.process is not None and not master.process.paused]
        leader = self._fleet.leader()
        if leader is not None and leader in running and self._choice.random() < 0.4:
            return leader
        return self._choice.choice(running) if running else None

    async def _start_again(self, master: Master) -> None:
        await asyncio.sleep(self._choice.choice((0.05, 0.5, 1.0, 3.0)) * self._choice.random())
        while master.state == "down" and not self._over:
            if await master.start() or master.state != "damaged":
                return
            await self._mend(master)

    async def _mend(self, master: Master) -> None:
        """It did not start: its disk refuses at the moment, or its data is damaged and is put back, or given up."""
        if master.unflip is None:
            if "damaged" in master.damage or "lacks" in master.damage or "missing" in master.damage:
                self._world.breaks(f"{master.name} finds damage that nobody did: {master.damage}")
            await asyncio.sleep(0.5)
            master.state = "down"
            return
        self._fired["damage found at a start"] += 1
        if self._over or self._changing or self._choice.random() < 0.5:
            master.unflip()
            master.unflip = None
            self._liar = None
            master.state = "down"
            return
        self._changing = True
        await self._replace(master)
        self._changing = False

    async def _cut(self, pairs: list[tuple[Master, Master]], *, both: bool) -> None:
        await self._mend_later(self._sever(pairs, both=both))

    def _sever(self, pairs: list[tuple[Master, Master]], *, both: bool) -> list[tuple[str, str]]:
        """Cut these cables at once; returns what is to be mended."""
        cuts = [(one.name, other.name) for one, other in pairs]
        if both:
            cuts += [(other, one) for one, other in cuts]
        if cuts:
            self._fleet.note("cut: " + ", ".join(f"{one}>{other}" for one, other in cuts))
        self._fleet.network.cuts.update(cuts)
        return cuts

    async def _mend_later(self, cuts: list[tuple[str, str]], least_s: float = 0.3) -> None:
        await asyncio.sleep(self._choice.uniform(least_s, 6))
        self._mend_cuts(cuts)

    def _mend_cuts(self, cuts: list[tuple[str, str]]) -> None:
        if cuts:
            self._fleet.note("mended: " + ", ".join(f"{one}>{other}" for one, other in cuts))
        self._fleet.network.cuts.subtract(cuts)


async def _save(engine: EngineRaft) -> tuple[list[bytes], int]:
    """A saved snapshot, and the revision it holds: the one at its first byte."""
    revision = engine.revision
    return [chunk async for chunk in engine.save_snapshot()], revision
