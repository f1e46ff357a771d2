"""Addresses: never twice, reused late, kept across restarts."""

import ipaddress
import json
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from barque.network.pods import book as address_book
from barque.network.pods.book import AddressBook, AddressesExhaustedError
from barque.network.pods.host_ports import Exposed, PortMapping, PortTakenError

CIDR = "10.244.3.0/28"


class Books(RuleBasedStateMachine):
    """Any order of pods coming and going, with restarts between, with and without the file."""

    def __init__(self) -> None:
        super().__init__()
        self.book = AddressBook(CIDR)
        self.given: dict[str, str] = {}
        self.gone: list[str] = []

    uids = st.sampled_from([f"uid-{i}" for i in range(20)])

    @rule(uid=uids)
    def acquire(self, uid: str) -> None:
        fresh = uid not in self.given
        if fresh and len(self.given) == self.book.capacity:
            with pytest.raises(AddressesExhaustedError):
                self.book.acquire(uid)
            return
        ip = self.book.acquire(uid)
        assert self.given.get(uid, ip) == ip
        if fresh and ip in self.gone:
            assert ip == self.gone[0], "reused although another has been free for longer"
            assert len(self.gone) + len(self.given) == self.book.capacity, "reused although some were never used"
            self.gone.remove(ip)
        self.given[uid] = ip

    @rule(uid=uids)
    def release(self, uid: str) -> None:
        self.book.release(uid)
        if uid in self.given:
            self.gone.append(self.given.pop(uid))

    @rule()
    def restart(self) -> None:
        document = json.loads(json.dumps(self.book.to_document()))
        self.book = AddressBook(CIDR, document["held"], document["released"])

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def restart_without_the_file(self, data: st.DataObject) -> None:
        self.book = AddressBook(CIDR)
        self.gone = []
        self.book.adopt({f"link-{uid}": ip for uid, ip in self.given.items()}, {})
        for uid in list(self.given):
            assert self.book.acquire(uid, f"link-{uid}") == self.given[uid]

    @invariant()
    def none_is_held_twice(self) -> None:
        held = [*self.book.addresses().values(), *self.book.strays().values()]
        assert len(set(held)) == len(held)
        assert self.book.addresses() == self.given
        for ip in held:
            assert ipaddress.ip_address(ip) in ipaddress.ip_network(CIDR)
            assert ip.rsplit(".", 1)[1] not in ("0", "1", "15")


TestBooks = Books.TestCase


def test_running_out_is_said_in_words() -> None:
    book = AddressBook("10.244.3.0/30")
    assert book.acquire("a") == "10.244.3.2"
    with pytest.raises(AddressesExhaustedError, match=r"10\.244\.3\.0/30: 1 of 1 are held by pods"):
        book.acquire("b")


def test_a_former_cidrs_addresses_stay_with_their_pods_and_go_with_them() -> None:
    book = AddressBook("10.244.4.0/24", {"old": "10.244.3.2"}, ["10.244.3.3"])
    assert book.acquire("old") == "10.244.3.2"
    assert book.acquire("new") == "10.244.4.2"
    book.release("old")
    small = AddressBook("10.244.4.0/30", {}, ["10.244.3.3", "10.244.4.2"])
    assert small.acquire("x") == "10.244.4.2"


def test_a_stray_is_nobodys_until_its_pod_or_the_broom_comes() -> None:
    book = AddressBook(CIDR, {"known": "10.244.3.2"})
    book.adopt({"bq-known": "10.244.3.2", "bq-stray": "10.244.3.3"}, {"known": "bq-known"})
    assert book.strays() == {"bq-stray": "10.244.3.3"}
    assert book.acquire("other", "bq-other") == "10.244.3.4"
    book.release_stray("bq-stray")
    assert book.strays() == {}


def test_the_file_outlives_a_restart_and_a_torn_one_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "addresses.json"
    assert address_book.load(path, CIDR).addresses() == {}
    book = AddressBook(CIDR)
    ip = book.acquire("a")
    address_book.save(path, book)
    assert address_book.load(path, CIDR).addresses() == {"a": ip}
    assert [p.name for p in path.parent.iterdir()] == ["addresses.json"]
    for torn in ("", "{", "[]", '{"held": {}}', '{"held": 3, "released": []}'):
        path.write_text(torn)
        assert address_book.load(path, CIDR).addresses() == {}


def test_ports_of_the_host_are_kept_until_their_pod_goes(tmp_path: Path) -> None:
    web = (PortMapping(8080, 80), PortMapping(53, 5353, "UDP", "192.168.77.10"))
    book = AddressBook(CIDR)
    ip = book.acquire("a")
    book.set_ports("a", web)
    address_book.save(tmp_path / "book", book)
    again = address_book.load(tmp_path / "book", CIDR)
    assert again.exposed() == [Exposed(ip, web)]
    with pytest.raises(PortTakenError, match=r"host port 10\.0\.0\.1:8080/TCP is already used by pod a"):
        again.check_ports("b", (PortMapping(8080, 80, host_ip="10.0.0.1"),))
    again.check_ports("a", (PortMapping(8080, 81),))
    again.check_ports("b", (PortMapping(8080, 80, "UDP"), PortMapping(53, 53, "UDP", "127.0.0.1")))
    again.release("a")
    assert again.exposed() == []
