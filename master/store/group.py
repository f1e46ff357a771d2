"""What an engine that is a group of members offers beside the store's port: who they are, and changing that.

Every method works on any member; what only the leader can do is passed on to it.
"""

from __future__ import annotations

from typing import Protocol

from barque.client.supervise import StopError
from barque.master.raft.messages import Configuration, MemberInfo
from barque.master.raft.ports import GroupFigures
from barque.master.store.port import Restored


class GroupError(Exception):
    """The change is refused and nothing was done; the message says why and what to do."""


class MemberRemovedError(StopError):
    """This member is no longer one of the group."""


class Group(Protocol):
    @property
    def member_id(self) -> str:
        """This member's own id."""
        ...

    @property
    def configuration(self) -> Configuration:
        """The members as this one knows them."""
        ...

    def group_figures(self) -> GroupFigures: ...

    async def add_member(self, info: MemberInfo) -> None:
        """Make it a learner, durably; it becomes a voter by itself once it has caught up. The same `info` again is
        fine. Raises `GroupError` (a name or an id that is taken, an id that was removed), `StoreUnavailableError`.
        """
        ...

    async def remove_member(self, member: str) -> None:
        """By id or name; a leader that is removed hands over first. Raises `GroupError` (not a member, the last
        voter), `StoreUnavailableError`.
        """
        ...

    async def transfer(self, to: str = "") -> str:
        """Hand leadership to the member of this id or name, or to the one that is furthest; returns the new leader's
        name. Raises `GroupError`, `StoreUnavailableError` where it has not happened in time.
        """
        ...

    async def recover_quorum(self) -> Restored:
        """Go on alone, with what is here: the other voters are lost. What they alone had acknowledged is lost with
        them, so the revision rises by 10⁹ and every watch ends. Raises `GroupError` where a majority still answers.
        """
        ...
