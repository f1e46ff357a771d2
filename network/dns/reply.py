"""Questions and replies, from and to the wire. Pure; the wire format is dnspython's.

In: a datagram. Out: a `Query`, or the answer to what is none; and, of a query and a `Reply`, the answer's bytes. An
answer that does not fit keeps as many records as do and says so (TC), as CoreDNS does: some resolvers never come again
over TCP. RFC 1035, RFC 6891 (EDNS), RFC 8482 (ANY).
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
from dns.message import Message, QueryMessage
from dns.name import Name
from dns.rcode import Rcode
from dns.rdataclass import IN
from dns.rdatatype import AAAA, ANY, AXFR, IXFR, A
from dns.rrset import RRset

# What a datagram may hold without EDNS, at the least with it, and at the most.
PLAIN_BYTES, LONGEST_BYTES = 512, 4096
# The datagrams that we take ourselves: what goes through any network unfragmented (DNS flag day 2020).
OWN_PAYLOAD = 1232
STREAM_BYTES = 65535
# The smallest there is: an A record whose name is a reference.
_RECORD_BYTES = 16
_HEADER = struct.Struct("!HHHHHH")
_QR, _OPCODE, _RD = 0x8000, 0x7800, 0x0100
_BADVERS = 16


class Query(NamedTuple):
    """A question that can be answered, and how: `payload` is the size in bytes of the datagrams its asker takes."""

    message: Message
    name: Name
    rdtype: int
    payload: int
    edns: bool
    # Whether no other question has the same bytes, as with cookies.
    unique: bool


class Reply(NamedTuple):
    """What is answered. `made_from` are scopes of `Records` with the generations that were seen; the reply is current
    while they are, and until the monotonic time `until`.
    """

    rcode: Rcode
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    additional: tuple[RRset, ...] = ()
    authoritative: bool = False
    authentic: bool = False
    made_from: tuple[tuple[str, int], ...] = ()
    until: float = math.inf

    @property
    def size(self) -> int:
        """How many records it has."""
        return sum(map(len, (*self.answer, *self.authority, *self.additional)))

    @property
    def rotations(self) -> int:
        """In how many orders its addresses can be told."""
        return max((len(rrset) for rrset in self.answer if rrset.rdtype in (A, AAAA)), default=1)


# SERVFAIL, not to be remembered.
FAILURE = Reply(dns.rcode.SERVFAIL, until=-math.inf)


def read(data: bytes) -> Query | bytes | None:
    """The query in a datagram; what to answer where there is none that can be; None where silence is right."""
    if len(data) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(data)
    if flags & _QR:
        # Answering answers would let two servers talk for ever.
        return None
    if flags & _OPCODE:
        return _refusal(number, flags, dns.rcode.NOTIMP)
    if questions != 1:
        return _refusal(number, flags, dns.rcode.FORMERR)
    try:
        message = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError):
        return _refusal(number, flags, dns.rcode.FORMERR)
    if not isinstance(message, QueryMessage) or message.opcode() != dns.opcode.QUERY or not message.question:
        return _refusal(number, flags, dns.rcode.FORMERR)
    question = message.question[0]
    edns = message.edns >= 0
    payload = min(max(message.payload, PLAIN_BYTES), LONGEST_BYTES) if edns else PLAIN_BYTES
    query = Query(message, question.name, question.rdtype, payload, edns, bool(message.options))
    if message.edns > 0:
        return render(query, Reply(Rcode(_BADVERS)), payload)
    if question.rdclass != IN or question.rdtype in (AXFR, IXFR):
        return render(query, Reply(dns.rcode.REFUSED), payload)
    if question.rdtype == ANY:
        # One word instead of everything there is: such questions serve attacks (RFC 8482).
        everything = dns.rrset.from_text(question.name, 8482, IN, "HINFO", '"RFC8482" ""')
        return render(query, Reply(dns.rcode.NOERROR, (everything,)), payload)
    return query


def render(query: Query, reply: Reply, longest: int, rotation: int = 0) -> bytes:
    """The answer in at most `longest` bytes, its addresses in the order number `rotation`."""
    wanted = query.message
    made = Message(id=wanted.id)
    made.flags = dns.flags.QR | dns.flags.RA | (wanted.flags & (dns.flags.RD | dns.flags.CD))
    if reply.authoritative:
        made.flags |= dns.flags.AA
    if reply.authentic and (wanted.flags & dns.flags.AD or wanted.ednsflags & dns.flags.DO):
        made.flags |= dns.flags.AD
    made.question = wanted.question
    # One more than could fit: what is cut must still be seen to be.
    most = longest // _RECORD_BYTES + 1
    made.answer = [_rotated(rrset, rotation, most) for rrset in reply.answer]
    made.authority = list(reply.authority)
    made.additional = list(reply.additional[:most])
    if query.edns:
        made.use_edns(0, wanted.ednsflags & dns.flags.DO, OWN_PAYLOAD)
    made.set_rcode(reply.rcode)
    try:
        return made.to_wire(max_size=longest, want_shuffle=False)
    except dns.exception.TooBig:
        for section in (made.answer, made.authority, made.additional):
            section[:] = [alone for rrset in section for alone in _alone(rrset)]
        return made.to_wire(max_size=longest, prefer_truncation=True, want_shuffle=False)


def _refusal(number: int, flags: int, code: Rcode) -> bytes:
    """A bare header, for what could not be read any further."""
    return _HEADER.pack(number, _QR | (flags & (_OPCODE | _RD)) | code, 0, 0, 0, 0)


def _rotated(rrset: RRset, by: int, most: int) -> RRset:
    """At most so many of the records, addresses from the one number `by` on."""
    turned = by % len(rrset) if rrset.rdtype in (A, AAAA) else 0
    if not turned and len(rrset) <= most:
        return rrset
    held = list(rrset)
    return dns.rrset.from_rdata_list(rrset.name, rrset.ttl, (held[turned:] + held[:turned])[:most])


def _alone(rrset: RRset) -> list[RRset]:
    return [dns.rrset.from_rdata(rrset.name, rrset.ttl, rdata) for rdata in rrset]
