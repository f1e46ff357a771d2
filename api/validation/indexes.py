"""Sets of indexes as a Job's status and success policy write them: "0,2-5,9".

In: the text and how many indexes there are. Out: the intervals in it. Raises ValueError in Kubernetes' words.
"""

from __future__ import annotations

import re

_NUMBER = re.compile("[+-]?[0-9]{1,9}", re.ASCII)

Intervals = list[tuple[int, int]]


def parse(text: str, completions: int) -> Intervals:
    """The intervals, ends included, in rising order."""
    found: Intervals = []
    for part in text.split(",") if text else []:
        first, last = _interval(part, completions)
        if found and found[-1][1] >= first:
            raise ValueError(f"non-increasing order, previous: {found[-1][1]}, current: {first}")
        found.append((first, last))
    return found


def size(intervals: Intervals) -> int:
    """How many indexes there are in all."""
    return sum(last - first + 1 for first, last in intervals)


def first_overlap(a: Intervals, b: Intervals) -> int | None:
    """The lowest index that is in both."""
    shared = [max(first, other) for first, last in a for other, end in b if first <= end and other <= last]
    return min(shared, default=None)


def _interval(text: str, completions: int) -> tuple[int, int]:
    ends = text.split("-")
    if len(ends) > 2:
        why = "violates the requirement that an index interval can have at most two parts separated by '-'"
        raise ValueError(f'the fragment "{text}" {why}')
    first = _index(ends[0], completions)
    if len(ends) == 1:
        return first, first
    last = _index(ends[1], completions)
    if first >= last:
        raise ValueError(f"non-increasing order, previous: {first}, current: {last}")
    return first, last


def _index(text: str, completions: int) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f'cannot convert string to integer for index: "{text}"')
    if int(text) >= completions:
        raise ValueError(f'too large index: "{text}"')
    return int(text)
