"""Long lists in portions: as much of one as may be worked on before other tasks get the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

# Read and written anew, so much takes some ten milliseconds.
PORTION_BYTES = 256 * 1024


def portions(
    items: Sequence[T], size_of: Callable[[T], int], at_most: int, at_most_bytes: int = PORTION_BYTES
) -> Iterator[Sequence[T]]:
    """The items in order, so many or so many bytes at a time, whichever is less; one that is larger stands alone."""
    begin, size_bytes = 0, 0
    for place, item in enumerate(items):
        size = size_of(item)
        if place > begin and (place - begin == at_most or size_bytes + size > at_most_bytes):
            yield items[begin:place]
            begin, size_bytes = place, 0
        size_bytes += size
    if begin < len(items):
        yield items[begin:]
