"""`Resolver`: who answers a question, the zone or others, and where a CNAME leads from one to the other.

In: a `Query`. Out: a `Reply` at once wherever everything is known here, otherwise one to be awaited. Guarantees: until
the first complete lists of Services and EndpointSlices are here, a name of the cluster is SERVFAIL, never NXDOMAIN,
which a client would remember.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator

import dns.rcode
import dns.rrset
from dns.name import Name
from dns.rdatatype import AAAA, A, RdataType
from dns.rrset import RRset

from barque.network.dns.forwarder import Forwarder, question_of
from barque.network.dns.records import Records
from barque.network.dns.reply import FAILURE, Query, Reply
from barque.network.dns.zone import Outcome, Zone

# A chain of external names within the cluster; a longer one is a circle.
MOST_ALIASES = 8


class Resolver:
    """Answers every question that a pod asks."""

    def __init__(self, zone: Zone, records: Records, forwarder: Forwarder, is_synced: Callable[[], bool]) -> None:
        self._zone = zone
        self._records = records
        self._forwarder = forwarder
        self._is_synced = is_synced
        self._one = asyncio.Semaphore(1)

    def resolve(self, query: Query) -> Reply | Awaitable[Reply]:
        """Never raises; what fails is SERVFAIL."""
        if not self._is_synced() and self._zone.owns(query.name):
            return FAILURE
        if self._zone.is_large(query.name):
            return self._apart(query)
        return self._at_once(query)

    def _at_once(self, query: Query) -> Reply | Awaitable[Reply]:
        outcome = self._zone.find(query.name, RdataType(query.rdtype))
        if outcome is None:
            return self._forwarded(query)
        return self._own(query, outcome)

    async def _apart(self, query: Query) -> Reply:
        """In a thread, beside which the loop has its turns: with a thousand endpoints this may take a second.

        What changes meanwhile leaves the reply good for this once.
        """
        async with self._one:
            changes = self._records.changes
            reply = await asyncio.to_thread(self._at_once, query)
        if not isinstance(reply, Reply):
            reply = await reply
        return reply if self._records.changes == changes else reply._replace(until=-math.inf)

    def _forwarded(self, query: Query) -> Reply | Awaitable[Reply]:
        question = question_of(query)
        return self._forwarder.remembered(question) or self._forwarder.ask(question)

    def _own(self, query: Query, outcome: Outcome) -> Reply | Awaitable[Reply]:
        """Follow aliases as long as they stay in the zone."""
        name, answer, scopes = query.name, list[RRset](), dict[str, int]()
        for _ in range(MOST_ALIASES):
            scopes |= {scope: self._records.generation(scope) for scope in outcome.scopes}
            if outcome.records:
                answer.append(self._rrset(name, outcome.records))
            if outcome.alias is None:
                return self._reply(outcome, answer, scopes)
            name = outcome.alias
            following = self._zone.find(name, RdataType(query.rdtype))
            if following is None:
                return self._chased(query, name, self._reply(outcome, answer, scopes))
            outcome = following
        return FAILURE

    async def _chased(self, query: Query, target: Name, own: Reply) -> Reply:
        """The zone's alias and what others say of where it leads. Kept as long as theirs is, at the most."""
        theirs = await self._forwarder.ask(question_of(query, target))
        return theirs._replace(
            answer=own.answer + theirs.answer, authoritative=True, authentic=False, made_from=own.made_from
        )

    def _reply(self, outcome: Outcome, answer: list[RRset], scopes: dict[str, int]) -> Reply:
        authority: tuple[RRset, ...] = ()
        if not outcome.records:
            soa = self._zone.authority(outcome.apex)
            authority = (self._rrset(outcome.apex, [soa]),)
        return Reply(
            dns.rcode.NOERROR if outcome.exists else dns.rcode.NXDOMAIN,
            tuple(answer),
            authority,
            tuple(self._additional(outcome)),
            authoritative=True,
            made_from=tuple(scopes.items()),
        )

    def _additional(self, outcome: Outcome) -> Iterator[RRset]:
        for more in outcome.additional:
            for rdtype in (A, AAAA):
                if records := [record for record in more.records if record.rdtype == rdtype]:
                    yield self._rrset(more.name, records)

    def _rrset(self, name: Name, records: Iterable[dns.rdata.Rdata]) -> RRset:
        return dns.rrset.from_rdata_list(name, self._zone.ttl_s, list(records))
