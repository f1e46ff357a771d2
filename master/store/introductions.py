"""`Introductions`: members tell each other who and where they are, and which entries they can read.

Each says `Hello` to all others every few seconds, since letters get lost, and soon where another leads or its disk
begins to refuse or works again. The leader puts the doors of whoever moved into the configuration, its own among them.
A member that has not been heard yet is sent no more than what every release that forms groups reads.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Protocol

import msgspec

from barque.client.clock import Clock
from barque.master.raft.messages import MemberInfo
from barque.master.raft.ports import GroupFigures, UnavailableError
from barque.master.raft.ready import BusyError, NotLeaderError
from barque.master.store.group_changes import Changeable
from barque.master.store.letters import Hello, encode_letter
from barque.master.store.membership import moved
from barque.master.store.records import FIRST_FORMAT, NEWEST_FORMAT

log = logging.getLogger(__name__)

_EVERY_S = 5.0
# How often it is seen whether there is something new to say.
_LOOK_S = 0.5


class Present(Protocol):
    """Returns the member, and whether the store leads."""

    def __call__(self) -> tuple[Changeable, bool]: ...


class Introductions:
    """`own` is who this member is now; None leaves what the group knows of it."""

    def __init__(self, member_id: str, own: MemberInfo | None, release: str, present: Present, clock: Clock) -> None:
        self._id = member_id
        self._own = own
        self._release = release
        self._present = present
        self._clock = clock
        self._said: dict[str, Hello] = {}
        # What there was to tell, and whom, when it was told last.
        self._told = ("", "")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.tell()
            member, leads = self._present()
            if leads:
                for info in self._moved(member):
                    with contextlib.suppress(BusyError, NotLeaderError, UnavailableError, ValueError):
                        await member.change(lambda present, info=info: moved(present, info))  # type: ignore[misc]
                        log.info("master %s is at %s now", info.name, info.host)
            until = self._clock.monotonic() + _EVERY_S
            while self._clock.monotonic() < until and self._news() == self._told:
                await self._clock.sleep(_LOOK_S)

    def tell(self) -> None:
        """Say hello to all others."""
        member, _ = self._present()
        self._told = self._news()
        configuration = member.standing.configuration
        info = self._own or configuration.info(self._id)
        if info is None:
            return
        letter = encode_letter(Hello(info, NEWEST_FORMAT, self._release, member.fault))
        for other in configuration.members:
            if other.id != self._id:
                member.send(other.id, letter)

    def _news(self) -> tuple[str, str]:
        member, _ = self._present()
        return member.fault, member.standing.leader

    def told(self, sender: str, hello: Hello) -> None:
        if hello.info.id == sender:
            self._said[sender] = hello

    def figures(self) -> GroupFigures:
        """Those of the member, with the faults of the others as they have told them."""
        figures = self._present()[0].figures()
        for peer in figures.peers:
            said = self._said.get(peer.info.id)
            if said is not None and said.fault and peer.info.id != self._id:
                figures.faults[f"master {peer.info.name}"] = said.fault
        return figures

    def behind(self, entry_format: int) -> list[str]:
        """The names of members that cannot read entries of this format."""
        members = self._present()[0].standing.configuration.members
        read = {member: hello.newest_format for member, hello in self._said.items()}
        return [info.name for info in members if info.id != self._id and read.get(info.id, FIRST_FORMAT) < entry_format]

    def _moved(self, member: Changeable) -> list[MemberInfo]:
        """Who has other doors than the configuration says; a name stays what it is, but for a master that is alone."""
        configuration = member.standing.configuration
        found = []
        for known in configuration.members:
            said = self._said.get(known.id)
            info = self._own if known.id == self._id else said.info if said is not None else None
            if info is None:
                continue
            if len(configuration.members) > 1:
                info = msgspec.structs.replace(info, name=known.name)
            if info != known:
                found.append(info)
        return found
