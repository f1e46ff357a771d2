"""Which of the host's addresses others should use."""

import pytest

from barque.client import address
from barque.client.address import NoAddressError, choose_address, default_address, host_of

ROUTES = {"10.0.0.9": "10.0.0.5", "127.0.0.1": "127.0.0.1", "192.0.2.1": "172.31.0.2", "10.9.9.9": None}


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """A kernel that routes by a table, and a resolver that knows addresses only."""
    table: dict[str, str | None] = dict(ROUTES)

    async def resolve(host: str) -> list[str]:
        return [host] if host in table else []

    monkeypatch.setattr(address, "source_address", table.get)
    monkeypatch.setattr(address, "resolve", resolve)
    return table


async def test_the_one_with_the_route_to_the_peers(routes: dict[str, str | None]) -> None:
    assert await default_address(["10.0.0.9:7443"]) == "10.0.0.5"
    assert await default_address(["10.9.9.9", "nowhere.example:7443", "10.0.0.9"]) == "10.0.0.5"


async def test_without_peers_the_one_with_the_default_route(routes: dict[str, str | None]) -> None:
    assert await default_address() == "172.31.0.2"
    assert await default_address(["127.0.0.1:7443"]) == "172.31.0.2"


async def test_a_host_that_leads_nowhere_says_so(routes: dict[str, str | None]) -> None:
    routes["192.0.2.1"] = None
    with pytest.raises(NoAddressError, match=r"127\.0\.0\.1:7443, the default route"):
        await default_address(["127.0.0.1:7443"])


def test_parts() -> None:
    assert choose_address([None, "127.0.0.1", "169.254.3.4", "10.0.0.5", "10.0.0.6"]) == "10.0.0.5"
    assert choose_address([]) is None
    assert host_of("m1:7443") == "m1"
    assert host_of("m1") == "m1"
