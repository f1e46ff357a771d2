from __future__ import annotations

from barque.worker.pods import backoff


def test_restart_delays_double_from_ten_seconds_to_five_minutes() -> None:
    assert [backoff.restart_delay_s(n) for n in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]


def test_a_long_run_forgets_the_streak() -> None:
    assert backoff.next_streak(4, 599.9) == 5
    assert backoff.next_streak(4, 600) == 0


def test_an_endless_streak_makes_no_huge_number() -> None:
    assert backoff.doubled(10**9, 1.0, 30.0) == 30.0


def test_each_failure_of_the_same_kind_waits_longer() -> None:
    first = backoff.again(None, "Why", "because", 100.0, first_s=1, longest_s=3)
    second = backoff.again(first, "Why", "because", 110.0, first_s=1, longest_s=3)
    third = backoff.again(second, "Why", "because", 120.0, first_s=1, longest_s=3)
    assert [f.retry_s for f in (first, second, third)] == [101.0, 112.0, 123.0]
