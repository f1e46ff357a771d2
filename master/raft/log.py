"""`Log`: the entries a member holds in memory, and how far they are written, committed and applied.

    base          applied      durable ≤≥ commit        last
     |  compacted   |  in memory   |         |            |

Indexes are counted from 1; entry `base_index` itself is gone, its term is known. What is `durable` is certainly on this
member's own medium; `commit` may run ahead of it on a follower, and `applied` never passes either. Terms never fall
from one entry to the next, and two logs that share an entry (index and term) share all before it: that is why searches
here are binary, and why one comparison settles a whole overlap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

from barque.master.raft.messages import Configuration, Entry, Kind, decode_configuration
from barque.master.raft.ready import DivergedError, Start

_CONFIGURATION = int(Kind.CONFIGURATION)


class _Write:
    """Entries handed to the disk that end with this one; `void` once some of them have been replaced."""

    __slots__ = ("index", "term", "void")

    def __init__(self, index: int, term: int) -> None:
        self.index = index
        self.term = term
        self.void = False


class Log:
    def __init__(self, start: Start) -> None:
        self.base_index, self.base_term = start.base_index, start.base_term
        self._entries: list[Entry] = []
        # Payload bytes of all entries through each, counted from the start of this object; `_base_bytes` before them.
        self._ends: list[int] = []
        self._base_bytes = 0
        # The configurations in the log with their indexes: the newest committed one and those after it.
        self._configurations = [(start.applied, start.configuration)]
        self._writes: deque[_Write] = deque()
        self._append(start.entries)
        self._handed = self.durable = self.last_index
        self.applied = self._delivered = start.applied
        self.commit = start.applied
        self.commit_to(min(start.hard_state.commit, self.last_index))

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base_term

    @property
    def configuration(self) -> Configuration:
        """The newest in the log, committed or not: the one in force."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        return self._configurations[-1][0]

    @property
    def configurations(self) -> list[Configuration]:
        """The newest committed one, and those after it that are not committed yet."""
        return [configuration for _, configuration in self._configurations]

    @property
    def bytes(self) -> int:
        """Payload bytes in memory."""
        return self._bytes_through(self.last_index) - self._base_bytes

    @property
    def uncommitted_bytes(self) -> int:
        return self._bytes_through(self.last_index) - self._bytes_through(max(self.commit, self.base_index))

    def term_at(self, index: int) -> int | None:
        """None where it is not known any more, or not yet."""
        if self.base_index < index <= self.last_index:
            return self._entries[index - self.base_index - 1].term
        return self.base_term if index == self.base_index else None

    def is_no_newer_than(self, last_index: int, last_term: int) -> bool:
        """A log that ends with that entry is at least as up to date (Raft paper, section 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def last_at_most(self, index: int, term: int) -> int:
        """The highest index up to `index` whose term is at most `term`: nothing after it can be shared with a log whose
        entry `index` has that term. The base, or `index` before it, where it is not known better.
        """
        if index <= self.base_index:
            return index
        end = min(index, self.last_index) - self.base_index
        return self.base_index + bisect_right(self._entries, term, hi=end, key=_term)

    def after(self, index: int, limit_bytes: int) -> tuple[tuple[Entry, ...], int]:
        """The entries after `index`, as many as fit but at least one; and their bytes. Without room none."""
        if not limit_bytes:
            return (), 0
        first = index - self.base_index
        before = self._bytes_through(index)
        end = max(bisect_right(self._ends, before + limit_bytes, first), first + 1)
        entries = tuple(self._entries[first:end])
        return entries, (self._bytes_through(index + len(entries)) - before)

    def index_within(self, limit_bytes: int) -> int:
        """The lowest index to compact to so that at most `limit_bytes` stay, but never beyond what is applied."""
        excess = self._bytes_through(self.last_index) - limit_bytes
        if excess <= self._base_bytes:
            return self.base_index
        return min(self.applied, self.base_index + 1 + bisect_left(self._ends, excess))

    def extend(self, entries: Sequence[Entry]) -> None:
        """A leader's own new entries."""
        self._append(entries)

    def accept(self, previous_index: int, entries: Sequence[Entry]) -> None:
        """The leader's entries after one that is shared. What is here already stays, so that a late or doubled message
        takes nothing back; the first entry of another term goes, and all that follow it.
        """
        overlap = min(self.last_index - previous_index, len(entries))
        if overlap and self.term_at(previous_index + overlap) != entries[overlap - 1].term:
            overlap = next(i for i in range(overlap) if self.term_at(previous_index + i + 1) != entries[i].term)
            self.truncate(previous_index + overlap + 1)
        self._append(entries[overlap:])

    def truncate(self, index: int) -> list[Entry]:
        """Forget the entries from `index` on; returns them."""
        if index <= self.commit:
            raise DivergedError(f"entry {index} is to be replaced, and {self.commit} are committed")
        first = index - self.base_index - 1
        forgotten = self._entries[first:]
        del self._entries[first:], self._ends[first:]
        while self._configurations[-1][0] >= index:
            self._configurations.pop()
        for write in self._writes:
            write.void = write.void or write.index >= index
        self.durable = min(self.durable, index - 1)
        self._handed = min(self._handed, index - 1)
        return forgotten

    def commit_to(self, index: int) -> None:
        """Entries up to `index` are committed; a lower index than before says nothing new."""
        if index <= self.commit:
            return
        self.commit = index
        while len(self._configurations) > 1 and self._configurations[1][0] <= index:
            del self._configurations[0]

    @property
    def unwritten(self) -> bool:
        return self._handed < self.last_index

    def take_unwritten(self) -> list[Entry]:
        """Entries that the disk has not been given; each is returned once."""
        entries = self._entries[self._handed - self.base_index :]
        if entries:
            self._writes.append(_Write(entries[-1].index, entries[-1].term))
            self._handed = self.last_index
        return entries

    def persisted(self, index: int, term: int) -> bool:
        """What `take_unwritten` returned up to this entry is on the medium. False where that means nothing any more:
        some of it has been replaced since, and what took its place is still on its way, even if it is the same again.
        """
        if not any(write.index == index and write.term == term for write in self._writes):
            return False
        write = self._writes.popleft()
        while write.index != index or write.term != term:
            write = self._writes.popleft()
        if not write.void:
            self.durable = index
        return not write.void

    @property
    def undelivered(self) -> bool:
        return self._delivered < min(self.commit, self.durable)

    def take_committed(self) -> list[Entry]:
        """Entries to apply: committed, and durable here; each is returned once."""
        end = min(self.commit, self.durable)
        if end <= self._delivered:
            return []
        entries = self._entries[self._delivered - self.base_index : end - self.base_index]
        self._delivered = end
        return entries

    def compact(self, index: int) -> None:
        """Drop the entries up to `index`, which are applied."""
        index = min(index, self.applied)
        if index <= self.base_index:
            return
        count = index - self.base_index
        self.base_term, self._base_bytes = self._entries[count - 1].term, self._ends[count - 1]
        del self._entries[:count], self._ends[:count]
        self.base_index = index

    def restart(self, index: int, term: int, configuration: Configuration) -> None:
        """A snapshot of everything up to `index` has taken the place of all entries."""
        self.base_index, self.base_term = index, term
        self._entries, self._ends, self._base_bytes = [], [], 0
        self._configurations = [(index, configuration)]
        self._writes.clear()
        self._handed = self.durable = self.applied = self._delivered = self.commit = index

    def _append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        ends = accumulate((len(entry.data) for entry in entries), initial=self._bytes_through(self.last_index))
        next(ends)
        self._ends.extend(ends)
        self._entries.extend(entries)
        for entry in entries:
            if entry.kind == _CONFIGURATION and entry.index > self._configurations[0][0]:
                self._configurations.append((entry.index, decode_configuration(entry.data)))

    def _bytes_through(self, index: int) -> int:
        return self._ends[index - self.base_index - 1] if index > self.base_index else self._base_bytes


def _term(entry: Entry) -> int:
    return entry.term
