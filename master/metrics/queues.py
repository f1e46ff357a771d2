"""The work queues of the controllers, as client-go's metrics name them.

`QueueMetrics.observer(name, depth)` makes what a `WorkQueue` tells its doings to. A new term of leadership makes new
queues under the same names: their figures go on where those of the term before ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from barque.master.metrics.exposition import Family, Histogram, Kind, render_labels, sample

# client-go's: from 10 ns up, ten times each.
BOUNDS_S = (1e-08, 1e-07, 1e-06, 1e-05, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)


class QueueFigures:
    """What one queue has done; implements `client.queue.QueueObserver`."""

    __slots__ = ("adds", "depth", "retries", "waited", "worked")

    def __init__(self) -> None:
        self.depth: Callable[[], int] = int
        self.adds = 0
        self.retries = 0
        self.waited = Histogram(BOUNDS_S)
        self.worked = Histogram(BOUNDS_S)

    def added(self) -> None:
        self.adds += 1

    def taken(self, waited_s: float) -> None:
        self.waited.observe(waited_s)

    def done(self, worked_s: float) -> None:
        self.worked.observe(worked_s)

    def retried(self) -> None:
        self.retries += 1


class QueueMetrics:
    """All queues by name."""

    def __init__(self) -> None:
        self._queues: dict[str, QueueFigures] = {}

    def observer(self, name: str, depth: Callable[[], int]) -> QueueFigures:
        """Of the queue with this name, which is as long as `depth()` tells."""
        figures = self._queues.setdefault(name, QueueFigures())
        figures.depth = depth
        return figures

    def families(self) -> Iterator[Family]:
        yield self._family("workqueue_depth", "gauge", "Keys that wait.", lambda queue: queue.depth())
        yield self._family("workqueue_adds_total", "counter", "Keys that were added.", lambda queue: queue.adds)
        yield self._family("workqueue_retries_total", "counter", "Keys to be tried again.", lambda queue: queue.retries)
        name = "workqueue_queue_duration_seconds"
        yield Family(name, "histogram", "How long a key waits, in seconds.", self._durations(name, lambda q: q.waited))
        name = "workqueue_work_duration_seconds"
        yield Family(name, "histogram", "How long a key is worked on, in seconds.", self._durations(name, _worked))

    def _family(self, name: str, kind: Kind, text: str, value: Callable[[QueueFigures], int]) -> Family:
        lines = (sample(name, value(queue), _labels(of)) for of, queue in list(self._queues.items()))
        return Family(name, kind, text, lines)

    def _durations(self, name: str, of: Callable[[QueueFigures], Histogram]) -> Iterator[str]:
        for queue, figures in list(self._queues.items()):
            yield from of(figures).samples(name, _labels(queue))


def _worked(figures: QueueFigures) -> Histogram:
    return figures.worked


def _labels(name: str) -> str:
    return render_labels({"name": name})
