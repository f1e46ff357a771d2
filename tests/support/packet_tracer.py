"""iptables in memory: takes restore texts as the kernel would, and sends packets through the rules.

`MemoryIptables` stands in for the driver; it refuses what the kernel refuses (a jump to a chain that is not there, a
chain deleted while another names it). `trace` follows a connection's first packet and returns every way it may go, each
with its probability: the statistic match is not thrown but split.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from barque.network.iptables.chains import target_of_rule
from barque.network.iptables.driver import Iptables, IptablesError
from barque.network.iptables.restore import measure_saved

BUILTIN = {"filter": ("INPUT", "FORWARD", "OUTPUT"), "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")}
PODS = "10.244.0.0/16"
FINAL = {"ACCEPT", "DROP", "REJECT", "DNAT", "MASQUERADE", "RETURN", "MARK"}


class MemoryIptables(Iptables):
    """Tables of chains of rules; `texts` keeps what was restored, `fail` makes the next restores fail."""

    def __init__(self, max_lines: int = 2000) -> None:
        super().__init__("nft")
        self.max_lines = max_lines
        self.tables = {table: {name: list[str]() for name in names} for table, names in BUILTIN.items()}
        self.texts: list[str] = []
        self.fail: list[str] = []
        self.generation = 0

    async def fingerprint(self) -> object:
        return self.generation

    async def restore(self, text: str) -> None:
        self.load(text)

    def load(self, text: str) -> None:
        if self.fail:
            raise IptablesError(self.fail.pop(0))
        self.texts.append(text)
        self.generation += 1
        blocks = text.split("COMMIT\n")
        assert blocks.pop() == "", "the text ends with a COMMIT"
        for block in blocks:
            table = block.split("\n", 1)[0][1:]
            self.tables[table] = self._commit({k: list(v) for k, v in self.tables[table].items()}, block)

    def _commit(self, chains: dict[str, list[str]], block: str) -> dict[str, list[str]]:
        for line in block.splitlines()[1:]:
            verb, _, rest = line.partition(" ")
            if line.startswith(":"):
                chains[verb[1:]] = []
                continue
            name, _, rule = rest.partition(" ")
            if verb != "-X" and (name not in chains or not self._known(chains, rule)):
                raise IptablesError(f"no such chain: {line}")
            if verb == "-A":
                chains[name].append(rule)
            elif verb == "-I":
                place, _, rule = rule.partition(" ")
                chains[name].insert(int(place) - 1, rule)
            elif verb == "-D":
                chains[name].remove(rule)
            elif verb == "-X":
                if chains[name] or any(target_of_rule(r) == name for rules in chains.values() for r in rules):
                    raise IptablesError(f"chain {name} is in use")
                del chains[name]
        return chains

    @staticmethod
    def _known(chains: dict[str, list[str]], rule: str) -> bool:
        target = target_of_rule(rule)
        return target in chains or target in FINAL or target == ""

    async def list_chain(self, table: str, chain: str) -> list[str]:
        if chain not in self.tables[table]:
            raise IptablesError(f"no chain {chain}")
        return [f"-N {chain}", *(f"-A {chain} {rule}" for rule in self.tables[table][chain])]

    async def measure(self, table: str, entrances: Collection[str]) -> dict[str, int]:
        return measure_saved(await self.save(table), entrances)

    async def save(self, table: str) -> bytes:
        lines = [f"*{table}", *(f":{name} - [0:0]" for name in self.tables[table])]
        lines += [f"-A {name} {rule}" for name, rules in self.tables[table].items() for rule in rules]
        return "\n".join([*lines, "COMMIT", ""]).encode()


@dataclass(frozen=True)
class Packet:
    """A connection's first packet; `from_host` where the host itself sends it."""

    source: str
    destination: str
    port: int
    protocol: str = "tcp"
    from_host: bool = False
    state: str = "NEW"
    mark: int = 0


@dataclass(frozen=True)
class Outcome:
    """Where a packet ends: its verdict, the address it goes to, and whether it carries the host's address."""

    verdict: str
    destination: str = ""
    masqueraded: bool = False


@dataclass
class Tracer:
    """Sends packets through tables; `local` are the host's addresses."""

    tables: dict[str, dict[str, list[str]]]
    local: tuple[str, ...] = ("192.168.77.10", "127.0.0.1")
    forward_policy: str = "DROP"
    walked: int = field(default=0)

    def trace(self, packet: Packet) -> dict[Outcome, float]:
        """Every way the packet may go, with its probability."""
        outcomes: dict[Outcome, float] = {}
        for outcome, chance in self._ways(packet):
            outcomes[outcome] = outcomes.get(outcome, 0) + chance
        return outcomes

    def _ways(self, packet: Packet) -> Iterator[tuple[Outcome, float]]:
        entrance = "OUTPUT" if packet.from_host else "PREROUTING"
        for _, target, routed, chance in self._walk("nat", entrance, packet):
            if target:
                ip, _, port = target.partition(":")
                routed = replace(routed, destination=ip, port=int(port))
            hooks = ["OUTPUT"] if packet.from_host else []
            here = routed.destination in self.local
            hooks += ["INPUT"] if here else [] if packet.from_host else ["FORWARD"]
            for verdict, final, more in self._filtered(hooks, routed, chance):
                if verdict != "ACCEPT":
                    yield Outcome(verdict), more
                    continue
                address = f"{final.destination}:{final.port}"
                if here:
                    yield Outcome("delivered", address), more
                    continue
                for verdict, _, _, most in self._walk("nat", "POSTROUTING", final):
                    yield Outcome("delivered", address, verdict == "MASQUERADE"), more * most

    def _filtered(self, hooks: list[str], packet: Packet, chance: float) -> Iterator[tuple[str, Packet, float]]:
        if not hooks:
            yield "ACCEPT", packet, chance
            return
        for verdict, _, after, more in self._walk("filter", hooks[0], packet):
            policy = self.forward_policy if hooks[0] == "FORWARD" else "ACCEPT"
            if (verdict or policy) == "ACCEPT":
                yield from self._filtered(hooks[1:], after, chance * more)
            else:
                yield verdict or policy, after, chance * more

    def _walk(self, table: str, chain: str, packet: Packet) -> Iterator[tuple[str, str, Packet, float]]:
        """(verdict or "", DNAT's destination or "", packet, probability) for each way through a chain."""
        ways = [(0, packet, 1.0)]
        rules = self.tables[table].get(chain, [])
        while ways:
            place, now, chance = ways.pop()
            if place == len(rules):
                yield "", "", now, chance
                continue
            self.walked += 1
            words = shlex.split(rules[place])
            share = self._matches(words, now)
            if share < 1:
                ways.append((place + 1, now, chance * (1 - share)))
            if share == 0:
                continue
            target, options = words[words.index("-j") + 1], words[words.index("-j") + 2 :]
            if target == "RETURN":
                yield "", "", now, chance * share
            elif target == "MARK":
                ways.append((place + 1, _marked(now, options), chance * share))
            elif target == "DNAT":
                yield "ACCEPT", options[1], now, chance * share
            elif target in FINAL:
                yield target, "", now, chance * share
            else:
                for verdict, to, after, more in self._walk(table, target, now):
                    if verdict:
                        yield verdict, to, after, chance * share * more
                    else:
                        ways.append((place + 1, after, chance * share * more))

    def _matches(self, words: list[str], packet: Packet) -> float:
        share, negate, place = 1.0, False, 0
        while words[place] != "-j":
            word = words[place]
            if word == "!":
                negate, place = True, place + 1
                continue
            if word in ("--set", "--reap"):
                place += 1
                continue
            if word == "--rcheck":
                # A first packet's sender is on no list yet.
                return 0.0
            value = words[place + 1]
            place += 2
            if word == "--probability":
                share *= float(value)
            elif word not in ("-m", "--comment", "--mode", "--name"):
                if self._holds(word, value, packet) == negate:
                    return 0.0
                negate = False
        return share

    def _holds(self, word: str, value: str, packet: Packet) -> bool:
        match word:
            case "-s":
                return _within(packet.source, value)
            case "-d":
                return _within(packet.destination, value)
            case "-p":
                return packet.protocol == value
            case "--dport":
                low, _, high = value.partition(":")
                return int(low) <= packet.port <= int(high or low)
            case "--ctstate":
                return packet.state in value.split(",")
            case "-i":
                return value == "bq+" and not packet.from_host and _within(packet.source, PODS)
            case "--src-type":
                return packet.source in self.local
            case "--dst-type":
                return packet.destination in self.local
            case "--mark":
                wanted, mask = (int(x, 16) for x in value.split("/"))
                return packet.mark & mask == wanted
        raise AssertionError(f"the tracer does not know {word}")


def _within(address: str, network: str) -> bool:
    return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(network)


def _marked(packet: Packet, options: list[str]) -> Packet:
    bits = int(options[1], 16)
    return replace(packet, mark=packet.mark | bits if options[0] == "--or-mark" else packet.mark ^ bits)
