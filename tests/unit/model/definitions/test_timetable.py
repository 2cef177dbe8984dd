"""Cron and intervals: reading them, and when they tick."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetq.errors import DefinitionError
from jetq.model.definitions.timetable import Cron, parse_cron, parse_every

BERLIN = ZoneInfo("Europe/Berlin")


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def shown(times: list[float], zone: str | None = None) -> list[str]:
    info = UTC if zone is None else ZoneInfo(zone)
    return [datetime.fromtimestamp(at, info).isoformat() for at in times]


@pytest.mark.parametrize(
    ("text", "after", "next"),
    [
        ("0 9 * * MON-FRI", "2026-11-27T09:00:00Z", "2026-11-30T09:00:00Z"),
        ("*/20 * * * * *", "2026-11-27T09:00:19.5Z", "2026-11-27T09:00:20Z"),
        ("5/20 * * * *", "2026-11-27T09:46:00Z", "2026-11-27T10:05:00Z"),
        ("@daily", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@hourly", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
        ("@weekly", "2026-11-23T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("@monthly", "2026-11-23T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("@yearly", "2026-11-23T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("0 0 29 feb *", "2026-11-23T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 31 * *", "2026-11-01T00:00:00Z", "2026-12-31T00:00:00Z"),
        ("0 0 13 * FRI", "2026-11-01T00:00:00Z", "2026-11-06T00:00:00Z"),  # either day
        ("0 0 13 * *", "2026-11-14T00:00:00Z", "2026-12-13T00:00:00Z"),
        ("0 0 ? * 1", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
        ("0 0 */01 * 1", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
        ("0 0 */2 * 1", "2026-11-23T00:00:00Z", "2026-11-25T00:00:00Z"),  # either day: this is no star
    ],
)
def test_the_next_tick(text: str, after: str, next: str) -> None:
    assert parse_cron(text).next(unix(after)) == unix(next)


def test_a_time_that_a_clock_change_skips_is_skipped_and_one_that_it_repeats_ticks_twice() -> None:
    daily = parse_cron("30 2 * * *", "Europe/Berlin")
    spring = daily.upcoming(unix("2024-03-30T00:00:00Z"), 2)
    assert shown(spring, "Europe/Berlin") == ["2024-03-30T02:30:00+01:00", "2024-04-01T02:30:00+02:00"]
    autumn = daily.upcoming(unix("2024-10-26T12:00:00Z"), 3)
    assert shown(autumn, "Europe/Berlin") == [
        "2024-10-27T02:30:00+02:00",
        "2024-10-27T02:30:00+01:00",
        "2024-10-28T02:30:00+01:00",
    ]
    assert parse_cron("0 9 * * *", "Europe/Berlin").upcoming(unix("2024-03-30T00:00:00Z"), 2) == [
        unix("2024-03-30T08:00:00Z"),
        unix("2024-03-31T07:00:00Z"),
    ]


def test_the_tick_before() -> None:
    daily = parse_cron("0 9 * * *", "Europe/Berlin")
    nine = unix("2026-11-23T08:00:00Z")
    assert daily.before(nine) == nine - 86400
    assert daily.previous(nine) == nine
    assert daily.previous(nine + 0.5) == nine
    assert daily.previous(nine - 0.5) == nine - 86400
    assert parse_cron("0 0 29 2 *").previous(unix("2027-01-01T00:00:00Z")) == unix("2024-02-29T00:00:00Z")


# Of years gone by: governments change the clocks of those to come, and zone data of two machines differ in them.
@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        # No 25th of March: the walk over its days met the midnight of the 10th, which the clocks skip.
        ("0 5 25 * *", "America/Havana", "2024-02-20", ["2024-02-25T05:00:00-05:00", "2024-04-25T05:00:00-04:00"]),
        # No Monday the 9th.
        (
            "0 5 * * MON-FRI",
            "America/Santiago",
            "2024-09-06",
            ["2024-09-06T05:00:00-04:00", "2024-09-10T05:00:00-03:00"],
        ),
        # A Sunday, and no Saturday the 14th.
        ("0 5 * * SAT", "America/Santiago", "2024-09-08", ["2024-09-08T05:00:00-03:00", "2024-09-21T05:00:00-03:00"]),
        # No 6th.
        ("0 9 * * *", "Australia/Lord_Howe", "2024-10-05", ["2024-10-05T09:00:00+10:30", "2024-10-07T09:00:00+11:00"]),
    ],
)
def test_what_the_server_misses_where_midnight_or_half_an_hour_is_skipped(
    text: str, zone: str, after: str, expected: list[str]
) -> None:
    cron = parse_cron(text, zone)
    assert shown(cron.upcoming(unix(f"{after}T03:59:59Z") - 6 * 3600, 2), zone) == expected


@pytest.mark.parametrize("zone", ["America/Santiago", "Australia/Lord_Howe", "Atlantic/Azores", "Europe/Berlin"])
@pytest.mark.parametrize("text", ["0 9 * * *", "0 5 * * MON-FRI", "0 5 * * SAT", "0 */7 * * SUN", "0 5 25 * *"])
def test_the_tick_before_a_tick_is_the_one_that_has_it_as_next(text: str, zone: str) -> None:
    cron = parse_cron(text, zone)
    for start in ("2024-03-26T12:00:00Z", "2024-08-27T12:00:00Z"):
        for first, second in pairwise(cron.upcoming(unix(start), 42 if text == "0 9 * * *" else 8)):
            assert cron.before(second) == first


FIELDS = st.tuples(
    st.sampled_from(["0", "*/20", "7,30-32", "*"]),
    st.sampled_from(["0", "*/15", "59", "*", "5/25"]),
    st.sampled_from(["0", "2", "*/6", "*", "1-3", "23"]),
    st.sampled_from(["*", "1", "28-31", "?", "*/10"]),
    st.sampled_from(["*", "mar,oct", "2", "*/5"]),
    st.sampled_from(["*", "sun", "mon-fri", "?", "0,6"]),
)


def _oracle(cron: Cron, start: int, end: int, zone: ZoneInfo) -> list[int]:
    """Every second looked at."""
    found = []
    for at in range(start, end):
        local = datetime.fromtimestamp(at, zone)
        day, weekday = local.day in cron.days, local.isoweekday() % 7 in cron.weekdays
        if (
            local.second in cron.seconds
            and local.minute in cron.minutes
            and local.hour in cron.hours
            and local.month in cron.months
            and ((day or weekday) if cron.either_day else (day and weekday))
        ):
            found.append(at)
    return found


@settings(max_examples=30, deadline=None)
@given(FIELDS, st.sampled_from(["2027-03-28T00:58:00Z", "2026-10-25T00:10:00Z", "2026-12-31T22:40:00Z"]))
def test_around_clock_changes_and_new_year_every_second_is_judged_right(fields: tuple[str, ...], start: str) -> None:
    cron = parse_cron(" ".join(fields), "Europe/Berlin")
    begin = int(unix(start))
    expected = _oracle(cron, begin + 1, begin + 4800, BERLIN)
    got, at = [], float(begin)
    while (at := cron.next(at)) < begin + 4800:
        got.append(int(at))
    assert got == expected
    for first, second in pairwise(got[-4:]):
        assert cron.before(second) == first


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0 25 * * *", "cron '0 25 * * *': hour: 25 is not within 0-23"),
        ("61 0 0 * * *", "second: 61 is not within 0-59"),
        ("0 0 0 * *", "day: 0 is not within 1-31"),
        ("0 9 * * 7", "weekday: 7 is not within 0-6"),
        ("0 9 * * 7", "Sunday is 0"),
        ("0 9 * foo *", "month: 'foo' is no number or name"),
        ("x 9 * * *", "minute: 'x' is no number"),
        ("5-2 * * * *", "minute: '5-2' begins after its end"),
        ("*/0 * * * *", "minute: the step '0' is no number from 1"),
        ("*/99999999999999999999 * * * *", "minute: the step '99999999999999999999' is no number from 1"),
        ("1" * 5000 + " * * * *", "is no number"),
        ("1,,2 * * * *", "minute: '' is no number"),
        ("0 9 * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("0 0 30 2 *", "never comes"),
        ("@noon", "'@noon' is no name"),
        (5, "cron takes a text"),
    ],
)
def test_what_cannot_be_is_refused_naming_the_field(text: str, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_cron(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("zone", ["Europe/Berln", "+01:00", "", "localtime", 3])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(DefinitionError, match="tz"):
        parse_cron("@daily", zone)


def test_an_interval() -> None:
    every = parse_every(90)
    assert (every.pattern, every.zone) == ("@every 90s", None)
    assert every.upcoming(1000.0, 2) == [1090.0, 1180.0]
    assert every.before(every.next(1000.0)) == 1000.0
    for seconds in (0, 0.5, 1.5, 9_223_372_037, float("inf"), float("nan")):
        with pytest.raises(DefinitionError, match="whole seconds"):
            parse_every(seconds)
