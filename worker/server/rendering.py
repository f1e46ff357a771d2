"""What a node uses, in the forms that tools read from a kubelet: the summary (JSON) and Prometheus' text. Pure.

Names of figures, of their labels and of fields are those of `/stats/summary`, `/metrics/resource` and
`/metrics/cadvisor`; what Barque does not count is left out, never told as zero.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from barque.proto import node_pb2 as pb

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Series(NamedTuple):
    """One figure with a value for each set of labels; `kind` is Prometheus' type. Times are in ms since the epoch."""

    name: str
    kind: str
    help: str
    values: list[tuple[Mapping[str, str], float, int | None]]


def summary(node: str, stats: pb.StatsReply) -> dict[str, Any]:
    """`stats.Summary` of the kubelet's v1alpha1."""
    disk, time = stats.node.filesystem, stats.node.cpu.time
    shown: dict[str, Any] = {
        "nodeName": node,
        "cpu": _cpu(stats.node.cpu),
        "memory": _memory(stats.node.memory, time),
        "fs": {
            "time": time,
            "usedBytes": disk.used_bytes,
            "capacityBytes": disk.capacity_bytes,
            "availableBytes": disk.available_bytes,
        },
    }
    return {"node": shown, "pods": [_pod(pod) for pod in stats.pods]}


def _pod(pod: pb.PodStats) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": min((c.started_at for c in pod.containers if c.started_at), default=None),
        "containers": [
            {
                "name": container.name,
                "startTime": container.started_at,
                "cpu": _cpu(container.cpu),
                "memory": _memory(container.memory, container.cpu.time),
                "rootfs": {"time": container.cpu.time, "usedBytes": container.filesystem.used_bytes},
            }
            for container in pod.containers
        ],
        "cpu": _cpu(pod.cpu),
        "memory": _memory(pod.memory, pod.cpu.time),
    }
    if pod.HasField("network"):
        network = pod.network
        shown["network"] = {
            "time": pod.cpu.time,
            "name": "eth0",
            "rxBytes": network.received_bytes,
            "rxErrors": network.receive_errors,
            "txBytes": network.sent_bytes,
            "txErrors": network.send_errors,
        }
    return shown


def _cpu(cpu: pb.CpuStats) -> dict[str, Any]:
    return {"time": cpu.time, "usageCoreNanoSeconds": cpu.usage_core_ns}


def _memory(memory: pb.MemoryStats, time: str) -> dict[str, Any]:
    shown = {
        "time": time,
        "usageBytes": memory.usage_bytes,
        "workingSetBytes": memory.working_set_bytes,
        "rssBytes": memory.rss_bytes,
    }
    if memory.limit_bytes:
        shown["availableBytes"] = max(0, memory.limit_bytes - memory.working_set_bytes)
    return shown


def resource_series(stats: pb.StatsReply) -> list[Series]:
    """The figures of `/metrics/resource` (KEP-727)."""
    at_ms = _ms(stats.node.cpu.time)
    node, pods = stats.node, stats.pods
    containers = [({**_labels(pod), "container": c.name}, c) for pod in pods for c in pod.containers]
    return [
        Series("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds",
               [({}, node.cpu.usage_core_ns / 1e9, at_ms)]),
        Series("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes",
               [({}, node.memory.working_set_bytes, at_ms)]),
        Series("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds",
               [(_labels(pod), pod.cpu.usage_core_ns / 1e9, at_ms) for pod in pods]),
        Series("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes",
               [(_labels(pod), pod.memory.working_set_bytes, at_ms) for pod in pods]),
        Series("container_cpu_usage_seconds_total", "counter",
               "Cumulative cpu time consumed by the container in core-seconds",
               [(labels, c.cpu.usage_core_ns / 1e9, at_ms) for labels, c in containers]),
        Series("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes",
               [(labels, c.memory.working_set_bytes, at_ms) for labels, c in containers]),
        Series("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds",
               [(labels, _ms(c.started_at) / 1000, None) for labels, c in containers if c.started_at]),
        Series("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise",
               [({}, 0, None)]),
    ]  # fmt: skip


def cadvisor_series(stats: pb.StatsReply, cores: int) -> list[Series]:
    """Those figures of `/metrics/cadvisor` that Barque counts, on a node with so many cores."""
    pods = stats.pods
    containers = [({"container": c.name, **_labels(pod)}, c) for pod in pods for c in pod.containers]
    networks = [({"interface": "eth0", **_labels(pod)}, pod.network) for pod in pods if pod.HasField("network")]
    return [
        Series("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.",
               [({**labels, "cpu": "total"}, c.cpu.usage_core_ns / 1e9, _ms(c.cpu.time)) for labels, c in containers]),
        *(Series(name, "gauge", help, [(labels, getattr(c.memory, field), _ms(c.cpu.time)) for labels, c in containers])
          for name, field, help in (
              ("container_memory_usage_bytes", "usage_bytes", "Current memory usage in bytes."),
              ("container_memory_working_set_bytes", "working_set_bytes", "Current working set in bytes."),
              ("container_memory_rss", "rss_bytes", "Size of RSS in bytes."),
              ("container_spec_memory_limit_bytes", "limit_bytes", "Memory limit for the container."),
          )),
        Series("container_fs_usage_bytes", "gauge", "Number of bytes that are consumed by the container.",
               [(labels, c.filesystem.used_bytes, _ms(c.cpu.time)) for labels, c in containers]),
        *(Series(name, "counter", help, [(labels, getattr(network, field), None) for labels, network in networks])
          for name, field, help in (
              ("container_network_receive_bytes_total", "received_bytes", "Cumulative count of bytes received"),
              ("container_network_receive_errors_total", "receive_errors", "Cumulative count of errors on receipt"),
              ("container_network_transmit_bytes_total", "sent_bytes", "Cumulative count of bytes transmitted"),
              ("container_network_transmit_errors_total", "send_errors", "Cumulative count of errors on sending"),
          )),
        Series("machine_cpu_cores", "gauge", "Number of logical CPU cores.", [({}, cores, None)]),
        Series("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.",
               [({}, stats.node.memory.limit_bytes, None)]),
    ]  # fmt: skip


def exposition(series: Iterable[Series]) -> bytes:
    """Prometheus' text format 0.0.4; figures without a value are left out."""
    lines: list[str] = []
    for each in series:
        if each.values:
            lines += [f"# HELP {each.name} {each.help}", f"# TYPE {each.name} {each.kind}"]
        for labels, value, at_ms in each.values:
            named = ",".join(f'{name}="{_escaped(text)}"' for name, text in sorted(labels.items()))
            moment = f" {at_ms}" if at_ms is not None else ""
            lines.append(f"{each.name}{f'{{{named}}}' if named else ''} {value:.17g}{moment}")
    return "".join(f"{line}\n" for line in lines).encode()


def _labels(pod: pb.PodStats) -> dict[str, str]:
    return {"namespace": pod.namespace, "pod": pod.name}


def _ms(time: str) -> int:
    return round(datetime.datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() * 1000)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
