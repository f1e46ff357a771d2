"""Each node's own pod network."""

from typing import Any

from barque.master.apiserver.settings import ApiSettings
from tests.support.memory_store import Bench, a_bench, refusal

SMALL = ApiSettings(cluster_cidr="10.244.0.0/22")


def node(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


async def cidr_of(bench: Bench, name: str) -> str:
    spec = (await bench.get("nodes", name))["spec"]
    assert spec["podCIDRs"] == [spec["podCIDR"]]
    return str(spec["podCIDR"])


async def test_nodes_get_the_lowest_free_subnet_and_give_it_back() -> None:
    bench = await a_bench(SMALL)
    for name in ("a", "b", "c"):
        await bench.create("nodes", node(name))
    assert [await cidr_of(bench, n) for n in "abc"] == ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]
    await bench.delete("nodes", "b")
    await bench.create("nodes", node("d"))
    assert await cidr_of(bench, "d") == "10.244.1.0/24"


async def test_two_masters_never_give_the_same() -> None:
    bench = await a_bench(SMALL)
    bench.store.before_commit = lambda: bench.create("nodes", node("quick"))
    await bench.create("nodes", node("slow"))
    assert {await cidr_of(bench, "quick"), await cidr_of(bench, "slow")} == {"10.244.0.0/24", "10.244.1.0/24"}


async def test_the_subnets_run_out() -> None:
    bench = await a_bench(SMALL)
    for index in range(4):
        await bench.create("nodes", node(f"n{index}"))
    refused = await refusal(bench.create("nodes", node("late")))
    assert refused.code == 403
    assert "no /24 of the cluster's range 10.244.0.0/22 is free for another node" in refused.message


async def test_a_subnet_asked_for_is_checked() -> None:
    bench = await a_bench(SMALL)
    await bench.create("nodes", node("a", podCIDR="10.244.3.0/24"))
    assert await cidr_of(bench, "a") == "10.244.3.0/24"
    for wrong, why in [
        ("10.244.3.0/24", "another node has this subnet"),
        ("192.0.2.0/24", "must be a /24 of the cluster's range"),
        ("10.244.0.0/25", "must be a /24 of the cluster's range"),
    ]:
        refused = await refusal(bench.create("nodes", node("b", podCIDR=wrong)))
        assert refused.code == 422
        assert why in refused.message


async def test_a_node_keeps_its_subnet_when_it_is_written_anew() -> None:
    bench = await a_bench(SMALL)
    await bench.create("nodes", node("a"))
    await bench.update("nodes", node("a", unschedulable=True))
    assert await cidr_of(bench, "a") == "10.244.0.0/24"
    refused = await refusal(bench.patch("nodes", "a", {"spec": {"podCIDR": "10.244.1.0/24"}}))
    assert refused.code == 422
