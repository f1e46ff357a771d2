"""The newest sample of every node, and what of it is shown: joined with the pods and nodes that there are.

A sample is turned into the bytes of its objects when it is taken; to list them is to look each pod of the store up and
hand its bytes on. What is shown follows the store: a pod that is deleted, or replaced by one of the same name, is not
shown, and its labels are those it has now.

A worker cannot speak for others: a pod that is not bound to the sample's node, or has another uid, is left out. Nor can
it flood: of one node a sample a second is looked at, and of all there are at most `MAX_TABLE_BYTES`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice

import msgspec

from barque.client.clock import Clock, timestamp
from barque.client.usage import NodeUsage, PodUsage
from barque.master.store.port import Key, Store, Stored
from barque.master.usage.rendering import Moment, Rendered, duration, render_node, render_pod
from barque.master.usage.samples import BadSampleError, read_sample

log = logging.getLogger(__name__)

NODES, PODS = "nodes.metrics.k8s.io", "pods.metrics.k8s.io"
# Six samples: whoever missed as many is taken for silent.
MAX_AGE_S = 60.0
# A worker sends one every ten seconds.
SPACING_S = 1.0
# Some 400 bytes a pod: the pods of the largest cluster, twice over.
MAX_TABLE_BYTES = 256 * 1024 * 1024
# How many nodes are checked for being gone each time a sample is taken or asked for.
_FORGOTTEN_AT_ONCE = 64
# The objects have no revisions of their own; a list must have one.
REVISION = 1

_NODE_FIELD = "spec.nodeName"


class _Sample(msgspec.Struct, gc=False):
    """One node's newest sample. Times are of this master's monotonic clock: `looked_at` that of the last one that came,
    `at` that of the one taken.
    """

    at: float
    looked_at: float
    node: _Entry | None = None
    pods: tuple[Key, ...] = ()
    size_bytes: int = 0


class _Entry(msgspec.Struct, gc=False):
    """One object as it is shown. `revision` is that of the pod or node when it was last found to be the same one."""

    node: str
    at: float
    uid: bytes
    revision: int
    shown: Stored
    labels_at: int
    labels_end: int


class UsageTable:
    """See the module's text. Every call returns at once. `refused` counts samples not taken, by reason; `left_out` pods
    of samples that were not the node's.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        # The one looked at longest ago is the first.
        self._samples: dict[str, _Sample] = {}
        self._pods: dict[Key, _Entry] = {}
        self._bytes = 0
        self.refused: Counter[str] = Counter()
        self.left_out = 0

    def take(self, node: str, data: bytes) -> bool:
        """Take a sample of this node in the place of the one before; False where it is refused."""
        self._forget()
        now = self._clock.monotonic()
        there = self._store.get(Key("nodes", "", node))
        if there is None:
            self.refused["no such node"] += 1
            return False
        known = self._samples.get(node)
        if known is not None and now - known.looked_at < SPACING_S:
            self.refused["too often"] += 1
            return False
        known = self._samples.pop(node, None) or _Sample(now - MAX_AGE_S, now)
        known.looked_at = now
        self._samples[node] = known
        try:
            usage = read_sample(data)
        except BadSampleError as bad:
            self._refuse("malformed", f"a usage sample of node {node} is refused: {bad}")
            return False
        if self._bytes - known.size_bytes > MAX_TABLE_BYTES:
            self._refuse("table full", f"usage samples take more than {MAX_TABLE_BYTES} bytes: no more are taken")
            return False
        self._drop(node, known)
        self._samples[node] = self._sample(there, usage, now)
        return True

    def pods(self, there: Iterable[Stored]) -> list[Stored]:
        """The PodMetrics of those pods of the store of which there are any, in their order."""
        entries, since = self._pods, self._clock.monotonic() - MAX_AGE_S
        found = []
        for pod in there:
            entry = entries.get(pod.key)
            if entry is not None and entry.at >= since and (entry.revision == pod.revision or _follow(entry, pod)):
                found.append(entry.shown)
        return found

    def nodes(self, there: Iterable[Stored]) -> list[Stored]:
        """The NodeMetrics of those nodes of the store of which there are any, in their order."""
        self._forget()
        samples, since = self._samples, self._clock.monotonic() - MAX_AGE_S
        found = []
        for node in there:
            sample = samples.get(node.key.name)
            entry = sample.node if sample is not None else None
            if entry is not None and entry.at >= since and (entry.revision == node.revision or _follow(entry, node)):
                found.append(entry.shown)
        return found

    def remark(self) -> str:
        """How many are known, and what was refused since the master started."""
        nodes = sum(sample.node is not None for sample in self._samples.values())
        known = f"{_counted(nodes, 'node')}, {_counted(len(self._pods), 'pod')}"
        refused = ", ".join(f"{count} {why}" for why, count in sorted(self.refused.items()))
        return f"{known}; samples refused: {refused}" if refused else known

    def _sample(self, there: Stored, usage: NodeUsage, now: float) -> _Sample:
        node = there.key.name
        moment = Moment(timestamp(self._clock.wall()), duration(usage.window_s))
        rendered = render_node(node, there.labels, usage.cpu_nanocores, usage.memory_bytes, moment)
        sample = _Sample(now, now, _entry(node, now, b"", there, NODES, rendered))
        keys = [key for pod in usage.pods if (key := self._place(node, pod, moment, now)) is not None]
        sample.pods = tuple(dict.fromkeys(keys))
        sample.size_bytes = len(rendered.json) + sum(len(self._pods[key].shown.json) for key in sample.pods)
        self._bytes += sample.size_bytes
        return sample

    def _place(self, node: str, usage: PodUsage, moment: Moment, now: float) -> Key | None:
        """Where the pod stands, None where the store has none such on this node."""
        pod = self._store.get(Key("pods", usage.namespace, usage.name))
        uid = _uid_mark(usage.uid)
        if pod is None or pod.other_fields.get(_NODE_FIELD) != node or uid not in pod.json:
            self.left_out += 1
            return None
        rendered = render_pod(pod.key.namespace, pod.key.name, pod.labels, usage.containers, moment)
        self._pods[pod.key] = _entry(node, now, uid, pod, PODS, rendered)
        return pod.key

    def _forget(self) -> None:
        """Let go of samples that are too old, and of nodes that are gone; a few at a time."""
        since = self._clock.monotonic() - MAX_AGE_S
        over = [
            (node, sample)
            for node, sample in islice(self._samples.items(), _FORGOTTEN_AT_ONCE)
            if sample.looked_at < since or self._store.get(Key("nodes", "", node)) is None
        ]
        for node, sample in over:
            del self._samples[node]
            self._drop(node, sample)

    def _drop(self, node: str, sample: _Sample) -> None:
        self._bytes -= sample.size_bytes
        for key in sample.pods:
            entry = self._pods.get(key)
            # A pod of the same name may have come up elsewhere.
            if entry is not None and entry.node == node:
                del self._pods[key]

    def _refuse(self, why: str, line: str) -> None:
        """Count it; the first of its sort is worth a line."""
        if not self.refused[why]:
            log.warning("%s", line)
        self.refused[why] += 1


def _entry(node: str, at: float, uid: bytes, there: Stored, resource: str, rendered: Rendered) -> _Entry:
    key = Key(resource, there.key.namespace, there.key.name)
    shown = Stored(key, rendered.json, REVISION, there.labels, {})
    return _Entry(node, at, uid, there.revision, shown, rendered.labels_at, rendered.labels_end)


def _follow(entry: _Entry, there: Stored) -> bool:
    """Take the labels as they are now; False where this is another object of the same name."""
    if entry.uid not in there.json:
        return False
    entry.revision = there.revision
    if entry.shown.labels != there.labels:
        _relabel(entry, there.labels)
    return True


def _relabel(entry: _Entry, labels: Mapping[str, str]) -> None:
    now = Rendered(entry.shown.json, entry.labels_at, entry.labels_end).relabelled(labels)
    entry.shown = msgspec.structs.replace(entry.shown, json=now.json, labels=labels)
    entry.labels_end = now.labels_end


def _uid_mark(uid: str) -> bytes:
    """How the bytes of the pod with this uid say so: in its metadata, or as the static pod that it mirrors."""
    return b':"%b"' % uid.encode("utf-8", "replace")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
