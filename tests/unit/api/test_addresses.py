"""Address arithmetic."""

from __future__ import annotations

import pytest

from barque.api import addresses


def test_a_range_counts_its_addresses() -> None:
    assert addresses.size("10.96.0.0/12") == 2**20
    assert addresses.nth("10.96.0.0/12", 10) == "10.96.0.10"
    assert addresses.offset("10.96.0.0/12", "10.96.1.0") == 256
    assert list(addresses.hosts("10.244.1.0/30")) == ["10.244.1.1", "10.244.1.2"]
    assert addresses.nth("fd00::/64", 5) == "fd00::5"


def test_what_lies_outside_is_refused() -> None:
    for index in (-1, 256):
        with pytest.raises(ValueError, match="has no address number"):
            addresses.nth("10.244.1.0/24", index)
    with pytest.raises(ValueError, match="is not in"):
        addresses.offset("10.244.1.0/24", "10.244.2.1")
    with pytest.raises(ValueError, match="host bits"):
        addresses.network("10.244.1.1/24")


def test_containment_of_addresses_and_ranges() -> None:
    assert addresses.contains("10.244.0.0/16", "10.244.255.255")
    assert addresses.contains("10.244.0.0/16", "10.244.3.0/24")
    assert not addresses.contains("10.244.0.0/16", "10.245.0.0")
    assert not addresses.contains("10.244.0.0/24", "10.244.0.0/16")
    assert not addresses.contains("10.244.0.0/16", "fd00::1")
    assert addresses.overlaps("10.96.0.0/12", "10.100.0.0/16")
    assert not addresses.overlaps("10.96.0.0/12", "10.244.0.0/16")


def test_a_range_splits_into_subnets() -> None:
    subnets = addresses.subnets("10.244.0.0/16", 24)
    assert len(subnets) == 256
    assert (subnets[0], subnets[255]) == ("10.244.0.0/24", "10.244.255.0/24")


def test_what_is_an_address() -> None:
    for text in ("10.0.0", "", "a", "10.0.0.0/8", "None"):
        assert not addresses.is_ipv4(text)
    assert addresses.is_ipv4("10.0.0.1")
    assert not addresses.is_ipv4("fd00::1")
