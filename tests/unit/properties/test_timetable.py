"""Cron against an oracle that looks at every second, and the laws of next and previous."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from hypothesis import assume, given
from hypothesis import strategies as st

from jetq.errors import DefinitionError
from jetq.model.definitions.timetable import Cron, parse_cron, parse_every
from tests.unit.properties.examples import examples

BOUNDS = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
NAMES = {"month": dict(zip(MONTHS, range(1, 13), strict=True)), "weekday": dict(zip(WEEKDAYS, range(7), strict=True))}

STARTS = st.integers(
    int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2030, 1, 1, tzinfo=UTC).timestamp())
)
ZONES = st.sampled_from([None, "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "Asia/Tokyo"])
"""None of those where midnight or half an hour is skipped: there the server misses ticks, and jetq says so with it."""


@st.composite
def field(draw: st.DrawFn, name: str) -> str:
    """One field of a pattern, of all that may be written."""
    low, high = BOUNDS[name]

    def part() -> str:
        first = draw(st.integers(low, high))
        last = draw(st.integers(first, high))
        step = draw(st.integers(1, high))
        word = draw(st.sampled_from([str(first), *(n for n, value in NAMES.get(name, {}).items() if value == first)]))
        return draw(st.sampled_from([word, f"{word}-{last}", f"{word}-{last}/{step}", f"*/{step}", f"{word}/{step}"]))

    return draw(st.sampled_from(["*", ",".join(part() for _ in range(draw(st.integers(1, 3))))]))


PATTERNS = st.tuples(*(field(name) for name in BOUNDS))
DENSE = st.tuples(*(field(name) for name in ("second", "minute", "hour")), *(st.just("*") for _ in range(3)))


@cache
def allowed(text: str, name: str) -> frozenset[int]:
    """What a field lets through, read anew here."""
    low, high = BOUNDS[name]
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        start = low if first == "*" else NAMES.get(name, {}).get(first) or int(NAMES.get(name, {}).get(first, first))
        end = high if first == "*" or (step and not last) else int(last or start)
        values.update(range(start, end + 1, int(step or 1)))
    return frozenset(values)


def ticks(fields: tuple[str, ...], local: datetime) -> bool:
    """Whether a schedule of these fields ticks at this second."""
    if local.second not in allowed(fields[0], "second") or local.minute not in allowed(fields[1], "minute"):
        return False
    if local.hour not in allowed(fields[2], "hour") or local.month not in allowed(fields[4], "month"):
        return False
    day, weekday = local.day in allowed(fields[3], "day"), local.isoweekday() % 7 in allowed(fields[5], "weekday")
    stars = [part for place in (3, 5) for part in fields[place].split(",") if part in ("*", "*/1")]
    return day and weekday if stars else day or weekday


def parsed(fields: tuple[str, ...], zone: str | None = None) -> Cron:
    try:
        return parse_cron(" ".join(fields), zone)
    except DefinitionError as error:
        assert "never comes" in error.message
        assume(False)
        raise


@examples(25)
@given(PATTERNS, STARTS, ZONES)
def test_what_ticks_and_what_does_not(fields: tuple[str, ...], start: int, zone: str | None) -> None:
    cron, place = parsed(fields, zone), UTC if zone is None else ZoneInfo(zone)
    found = cron.next(start)
    assert found > start
    assert ticks(fields, datetime.fromtimestamp(found, place))
    for at in range(start + 1, min(int(found), start + 1500)):  # no tick between
        assert not ticks(fields, datetime.fromtimestamp(at, place)), at
    for at in range(max(start + 1, int(found) - 1500), int(found)):
        assert not ticks(fields, datetime.fromtimestamp(at, place)), at


@examples(12)
@given(DENSE, STARTS)
def test_an_hour_second_by_second(fields: tuple[str, ...], start: int) -> None:
    cron, end = parsed(fields), start + 3600
    expected = [at for at in range(start + 1, end) if ticks(fields, datetime(1970, 1, 1) + timedelta(seconds=at))]
    found, at = list[float](), float(start)
    while len(found) <= len(expected) and (at := cron.next(at)) < end:
        found.append(at)
    assert found == expected


@examples(40)
@given(PATTERNS, STARTS, ZONES)
def test_next_and_before_are_each_others_inverse(fields: tuple[str, ...], start: int, zone: str | None) -> None:
    cron = parsed(fields, zone)
    first = cron.next(start)
    second = cron.next(first)
    assert start < first < second
    assert cron.before(second) == first
    assert cron.previous(first) == first == cron.previous(second - 1)
    assert cron.next(first - 1) == first
    before = cron.before(first)
    assert before is None or (before <= start and cron.next(before) == first)


@examples(40)
@given(PATTERNS, STARTS, st.floats(0.001, 0.999))
def test_parts_of_a_second_change_nothing(fields: tuple[str, ...], start: int, part: float) -> None:
    cron = parsed(fields)
    assert cron.next(start + part) == cron.next(start)
    assert cron.previous(start + part) == cron.previous(start)


@examples(60)
@given(st.integers(1, 10**9), st.floats(0, 4e9))
def test_an_interval_goes_forth_and_back(seconds: int, at: float) -> None:
    every = parse_every(seconds)
    assert every.next(at) > at
    assert abs(every.before(every.next(at)) - at) < 1e-5
    assert every.upcoming(at, 3) == [at + seconds, at + 2 * seconds, at + 3 * seconds]


@examples(200)
@given(st.text(st.sampled_from("0123456789*/-,?LW#@ abJAN"), max_size=30))
def test_any_text_is_a_pattern_or_an_error_that_says_why(text: str) -> None:
    try:
        cron = parse_cron(text)
    except DefinitionError as error:
        assert text[:10] in str(error) or repr(text)[1:10] in str(error)
    else:
        assert parse_cron(cron.pattern) == cron
