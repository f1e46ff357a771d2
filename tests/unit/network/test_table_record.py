"""Tables that were absent are remembered once a boot, and go only when nothing of anybody's is in them."""

from pathlib import Path

import pytest

from barque.network.iptables.nft import NftChain, NftTable
from barque.network.iptables.tables import TableRecord, plan_table_removal


def a_record(folder: Path, boot: str = "first") -> TableRecord:
    (folder / "boot_id").write_text(f"{boot}\n")
    return TableRecord(folder / "state" / "tables.json", folder / "boot_id")


def chain(name: str, *, accepts: bool = True, uses: int = 0, table: str = "filter") -> NftChain:
    return NftChain(table, name, accepts, uses)


def test_what_the_first_run_of_a_boot_found_counts(tmp_path: Path) -> None:
    a_record(tmp_path).remember(["nat", "mangle"])
    a_record(tmp_path).remember(["filter", "nat"])
    assert a_record(tmp_path).absent() == ["filter"]
    a_record(tmp_path, "second").remember(["filter"])
    assert a_record(tmp_path, "second").absent() == ["nat"]


def test_without_a_record_nothing_was_absent(tmp_path: Path) -> None:
    record = a_record(tmp_path)
    assert record.absent() == []
    record.remember([])
    record.forget()
    record.forget()
    assert record.absent() == []


def test_a_bare_table_goes() -> None:
    tables = [NftTable("filter", 2), NftTable("nat", 0), NftTable("mangle", 0)]
    chains = [chain("INPUT"), chain("FORWARD"), chain("FORWARD", table="nat", uses=3)]
    assert plan_table_removal(["filter", "nat"], tables, chains[:2]) == ["filter", "nat"]
    assert plan_table_removal(["nat"], tables, chains[:2]) == ["nat"]
    assert plan_table_removal([], tables, chains[:2]) == []


@pytest.mark.parametrize(
    ("uses", "other"),
    [
        (2, chain("FORWARD", uses=1)),
        (2, chain("FORWARD", accepts=False)),
        (2, chain("DOCKER")),
        # As many uses as chains and one more: a set.
        (3, chain("FORWARD")),
    ],
    ids=["rule", "policy", "own-chain", "set"],
)
def test_a_table_that_holds_something_stays(uses: int, other: NftChain) -> None:
    assert plan_table_removal(["filter"], [NftTable("filter", uses)], [chain("INPUT"), other]) == []
