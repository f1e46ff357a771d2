"""`GroupChanges`: adding, removing and handing over, asked of any member and carried out by the leader.

A follower passes the request on and waits for the reply; where the leader changes meanwhile, it asks the new one. What
is asked twice is done once: adding is the same the second time, and a request under way is not begun again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Protocol

from barque.client.clock import Clock
from barque.master.raft.messages import Configuration, MemberInfo
from barque.master.raft.ports import GroupFigures, UnavailableError
from barque.master.raft.ready import BusyError, NotLeaderError, Standing
from barque.master.store.group import GroupError
from barque.master.store.letters import Reply, Request, encode_letter
from barque.master.store.membership import added, named, removed
from barque.master.store.port import StoreUnavailableError

# A change needs a few rounds of the group; a leader that answers at all has done it, or knows why not, by then.
_PATIENCE_S = 30.0
# How long a reply is waited for before it is asked again, of whoever leads then.
_ASK_AGAIN_S = 2.0
_RETRY_S = 0.05


class Changeable(Protocol):
    """The member (`raft.member.Member`), as the group is changed by it."""

    @property
    def standing(self) -> Standing: ...

    @property
    def fault(self) -> str: ...

    def figures(self) -> GroupFigures: ...

    def trouble(self) -> str: ...

    def send(self, to: str, data: bytes) -> None: ...

    async def change(self, configuration_of: Callable[[Configuration], Configuration]) -> None: ...

    async def transfer(self, to: str) -> None: ...


class GroupChanges:
    def __init__(
        self, member_id: str, member: Callable[[], Changeable], clock: Clock, entropy: Callable[[int], bytes]
    ) -> None:
        self._id = member_id
        self._present = member
        self._clock = clock
        # No two runs of a member ask with the same number: a reply that was meant for the last one is told by it.
        self._numbers = itertools.count(int.from_bytes(entropy(6), "big"))
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        self._carrying_out: dict[tuple[str, int], asyncio.Task[None]] = {}

    @property
    def _member(self) -> Changeable:
        return self._present()

    async def ask(self, verb: str, name: str = "", info: MemberInfo | None = None) -> str:
        """Have it done by the leader. Raises `GroupError`, `StoreUnavailableError`."""
        request = Request(next(self._numbers), verb, name, info)
        until = self._clock.monotonic() + _PATIENCE_S
        asked = False
        while self._clock.monotonic() < until:
            leader = self._member.standing.leader
            if leader == self._id:
                reply = await self._carry_out(request)
            elif leader:
                reply = await self._reply(leader, request)
            else:
                reply = Reply(request.number, unavailable=self._member.trouble())
            if reply.refused and asked and verb == "remove" and not self._is_member(name):
                return name  # Done at the first time of asking, whose answer was lost.
            if reply.refused:
                raise GroupError(reply.refused)
            if not reply.unavailable:
                return reply.answer
            asked = True
            await self._clock.sleep(_RETRY_S)
        raise StoreUnavailableError(
            f"{reply.unavailable}; it was asked for {_PATIENCE_S:g} s: look at `barque cluster members` whether it has "
            "been done"
        )

    def _is_member(self, name: str) -> bool:
        return any(name in (info.id, info.name) for info in self._member.standing.configuration.members)

    def receive(self, sender: str, letter: Request | Reply) -> None:
        if isinstance(letter, Reply):
            waiting = self._asked.get(letter.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(letter)
            return
        place = (sender, letter.number)
        if place not in self._carrying_out:
            task = asyncio.create_task(self._answer(sender, letter), name="store-group-change")
            self._carrying_out[place] = task
            task.add_done_callback(lambda task: self._carrying_out.pop(place, None))

    def close(self) -> None:
        for task in list(self._carrying_out.values()):
            task.cancel()

    async def _reply(self, leader: str, request: Request) -> Reply:
        """What the leader says, or that it says nothing."""
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked[request.number] = waiting
        try:
            self._member.send(leader, encode_letter(request))
            async with asyncio.timeout(_ASK_AGAIN_S):
                return await waiting
        except TimeoutError:
            return Reply(request.number, unavailable="the leader does not answer")
        finally:
            del self._asked[request.number]

    async def _answer(self, sender: str, request: Request) -> None:
        self._member.send(sender, encode_letter(await self._carry_out(request)))

    async def _carry_out(self, request: Request) -> Reply:
        try:
            return Reply(request.number, answer=await self._do(request))
        except (GroupError, ValueError) as e:
            return Reply(request.number, refused=str(e))
        except (BusyError, NotLeaderError, UnavailableError) as e:
            return Reply(request.number, unavailable=str(e))

    async def _do(self, request: Request) -> str:
        configuration = self._member.standing.configuration
        info = request.info
        if request.verb == "add" and info is not None:
            added(configuration, info)
            await self._member.change(lambda present: added(present, info))
            return info.name
        if request.verb == "remove":
            return await self._remove(named(configuration, request.name))
        if request.verb == "transfer":
            return await self._transfer(request.name)
        raise GroupError(f"the leader's release does not know how to {request.verb}: upgrade it first")

    async def _remove(self, info: MemberInfo) -> str:
        removed(self._member.standing.configuration, info.id)
        if info.id == self._id:
            # Whoever leads then is asked again.
            await self._transfer("")
            raise NotLeaderError(self._member.standing.leader)
        await self._member.change(lambda present: removed(present, info.id))
        return info.name

    async def _transfer(self, name: str) -> str:
        configuration = self._member.standing.configuration
        if name:
            to = named(configuration, name)
            if to.id == self._id:
                return to.name
            if to.id not in configuration.voters:
                raise GroupError(f"{to.name} has not caught up yet, so it cannot lead: try again in a moment")
        else:
            to = self._furthest()
        await self._member.transfer(to.id)
        return to.name

    def _furthest(self) -> MemberInfo:
        others = [peer for peer in self._member.figures().peers if peer.voter and peer.info.id != self._id]
        if not others:
            raise GroupError("there is no other master that could lead")
        heard = [peer for peer in others if peer.silent_s is not None]
        return max(heard or others, key=lambda peer: peer.match).info
