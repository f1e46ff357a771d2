"""How much of the log stays in memory, where followers are fed from."""

from __future__ import annotations

from barque.master.raft.configuration import members_of
from barque.master.raft.core import Core
from barque.master.raft.transfer import Senders

# Entries that are let go of in one turn of the loop: in two or three milliseconds.
_MOST_AT_ONCE = 32_768


def compaction_index(core: Core, kept_bytes: int, kept_for_laggards_bytes: int, senders: Senders) -> int:
    """The index to compact to; the base where nothing is to be done.

    What no member needs goes beyond `kept_bytes`; what one needs that is behind goes beyond `kept_for_laggards_bytes`,
    and it will get a snapshot. Members to whom one is being sent (`senders`) need what follows it.
    """
    if core.log_bytes <= kept_bytes + kept_bytes // 8:
        return core.base_index
    needed = senders.after
    for member in members_of(core.configuration):
        progress = core.progress(member)
        if progress is not None and progress.answered and member not in senders:
            needed = progress.match if needed is None else min(needed, progress.match)
    index = core.bytes_index(kept_bytes)
    if needed is not None:
        index = max(min(index, needed), core.bytes_index(kept_for_laggards_bytes))
    # Not a little in every turn: to drop the first ones moves all that stay. Nor a laggard's share at once.
    much = index - core.base_index > (core.last_index - core.base_index) // 8
    return min(index, core.base_index + _MOST_AT_ONCE) if much else core.base_index
