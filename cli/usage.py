"""What `top` shows: the use of nodes and pods as rows, ordered, summed and worded as kubectl does. Pure.

In: the JSON of NodeMetrics and PodMetrics, of which only what is shown is read: of tens of thousands of pods within a
tenth of a second. Out: rows for a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from barque.api import quantity
from barque.api.types.base import Quantity
from barque.cli.tables import Table

Order = Literal["", "cpu", "memory"]

NODE_COLUMNS = ("NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)")
POD_COLUMNS = ("NAME", "CPU(cores)", "MEMORY(bytes)")
_UNKNOWN = "<unknown>"
_LINE = "________"
_NANO = 10**9


class _Names(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""


class _Amounts(msgspec.Struct, gc=False):
    cpu: str = "0"
    memory: str = "0"


class _Container(msgspec.Struct, gc=False):
    name: str
    usage: _Amounts


class _Pod(msgspec.Struct, gc=False):
    metadata: _Names
    containers: list[_Container]


class _Node(msgspec.Struct, gc=False):
    metadata: _Names
    usage: _Amounts


class Measured(msgspec.Struct, frozen=True, gc=False):
    """The use of one node, pod or container; `pod` is "" for nodes and pods."""

    namespace: str
    pod: str
    name: str
    nanocores: int
    memory_bytes: int


_pods = msgspec.json.Decoder(list[_Pod])
_nodes = msgspec.json.Decoder(list[_Node])


def read_nodes(items: Sequence[bytes]) -> list[Measured]:
    """The use of each node."""
    return [
        Measured("", "", node.metadata.name, _nanocores(node.usage.cpu), _bytes(node.usage.memory))
        for node in _nodes.decode(_array(items))
    ]


def read_pods(items: Sequence[bytes]) -> list[Measured]:
    """The use of each pod: that of its containers together."""
    found = []
    for pod in _pods.decode(_array(items)):
        nanocores = memory_bytes = 0
        for container in pod.containers:
            nanocores += _nanocores(container.usage.cpu)
            memory_bytes += _bytes(container.usage.memory)
        found.append(Measured(pod.metadata.namespace, "", pod.metadata.name, nanocores, memory_bytes))
    return found


def read_containers(items: Sequence[bytes]) -> list[Measured]:
    """The use of each container of each pod."""
    return [
        Measured(pod.metadata.namespace, pod.metadata.name, c.name, _nanocores(c.usage.cpu), _bytes(c.usage.memory))
        for pod in _pods.decode(_array(items))
        for c in sorted(pod.containers, key=lambda container: container.name)
    ]


def in_order(found: Sequence[Measured], order: Order) -> Sequence[Measured]:
    """Those that use most first; in the order of their names where none is asked for."""
    match order:
        case "cpu":
            return sorted(found, key=lambda one: -one.nanocores)
        case "memory":
            return sorted(found, key=lambda one: -one.memory_bytes)
    return found


def pod_table(
    found: Sequence[Measured],
    *,
    namespaces: bool = False,
    containers: bool = False,
    headers: bool = True,
    total: bool = False,
) -> str:
    """The table of pods, or of their `containers`; with `total` the sum of all below a line."""
    lead = ["NAMESPACE"] * namespaces + ["POD"] * containers
    columns: list[list[str]] = []
    if namespaces:
        columns.append([one.namespace for one in found])
    if containers:
        columns.append([one.pod for one in found])
    columns += [[one.name for one in found], *_amounts(found)]
    if total:
        cpu, memory = sum(one.nanocores for one in found), sum(one.memory_bytes for one in found)
        sums = [("", "")] * (len(columns) - 2) + [(_LINE, _cores(cpu)), (_LINE, _mebibytes(memory))]
        for column, below in zip(columns, sums, strict=True):
            column += below
    return Table([*lead, *POD_COLUMNS], show_headers=headers, as_written=True).render(zip(*columns, strict=True))


def node_table(
    found: Iterable[Measured], available: Mapping[str, Mapping[str, Quantity]], *, headers: bool = True
) -> str:
    """The table of nodes. `available` is what each has of every resource; those that nobody has measured come last, as
    unknown.
    """
    rows: list[Sequence[str]] = []
    unmeasured = dict(available)
    for one in found:
        there = unmeasured.pop(one.name, {})
        cpu = _percent(one.nanocores, there.get("cpu"), _NANO)
        memory = _percent(one.memory_bytes, there.get("memory"), 1)
        rows.append((one.name, _cores(one.nanocores), cpu, _mebibytes(one.memory_bytes), memory))
    rows += [(name, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN) for name in sorted(unmeasured)]
    return Table(NODE_COLUMNS, show_headers=headers, as_written=True).render(rows)


def _amounts(found: Sequence[Measured]) -> tuple[list[str], list[str]]:
    return [_cores(one.nanocores) for one in found], [_mebibytes(one.memory_bytes) for one in found]


def _array(items: Sequence[bytes]) -> bytes:
    """All of them as one JSON array, which is read at once."""
    return b"[%b]" % b",".join(items)


def _nanocores(amount: str) -> int:
    # The way nearly all are written.
    if amount[-1:] == "n":
        return int(amount[:-1])
    return int(quantity.parse(amount) * _NANO)


def _bytes(amount: str) -> int:
    if amount[-2:] == "Ki":
        return int(amount[:-2]) << 10
    return quantity.whole(amount)


def _cores(nanocores: int) -> str:
    """Thousandths of a core, rounded up."""
    return f"{-(-nanocores // 1_000_000)}m"


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes >> 20}Mi"


def _percent(used: int, available: Quantity | None, unit: int) -> str:
    whole = quantity.parse(available) * unit if available is not None else 0
    return f"{int(used * 100 / whole)}%" if whole else _UNKNOWN
