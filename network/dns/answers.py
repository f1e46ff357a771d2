"""`Answers`: finished answers by the bytes of their question. Pure.

A question that is asked again in the same bytes, all but its number, costs two look-ups instead of a parse and a
rendering. Guarantees: an answer is given only while the records it was made from are as they were, and until its time
is over; what has several addresses is told in turn in up to `MOST_ORDERS` orders; the oldest of `CAPACITY` answers goes
first.
"""

from __future__ import annotations

from barque.network.dns.records import Records
from barque.network.dns.reply import Query, Reply, render

# Some 500 bytes each.
CAPACITY = 10_000
# More would spread no better, for each order is as likely to be the next one's.
MOST_ORDERS = 8
# The message's number, which is the asker's own each time.
ID_BYTES = 2


class _Held:
    __slots__ = ("made_from", "source", "turn", "until", "wires")

    def __init__(self, query: Query, reply: Reply, wire: bytes) -> None:
        self.made_from = reply.made_from
        self.until = reply.until
        # Many times the size of the answer: kept only while there are orders still to be rendered.
        self.source = (query, reply) if reply.rotations > 1 else None
        self.wires = [wire[ID_BYTES:]]
        self.turn = 0

    def next(self) -> bytes:
        """The orders one after another."""
        if self.source is not None:
            query, reply = self.source
            orders = min(reply.rotations, MOST_ORDERS)
            first = reply.rotations * len(self.wires) // orders
            self.wires.append(render(query, reply, query.payload, first)[ID_BYTES:])
            if len(self.wires) == orders:
                self.source = None
        self.turn = (self.turn + 1) % len(self.wires)
        return self.wires[self.turn]


class Answers:
    """Answers to datagrams, ready to be sent."""

    def __init__(self, records: Records, capacity: int = CAPACITY) -> None:
        self._records = records
        self._capacity = capacity
        self._held: dict[bytes, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def get(self, question: bytes, now: float) -> bytes | None:
        """The answer to a question, both without their number; `now` is monotonic."""
        held = self._held.get(question)
        if held is None:
            return None
        if held.until <= now:
            del self._held[question]
            return None
        for scope, generation in held.made_from:
            if self._records.generation(scope) != generation:
                del self._held[question]
                return None
        return held.next()

    def put(self, question: bytes, query: Query, reply: Reply, wire: bytes, now: float) -> None:
        """Remember an answer, unless it is of this moment only or nobody can ask the same again."""
        if reply.until <= now or query.unique:
            return
        self._held.pop(question, None)
        while len(self._held) >= self._capacity:
            del self._held[next(iter(self._held))]
        self._held[question] = _Held(query, reply, wire)
