"""How long to wait before trying again: restarts of containers, pulls, and what waits for something missing.

Kubernetes' figures: a container's first restart is immediate, then 10 s doubling to 5 min, forgotten after 10 min of
running. The restart back-off is a function of what stands in the containers' labels, so it outlives the worker.
"""

from __future__ import annotations

from typing import NamedTuple

FIRST_DELAY_S = 10.0
LONGEST_DELAY_S = 300.0
# Twice the longest delay: a run of this length is not part of a crash loop.
RESET_AFTER_S = 600.0


def restart_delay_s(streak: int) -> float:
    """The delay after the end of a run before which `streak` runs in a row had ended early."""
    return doubled(streak, FIRST_DELAY_S, LONGEST_DELAY_S)


def next_streak(streak: int, ran_s: float) -> int:
    """The streak of the run that follows one of `ran_s` seconds."""
    return 0 if ran_s >= RESET_AFTER_S else streak + 1


def doubled(failures: int, first_s: float, longest_s: float) -> float:
    """0 for no failure, then `first_s` doubling up to `longest_s`."""
    if failures <= 0:
        return 0.0
    # 2**30 is beyond every longest delay: a bound so that a very long streak makes no huge number.
    return min(first_s * 2.0 ** min(failures - 1, 30), longest_s)


class Fault(NamedTuple):
    """Why a step cannot be done at present: its reason, one sentence, when to try again (monotonic s)."""

    reason: str
    message: str
    failures: int
    since_s: float
    retry_s: float


def again(previous: Fault | None, reason: str, message: str, now: float, *, first_s: float, longest_s: float) -> Fault:
    """The fault after one more failure."""
    failures = (previous.failures if previous else 0) + 1
    return Fault(reason, message, failures, now, now + doubled(failures, first_s, longest_s))
