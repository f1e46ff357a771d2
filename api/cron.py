"""Cron schedules: five fields or a word such as "@daily", and the next moment that one names.

In: the text of a CronJob's `schedule` and a time zone. Out: `Schedule`, which answers `next_after`. Pure: now is an
argument. Source: the parser that Kubernetes uses (robfig/cron v3, ParseStandard), whose words the errors are: where
both day fields are restricted, either of them suffices; steps, ranges, lists and the names of months and weekdays are
known; Sunday is 0 alone.

A moment is a whole minute whose local time the fields name. So a time that the clocks jump over in spring does not
happen that day, and one that they show twice in autumn happens twice.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import NamedTuple

from barque.api import durations

_DAY = datetime.timedelta(days=1)
# The 29th of February comes back within eight years; what has not come by then never does.
_HORIZON_YEARS = 8
# An absurd text is refused before it costs anything.
_MAX_TEXT = 1024


class _Bounds(NamedTuple):
    low: int
    high: int
    names: dict[str, int]


def _numbered(names: str, first: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


_MINUTES = _Bounds(0, 59, {})
_HOURS = _Bounds(0, 23, {})
_DAYS = _Bounds(1, 31, {})
_MONTHS = _Bounds(1, 12, _numbered("jan feb mar apr may jun jul aug sep oct nov dec", 1))
_WEEKDAYS = _Bounds(0, 6, _numbered("sun mon tue wed thu fri sat", 0))
_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class _Field(NamedTuple):
    values: frozenset[int]
    any: bool  # written as "*" or "?", which restricts nothing


@dataclass(frozen=True)
class Schedule:
    """When something is to happen: at the minutes that five fields name, or every so often."""

    minutes: _Field
    hours: _Field
    days: _Field
    months: _Field
    weekdays: _Field

    def next_after(self, moment: datetime.datetime, zone: datetime.tzinfo) -> datetime.datetime | None:
        """The first named minute after `moment`, in UTC; None where there is none in the next years."""
        # A day earlier, since clocks set back at midnight show the end of the day before once more.
        day = moment.astimezone(zone).date() - _DAY
        last_year = min(day.year + _HORIZON_YEARS, datetime.MAXYEAR - 1)
        while day.year <= last_year:
            if day.month not in self.months.values:
                day = _first_of_next_month(day)
                continue
            found = self._first_on(day, moment, zone)
            if found is not None:
                # Where this day's end comes twice, the next day may have begun in between.
                beside = None if _is_steady(day, zone) else self._first_on(day + _DAY, moment, zone)
                return found if beside is None else min(found, beside)
            day += _DAY
        return None

    def names_day(self, day: datetime.date) -> bool:
        """Whether something happens on this day."""
        by_date = day.day in self.days.values
        by_weekday = day.isoweekday() % 7 in self.weekdays.values
        either = not (self.days.any or self.weekdays.any)
        return day.month in self.months.values and ((by_date or by_weekday) if either else (by_date and by_weekday))

    def _first_on(
        self, day: datetime.date, moment: datetime.datetime, zone: datetime.tzinfo
    ) -> datetime.datetime | None:
        """The earliest named minute of the day after `moment`.

        Only where the clocks change on that day may a later local time come before an earlier one.
        """
        if not self.names_day(day):
            return None
        steady = _is_steady(day, zone)
        earliest: datetime.datetime | None = None
        for hour in sorted(self.hours.values):
            for minute in sorted(self.minutes.values):
                for found in _moments(datetime.datetime.combine(day, datetime.time(hour, minute)), zone):
                    if found > moment and (earliest is None or found < earliest):
                        earliest = found
                if steady and earliest is not None:
                    return earliest
        return earliest


@dataclass(frozen=True)
class Interval:
    """`@every 1h30m`: again and again, counted from the last time."""

    seconds: int

    def next_after(self, moment: datetime.datetime, _zone: datetime.tzinfo) -> datetime.datetime | None:
        """The moment one interval later, on a whole second, in UTC."""
        start = moment.astimezone(datetime.UTC).replace(microsecond=0)
        try:
            return start + datetime.timedelta(seconds=self.seconds)
        except OverflowError:
            return None


def parse(text: str) -> Schedule | Interval:
    """Read a schedule. Raises ValueError in the words a Kubernetes user knows."""
    spec = _without_zone(text[:_MAX_TEXT])
    if not spec:
        raise ValueError("empty spec string")
    if spec.startswith("@every "):
        return _interval(spec)
    if spec.startswith("@"):
        if spec not in _WORDS:
            raise ValueError(f"unrecognized descriptor: {spec}")
        spec = _WORDS[spec]
    fields = spec.split()
    if len(fields) != 5 or len(text) > _MAX_TEXT:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    bounds = (_MINUTES, _HOURS, _DAYS, _MONTHS, _WEEKDAYS)
    return Schedule(*(_field(field, bound) for field, bound in zip(fields, bounds, strict=True)))


def _without_zone(text: str) -> str:
    """The schedule behind a zone written into it, which validation refuses in new CronJobs."""
    if text.startswith(("TZ=", "CRON_TZ=")):
        return text.partition(" ")[2].strip()
    return text.strip()


def _interval(spec: str) -> Interval:
    try:
        nanoseconds = durations.parse(spec.removeprefix("@every "))
    except ValueError as error:
        raise ValueError(f"failed to parse duration {spec}: {error}") from None
    return Interval(max(1, nanoseconds // durations.NANOSECONDS_PER_SECOND))


def _field(text: str, bounds: _Bounds) -> _Field:
    values: set[int] = set()
    anything = False
    for part in text.split(","):
        if not part:
            continue
        found, star = _range(part, bounds)
        values |= found
        anything = anything or star
    return _Field(frozenset(values), anything)


def _range(text: str, bounds: _Bounds) -> tuple[set[int], bool]:
    """The values of `*`, `5`, `1-5`, each also with a `/step`; and whether it restricts nothing."""
    span, *steps = text.split("/")
    first, *rest = span.split("-")
    anything = first in ("*", "?")
    if len(rest) > 1 and not anything:
        raise ValueError(f"too many hyphens: {text}")
    if anything:
        start, end = bounds.low, bounds.high
    else:
        start = _number(first, bounds)
        end = _number(rest[0], bounds) if rest else bounds.high if steps else start
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {text}")
    step = _integer(steps[0]) if steps else 1
    if start < bounds.low:
        raise ValueError(f"beginning of range ({start}) below minimum ({bounds.low}): {text}")
    if end > bounds.high:
        raise ValueError(f"end of range ({end}) above maximum ({bounds.high}): {text}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")
    return set(range(start, end + 1, step)), anything and step == 1


def _number(text: str, bounds: _Bounds) -> int:
    named = bounds.names.get(text.lower())
    return named if named is not None else _integer(text)


def _integer(text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(text)
    if number < 0:
        raise ValueError(f"negative number ({number}) not allowed: {text}")
    return number


def _first_of_next_month(day: datetime.date) -> datetime.date:
    return datetime.date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _is_steady(day: datetime.date, zone: datetime.tzinfo) -> bool:
    """Whether no clock is set on this day."""
    return _offset(day, zone) == _offset(day + _DAY, zone)


def _offset(day: datetime.date, zone: datetime.tzinfo) -> datetime.timedelta | None:
    return datetime.datetime.combine(day, datetime.time(), zone).utcoffset()


def _moments(local: datetime.datetime, zone: datetime.tzinfo) -> list[datetime.datetime]:
    """When the clocks of the zone show this time, in UTC: once, or never or twice where they change."""
    found = []
    for fold in (0, 1):
        shown = local.replace(tzinfo=zone, fold=fold)
        moment = shown.astimezone(datetime.UTC)
        back = moment.astimezone(zone)
        if back.replace(tzinfo=None, fold=0) == local and moment not in found:
            found.append(moment)
    return found
