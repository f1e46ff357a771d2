"""`Introductions`: members tell each other who and where they are, and which entries they can read.

Each says `Hello` to all others every few seconds, since letters get lost. The leader puts the doors of whoever moved
into the configuration, its own among them. What a member has not said it cannot read, all may be sent: any release that
forms groups reads at least what this one does.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Protocol

import msgspec

from barque.client.clock import Clock
from barque.master.raft.messages import MemberInfo
from barque.master.raft.ports import UnavailableError
from barque.master.raft.ready import BusyError, NotLeaderError
from barque.master.store.group_changes import Changeable
from barque.master.store.letters import Hello, encode_letter
from barque.master.store.membership import moved
from barque.master.store.records import NEWEST_FORMAT

log = logging.getLogger(__name__)

_EVERY_S = 5.0


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
            await self._clock.sleep(_EVERY_S)

    def tell(self) -> None:
        """Say hello to all others."""
        member, _ = self._present()
        configuration = member.standing.configuration
        info = self._own or configuration.info(self._id)
        if info is None:
            return
        letter = encode_letter(Hello(info, NEWEST_FORMAT, self._release))
        for other in configuration.members:
            if other.id != self._id:
                member.send(other.id, letter)

    def told(self, sender: str, hello: Hello) -> None:
        if hello.info.id == sender:
            self._said[sender] = hello

    def behind(self, entry_format: int) -> list[str]:
        """The names of members that cannot read entries of this format."""
        members = self._present()[0].standing.configuration.members
        return [
            info.name for info in members if info.id in self._said and self._said[info.id].newest_format < entry_format
        ]

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
