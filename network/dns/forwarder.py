"""`Forwarder`: asks other servers, and remembers for a while what they said.

In: a question about a name that is not the cluster's. Out: a `Reply`, SERVFAIL at the latest after `ANSWER_S`.
Guarantees: equal questions that come together are one question to the upstream, which also ends a loop of forwarders in
a timeout instead of a storm; a server that did not answer is asked last for a while; answers, and absences (RFC 2308),
are kept for their time to live but no longer than `LONGEST_S`; memory, questions under way and tries are bounded.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from dns.message import Message
from dns.name import Name
from dns.rdatatype import SOA
from dns.rrset import RRset

from barque.client.clock import Clock
from barque.network.dns.reply import OWN_PAYLOAD, Query, Reply
from barque.network.dns.upstreams import Server, Upstreams

log = logging.getLogger(__name__)

# Before a pod's resolver, which waits 5 s, gives up and asks again.
ANSWER_S = 4.5
TRY_S = 1.5
# Each server gets a second chance: one lost datagram is no dead server.
ROUNDS = 2
# For so long a server that failed is asked after all others.
AVOIDED_S = 10.0
# Kubernetes' default for cluster DNS (`cache 30`).
LONGEST_S = 30
# RFC 9520: a failure must be remembered, so that it is not asked about in a storm.
FAILURE_S = 1.0
CAPACITY = 10_000
MOST_PENDING = 1000


class Question(NamedTuple):
    """What decides what an upstream answers."""

    name: Name
    rdtype: int
    edns: bool = False
    dnssec: bool = False
    unchecked: bool = False


# Sends a message to a server, by TCP if so told, and returns the first answer that `accepts`. Raises `OSError`.
Exchange = Callable[[Server, bytes, bool, Callable[[bytes], bool]], Awaitable[bytes]]


class _Kept(NamedTuple):
    reply: Reply
    since: float
    ttl_s: float


def question_of(query: Query, name: Name | None = None) -> Question:
    """The question that a query asks, perhaps about another name."""
    message = query.message
    return Question(
        name or query.name,
        query.rdtype,
        query.edns,
        bool(message.ednsflags & dns.flags.DO),
        bool(message.flags & dns.flags.CD),
    )


class Forwarder:
    """Answers from others. `close` it in the end."""

    def __init__(self, upstreams: Upstreams, exchange: Exchange, clock: Clock, number: Callable[[], int]) -> None:
        """`number` gives each message its own, 0 to 65535, which nobody can foretell."""
        self._upstreams = upstreams
        self._exchange = exchange
        self._clock = clock
        self._number = number
        self._kept: dict[Question, _Kept] = {}
        self._pending: dict[Question, asyncio.Task[Reply]] = {}
        self._avoided: dict[Server, float] = {}

    def remembered(self, question: Question) -> Reply | None:
        """What is known already, with the time that is left of it."""
        kept = self._kept.get(question)
        if kept is None:
            return None
        age = self._clock.monotonic() - kept.since
        if age >= kept.ttl_s:
            del self._kept[question]
            return None
        whole = math.floor(age)
        end = min(kept.since + whole + 1, kept.since + kept.ttl_s)
        return _aged(kept.reply, whole)._replace(until=end)

    async def ask(self, question: Question) -> Reply:
        """The answer, remembered or asked for."""
        known = self.remembered(question)
        if known is not None:
            return known
        task = self._pending.get(question)
        if task is None:
            if len(self._pending) >= MOST_PENDING:
                return Reply(dns.rcode.SERVFAIL, until=-math.inf)
            task = self._pending[question] = asyncio.create_task(self._ask_upstreams(question), name="DNS question")
            task.add_done_callback(lambda _: self._pending.pop(question, None))
        # One asker that goes away takes the answer from no other.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Give up what is under way."""
        under_way = list(self._pending.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _ask_upstreams(self, question: Question) -> Reply:
        reply, ttl_s = Reply(dns.rcode.SERVFAIL), FAILURE_S
        deadline = self._clock.monotonic() + ANSWER_S
        for server in self._in_order(self._upstreams.of(question.name)):
            left = deadline - self._clock.monotonic()
            if left <= 0:
                break
            answer = await self._try(server, question, min(TRY_S, left))
            if answer is None:
                self._avoided[server] = self._clock.monotonic() + AVOIDED_S
                continue
            reply, ttl_s = _reply_of(answer), _lifetime_s(answer)
            if reply.rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                self._avoided.pop(server, None)
                break
        now = self._clock.monotonic()
        self._keep(question, _Kept(reply, now, ttl_s))
        return reply._replace(until=now + min(ttl_s, 1.0))

    def _in_order(self, servers: Sequence[Server]) -> Iterator[Server]:
        for _ in range(ROUNDS):
            now = self._clock.monotonic()
            yield from sorted(servers, key=lambda server: self._avoided.get(server, 0.0) > now)

    async def _try(self, server: Server, question: Question, limit_s: float) -> Message | None:
        """One server's answer; None where it gives none that can be used."""
        asked = _message(question, self._number())
        wire = asked.to_wire()

        def accepts(data: bytes) -> bool:
            return _read(asked, data) is not None

        try:
            async with asyncio.timeout(limit_s):
                answer = _read(asked, await self._exchange(server, wire, False, accepts))
                if answer is not None and answer.flags & dns.flags.TC:
                    answer = _read(asked, await self._exchange(server, wire, True, accepts))
        except (OSError, EOFError) as error:
            log.debug("%s does not answer: %s", server, error or "timeout")
            return None
        return answer

    def _keep(self, question: Question, kept: _Kept) -> None:
        self._kept.pop(question, None)
        if kept.ttl_s <= 0:
            return
        while len(self._kept) >= CAPACITY:
            del self._kept[next(iter(self._kept))]
        self._kept[question] = kept


def _message(question: Question, number: int) -> Message:
    edns = 0 if question.edns else -1
    # In small letters: askers who spell it in different ways get one answer.
    made = dns.message.make_query(
        question.name.canonicalize(),
        question.rdtype,  # type: ignore[arg-type]  # any number of 16 bits is a type
        use_edns=edns,
        want_dnssec=question.dnssec,
        payload=OWN_PAYLOAD,
        id=number,
    )
    if question.unchecked:
        made.flags |= dns.flags.CD
    return made


def _read(asked: Message, data: bytes) -> Message | None:
    """The answer to what was asked; None for anything else, such as a forger's guess."""
    try:
        answer = dns.message.from_wire(data, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return None
    return answer if asked.is_response(answer) else None


def _reply_of(answer: Message) -> Reply:
    return Reply(
        answer.rcode(),
        tuple(answer.answer),
        tuple(answer.authority),
        tuple(answer.additional),
        authentic=bool(answer.flags & dns.flags.AD),
    )


def _lifetime_s(answer: Message) -> float:
    """For how long an answer may be kept."""
    code = answer.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return FAILURE_S
    if code == dns.rcode.NOERROR and _has_wanted(answer):
        return min([LONGEST_S, *(rrset.ttl for rrset in answer.answer)])
    for rrset in answer.authority:
        if rrset.rdtype == SOA:
            minimum: int = rrset[0].minimum
            return min([LONGEST_S, rrset.ttl, minimum, *(held.ttl for held in answer.answer)])
    # An absence that does not say for how long may not be kept (RFC 2308, 5).
    return 0


def _has_wanted(answer: Message) -> bool:
    return any(rrset.rdtype == answer.question[0].rdtype for rrset in answer.answer)


def _aged(reply: Reply, seconds: int) -> Reply:
    """The reply with so much less time to live, and never more than is remembered."""
    return reply._replace(
        answer=_sooner(reply.answer, seconds),
        authority=_sooner(reply.authority, seconds),
        additional=_sooner(reply.additional, seconds),
    )


def _sooner(rrsets: Iterable[RRset], seconds: int) -> tuple[RRset, ...]:
    return tuple(
        dns.rrset.from_rdata_list(rrset.name, max(0, rrset.ttl - seconds), list(rrset)) for rrset in rrsets if rrset
    )
