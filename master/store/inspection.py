"""`Inspection`: members tell each other the hash of their states after the same entry, and a deviant one stops.

In: the pictures to hash, the hashes of others. Out: letters to them, and `failed` where this member is the one whose
state differs (see `state_hash`). A member that went on with another state than the others would answer reads wrongly
for ever; nothing that it could do by itself makes its state right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from barque.client.supervise import StopError
from barque.master.raft.messages import Configuration
from barque.master.store.fsm import View
from barque.master.store.letters import Digest, encode_letter
from barque.master.store.state_hash import Comparison, hash_state

log = logging.getLogger(__name__)


class DeviantStateError(StopError):
    """This member's state is not what the others have after the same entries."""


class Inspection:
    """`group()` tells the configuration and the leader; `send(to, bytes)` sends a letter."""

    def __init__(
        self,
        member: str,
        group: Callable[[], tuple[Configuration, str]],
        send: Callable[[str, bytes], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._member = member
        self._group = group
        self._send = send
        self._failed = failed
        self._comparison = Comparison()
        self._hashing: asyncio.Task[None] | None = None

    def begin(self, index: int, view: View) -> None:
        """Hash the state after entry `index`; one that is still being hashed is given up."""
        self.close()
        self._hashing = asyncio.create_task(self._hash(index, view), name="store-inspection")
        self._hashing.add_done_callback(self._hashed)

    def told(self, member: str, digest: Digest) -> None:
        """Another member has said what it has."""
        self._compare(digest.index, member, digest.digest)

    def close(self) -> None:
        if self._hashing is not None:
            self._hashing.cancel()
            self._hashing = None

    def _hashed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failed(failure)

    async def _hash(self, index: int, view: View) -> None:
        for found in hash_state(view):
            if not found:
                await asyncio.sleep(0)
                continue
            letter = encode_letter(Digest(index, found))
            for info in self._group()[0].members:
                if info.id != self._member:
                    self._send(info.id, letter)
            self._compare(index, self._member, found)

    def _compare(self, index: int, member: str, digest: bytes) -> None:
        self._comparison.add(index, member, digest)
        configuration, leader = self._group()
        if not self._comparison.deviant(index, self._member, leader, configuration.voters):
            return
        own = configuration.info(self._member)
        name = own.name if own is not None else self._member
        self._failed(
            DeviantStateError(
                f"the state of master {name} after entry {index} is not that of the others, so it stops: on another "
                f"master run `barque cluster remove-member {name}`, move this one's data directory away, then run "
                "`barque master join` here; keep the directory for a report of the fault"
            )
        )
