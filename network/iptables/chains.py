"""The chains and jumps of Barque's own: their names, owners and order, and the mark bit.

A `ChainId` names a chain of one table; a rule is the text that follows `-A <chain> ` in `iptables-restore` input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "BARQUE-"

# The one bit of the packet mark that is ours: "masquerade when this packet leaves". Bit 12 is free in the common
# registry of mark users: CNI portmap has 0x2000, Kubernetes 0x4000 and 0x8000, Cilium 0x0f00, AWS VPC 0xc0, Tailscale
# 0xc0000, Weave 0x20000, Calico the upper sixteen.
MASQUERADE_MARK = 0x1000
MARK_MATCH = f"{MASQUERADE_MARK:#x}/{MASQUERADE_MARK:#x}"


class ChainId(NamedTuple):
    table: str
    name: str


Rules = tuple[str, ...]
Chains = Mapping[ChainId, Rules]


class Jump(NamedTuple):
    """A rule in one of the kernel's own chains that sends packets to one of ours."""

    table: str
    builtin: str
    target: str
    match: str
    comment: str

    @property
    def rule(self) -> str:
        parts = [self.match, f'-m comment --comment "{self.comment}"', f"-j {self.target}"]
        return " ".join(p for p in parts if p)


# filter: what happens to forwarded pod packets, and which pods' packets never reach the host's loopback; nat: ports of
# the host that lead to pods, and pods leaving the cluster. Owned by the pod network.
FORWARD = ChainId("filter", "BARQUE-FORWARD")
LOOPBACK = ChainId("filter", "BARQUE-LOOPBACK")
HOST_PORTS = ChainId("nat", "BARQUE-HOSTPORTS")
MASQUERADE = ChainId("nat", "BARQUE-MASQUERADE")
# All others are the service proxy's.
SERVICES = ChainId("nat", "BARQUE-SERVICES")
NODE_PORTS = ChainId("nat", "BARQUE-NODEPORTS")
MARK_MASQ = ChainId("nat", "BARQUE-MARK-MASQ")
POSTROUTING = ChainId("nat", "BARQUE-POSTROUTING")
REFUSED_SERVICES = ChainId("filter", "BARQUE-SERVICES")
REFUSED_NODE_PORTS = ChainId("filter", "BARQUE-NODEPORTS")
PROXIED = ChainId("filter", "BARQUE-PROXIED")
LOCALNET = ChainId("filter", "BARQUE-LOCALNET")

POD_CHAINS = frozenset({FORWARD, LOOPBACK, HOST_PORTS, MASQUERADE})
_NEW = "-m conntrack --ctstate NEW"
_TO_THIS_HOST = "-m addrtype --dst-type LOCAL"

# In the order in which they stand, first of all rules, in each of the kernel's chains. Forwarded packets for a service
# without endpoints are refused from within BARQUE-FORWARD, before it accepts pod traffic.
JUMPS: tuple[Jump, ...] = (
    Jump("filter", "INPUT", LOOPBACK.name, "-d 127.0.0.0/8", "barque host ports"),
    Jump("filter", "INPUT", LOCALNET.name, "-d 127.0.0.0/8", "barque node ports on the loopback"),
    Jump("filter", "INPUT", REFUSED_NODE_PORTS.name, _NEW, "barque node ports without endpoints"),
    Jump("filter", "INPUT", REFUSED_SERVICES.name, _NEW, "barque services without endpoints"),
    Jump("filter", "FORWARD", FORWARD.name, "", "barque pod traffic"),
    Jump("filter", "FORWARD", PROXIED.name, "", "barque service traffic"),
    Jump("filter", "OUTPUT", REFUSED_SERVICES.name, _NEW, "barque services without endpoints"),
    Jump("nat", "PREROUTING", SERVICES.name, "", "barque services"),
    Jump("nat", "PREROUTING", HOST_PORTS.name, _TO_THIS_HOST, "barque host ports"),
    Jump("nat", "OUTPUT", SERVICES.name, "", "barque services"),
    Jump("nat", "OUTPUT", HOST_PORTS.name, _TO_THIS_HOST, "barque host ports"),
    Jump("nat", "POSTROUTING", POSTROUTING.name, "", "barque service traffic"),
    Jump("nat", "POSTROUTING", MASQUERADE.name, "", "barque pods leaving the cluster"),
)
POD_JUMPS = tuple(j for j in JUMPS if ChainId(j.table, j.target) in POD_CHAINS)
PROXY_JUMPS = tuple(j for j in JUMPS if ChainId(j.table, j.target) not in POD_CHAINS)


def target_of_rule(rule: str) -> str:
    """The chain or target a rule jumps to, "" where it has none."""
    _, found, rest = rule.rpartition("-j ")
    return rest.split(" ", 1)[0] if found else ""
