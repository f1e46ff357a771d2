"""Finding a service's rules without walking past all others: chains by levels of a key's leading bits. Pure.

Few entries make one flat chain. Many are split by the next four bits of their keys (address, or port number) until a
chain is short: a first packet among 10,000 services then passes some thirty rules, not ten thousand. Names and places
depend on the keys alone, so a new service rewrites the one short chain it falls into.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from barque.network.iptables.chains import Rules

# A chain of so many entries is walked in a few microseconds; splitting it further would only add chains.
FLAT_ENTRIES = 32
# Bits by which a level splits: at most sixteen rules to walk on each.
SPLIT_BITS = 4


class Entry(NamedTuple):
    """The rules of one key; several entries may share a key."""

    key: int
    rules: Rules


class Scheme(NamedTuple):
    """What keys mean: their width, and a prefix's chain and match, both from (first key, length)."""

    bits: int
    chain: Callable[[int, int], str]
    match: Callable[[int, int], str]


def plan_levels(entries: Sequence[Entry], scheme: Scheme) -> tuple[Rules, dict[str, Rules]]:
    """The rules of the topmost level, and the chains below it."""
    below: dict[str, Rules] = {}
    rules = _plan(sorted(entries), scheme, below)
    return rules, below


def _plan(entries: Sequence[Entry], scheme: Scheme, below: dict[str, Rules]) -> Rules:
    first, last = entries[0].key if entries else 0, entries[-1].key if entries else 0
    if len(entries) <= FLAT_ENTRIES or first == last:
        return tuple(rule for entry in entries for rule in entry.rules)
    shared = scheme.bits - (first ^ last).bit_length()
    length = min(scheme.bits, (shared // SPLIT_BITS + 1) * SPLIT_BITS)
    shift = scheme.bits - length
    rules: list[str] = []
    for prefix, members in groupby(entries, key=lambda entry: entry.key >> shift):
        group = list(members)
        base = prefix << shift
        if len(group) == 1:
            rules += group[0].rules
            continue
        chain = scheme.chain(base, length)
        below[chain] = _plan(group, scheme, below)
        rules.append(f"{scheme.match(base, length)} -j {chain}")
    return tuple(rules)


def address_scheme() -> Scheme:
    """Keys are IPv4 addresses; `BARQUE-IP-10.96.16.0-20` serves 10.96.16.0/20."""

    def chain(base: int, length: int) -> str:
        return f"BARQUE-IP-{ipaddress.IPv4Address(base)}-{length}"

    def match(base: int, length: int) -> str:
        return f"-d {ipaddress.IPv4Address(base)}/{length}"

    return Scheme(32, chain, match)


def port_scheme(protocol: str) -> Scheme:
    """Keys are ports of one protocol; `BARQUE-PORT-TCP-30208-12` serves 30208 to 30223."""

    def chain(base: int, length: int) -> str:
        return f"BARQUE-PORT-{protocol.upper()}-{base}-{length}"

    def match(base: int, length: int) -> str:
        return f"-p {protocol} -m {protocol} --dport {base}:{base + (1 << (16 - length)) - 1}"

    return Scheme(16, chain, match)
