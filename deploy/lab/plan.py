"""Who is where in a lab, and what its switch is told. Pure.

In: how many masters and workers, and the subnet of the cable between them. Out: hosts with names, addresses and MACs;
batches for `ip`; rules for `ebtables-restore`; the table of `barque lab status`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

DEFAULT_SUBNET = "192.168.88.0/24"
SWITCH = "switch"
BRIDGE = "br0"
UPLINK = "eth0"
# The first addresses of the subnet: the switch has .1, masters follow, workers begin at .11.
_FIRST_MASTER, _FIRST_WORKER = 2, 11
# A group of five bears the loss of two; more would only be slower.
MAX_MASTERS = 5

Role = Literal["switch", "master", "worker"]
# Two hosts by name, in order; the second is "" where the first is cut off from everybody.
Cut = tuple[str, str]


class LabError(Exception):
    """What was asked of the lab cannot be done; the message says why and what to do."""


class HostPlan(NamedTuple):
    """One host: its name, what runs on it, and its place on the bridge."""

    name: str
    role: Role
    address: str
    prefix: int
    mac: str


def plan_hosts(masters: int, workers: int, subnet: str = DEFAULT_SUBNET) -> list[HostPlan]:
    """The switch, then masters m1.., then workers w1... Raises `LabError` for what cannot be built."""
    if masters < 1:
        raise LabError("a lab needs a master: --masters 1")
    if masters > MAX_MASTERS:
        raise LabError(f"--masters {masters}: at most {MAX_MASTERS}")
    if workers < 0:
        raise LabError(f"--workers {workers}: must be 0 or more")
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError as error:
        raise LabError(f"--subnet: {error}") from error
    room = network.num_addresses - _FIRST_WORKER - 1
    if workers > room:
        raise LabError(f"--subnet {subnet} has room for {max(room, 0)} workers, not for {workers}")
    places: list[tuple[str, Role, int]] = [(SWITCH, "switch", 1)]
    places += [(f"m{n + 1}", "master", _FIRST_MASTER + n) for n in range(masters)]
    places += [(f"w{n + 1}", "worker", _FIRST_WORKER + n) for n in range(workers)]
    return [_plan(name, role, network, number) for name, role, number in places]


def _plan(name: str, role: Role, network: ipaddress.IPv4Network, number: int) -> HostPlan:
    # Locally administered, and the same at every start, as a machine's is.
    mac = f"02:ba:00:00:{number >> 8:02x}:{number & 0xFF:02x}"
    return HostPlan(name, role, str(network[number]), network.prefixlen, mac)


def render_switch(switch: HostPlan) -> str:
    """For `ip -batch` in the switch: the bridge, with an address so that hosts have somewhere to send the rest to."""
    return "\n".join(
        (
            "link set lo up",
            f"link add {BRIDGE} address {switch.mac} type bridge",
            f"address add {switch.address}/{switch.prefix} dev {BRIDGE}",
            f"link set {BRIDGE} up",
            "",
        )
    )


def render_port(host: HostPlan, pid: int) -> str:
    """For `ip -batch` in the switch: a cable to the host whose first process is `pid`."""
    return (
        f"link add {host.name} type veth peer name {UPLINK} address {host.mac} netns {pid}\n"
        f"link set {host.name} master {BRIDGE} up\n"
    )


def render_uplink(host: HostPlan, switch: HostPlan) -> str:
    """For `ip -batch` in the host: its end of the cable."""
    return (
        "link set lo up\n"
        f"address add {host.address}/{host.prefix} broadcast + dev {UPLINK}\n"
        f"link set {UPLINK} up\n"
        f"route add default via {switch.address}\n"
    )


def render_hosts_file(hosts: Iterable[HostPlan]) -> str:
    """/etc/hosts of every host."""
    lines = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in hosts)]
    return "\n".join(lines) + "\n"


def normal_cut(first: str, second: str = "") -> Cut:
    """A cut by its name, whichever of the two was said first."""
    return (first, second) if not second or first < second else (second, first)


def render_ports(cuts: Collection[Cut], present: Iterable[str]) -> str:
    """For `ip -batch` in the switch: ports of hosts that are cut off go down, the others up."""
    return "".join(f"link set {name} {'down' if (name, '') in cuts else 'up'}\n" for name in present)


def render_filter(cuts: Iterable[Cut]) -> str:
    """For `ebtables-restore` in the switch: no frame passes between two hosts that are cut, in either direction."""
    lines = ["*filter", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT"]
    for first, second in sorted(cuts):
        if second:
            lines += [f"-A FORWARD -i {first} -o {second} -j DROP", f"-A FORWARD -i {second} -o {first} -j DROP"]
    return "\n".join(lines) + "\n"


def heal(cuts: Iterable[Cut], first: str = "", second: str = "") -> list[Cut]:
    """The cuts that stay: `heal` alone mends all, with one host all of its own, with two the one between them."""
    if not first:
        return []
    if second:
        return [cut for cut in cuts if cut != normal_cut(first, second)]
    return [cut for cut in cuts if first not in cut]


def connected(cuts: Collection[Cut], first: str, second: str) -> bool:
    """Whether anything passes between two hosts, or between one and the switch."""
    return not {normal_cut(first, second), (first, ""), (second, "")} & set(cuts)


def majority(cuts: Collection[Cut], masters: Collection[str], running: Collection[str]) -> bool:
    """Whether enough of the masters run, in each other's sight, to serve: one of them with a majority around it."""
    groups = ([other for other in running if other == one or connected(cuts, one, other)] for one in running)
    return any(2 * len(group) > len(masters) for group in groups)


def link_words(name: str, cuts: Iterable[Cut]) -> str:
    """How a host's link is, in words."""
    others = sorted(other for cut in cuts if name in cut for other in cut if other != name)
    if "" in others:
        return "cut"
    return f"cut from {', '.join(others)}" if others else "up"


def render_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest word."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("   ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines) + "\n"
