"""The host under the overlay: what carries it, whose announcements count, whom checksums are left to."""

from __future__ import annotations

import struct

import pytest

from barque.network import netlink
from barque.network.netlink import Address
from barque.network.overlay import underlay
from barque.network.overlay.events import counts
from barque.network.overlay.offload import known_fault
from barque.network.overlay.underlay import Masters, UnderlayError, choose_underlay

NAMES = {1: "lo", 2: "nat0", 3: "eth1", 4: "bare0"}
ADDRESSES = [Address(1, "127.0.0.1", 8), Address(2, "10.0.2.15", 24), Address(3, "192.168.56.7", 24),
             Address(3, "192.168.56.8", 24)]  # fmt: skip


def test_the_link_that_has_the_address() -> None:
    assert choose_underlay(NAMES, ADDRESSES, "", "192.168.56.7") == Address(3, "192.168.56.7", 24)
    assert choose_underlay(NAMES, ADDRESSES, "", "127.0.0.1").number == 1


def test_a_named_interface_wins_over_the_route() -> None:
    assert choose_underlay(NAMES, ADDRESSES, "eth1", "").address == "192.168.56.7"
    assert choose_underlay(NAMES, ADDRESSES, "eth1", "192.168.56.8").address == "192.168.56.8"
    assert choose_underlay(NAMES, ADDRESSES, "eth1", "10.0.2.15").address == "192.168.56.7"


@pytest.mark.parametrize(
    ("interface", "preferred", "reason", "words"),
    [
        ("eth9", "", "InterfaceNotFound", "this host has no interface eth9"),
        ("bare0", "", "AddressNotFound", "interface bare0 has no IPv4 address"),
        ("", "10.9.9.9", "AddressNotFound", "no interface of this host has the address 10.9.9.9"),
    ],
)
def test_what_cannot_carry_it(interface: str, preferred: str, reason: str, words: str) -> None:
    with pytest.raises(UnderlayError, match=words) as refused:
        choose_underlay(NAMES, ADDRESSES, interface, preferred)
    assert refused.value.reason == reason


async def test_a_silent_name_server_moves_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"m1.example": ["10.0.0.9"], "m2.example": []}

    async def resolve(host: str) -> list[str]:
        return answers[host]

    monkeypatch.setattr(underlay, "resolve", resolve)
    masters = Masters(["m1.example:7443", "m2.example:7443"])
    assert await masters.addresses() == ["10.0.0.9"]
    answers |= {"m1.example": [], "m2.example": ["10.0.0.8"]}
    assert await masters.addresses() == ["10.0.0.9", "10.0.0.8"]


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def about_link(kind: int, number: int) -> bytes:
    return message(kind, struct.pack("=BxHiII", 0, 1, number, 0, 0))


def about_route(kind: int, protocol: int) -> bytes:
    return message(kind, struct.pack("=8BI", 2, 24, 0, 0, 254, protocol, 0, 1, 0))


def about_neighbour(kind: int, number: int) -> bytes:
    return message(kind, struct.pack("=B3xiHBB", 7, number, 0, 0, 0))


def test_whose_announcements_count() -> None:
    ours = {2, 7}
    assert counts(about_link(netlink.RTM_DELLINK, 7), ours)
    assert counts(about_link(netlink.RTM_NEWLINK, 2), ours)
    assert counts(about_route(netlink.RTM_DELROUTE, netlink.RTPROT_BARQUE), ours)
    assert counts(about_neighbour(netlink.RTM_DELNEIGH, 7), ours)
    assert counts(message(netlink.RTM_DELADDR, struct.pack("=BBBBi", 2, 24, 0, 0, 9)), ours)
    # A pod comes.
    pod = about_link(netlink.RTM_NEWLINK, 90) + about_neighbour(netlink.RTM_NEWNEIGH, 90)
    pod += about_route(netlink.RTM_NEWROUTE, netlink.RTPROT_STATIC)
    assert not counts(pod, ours)
    assert not counts(about_route(netlink.RTM_DELROUTE, netlink.RTPROT_STATIC), ours)
    # What counts may come last.
    assert counts(pod + about_link(netlink.RTM_DELLINK, 7), ours)
    assert not counts(b"", ours)


def test_whom_checksums_are_not_left_to() -> None:
    assert known_fault("6.1.0-18-amd64", "virtio_net") == ""
    assert known_fault("5.7.0", "") == ""
    assert known_fault("5.6.19", "e1000") == ("Linux 5.6.19 spoils checksums of masqueraded VXLAN packets (before 5.7)")
    assert known_fault("4.18.0-372.el8", "") != ""
    assert known_fault("6.8.0", "vmxnet3") == "network cards of driver vmxnet3 spoil checksums inside VXLAN packets"
    assert known_fault("unheard-of", "") == ""
