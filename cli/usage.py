"""What `top` shows: the use of nodes and pods as a table, ordered, summed and worded as kubectl does. Pure.

In: the JSON of NodeMetrics and PodMetrics, of which only what is shown is read. Out: tables. All is done column by
column, so that tens of thousands of pods are shown within a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Literal, NamedTuple

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


class Measured(NamedTuple):
    """The use of nodes, pods or containers, column by column; `pods` are what containers belong to, or ""."""

    namespaces: Sequence[str]
    pods: Sequence[str]
    names: Sequence[str]
    nanocores: Sequence[int]
    memory_bytes: Sequence[int]


_decode_pod = msgspec.json.Decoder(_Pod).decode
_decode_node = msgspec.json.Decoder(_Node).decode


def read_nodes(items: Sequence[bytes]) -> Measured:
    """The use of each node."""
    nodes = [_decode_node(item) for item in items]
    names, none = [node.metadata.name for node in nodes], [""] * len(nodes)
    usages = [node.usage for node in nodes]
    return Measured(none, none, names, _nanocores(usages), _bytes(usages))


def read_pods(items: Sequence[bytes]) -> Measured:
    """The use of each pod: that of its containers together."""
    pods, counts, usages = list[_Names](), list[int](), list[_Amounts]()
    for pod in map(_decode_pod, items):
        pods.append(pod.metadata)
        counts.append(len(pod.containers))
        for container in pod.containers:
            usages.append(container.usage)
    return Measured(
        [pod.namespace for pod in pods],
        [""] * len(pods),
        [pod.name for pod in pods],
        _sums(_nanocores(usages), counts),
        _sums(_bytes(usages), counts),
    )


def read_containers(items: Sequence[bytes]) -> Measured:
    """The use of each container of each pod."""
    pods, containers = list[_Names](), list[_Container]()
    for pod in map(_decode_pod, items):
        pods += [pod.metadata] * len(pod.containers)
        containers += sorted(pod.containers, key=lambda container: container.name)
    usages = [container.usage for container in containers]
    return Measured(
        [pod.namespace for pod in pods],
        [pod.name for pod in pods],
        [container.name for container in containers],
        _nanocores(usages),
        _bytes(usages),
    )


def in_order(found: Measured, order: Order) -> Measured:
    """Those that use most first; in the order of their names where none is asked for."""
    if not order:
        return found
    used = found.nanocores if order == "cpu" else found.memory_bytes
    places = sorted(range(len(used)), key=used.__getitem__, reverse=True)
    return Measured(
        [found.namespaces[place] for place in places],
        [found.pods[place] for place in places],
        [found.names[place] for place in places],
        [found.nanocores[place] for place in places],
        [found.memory_bytes[place] for place in places],
    )


def pod_table(
    found: Measured,
    *,
    namespaces: bool = False,
    containers: bool = False,
    headers: bool = True,
    total: bool = False,
) -> str:
    """The table of pods, or of their `containers`; with `total` the sum of all below a line."""
    lead = ["NAMESPACE"] * namespaces + ["POD"] * containers
    columns = [found.namespaces] * namespaces + [found.pods] * containers
    columns += [found.names, _cores(found.nanocores), _mebibytes(found.memory_bytes)]
    if total:
        sums = [_LINE, *_cores([sum(found.nanocores)])], [_LINE, *_mebibytes([sum(found.memory_bytes)])]
        below = [["", ""]] * (len(columns) - len(sums))
        columns = [[*column, *last] for column, last in zip(columns, [*below, *sums], strict=True)]
    return Table([*lead, *POD_COLUMNS], show_headers=headers, as_written=True).render_columns(columns)


def node_table(found: Measured, available: Mapping[str, Mapping[str, Quantity]], *, headers: bool = True) -> str:
    """The table of nodes. `available` is what each has of every resource; those that nobody has measured come last, as
    unknown.
    """
    there = [available.get(name, {}) for name in found.names]
    cpu = [_percent(used, has.get("cpu"), _NANO) for used, has in zip(found.nanocores, there, strict=True)]
    memory = [_percent(used, has.get("memory"), 1) for used, has in zip(found.memory_bytes, there, strict=True)]
    columns = [found.names, _cores(found.nanocores), cpu, _mebibytes(found.memory_bytes), memory]
    unmeasured = sorted(available.keys() - set(found.names))
    below = [unmeasured] + [[_UNKNOWN] * len(unmeasured)] * (len(columns) - 1)
    columns = [[*column, *last] for column, last in zip(columns, below, strict=True)]
    return Table(NODE_COLUMNS, show_headers=headers, as_written=True).render_columns(columns)


def _nanocores(usages: Sequence[_Amounts]) -> list[int]:
    # Nearly all are written in nanocores.
    return [
        int(cpu[:-1]) if cpu[-1:] == "n" else int(quantity.parse(cpu) * _NANO) for cpu in [used.cpu for used in usages]
    ]


def _bytes(usages: Sequence[_Amounts]) -> list[int]:
    # Nearly all are whole pages.
    return [
        int(memory[:-2]) << 10 if memory[-2:] == "Ki" else quantity.whole(memory)
        for memory in [used.memory for used in usages]
    ]


def _sums(values: list[int], counts: Sequence[int]) -> list[int]:
    """Of the first so many values, then of the next so many, and so on."""
    if counts.count(1) == len(counts):
        return values
    left = iter(values)
    return [sum(islice(left, count)) for count in counts]


def _cores(nanocores: Iterable[int]) -> list[str]:
    """In thousandths of a core, rounded up."""
    return [f"{-(-used // 1_000_000)}m" for used in nanocores]


def _mebibytes(sizes_bytes: Iterable[int]) -> list[str]:
    return [f"{size >> 20}Mi" for size in sizes_bytes]


def _percent(used: int, available: Quantity | None, unit: int) -> str:
    whole = quantity.parse(available) * unit if available is not None else 0
    return f"{int(used * 100 / whole)}%" if whole else _UNKNOWN
