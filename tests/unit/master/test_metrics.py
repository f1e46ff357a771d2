"""What `/metrics` tells: exact lines, bounded series, and slices between which others run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from barque.api.errors import ApiError
from barque.client.queue import WorkQueue, run_workers
from barque.master.apiserver.rest.request_info import request_info
from barque.master.metrics.exposition import Family, Histogram, gauge, render_labels
from barque.master.metrics.page import SLICE_LINES, MetricsPage
from barque.master.metrics.process import build_families, loop_families, process_families
from barque.master.metrics.queues import QueueMetrics
from barque.master.metrics.requests import MAX_SERIES, RequestMetrics
from barque.master.metrics.storage import group_families, storage_families
from barque.master.raft.messages import MemberInfo
from barque.master.raft.ports import GroupFigures, PeerFigures
from barque.master.stalls import StallMonitor
from barque.master.store.port import Key, Op
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore


class Moments:
    """A clock that is set by hand, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(families: Iterator[Family], name: str) -> list[str]:
    """The samples of one metric, its own comments and other names aside."""
    said = [line for family in families for line in family.lines()]
    return [line for line in said if line.partition("{")[0].partition(" ")[0] == name]


def request(metrics: RequestMetrics, method: str, path: str, code: int = 200, **how: bool) -> None:
    watch = how.pop("watch", False)
    metrics.begin(request_info(method, path, watch)).end(code, **how)


def test_requests_are_counted_by_the_labels_of_kubernetes() -> None:
    metrics = RequestMetrics(Moments(), ["/livez"])
    for _ in range(2):
        request(metrics, "GET", "/api/v1/namespaces/a/pods/one")
    request(metrics, "GET", "/api/v1/namespaces/b/pods/two", 404)
    request(metrics, "POST", "/apis/apps/v1/namespaces/a/deployments", 201, dry_run=True)
    request(metrics, "GET", "/apis/apps/v1/deployments")
    request(metrics, "PATCH", "/api/v1/namespaces/a/configmaps/c", applies=True)
    request(metrics, "POST", "/api/v1/namespaces/a/pods/one/exec", 101)
    request(metrics, "GET", "/livez")

    def line(code: int, labels: str, count: int = 1) -> str:
        return f'apiserver_request_total{{code="{code}",component="apiserver",{labels}}} {count}'

    v1 = 'dry_run="",group=""'
    assert lines_of(metrics.families(), "apiserver_request_total") == [
        line(200, f'{v1},resource="pods",scope="resource",subresource="",verb="GET",version="v1"', 2),
        line(404, f'{v1},resource="pods",scope="resource",subresource="",verb="GET",version="v1"'),
        line(
            201,
            'dry_run="All",group="apps",resource="deployments",scope="resource",subresource="",verb="POST",version="v1"',
        ),
        line(
            200,
            'dry_run="",group="apps",resource="deployments",scope="cluster",subresource="",verb="LIST",version="v1"',
        ),
        line(200, f'{v1},resource="configmaps",scope="resource",subresource="",verb="APPLY",version="v1"'),
        line(101, f'{v1},resource="pods",scope="resource",subresource="exec",verb="CONNECT",version="v1"'),
        line(200, f'{v1},resource="",scope="",subresource="/livez",verb="GET",version=""'),
    ]


def test_durations_fall_into_the_classes_of_kubernetes() -> None:
    moments = Moments()
    metrics = RequestMetrics(moments)
    for took_s in (0.005, 0.03, 90):
        running = metrics.begin(request_info("DELETE", "/api/v1/nodes/n1"))
        moments.now += took_s
        running.end(200)
    name = "apiserver_request_duration_seconds"
    buckets = lines_of(metrics.families(), f"{name}_bucket")
    counts = {line.partition('le="')[2].partition('"')[0]: int(line.rpartition(" ")[2]) for line in buckets}
    assert list(counts)[:3] == ["0.005", "0.025", "0.05"]
    assert list(counts)[-2:] == ["60", "+Inf"]
    assert [counts[bound] for bound in ("0.005", "0.025", "0.05", "60", "+Inf")] == [1, 1, 2, 2, 3]
    assert lines_of(metrics.families(), f"{name}_count")[0].endswith("} 3")
    assert float(lines_of(metrics.families(), f"{name}_sum")[0].rpartition(" ")[2]) == pytest.approx(90.035)


def test_what_is_under_way_is_told_by_its_kind() -> None:
    metrics = RequestMetrics(Moments())
    watch = metrics.begin(request_info("GET", "/api/v1/pods", True))
    log = metrics.begin(request_info("GET", "/api/v1/namespaces/a/pods/one/log"))
    write = metrics.begin(request_info("PUT", "/api/v1/namespaces/a/pods/one"))
    read = metrics.begin(request_info("GET", "/version"))

    def in_flight() -> list[str]:
        return lines_of(metrics.families(), "apiserver_current_inflight_requests")

    name = "apiserver_current_inflight_requests"
    assert in_flight() == [f'{name}{{request_kind="mutating"}} 1', f'{name}{{request_kind="readOnly"}} 1']
    pods = 'apiserver_longrunning_requests{component="apiserver",group="",resource="pods"'
    assert lines_of(metrics.families(), "apiserver_longrunning_requests") == [
        f'{pods},scope="cluster",subresource="",verb="WATCH",version="v1"}} 1',
        f'{pods},scope="resource",subresource="log",verb="GET",version="v1"}} 1',
    ]
    for running in (watch, log, write, read):
        running.end(200)
    assert in_flight() == [f'{name}{{request_kind="mutating"}} 0', f'{name}{{request_kind="readOnly"}} 0']
    assert all(line.endswith("} 0") for line in lines_of(metrics.families(), "apiserver_longrunning_requests"))


def test_no_client_makes_series_of_its_own() -> None:
    metrics = RequestMetrics(Moments(), ["/livez"])
    for n in range(300):
        request(metrics, "GET", f"/api/v1/junk{n}", 404)
        request(metrics, "GET", f"/apis/group{n}/v1/pods", 404)
        request(metrics, "GET", f"/api/v1/namespaces/a/pods/p/junk{n}", 404)
        request(metrics, "GET", f"/junk/{n}", 404)
        request(metrics, f"METHOD{n}", "/junk", 405)
    counted = lines_of(metrics.families(), "apiserver_request_total")
    nameless = 'dry_run="",group="",resource="",scope="",subresource=""'
    total = "apiserver_request_total"
    assert sorted(counted) == [
        f'{total}{{code="404",component="apiserver",{nameless},verb="GET",version=""}} 600',
        f'{total}{{code="404",component="apiserver",{nameless},verb="LIST",version=""}} 600',
        f'{total}{{code="405",component="apiserver",{nameless},verb="OTHER",version=""}} 300',
    ]
    assert not metrics.series


def test_series_end_at_their_bound() -> None:
    metrics = RequestMetrics(Moments(), serves=lambda *_: True)
    for n in range(MAX_SERIES + 50):
        request(metrics, "GET", f"/apis/g/v1/r{n}/one")
    assert len(metrics.series) == MAX_SERIES
    (last,) = (line for line in lines_of(metrics.families(), "apiserver_request_total") if 'verb="OTHER"' in line)
    assert last.endswith("} 50")


async def test_queues_tell_what_they_do() -> None:
    clock, metrics = FakeClock(), QueueMetrics()
    queue = WorkQueue(clock)
    queue.observer = metrics.observer("deployment", queue.__len__)
    tries: list[str] = []

    async def reconcile(key: str) -> None:
        tries.append(key)
        await clock.sleep(0.5)
        if len(tries) == 1:
            raise ApiError(409, "Conflict", "the cache was behind")

    for key in ("a", "b", "a"):
        queue.add(key)
    name = 'name="deployment"'
    assert lines_of(metrics.families(), "workqueue_depth") == [f"workqueue_depth{{{name}}} 2"]
    working = asyncio.create_task(run_workers(queue, reconcile, workers=1, name="deployment"))
    await clock.advance(5)
    working.cancel()
    assert tries == ["a", "b", "a"]
    assert lines_of(metrics.families(), "workqueue_depth") == [f"workqueue_depth{{{name}}} 0"]
    assert lines_of(metrics.families(), "workqueue_adds_total") == [f"workqueue_adds_total{{{name}}} 3"]
    assert lines_of(metrics.families(), "workqueue_retries_total") == [f"workqueue_retries_total{{{name}}} 1"]
    worked = lines_of(metrics.families(), "workqueue_work_duration_seconds_sum")
    assert float(worked[0].rpartition(" ")[2]) == pytest.approx(1.5)
    waited = lines_of(metrics.families(), "workqueue_queue_duration_seconds_bucket")
    # One key waited for no time at all, one for 0.5 s, and the one to be tried again for what was left of that.
    assert [int(line.rpartition(" ")[2]) for line in waited][-3:] == [3, 3, 3]
    assert int(waited[0].rpartition(" ")[2]) == 1


async def test_a_new_terms_queue_goes_on_under_its_name() -> None:
    metrics = QueueMetrics()
    for _ in range(2):
        queue = WorkQueue(FakeClock())
        queue.observer = metrics.observer("node", queue.__len__)
        queue.add("n1")
    assert lines_of(metrics.families(), "workqueue_adds_total") == ['workqueue_adds_total{name="node"} 2']
    assert lines_of(metrics.families(), "workqueue_depth") == ['workqueue_depth{name="node"} 1']


async def test_objects_are_counted_by_resource() -> None:
    store = MemoryStore(FakeClock())
    await store.commit([Op("put", Key("pods", "a", f"p{n}"), b"{}") for n in range(3)])
    counts = lines_of(storage_families(store), "apiserver_storage_objects")
    assert 'apiserver_storage_objects{resource="pods"} 3' in counts
    assert 'apiserver_storage_objects{resource="deployments.apps"} 0' in counts
    assert lines_of(storage_families(store), "barque_store_revision") == ["barque_store_revision 3"]


class SeenGroup:
    def group_figures(self) -> GroupFigures:
        m1, m2, m3 = (MemberInfo(f"id-{n}", f"m{n}", "127.0.0.1") for n in (1, 2, 3))
        peers = (
            PeerFigures(m1, True, True, 9, 0.0, False),
            PeerFigures(m2, True, False, 8, 0.25, False),
            PeerFigures(m3, True, False, 0, None, False),
        )
        return GroupFigures("id-1", 4, "id-1", 10, 9, 8, 1.5, 0.01, 0.02, peers, {"disk": "slow"})


def test_the_group_is_told_as_this_master_sees_it() -> None:
    said = [line for family in group_families(SeenGroup()) for line in family.lines() if not line.startswith("#")]
    assert said == [
        "barque_raft_has_leader 1",
        "barque_raft_is_leader 1",
        "barque_raft_term 4",
        "barque_raft_last_index 10",
        "barque_raft_commit_index 9",
        "barque_raft_applied_index 8",
        "barque_raft_election_timeout_seconds 1.5",
        "barque_raft_faults 1",
        'barque_raft_peer_silence_seconds{peer="m2"} 0.25',
        'barque_raft_peer_match_index{peer="m2"} 8',
        'barque_raft_peer_match_index{peer="m3"} 0',
    ]


def test_the_process_and_its_loop_are_told() -> None:
    def value(name: str) -> float:
        (line,) = lines_of(process_families(), name)
        return float(line.rpartition(" ")[2])

    assert value("process_cpu_seconds_total") > 0
    assert value("process_virtual_memory_bytes") > value("process_resident_memory_bytes") > 1024 * 1024
    assert value("process_max_fds") >= value("process_open_fds") >= 3
    assert 1.5e9 < value("process_start_time_seconds") < 1e10
    monitor = StallMonitor(FakeClock())
    for late_ms in (0.25, 17.0, 250.0):
        monitor.note(late_ms)
    buckets = lines_of(loop_families(monitor), "barque_event_loop_delay_seconds_bucket")
    assert 'barque_event_loop_delay_seconds_bucket{le="0.018"} 2' in buckets
    assert buckets[-1] == 'barque_event_loop_delay_seconds_bucket{le="+Inf"} 3'
    assert lines_of(loop_families(monitor), "barque_event_loop_delay_max_seconds") == [
        "barque_event_loop_delay_max_seconds 0.25"
    ]
    assert lines_of(build_families("v1.36.0", "1"), "kubernetes_build_info")[0].startswith(
        'kubernetes_build_info{git_version="v1.36.0",platform="linux/'
    )


def test_text_is_prometheus_own() -> None:
    histogram = Histogram((0.1, 1))
    for value in (0.1, 0.5, 7):
        histogram.observe(value)
    labels = render_labels({"said": 'a "word"\\\n'})
    family = Family("took_seconds", "histogram", "How long.", histogram.samples("took_seconds", labels))
    escaped = r'said="a \"word\"\\\n"'
    assert list(family.lines()) == [
        "# HELP took_seconds How long.",
        "# TYPE took_seconds histogram",
        f'took_seconds_bucket{{{escaped},le="0.1"}} 1',
        f'took_seconds_bucket{{{escaped},le="1"}} 2',
        f'took_seconds_bucket{{{escaped},le="+Inf"}} 3',
        f"took_seconds_sum{{{escaped}}} 7.5999999999999996",
        f"took_seconds_count{{{escaped}}} 3",
    ]
    assert list(Family("nothing", "gauge", "Not there.", ()).lines()) == []


async def test_a_long_page_lets_others_run_between_its_pieces() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    families = [gauge(f"g{n}", "One of many.", n) for n in range(SLICE_LINES)]
    pieces = [piece async for piece in MetricsPage([lambda: iter(families)]).pieces()]
    beside.cancel()
    assert len(pieces) == 3
    assert turns >= 3
    text = b"".join(pieces).decode()
    assert text.startswith("# HELP g0 One of many.\n# TYPE g0 gauge\ng0 0\n# HELP g1 ")
    assert text.endswith(f"\ng{SLICE_LINES - 1} {SLICE_LINES - 1}\n")
