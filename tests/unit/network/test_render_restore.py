"""Changes of chains as restore text, in an order the kernel accepts."""

import pytest

from barque.network.iptables.chains import JUMPS, POD_JUMPS, PROXY_JUMPS, ChainId
from barque.network.iptables.driver import IptablesError, choose_mode
from barque.network.iptables.restore import measure_chains, measure_saved, plan_jumps, plan_removal, plan_restores
from tests.support.packet_tracer import MemoryIptables


def nat(name: str) -> ChainId:
    return ChainId("nat", f"BARQUE-{name}")


def test_a_small_change_is_one_text_with_both_tables() -> None:
    put = {nat("A"): ("-j BARQUE-B",), nat("B"): ("-j ACCEPT",), ChainId("filter", "BARQUE-C"): ("-j DROP",)}
    assert plan_restores(put, {nat("OLD")}, max_lines=100) == [
        "*filter\n:BARQUE-C - [0:0]\n-A BARQUE-C -j DROP\nCOMMIT\n"
        "*nat\n:BARQUE-B - [0:0]\n:BARQUE-A - [0:0]\n:BARQUE-OLD - [0:0]\n"
        "-A BARQUE-B -j ACCEPT\n-A BARQUE-A -j BARQUE-B\n-X BARQUE-OLD\nCOMMIT\n"
    ]
    assert plan_restores({}, (), max_lines=100) == []


@pytest.mark.parametrize("max_lines", [1, 3, 7, 1000])
def test_however_it_is_cut_every_text_is_accepted(max_lines: int) -> None:
    kernel = MemoryIptables()
    first = {nat(f"L{i}"): (f"-j BARQUE-L{i + 1}",) for i in range(9)} | {nat("L9"): ("-j ACCEPT",)}
    for text in plan_restores(first, (), max_lines=max_lines):
        kernel.load(text)
    second = {nat("L0"): ("-j BARQUE-N",), nat("N"): ("-j ACCEPT",)}
    for text in plan_restores(second, first.keys() - second.keys(), max_lines=max_lines):
        kernel.load(text)
    ours = {name: rules for name, rules in kernel.tables["nat"].items() if name.startswith("BARQUE")}
    assert ours == {"BARQUE-L0": ["-j BARQUE-N"], "BARQUE-N": ["-j ACCEPT"]}


def test_jumps_go_first_and_stay_where_they_are() -> None:
    forward = [j for j in POD_JUMPS if j.builtin == "FORWARD"]
    listing = ["-P FORWARD DROP", "-A FORWARD -j DOCKER-USER"]
    assert plan_jumps("filter", {"FORWARD": listing}, forward) == (
        '*filter\n-I FORWARD 1 -m comment --comment "barque pod traffic" -j BARQUE-FORWARD\nCOMMIT\n'
    )
    ours = '-A FORWARD -m comment --comment "barque pod traffic" -j BARQUE-FORWARD'
    assert plan_jumps("filter", {"FORWARD": [listing[0], ours, listing[1]]}, forward) == ""


def test_a_moved_or_doubled_jump_is_put_back() -> None:
    forward = [j for j in POD_JUMPS if j.builtin == "FORWARD"]
    ours = "-A FORWARD -j BARQUE-FORWARD"
    moved = plan_jumps("filter", {"FORWARD": ["-A FORWARD -j DOCKER", ours]}, forward)
    assert moved.splitlines()[1] == "-D FORWARD -j BARQUE-FORWARD"
    assert moved.splitlines()[2].startswith("-I FORWARD 1 ")
    doubled = plan_jumps("filter", {"FORWARD": [ours, ours]}, forward)
    assert doubled.count("-D FORWARD") == 2
    stale = plan_jumps("filter", {"FORWARD": [ours, "-A FORWARD -j BARQUE-ANCIENT"]}, forward)
    assert "-D FORWARD -j BARQUE-ANCIENT" in stale


async def test_two_owners_share_a_chain_in_one_order() -> None:
    for order in ((POD_JUMPS, PROXY_JUMPS), (PROXY_JUMPS, POD_JUMPS)):
        kernel = MemoryIptables()
        for jump in JUMPS:
            kernel.tables[jump.table].setdefault(jump.target, [])
        for owner in order:
            await kernel.ensure_jumps(owner)
        targets = [rule.rsplit(" ", 1)[1] for rule in kernel.tables["nat"]["POSTROUTING"]]
        assert targets == ["BARQUE-POSTROUTING", "BARQUE-MASQUERADE"]
        assert not await kernel.ensure_jumps(POD_JUMPS)
        assert not await kernel.ensure_jumps(PROXY_JUMPS)


def test_removal_takes_what_is_ours_and_nothing_else() -> None:
    kernel = MemoryIptables()
    kernel.load("*nat\n:DOCKER - [0:0]\n-A PREROUTING -j DOCKER\nCOMMIT\n")
    before = {name: list(rules) for name, rules in kernel.tables["nat"].items()}
    kernel.load(
        "*nat\n:BARQUE-A - [0:0]\n:BARQUE-B - [0:0]\n-A BARQUE-A -j BARQUE-B\n-I PREROUTING 1 -j BARQUE-A\n"
        "-A DOCKER -j BARQUE-B\nCOMMIT\n"
    )
    saved = "\n".join(
        [":BARQUE-A - [0:0]", ":BARQUE-B - [0:0]", ":DOCKER - [0:0]"]
        + [f"-A {name} {rule}" for name, rules in kernel.tables["nat"].items() for rule in rules]
    )
    for text in plan_removal("nat", saved, max_lines=1):
        kernel.load(text)
    assert kernel.tables["nat"] == before
    assert plan_removal("nat", ":DOCKER - [0:0]\n-A PREROUTING -j DOCKER", max_lines=9) == []


def test_a_chain_measures_its_rules_and_the_jumps_to_it() -> None:
    saved = b"*nat\n:PREROUTING ACCEPT [1:2]\n:BARQUE-A - [0:0]\n:BARQUE-B - [0:0]\n-A PREROUTING -j BARQUE-A\n"
    saved += b"-A BARQUE-A -j BARQUE-B\n-A BARQUE-A -j RETURN\nCOMMIT\n"
    assert measure_saved(saved) == {"BARQUE-A": 3, "BARQUE-B": 1}
    assert measure_saved(saved, ["BARQUE-A"]) == {"BARQUE-A": 2, "BARQUE-B": 1}
    chains = {ChainId("nat", "BARQUE-A"): ("-j BARQUE-B", "-j RETURN"), ChainId("nat", "BARQUE-B"): ()}
    assert measure_chains(chains, "nat", ["BARQUE-A"]) == {"BARQUE-A": 2, "BARQUE-B": 1}
    assert measure_chains(chains, "filter") == {}


def test_the_stand_in_refuses_what_the_kernel_refuses() -> None:
    kernel = MemoryIptables()
    with pytest.raises(IptablesError):
        kernel.load("*nat\n:BARQUE-A - [0:0]\n-A BARQUE-A -j BARQUE-NONE\nCOMMIT\n")
    kernel.load("*nat\n:BARQUE-A - [0:0]\n-A PREROUTING -j BARQUE-A\nCOMMIT\n")
    with pytest.raises(IptablesError):
        kernel.load("*nat\n-X BARQUE-A\nCOMMIT\n")


def test_our_rules_stand_where_dockers_do() -> None:
    assert choose_mode("nft", ["legacy"]) == "legacy"
    assert choose_mode("legacy", []) == "legacy"
    assert choose_mode("nft", ["nft", "legacy"]) == "nft"
