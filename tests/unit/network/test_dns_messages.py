"""Messages: what is refused and how, what does not fit, EDNS, and answers kept by the bytes of their question."""

import asyncio
import random
import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from barque.network.dns.answers import Answers
from barque.network.dns.reply import LONGEST_BYTES, OWN_PAYLOAD, Query, Reply, read, render
from tests.support.builders import a_service
from tests.support.nameserver import NameServer, endpoints, external, headless

WEB = "web.default.svc.cluster.local"
DB = "db.default.svc.cluster.local"


def a_server(many: int = 3) -> NameServer:
    web = a_service().cluster_ip("10.96.0.7").build()
    return NameServer(web, headless(), endpoints(*(f"10.244.{n // 200}.{n % 200 + 1}" for n in range(many))))


def header(flags: int = 0x0100, questions: int = 1, more: bytes = b"") -> bytes:
    return struct.pack("!HHHHHH", 77, flags, questions, 0, 0, 0) + more


QUESTION = b"\x03web\x00\x00\x01\x00\x01"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (header(more=b"\x03we"), dns.rcode.FORMERR),
        (header(more=b"\xc0\x0c\x00\x01\x00\x01"), dns.rcode.FORMERR),
        (header(questions=0), dns.rcode.FORMERR),
        (header(questions=2, more=QUESTION + QUESTION), dns.rcode.FORMERR),
        (header(more=QUESTION + b"more"), dns.rcode.FORMERR),
        (header(flags=0x2800, more=QUESTION), dns.rcode.NOTIMP),
        (header(flags=0x1000, more=QUESTION), dns.rcode.NOTIMP),
        (header(more=b"\x03web\x00\x00\x01\x00\x03"), dns.rcode.REFUSED),
        (header(more=b"\x03web\x00\x00\xfc\x00\x01"), dns.rcode.REFUSED),
        (header(more=b"\x03web\x00\x00\xfb\x00\x01"), dns.rcode.REFUSED),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_its_number(data: bytes, code: dns.rcode.Rcode) -> None:
    answer = read(data)
    assert isinstance(answer, bytes)
    refused = dns.message.from_wire(answer)
    assert (refused.id, refused.rcode()) == (77, code)
    assert refused.flags & dns.flags.QR
    assert refused.opcode() == (data[2] >> 3) & 15


@pytest.mark.parametrize("data", [b"", b"\x00" * 11, header(flags=0x8180, more=QUESTION)])
async def test_fragments_and_answers_are_met_with_silence(data: bytes) -> None:
    assert read(data) is None


async def test_no_bytes_whatever_are_too_much_for_it() -> None:
    chance = random.Random(5)
    question = dns.message.make_query(WEB, "A", use_edns=0).to_wire()
    for _ in range(2000):
        data = bytearray(question)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(2, len(data))] = chance.randrange(256)
        cut = bytes(data[: chance.randrange(len(data) + 1)])
        answer = read(cut)
        assert answer is None or isinstance(answer, bytes | Query)
        if isinstance(answer, bytes):
            assert dns.message.from_wire(answer).flags & dns.flags.QR


async def test_the_question_for_everything_gets_one_word() -> None:
    assert await a_server().told(WEB, "ANY") == ['"RFC8482" ""']


async def test_an_unknown_version_of_edns_is_told_ours() -> None:
    answer = await a_server().ask(WEB, use_edns=1)
    assert (answer.rcode(), answer.edns) == (dns.rcode.BADVERS, 0)


async def test_flags_are_as_the_asker_set_them() -> None:
    answer = await a_server().ask(WEB, flags=dns.flags.RD | dns.flags.CD)
    assert answer.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA | dns.flags.CD
    assert not (await a_server().ask(WEB, flags=0)).flags & dns.flags.RD


async def test_edns_is_answered_with_edns_and_nothing_else_is() -> None:
    assert (await a_server().ask(WEB)).edns == -1
    answer = await a_server().ask(WEB, use_edns=0, want_dnssec=True)
    assert (answer.edns, answer.payload) == (0, OWN_PAYLOAD)
    assert answer.ednsflags & dns.flags.DO
    assert not (await a_server().ask(WEB, use_edns=0)).ednsflags & dns.flags.DO


@pytest.mark.parametrize(("payload", "most"), [(None, 512), (100, 512), (1232, 1232), (9000, LONGEST_BYTES)])
async def test_what_does_not_fit_is_cut_and_says_so(payload: int | None, most: int) -> None:
    server = a_server(many=400)
    asked = dns.message.make_query(DB, "A", **({"payload": payload} if payload else {}))  # type: ignore[arg-type]
    data = await server.answer(asked.to_wire())
    assert data is not None
    answer = dns.message.from_wire(data)
    assert most - 32 <= len(data) <= most
    assert answer.flags & dns.flags.TC
    assert len(answer.answer[0]) >= (most - 100) // 16
    whole = await server.answer(asked.to_wire(), longest=65535)
    assert whole is not None
    assert len(dns.message.from_wire(whole).answer[0]) == 400
    assert not dns.message.from_wire(whole).flags & dns.flags.TC


async def test_what_fits_is_not_said_to_be_cut() -> None:
    answer = await a_server(many=20).ask(DB)
    assert len(answer.answer[0]) == 20
    assert not answer.flags & dns.flags.TC


async def test_additional_records_that_do_not_fit_are_left_out_silently() -> None:
    answer = await a_server(many=6).ask(f"_pg._tcp.{DB}", "SRV")
    assert len(answer.answer[0]) == 6
    assert not answer.flags & dns.flags.TC
    assert len(answer.additional) < 6


class Kept:
    """Answers and the server they come from."""

    def __init__(self, server: NameServer, capacity: int = 100) -> None:
        self.server, self.answers = server, Answers(server.records, capacity)
        self.made = 0

    def ask(
        self, name: str, rdtype: str = "A", id: int = 1, now: float = 0.0, **options: object
    ) -> dns.message.Message:
        data = dns.message.make_query(name, rdtype, id=id, **options).to_wire()  # type: ignore[arg-type]
        known = self.answers.get(data[2:], 0.0)
        if known is None:
            self.made += 1
            query = read(data)
            assert isinstance(query, Query)
            reply = self.server.resolver.resolve(query)
            assert isinstance(reply, Reply)
            known = render(query, reply, query.payload)[2:]
            self.answers.put(data[2:], query, reply, data[:2] + known, 0.0)
        return dns.message.from_wire(data[:2] + known)


async def test_the_same_question_is_answered_from_memory_with_its_own_number() -> None:
    kept = Kept(a_server())
    assert [kept.ask(WEB, id=id).id for id in (5, 6, 7)] == [5, 6, 7]
    assert kept.made == 1
    assert kept.ask(WEB.upper()).question[0].name.to_text() == f"{WEB.upper()}."
    assert kept.ask(WEB, use_edns=0).edns == 0
    assert kept.made == 3


async def test_a_change_of_the_service_forgets_its_answers_and_no_others() -> None:
    server = a_server()
    kept = Kept(server)
    for name in (WEB, DB, "gone.default.svc.cluster.local"):
        kept.ask(name)
    changed = endpoints("10.244.9.9", slice="2")
    server.put(changed)
    assert len(kept.ask(DB).answer[0]) == 4
    assert kept.made == 4
    kept.ask(WEB)
    kept.ask("gone.default.svc.cluster.local")
    assert kept.made == 4


async def test_an_absence_is_forgotten_when_the_service_comes_and_an_address_when_it_goes() -> None:
    server = a_server()
    kept = Kept(server)
    assert kept.ask("new.default.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN
    assert kept.ask("other.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN
    new, other = (
        a_service("new").cluster_ip("10.96.0.8").build(),
        a_service("x", "other").cluster_ip("10.96.0.9").build(),
    )
    server.put(new)
    server.put(other)
    assert kept.ask("new.default.svc.cluster.local").rcode() == dns.rcode.NOERROR
    assert kept.ask("other.svc.cluster.local").rcode() == dns.rcode.NOERROR
    assert kept.ask("8.0.96.10.in-addr.arpa", "PTR").rcode() == dns.rcode.NOERROR
    server.put(None, new)
    server.put(None, other)
    assert kept.ask("new.default.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN
    assert kept.ask("other.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN
    assert kept.ask("8.0.96.10.in-addr.arpa", "PTR").rcode() == dns.rcode.NXDOMAIN


async def test_a_service_made_anew_is_not_taken_for_its_namesake() -> None:
    server = a_server()
    kept = Kept(server)
    kept.ask(WEB)
    server.put(None, a_service().cluster_ip("10.96.0.7").build())
    server.put(a_service().cluster_ip("10.96.0.8").build())
    assert kept.ask(WEB).answer[0][0].to_text() == "10.96.0.8"


async def test_the_addresses_of_a_headless_service_are_told_in_turn() -> None:
    kept = Kept(a_server(many=3))
    orders = [[rdata.to_text() for rdata in kept.ask(DB).answer[0]] for _ in range(6)]
    assert kept.made == 1
    assert {order[0] for order in orders[:3]} == {"10.244.0.1", "10.244.0.2", "10.244.0.3"}
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert orders[3:] == orders[:3]


async def test_of_many_addresses_all_are_told_within_a_datagram_at_some_turn() -> None:
    kept = Kept(a_server(many=100))
    told = {rdata.to_text() for _ in range(8) for rdata in kept.ask(DB).answer[0]}
    assert len(told) == 100


async def test_only_so_many_answers_are_kept_and_none_that_nobody_can_ask_for_again() -> None:
    kept = Kept(a_server(), capacity=3)
    for number in range(9):
        kept.ask(f"s{number}.default.svc.cluster.local")
    assert len(kept.answers) == 3
    kept.ask("s8.default.svc.cluster.local")
    assert kept.made == 9
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    for _ in range(2):
        kept.ask(WEB, use_edns=0, options=[cookie])
    assert kept.made == 11


async def test_a_failure_is_not_kept() -> None:
    kept = Kept(a_server())
    kept.server.synced = False
    assert kept.ask(WEB).rcode() == dns.rcode.SERVFAIL
    kept.server.synced = True
    assert kept.ask(WEB).rcode() == dns.rcode.NOERROR


async def test_a_service_of_a_thousand_endpoints_is_told_whole_by_tcp_and_in_part_by_udp() -> None:
    server = a_server(many=1000)
    asked = dns.message.make_query(f"_pg._tcp.{DB}", "SRV").to_wire()
    part, whole = await server.answer(asked), await server.answer(asked, longest=65535)
    assert part is not None
    assert whole is not None
    assert dns.message.from_wire(part).flags & dns.flags.TC
    assert 1 < len(dns.message.from_wire(part).answer[0]) < 40
    assert len(dns.message.from_wire(whole).answer[0]) > 900


@pytest.mark.parametrize("changed", [False, True])
async def test_a_large_answer_is_kept_unless_something_changed_while_it_was_made(changed: bool) -> None:
    server = a_server(many=1000)
    query = read(dns.message.make_query(DB, "A").to_wire())
    assert isinstance(query, Query)
    making = server.resolver.resolve(query)
    assert not isinstance(making, Reply), "it must not be made while the loop waits"
    task = asyncio.ensure_future(making)
    await asyncio.sleep(0)
    if changed:
        server.put(endpoints("10.244.9.9", slice="2"))
    reply = await task
    assert (reply.until < 0) == changed


async def test_an_alias_in_the_zone_may_lead_to_a_large_service() -> None:
    server = a_server(many=300)
    server.put(external("alias", DB))
    asked = read(dns.message.make_query("alias.default.svc.cluster.local", "A").to_wire())
    assert isinstance(asked, Query)
    making = server.resolver.resolve(asked)
    assert not isinstance(making, Reply)
    assert len((await making).answer[1]) == 300
