"""What the core has handed out for the log while an append was in hand: it all goes into the next one.

Pure. What waits together may be written together, and then its messages sent: it is as if each had been written in its
turn and the messages had been late.
"""

from __future__ import annotations

from typing import NamedTuple

from barque.master.raft.messages import AppendReply, Entry, HardState, Message
from barque.master.raft.ready import Ready

# A disk that refuses for days must not gather the answers of days. Messages may be lost: the oldest are.
_MOST_MESSAGES = 4096


class Batch(NamedTuple):
    """One append: afterwards the messages may be sent. `ends` are the last index and term of each `Ready` in it that
    had entries, those included of which nothing is left: the core counts on being told of every one.
    """

    hard_state: HardState | None
    entries: list[Entry]
    messages: list[Message]
    ends: list[tuple[int, int]]


class AppendQueue:
    """`written` is the hard state on the medium."""

    def __init__(self, written: HardState) -> None:
        self._written = written
        self._hard_state: HardState | None = None
        self._entries: list[Entry] = []
        self._messages: list[Message] = []
        self._ends: list[tuple[int, int]] = []

    @property
    def entries(self) -> list[Entry]:
        return self._entries

    def add(self, ready: Ready) -> None:
        """After all that was added before."""
        if ready.hard_state is not None:
            self._hard_state = ready.hard_state
        if ready.entries:
            self.cut(ready.entries[0].index)
            self._entries += ready.entries
            self._ends.append((ready.entries[-1].index, ready.entries[-1].term))
        self._messages += ready.durable
        del self._messages[:-_MOST_MESSAGES]

    def due(self) -> bool:
        """Whether something waits that is worth an append. A commit index alone is not: it is a hint, and goes with
        the next one.
        """
        changed = self._hard_state
        voted = changed is not None and (changed.term, changed.vote) != (self._written.term, self._written.vote)
        return bool(self._entries) or voted

    def messages(self) -> list[Message]:
        """What may be sent at once because nothing before it waits for the log; call it where nothing is `due`."""
        messages, self._messages = self._messages, []
        return messages

    def take(self) -> Batch:
        batch = Batch(self._hard_state, self._entries, self._messages, self._ends)
        self._hard_state, self._entries, self._messages, self._ends = None, [], [], []
        return batch

    def written(self, batch: Batch) -> None:
        """It is on the medium."""
        if batch.hard_state is not None:
            self._written = batch.hard_state

    def give_back(self, batch: Batch) -> None:
        """It was not written: it comes before what waits."""
        if self._hard_state is None:
            self._hard_state = batch.hard_state
        later, self._entries = self._entries, batch.entries
        if later:
            self.cut(later[0].index)
            self._entries = self._entries + later
        self._messages = batch.messages + self._messages
        self._ends = batch.ends + self._ends

    def cut(self, index: int) -> None:
        """The entries from `index` on are void."""
        if self._entries and self._entries[-1].index >= index:
            self._entries = [entry for entry in self._entries if entry.index < index]

    def drop_entries(self) -> list[tuple[int, int]]:
        """None that waits will be written; returns their `Batch.ends`."""
        ends, self._ends, self._entries = self._ends, [], []
        return ends

    def restart(self) -> None:
        """A snapshot has taken the log's place: nothing of it may be written or confirmed any more."""
        self.drop_entries()
        self._messages = [message for message in self._messages if not isinstance(message, AppendReply)]
