"""How long ago, in the few characters kubectl spends on it (apimachinery's duration.HumanDuration)."""

from __future__ import annotations

import datetime

from barque.api import timestamps

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def age(timestamp: str, now: datetime.datetime) -> str:
    """The time since an object's timestamp: "5s", "3m20s", "4h", "2d"; "<unknown>" where there is none."""
    moment = timestamps.parse(timestamp)
    return "<unknown>" if moment is None else human_duration((now - moment).total_seconds())


def human_duration(seconds: float) -> str:
    """A duration in its largest unit, with the next smaller one while that matters.

    A clock that is up to two seconds behind shows "0s"; one further behind "<invalid>".
    """
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole == -1 else "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two(seconds: int, unit: int, sign: str, smaller: int, smaller_sign: str) -> str:
    rest = seconds % unit // smaller
    return f"{seconds // unit}{sign}{f'{rest}{smaller_sign}' if rest else ''}"
