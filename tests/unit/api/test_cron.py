"""Cron schedules: what they may say, and when they come round, against a walk over every minute."""

from __future__ import annotations

import datetime
import re
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barque.api import cron

UTC = datetime.UTC
NEW_YEAR = datetime.datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = datetime.timedelta(minutes=1)
# Clocks set at two, at midnight, by half an hour; a day left out; and a zone that never changes.
ZONES = ("America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo", "Asia/Kolkata")


def after(schedule: str, moment: datetime.datetime = NEW_YEAR, zone: datetime.tzinfo = UTC) -> str:
    found = cron.parse(schedule).next_after(moment, zone)
    return "never" if found is None else f"{found:%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * *", "2026-01-01 00:01:00"),
        ("*/15 * * * *", "2026-01-01 00:15:00"),
        ("30 4 1,15 * *", "2026-01-01 04:30:00"),
        ("0 9 * * MON-FRI", "2026-01-01 09:00:00"),
        ("0 0 * * sun", "2026-01-04 00:00:00"),
        ("50/5 * * * *", "2026-01-01 00:50:00"),
        ("0 0 ? feb-MAR *", "2026-02-01 00:00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 31 2 *", "never"),
        ("@hourly", "2026-01-01 01:00:00"),
        ("@yearly", "2027-01-01 00:00:00"),
        ("@weekly", "2026-01-04 00:00:00"),
        ("@every 90m", "2026-01-01 01:30:00"),
        ("@every 1ms", "2026-01-01 00:00:01"),
    ],
)
def test_when_a_schedule_comes_round(schedule: str, expected: str) -> None:
    assert after(schedule) == expected


def test_either_day_field_suffices_where_both_are_restricted() -> None:
    assert after("0 0 13 * 5") == "2026-01-02 00:00:00"
    assert after("0 0 13 * *") == "2026-01-13 00:00:00"
    assert after("0 0 * * 5") == "2026-01-02 00:00:00"
    assert after("0 0 */2 * 5") == "2026-01-02 00:00:00"  # a step restricts


def test_a_time_that_the_clocks_jump_over_waits_for_the_next_day() -> None:
    evening_before = datetime.datetime(2026, 3, 7, 20, tzinfo=UTC)
    assert after("30 2 * * *", evening_before, zoneinfo.ZoneInfo("America/New_York")) == "2026-03-09 06:30:00"


def test_a_time_that_the_clocks_show_twice_comes_twice() -> None:
    zone, moment = zoneinfo.ZoneInfo("America/New_York"), datetime.datetime(2026, 11, 1, tzinfo=UTC)
    assert after("30 1 * * *", moment, zone) == "2026-11-01 05:30:00"
    assert after("30 1 * * *", datetime.datetime(2026, 11, 1, 5, 30, tzinfo=UTC), zone) == "2026-11-01 06:30:00"


@pytest.mark.parametrize(
    ("schedule", "complaint"),
    [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("@never", "unrecognized descriptor: @never"),
        ("@every day", 'failed to parse duration @every day: time: invalid duration "day"'),
    ],
)
def test_what_is_no_schedule_is_refused_in_known_words(schedule: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(complaint)):
        cron.parse(schedule)


@given(st.text(max_size=40) | st.text("*/-,0123456789 @TZ=?", max_size=30))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        schedule = cron.parse(text)
    except ValueError:
        return
    following = schedule.next_after(NEW_YEAR, UTC)
    assert following is None or following > NEW_YEAR


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, frozenset[int] | None]:
    """A field and the values it names; None for all of them."""
    if draw(st.booleans()):
        return "*", None
    values = draw(st.frozensets(st.integers(low, high), min_size=1, max_size=3))
    return ",".join(map(str, values)), values


@settings(max_examples=60)
@given(
    minute=fields(0, 59),
    hour=fields(0, 23),
    day=fields(1, 31),
    weekday=fields(0, 6),
    zone=st.sampled_from(ZONES).map(zoneinfo.ZoneInfo),
    moment=st.sampled_from(
        [datetime.datetime(2010, 3, 13), datetime.datetime(2010, 11, 6), datetime.datetime(2011, 12, 29)]
    ),
    lead=st.integers(0, 3 * 24 * 60),
)
def test_the_next_minute_is_the_first_one_that_the_fields_name(
    minute: tuple[str, frozenset[int] | None],
    hour: tuple[str, frozenset[int] | None],
    day: tuple[str, frozenset[int] | None],
    weekday: tuple[str, frozenset[int] | None],
    zone: zoneinfo.ZoneInfo,
    moment: datetime.datetime,
    lead: int,
) -> None:
    """Against looking at the clock every minute for a few days."""
    start = moment.replace(tzinfo=UTC) + lead * MINUTE

    def named(local: datetime.datetime) -> bool:
        by_date = day[1] is None or local.day in day[1]
        by_weekday = weekday[1] is None or local.isoweekday() % 7 in weekday[1]
        either = day[1] is not None and weekday[1] is not None
        return (
            (minute[1] is None or local.minute in minute[1])
            and (hour[1] is None or local.hour in hour[1])
            and ((by_date or by_weekday) if either else (by_date and by_weekday))
        )

    walked = (start + step * MINUTE for step in range(1, 3 * 24 * 60))
    expected = next((at for at in walked if named(at.astimezone(zone))), None)
    found = cron.parse(f"{minute[0]} {hour[0]} {day[0]} * {weekday[0]}").next_after(start, zone)
    if expected is None:
        assert found is None or found >= start + 3 * 24 * 60 * MINUTE
    else:
        assert found == expected
