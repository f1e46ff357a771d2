"""The levels that find a key's rules."""

from barque.network.proxy.dispatch import FLAT_ENTRIES, Entry, address_scheme, plan_levels, port_scheme


def entries(keys: range) -> list[Entry]:
    return [Entry(key, (f"rule {key}",)) for key in keys]


def test_few_make_one_flat_chain_in_the_order_of_keys() -> None:
    some = entries(range(FLAT_ENTRIES))
    assert plan_levels(some[::-1], address_scheme()) == (tuple(f"rule {key}" for key in range(FLAT_ENTRIES)), {})
    assert plan_levels([], address_scheme()) == ((), {})


def test_many_are_split_by_the_bits_in_which_they_differ() -> None:
    first = (10 << 24) + (96 << 16)
    rules, below = plan_levels(entries(range(first, first + 64)), address_scheme())
    assert rules == tuple(f"-d 10.96.0.{i * 16}/28 -j BARQUE-IP-10.96.0.{i * 16}-28" for i in range(4))
    assert below["BARQUE-IP-10.96.0.16-28"] == tuple(f"rule {first + i}" for i in range(16, 32))


def test_ranges_of_ports_touch_and_do_not_overlap() -> None:
    rules, below = plan_levels(entries(range(30000, 30100)), port_scheme("udp"))
    assert rules == tuple(
        f"-p udp -m udp --dport {low}:{low + 15} -j BARQUE-PORT-UDP-{low}-12" for low in range(30000, 30112, 16)
    )
    assert [rule for chain in below.values() for rule in chain] == [f"rule {port}" for port in range(30000, 30100)]


def test_a_new_key_changes_one_chain() -> None:
    first = (10 << 24) + (96 << 16)
    keys = entries(range(first, first + 500, 2))
    _, before = plan_levels(keys, address_scheme())
    _, after = plan_levels([*keys, Entry(first + 101, ("new",))], address_scheme())
    assert [chain for chain in after if after[chain] != before.get(chain)] == ["BARQUE-IP-10.96.0.96-28"]


def test_one_key_of_many_rules_is_not_split_forever() -> None:
    same = [Entry(7, (f"rule {i:03}",)) for i in range(100)]
    assert len(plan_levels(same, address_scheme())[0]) == 100
