"""The requests of the REST door, as kube-apiserver counts them: how many, how long, how many at once.

`RequestMetrics.begin(info)` where a request begins, `end(code)` of what that returns where it has been answered: some
two microseconds together. Series exist for what is served alone: a resource, subresource or path that nobody serves is
counted without its name, so that no client makes series of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from barque.api.errors import ApiError
from barque.api.resources import by_plural
from barque.api.subresources import SUBRESOURCES
from barque.master.apiserver.rest.request_info import RequestInfo
from barque.master.metrics.exposition import Family, Histogram, render_labels, sample

# Kubernetes' own upper bounds (seconds) for the duration of requests.
DURATION_BOUNDS_S = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
)  # fmt: skip
# Above this many series, requests of a new kind are counted as those of nothing served: a last bound on memory.
MAX_SERIES = 4096

_VERBS = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETECOLLECTION", "post": "POST", "put": "PUT", "head": "HEAD",
    "options": "OPTIONS", "connect": "CONNECT",
}  # fmt: skip
_READ_ONLY = frozenset({"get", "list", "watch", "head", "options"})
_LONG_RUNNING = frozenset({"log", "exec", "attach", "portforward", "proxy"})

_SeriesKey = tuple[object, ...]


class Labels(NamedTuple):
    """What a series is about, by Kubernetes' names of labels."""

    verb: str
    dry_run: str
    group: str
    version: str
    resource: str
    subresource: str
    scope: str


class _Series:
    """All requests with the same labels: by status code, and how long they took."""

    __slots__ = ("codes", "durations", "labels")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.codes: defaultdict[int, int] = defaultdict(int)
        self.durations = Histogram(DURATION_BOUNDS_S)


class Running:
    """One request under way; `end` once."""

    __slots__ = ("_began_s", "_gauge", "_info", "_key", "_metrics")

    def __init__(
        self, metrics: RequestMetrics, info: RequestInfo, gauge: defaultdict[object, int], key: object, began_s: float
    ) -> None:
        self._metrics = metrics
        self._info = info
        self._gauge = gauge
        self._key = key
        self._began_s = began_s

    def end(self, code: int, *, dry_run: bool = False, applies: bool = False) -> None:
        """It was answered with this status; `applies` tells a patch by server-side apply."""
        self._gauge[self._key] -= 1
        metrics, info = self._metrics, self._info
        verb = "apply" if applies else info.verb
        key = (
            verb, dry_run, info.group, info.version, info.resource, info.subresource, info.name != "",
            info.namespace != "", info.path if not info.is_resource else "",
        )  # fmt: skip
        series = metrics.series.get(key)
        if series is None:
            series = metrics.admit(key, info, verb, dry_run)
        series.codes[code] += 1
        series.durations.observe(metrics.monotonic() - self._began_s)


class RequestMetrics:
    """`monotonic()` is the clock in seconds; `paths` are the served ones that are no resource; `serves(group, version,
    resource)` tells what is served.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        paths: Collection[str] = (),
        serves: Callable[[str, str, str], bool] | None = None,
    ) -> None:
        self.monotonic = monotonic
        self.series: dict[_SeriesKey, _Series] = {}
        self._paths = frozenset(paths)
        self._serves = serves or _is_built_in
        self._by_labels: dict[Labels, _Series] = {}
        self._in_flight: defaultdict[object, int] = defaultdict(int, {"mutating": 0, "readOnly": 0})
        self._long_running: defaultdict[object, int] = defaultdict(int)
        self._lasting: dict[Labels, Labels] = {}

    def begin(self, info: RequestInfo) -> Running:
        """A request that begins now. A watch or a stream is counted among those that may last."""
        verb = info.verb
        if verb == "watch" or info.subresource in _LONG_RUNNING:
            labels = self._labels(info, verb, False)
            # Those of one kind share their labels for as long as they last.
            key: object = self._lasting.setdefault(labels, labels)
            gauge = self._long_running
        else:
            key = "readOnly" if verb in _READ_ONLY else "mutating"
            gauge = self._in_flight
        gauge[key] += 1
        return Running(self, info, gauge, key, self.monotonic())

    def admit(self, key: _SeriesKey, info: RequestInfo, verb: str, dry_run: bool) -> _Series:
        """The series of a request that has none under its own key yet."""
        labels = self._labels(info, verb, dry_run)
        full = len(self.series) >= MAX_SERIES
        if full and labels not in self._by_labels:
            labels = _nameless("OTHER")
        series = self._by_labels.get(labels)
        if series is None:
            series = self._by_labels[labels] = _Series(labels)
        # What is counted without its name has no end of keys.
        if not full and (labels.resource or labels.subresource):
            self.series[key] = series
        return series

    def families(self) -> Iterator[Family]:
        """Everything counted so far."""
        yield Family(
            "apiserver_request_total", "counter",
            "Requests by verb, dry run, group, version, resource, scope and HTTP status code.", self._totals(),
        )  # fmt: skip
        name = "apiserver_request_duration_seconds"
        yield Family(name, "histogram", "From a request's arrival to its answer, in seconds.", self._durations(name))
        name = "apiserver_current_inflight_requests"
        in_flight = [sample(name, count, f'request_kind="{kind}"') for kind, count in self._in_flight.items()]
        yield Family(name, "gauge", "Requests under way that are not long-running.", in_flight)
        name = "apiserver_longrunning_requests"
        lasting = [
            sample(name, count, render_labels(_shown(labels, dry_run=False)))
            for labels, count in list(self._long_running.items())
            if isinstance(labels, Labels)
        ]
        yield Family(name, "gauge", "Watches and streams under way.", lasting)

    def _totals(self) -> Iterator[str]:
        for series in list(self._by_labels.values()):
            for code, count in list(series.codes.items()):
                labels = render_labels({"code": str(code), **_shown(series.labels)})
                yield sample("apiserver_request_total", count, labels)

    def _durations(self, name: str) -> Iterator[str]:
        for series in list(self._by_labels.values()):
            yield from series.durations.samples(name, render_labels(_shown(series.labels)))

    def _labels(self, info: RequestInfo, verb: str, dry_run: bool) -> Labels:
        """The labels of a request: Kubernetes' verbs, and nothing of what is not served."""
        dry = "All" if dry_run else ""
        if not info.is_resource:
            path = info.path if info.path in self._paths else ""
            return _nameless(_shown_verb(verb))._replace(subresource=path, dry_run=dry)
        subresource = info.subresource
        served = self._serves(info.group, info.version, info.resource)
        if not served or (subresource and subresource not in SUBRESOURCES):
            return _nameless(_shown_verb(verb))._replace(dry_run=dry)
        shown = "CONNECT" if subresource and SUBRESOURCES[subresource].connects else _shown_verb(verb)
        if subresource == "log":
            # A log is read like any other subresource.
            shown = _shown_verb(verb)
        return Labels(shown, dry, info.group, info.version, info.resource, subresource, _scope(info))


def _shown_verb(verb: str) -> str:
    return "APPLY" if verb == "apply" else _VERBS.get(verb, "OTHER")


def _scope(info: RequestInfo) -> str:
    if info.name or info.verb == "create":
        return "resource"
    return "namespace" if info.namespace else "cluster"


def _nameless(verb: str) -> Labels:
    return Labels(verb, "", "", "", "", "", "")


def _shown(labels: Labels, *, dry_run: bool = True) -> dict[str, str]:
    """By name and in the order of names, as Prometheus' own client writes them."""
    named = {"component": "apiserver", **labels._asdict()}
    if not dry_run:
        del named["dry_run"]
    return dict(sorted(named.items()))


def _is_built_in(group: str, version: str, resource: str) -> bool:
    try:
        by_plural(group, resource, version)
    except ApiError:
        return False
    return True
