"""The cluster's own ranges must not hide the hosts' network."""

from __future__ import annotations

import struct

import pytest

from barque.master.apiserver.settings import ApiSettings
from barque.master.underlay import check_ranges, underlay_network


def number(address: str) -> str:
    return f"{struct.unpack('=I', bytes(map(int, address.split('.'))))[0]:08X}"


def routes(*rows: tuple[str, str, str, str]) -> str:
    """Rows of interface, destination, gateway and mask."""
    lines = [
        f"{link}\t{number(to)}\t{number(gateway)}\t0001\t0\t0\t0\t{number(mask)}\t0\t0\t0\t"
        for link, to, gateway, mask in rows
    ]
    return "\n".join(["Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT", *lines, ""])


HOST = routes(
    ("eth0", "0.0.0.0", "192.168.56.1", "0.0.0.0"),
    ("eth0", "192.168.56.0", "0.0.0.0", "255.255.255.0"),
    ("barque.1", "10.244.3.0", "10.244.3.0", "255.255.255.0"),
    ("veth1", "10.244.1.7", "0.0.0.0", "255.255.255.255"),
)


def test_the_underlay_is_the_network_of_the_masters_own_address() -> None:
    assert str(underlay_network("192.168.56.10", HOST)) == "192.168.56.0/24"
    assert str(underlay_network("203.0.113.9", HOST)) == "203.0.113.9/32"
    assert str(underlay_network("192.168.56.10", "")) == "192.168.56.10/32"


def test_ranges_beside_it_are_accepted_though_pods_are_on_this_host() -> None:
    check_ranges(ApiSettings(), "192.168.56.10", HOST)
    check_ranges(ApiSettings(), "master-1.example.com", HOST)


@pytest.mark.parametrize("name", ["service_cidr", "cluster_cidr"])
@pytest.mark.parametrize("range_", ["192.168.0.0/16", "192.168.56.0/25"])
def test_a_range_that_overlaps_the_underlay_is_refused_in_one_line(name: str, range_: str) -> None:
    settings = ApiSettings(**{name: range_}, node_cidr_prefix=25)
    with pytest.raises(ValueError, match="overlaps") as refused:
        check_ranges(settings, "192.168.56.10", HOST)
    assert str(refused.value) == (
        f"{name}: {range_} overlaps 192.168.56.0/24, the network of this master's address 192.168.56.10; "
        "choose a range that no host uses"
    )


def test_a_range_that_takes_a_part_of_a_wide_network_is_said(caplog: pytest.LogCaptureFixture) -> None:
    wide = routes(("eth0", "10.0.0.0", "0.0.0.0", "255.0.0.0"))
    check_ranges(ApiSettings(service_cidr="10.96.0.0/12"), "10.1.2.3", wide)
    assert caplog.messages[0] == (
        "service_cidr: 10.96.0.0/12 overlaps 10.0.0.0/8, the network of this master's address 10.1.2.3; "
        "hosts within the range cannot be reached from others"
    )


def test_a_service_range_that_overlaps_the_pods_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^cluster_cidr: 10.244.0.0/16 overlaps service_cidr 10.240.0.0/12$"):
        ApiSettings(service_cidr="10.240.0.0/12")
