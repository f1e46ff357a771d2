"""Names outside the cluster: who is asked, in which order, how often, and for how long the answer is kept."""

import asyncio

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest

from barque.network.dns import forwarder
from barque.network.dns.forwarder import AVOIDED_S
from barque.network.dns.upstreams import Server, Upstreams, parse_stub_domain, servers_in
from tests.support.clock import FakeClock
from tests.support.nameserver import SPARE, UPSTREAM, NameServer, external, said

NAME = "www.example.com"
QUESTION = f"{NAME}. A"
SOA = "ns.example.com. admin.example.com. 1 2 3 4"


def a_server(ttl_s: int = 60) -> tuple[NameServer, FakeClock]:
    clock = FakeClock()
    server = NameServer(clock=clock)
    server.outside.answers[QUESTION] = [f"{NAME}. {ttl_s} IN A 192.0.2.53"]
    return server, clock


async def test_an_answer_is_kept_and_its_time_to_live_counts_down() -> None:
    server, clock = a_server(20)
    assert (await server.ask(NAME)).answer[0].ttl == 20
    await clock.advance(7.5)
    answer = await server.ask(NAME)
    assert answer.answer[0].ttl == 13
    assert not answer.flags & dns.flags.AA
    assert len(server.outside.asked) == 1
    await clock.advance(12.5)
    assert (await server.ask(NAME)).answer[0].ttl == 20
    assert len(server.outside.asked) == 2


async def test_no_answer_is_kept_for_longer_than_30_s() -> None:
    server, clock = a_server(3600)
    await server.ask(NAME)
    await clock.advance(29.9)
    await server.ask(NAME)
    assert len(server.outside.asked) == 1
    await clock.advance(0.2)
    await server.ask(NAME)
    assert len(server.outside.asked) == 2


async def test_an_answer_without_time_to_live_is_not_kept() -> None:
    server, _ = a_server(0)
    await server.ask(NAME)
    await server.ask(NAME)
    assert len(server.outside.asked) == 2


@pytest.mark.parametrize(("ttl_s", "minimum_s", "kept_s"), [(60, 10, 10), (7, 600, 7), (600, 600, 30)])
async def test_an_absence_is_kept_as_its_authority_says(ttl_s: int, minimum_s: int, kept_s: int) -> None:
    server, clock = a_server()
    server.outside.absent["gone.example.com. A"] = f"example.com. {ttl_s} IN SOA {SOA} {minimum_s}"
    assert await server.told("gone.example.com") == "NXDOMAIN"
    await clock.advance(kept_s - 0.1)
    assert await server.told("gone.example.com") == "NXDOMAIN"
    assert len(server.outside.asked) == 1
    await clock.advance(0.2)
    await server.told("gone.example.com")
    assert len(server.outside.asked) == 2


async def test_an_absence_without_authority_is_not_kept() -> None:
    server, _ = a_server()
    assert await server.told("empty.example.com") == "NODATA"
    await server.told("empty.example.com")
    assert len(server.outside.asked) == 2


async def test_spelling_does_not_divide_the_memory_and_is_kept_for_the_asker() -> None:
    server, _ = a_server()
    assert (await server.ask("wWW.eXAMPLE.cOM")).answer[0].name.to_text() == "wWW.eXAMPLE.cOM."
    answer = await server.ask("WWW.Example.COM")
    assert answer.question[0].name.to_text() == "WWW.Example.COM."
    assert answer.answer[0].name.to_text() == "WWW.Example.COM."
    assert server.outside.asked == [(UPSTREAM, QUESTION)]


async def test_what_changes_the_answer_divides_the_memory() -> None:
    server, _ = a_server()
    await server.ask(NAME)
    await server.ask(NAME, use_edns=0)
    await server.ask(NAME, want_dnssec=True)
    await server.ask(NAME, flags=dns.flags.RD | dns.flags.CD)
    await server.ask(NAME, "AAAA")
    assert len(server.outside.asked) == 5


async def test_equal_questions_at_once_are_one_to_the_upstream() -> None:
    server, _ = a_server()
    answers = await asyncio.gather(*(server.ask(NAME) for _ in range(20)))
    assert {str(said(answer)) for answer in answers} == {"['192.0.2.53']"}
    assert len(server.outside.asked) == 1


async def test_an_asker_that_goes_away_takes_the_answer_from_no_other() -> None:
    server, _ = a_server()
    first, second = asyncio.create_task(server.ask(NAME)), asyncio.create_task(server.ask(NAME))
    await asyncio.sleep(0)
    first.cancel()
    assert said(await second) == ["192.0.2.53"]
    await asyncio.gather(first, return_exceptions=True)


async def test_a_silent_server_is_passed_over_and_asked_last_for_a_while() -> None:
    server, clock = a_server(0)
    server.outside.silent = {UPSTREAM}
    assert await server.told(NAME) == ["192.0.2.53"]
    assert [who for who, _ in server.outside.asked] == [UPSTREAM, SPARE]
    await server.told(NAME)
    assert [who for who, _ in server.outside.asked[2:]] == [SPARE]
    await clock.advance(AVOIDED_S)
    server.outside.silent = set()
    await server.told(NAME)
    assert server.outside.asked[-1][0] == UPSTREAM


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
async def test_a_server_that_fails_is_passed_over(code: dns.rcode.Rcode) -> None:
    server, _ = a_server()
    server.outside.rcodes = {UPSTREAM: code}
    assert await server.told(NAME) == ["192.0.2.53"]
    assert [who for who, _ in server.outside.asked] == [UPSTREAM, SPARE]


async def test_when_nobody_answers_it_is_a_failure_after_two_rounds_remembered_for_a_second() -> None:
    server, clock = a_server()
    server.outside.silent = {UPSTREAM, SPARE}
    assert await server.told(NAME) == "SERVFAIL"
    assert len(server.outside.asked) == 4
    await server.told(NAME)
    assert len(server.outside.asked) == 4
    server.outside.silent = set()
    await clock.advance(1)
    assert await server.told(NAME) == ["192.0.2.53"]


async def test_the_failure_comes_before_the_asker_gives_up() -> None:
    class Slow(FakeClock):
        """Each try takes its whole time."""

    clock = Slow()
    server = NameServer(clock=clock)
    server.upstreams.default = tuple(Server(f"192.0.2.{number}") for number in range(1, 4))
    limits: list[float] = []

    async def silence(server: Server, wire: bytes, stream: bool, accepts: object) -> bytes:
        await clock.advance(forwarder.TRY_S)
        limits.append(clock.monotonic())
        raise TimeoutError

    server.forwarder._exchange = silence  # type: ignore[assignment]
    assert await server.told(NAME) == "SERVFAIL"
    assert limits[-1] <= 4.5


async def test_a_truncated_answer_is_fetched_by_tcp() -> None:
    server, _ = a_server()
    server.outside.truncates = True
    assert await server.told(NAME) == ["192.0.2.53"]
    assert server.outside.streams == 1


async def test_each_message_has_a_number_of_its_own_and_no_other_is_believed() -> None:
    server, _ = a_server(0)

    def forged(query: dns.message.Message) -> bytes:
        made = dns.message.make_response(query)
        made.id ^= 1
        return made.to_wire()

    server.outside.forged = forged
    await server.ask(NAME)
    await server.ask(NAME)
    assert len(set(server.outside.ids)) == 2


async def test_an_answer_to_another_question_is_not_believed() -> None:
    server, _ = a_server()

    def forged(query: dns.message.Message) -> bytes:
        other = dns.message.make_query("evil.example.com", "A", id=query.id)
        return dns.message.make_response(other).to_wire()

    server.outside.forged = forged
    assert await server.told(NAME) == ["192.0.2.53"]


async def test_questions_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "MOST_PENDING", 3)
    server, _ = a_server()
    answers = await asyncio.gather(*(server.ask(f"n{number}.example.com") for number in range(5)))
    assert [dns.rcode.to_text(a.rcode()) for a in answers] == ["NOERROR"] * 3 + ["SERVFAIL"] * 2


async def test_answers_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "CAPACITY", 2)
    server, _ = a_server()
    for number in range(4):
        server.outside.answers[f"n{number}.example.com. A"] = [f"n{number}.example.com. 60 IN A 192.0.2.1"]
        await server.ask(f"n{number}.example.com")
    assert len(server.forwarder._kept) == 2


async def test_without_a_server_names_outside_fail() -> None:
    server, _ = a_server()
    server.upstreams.default = ()
    assert await server.told(NAME) == "SERVFAIL"


async def test_an_alias_outside_is_told_with_the_clusters_own_part() -> None:
    server, clock = a_server(20)
    server.put(external("shop", NAME))
    await server.ask(NAME)
    await clock.advance(5)
    answer = await server.ask("shop.default.svc.cluster.local")
    assert [(rrset.ttl, rrset.rdtype) for rrset in answer.answer] == [(5, dns.rdatatype.CNAME), (15, dns.rdatatype.A)]
    assert len(server.outside.asked) == 1


async def test_stub_domains_are_asked_of_their_own_servers_the_longest_first() -> None:
    upstreams = Upstreams(
        [parse_stub_domain("corp.example=10.0.0.53"), parse_stub_domain("lab.Corp.example=10.0.1.53:5353,[fd00::1]:53")]
    )
    upstreams.default = (UPSTREAM,)
    assert upstreams.of(dns.name.from_text("www.example")) == (UPSTREAM,)
    assert upstreams.of(dns.name.from_text("notcorp.example")) == (UPSTREAM,)
    assert upstreams.of(dns.name.from_text("corp.example")) == (Server("10.0.0.53", 53),)
    assert upstreams.of(dns.name.from_text("a.LAB.corp.example")) == (Server("10.0.1.53", 5353), Server("fd00::1", 53))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("corp.example", "'corp.example' must be DOMAIN=SERVER[,SERVER]"),
        ("=10.0.0.1", "'=10.0.0.1' must be DOMAIN=SERVER[,SERVER]"),
        ("a..b=10.0.0.1", "'a..b' is no domain name: A DNS label is empty."),
        ("a.b=ns.example", "'ns.example' is no server: an address is needed, perhaps with a port"),
        ("a.b=10.0.0.1:0", "'10.0.0.1:0' is no server: an address is needed, perhaps with a port"),
        ("a.b=10.0.0.1,", "'' is no server: an address is needed, perhaps with a port"),
    ],
)
async def test_a_wrong_stub_domain_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"is no|must be") as caught:
        parse_stub_domain(text)
    assert str(caught.value) == why


RESOLVED = "nameserver 192.0.2.7\nnameserver 192.0.2.8\n"


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("", []),
        ("search a.b\nnameserver 192.0.2.1 # first\n nameserver  2001:db8::1\noptions ndots:2\n",
         ["192.0.2.1", "2001:db8::1"]),
        ("#nameserver 192.0.2.1\nnameserver\nnameserver nobody\n", []),
        ("nameserver 127.0.0.53\n", ["192.0.2.7", "192.0.2.8"]),
        ("nameserver 127.0.0.1\n", ["127.0.0.1"]),
        ("nameserver 10.96.0.10\nnameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("".join(f"nameserver 192.0.2.{n}\n" for n in (1, 1, 2, 3, 4)), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
    ],
)  # fmt: skip
async def test_the_hosts_servers_are_asked_and_never_ourselves(text: str, servers: list[str]) -> None:
    assert [server.address for server in servers_in(text, RESOLVED, own={"10.96.0.10"})] == servers


async def test_systemd_resolved_is_asked_where_its_own_file_names_nobody() -> None:
    assert servers_in("nameserver 127.0.0.53\n", "", own=()) == (Server("127.0.0.53"),)
