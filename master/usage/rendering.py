"""The JSON of NodeMetrics and PodMetrics, as the metrics-server writes it. Pure.

Joined from strings, for a master makes thousands a second and most are replaced before anyone asks: the tests compare
what is written here with what the types of `barque.api.types.metrics_v1beta1` encode to. Names must have been checked:
they are written as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from barque.client.usage import ContainerUsage

_CPU_SUFFIXES = ("n", "u", "m", "")
_MEMORY_SUFFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")

_encode = msgspec.json.Encoder(order="deterministic").encode


class Moment(NamedTuple):
    """When a sample was taken (RFC 3339), and over which time its rates are averaged (as Go writes a duration)."""

    timestamp: str
    window: str


class Rendered(NamedTuple):
    """An object's JSON; its labels stand between `labels_at` and `labels_end`."""

    json: bytes
    labels_at: int
    labels_end: int

    def relabelled(self, labels: Mapping[str, str]) -> Rendered:
        """The same with other labels."""
        written = _labels(labels)
        json = self.json[: self.labels_at] + written + self.json[self.labels_end :]
        return Rendered(json, self.labels_at, self.labels_at + len(written))


def render_node(name: str, labels: Mapping[str, str], nanocores: int, memory_bytes: int, moment: Moment) -> Rendered:
    """The NodeMetrics of a node."""
    head = (
        f'{{"apiVersion":"metrics.k8s.io/v1beta1","kind":"NodeMetrics","metadata":{{"name":"{name}",'
        f'"creationTimestamp":"{moment.timestamp}"'
    )
    tail = (
        f'}},"timestamp":"{moment.timestamp}","window":"{moment.window}",'
        f'"usage":{{"cpu":"{cpu(nanocores)}","memory":"{memory(memory_bytes)}"}}}}'
    )
    return _joined(head, labels, tail)


def render_pod(
    namespace: str, name: str, labels: Mapping[str, str], containers: Sequence[ContainerUsage], moment: Moment
) -> Rendered:
    """The PodMetrics of a pod."""
    head = (
        f'{{"apiVersion":"metrics.k8s.io/v1beta1","kind":"PodMetrics","metadata":{{"name":"{name}",'
        f'"namespace":"{namespace}","creationTimestamp":"{moment.timestamp}"'
    )
    used = ",".join(
        f'{{"name":"{c.name}","usage":{{"cpu":"{cpu(c.cpu_nanocores)}","memory":"{memory(c.memory_bytes)}"}}}}'
        for c in containers
    )
    tail = f'}},"timestamp":"{moment.timestamp}","window":"{moment.window}","containers":[{used}]}}'
    return _joined(head, labels, tail)


def cpu(nanocores: int) -> str:
    """The canonical quantity: `12345n`, `250m`, `2`."""
    for suffix in _CPU_SUFFIXES:
        if nanocores % 1000:
            return f"{nanocores}{suffix}"
        nanocores //= 1000
    return f"{nanocores}k" if nanocores else "0"


def memory(size_bytes: int) -> str:
    """The canonical quantity: `1234Ki`, `2Mi`, `1023`."""
    steps = 0
    while size_bytes and not size_bytes & 1023:
        size_bytes >>= 10
        steps += 1
    return f"{size_bytes}{_MEMORY_SUFFIXES[steps]}"


def duration(seconds: float) -> str:
    """As Go writes a duration, to the millisecond: `10s`, `9.998s`, `1m30s`, `500ms`."""
    millis = max(round(seconds * 1000), 1)
    if millis < 1000:
        return f"{millis}ms"
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    shown = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{shown}"
    return f"{minutes}m{shown}" if minutes else shown


def _joined(head: str, labels: Mapping[str, str], tail: str) -> Rendered:
    before, written = head.encode(), _labels(labels)
    return Rendered(before + written + tail.encode(), len(before), len(before) + len(written))


def _labels(labels: Mapping[str, str]) -> bytes:
    return b',"labels":' + _encode(labels) if labels else b""
