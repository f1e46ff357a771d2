"""Prometheus' text format, version 0.0.4: families as lines, and the one histogram that all of them use. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram"]

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Family(NamedTuple):
    """A metric's name, kind and what it tells; `samples` are rendered lines, see `sample` and `Histogram.samples`."""

    name: str
    kind: Kind
    help: str
    samples: Iterable[str]

    def lines(self) -> Iterator[str]:
        """Its lines; none at all where it has no sample."""
        said = False
        for line in self.samples:
            if not said:
                yield f"# HELP {self.name} {self.help}"
                yield f"# TYPE {self.name} {self.kind}"
                said = True
            yield line


class Histogram:
    """How many observations were at most each of `bounds` (ascending), and their sum; all in one unit."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self, name: str, labels: str = "") -> Iterator[str]:
        """Its lines; `labels` as `render_labels` makes them."""
        return histogram_samples(name, labels, self._bounds, self._counts, self._sum)


def histogram_samples(
    name: str, labels: str, bounds: Sequence[float], counts: Sequence[int], total: float
) -> Iterator[str]:
    """The lines of a histogram: `counts` of each class by its upper bound, and of what lies above all `bounds`."""
    lead = f"{labels}," if labels else ""
    seen = 0
    for bound, count in zip(bounds, counts, strict=False):
        seen += count
        yield f'{name}_bucket{{{lead}le="{bound:g}"}} {seen}'
    seen += counts[-1]
    yield f'{name}_bucket{{{lead}le="+Inf"}} {seen}'
    yield sample(f"{name}_sum", total, labels)
    yield sample(f"{name}_count", seen, labels)


def sample(name: str, value: float, labels: str = "") -> str:
    """One line; `labels` as `render_labels` makes them."""
    number = f"{value:.17g}" if isinstance(value, float) else f"{value}"
    return f"{name}{{{labels}}} {number}" if labels else f"{name} {number}"


def render_labels(labels: Mapping[str, str]) -> str:
    """Labels as they stand between the braces."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def gauge(name: str, text: str, value: float) -> Family:
    """A family of one sample without labels."""
    return Family(name, "gauge", text, (sample(name, value),))


def counter(name: str, text: str, value: float) -> Family:
    """A family of one sample without labels."""
    return Family(name, "counter", text, (sample(name, value),))
