"""Timetables of recurring schedules: nats-server's cron dialect, and its way of finding the next tick.

tests/integration/schedules/test_timetable_server.py compares these times with the server's own next times.

The server (2.15.1) reads six fields, seconds first, and walks from a second to the next match in local time. A time
that a clock change skips has no tick, and a time that a clock change repeats has two. If the day or the weekday is `*`
or `?`, both must match; otherwise one match is enough.

Three peculiarities of the server are visible:
- Where the clocks skip midnight (Havana, Santiago, Cairo, Beirut), a walk over the days of a month that meets that
  night goes on at 23:00. Until the month ends, that walk misses earlier ticks on later days. And a walk over the hours
  of the day before does not see that a day began, and ticks on a day that the pattern does not have.
- Where the clocks change by half an hour (Lord Howe), a walk over the hours goes on at half past, and may miss a day's
  tick.
- The server rounds the time at which a schedule was written to a second, so the first tick comes at least half a second
  after the writing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Struct

from jetq.errors import DefinitionError

__all__ = ["Cron", "Every", "Timetable", "parse_cron", "parse_every"]

_NICKNAMES = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)}),
    ("weekday", 0, 6, {name: number for number, name in enumerate(_WEEKDAYS)}),
)
_YEARS = 5
"""The server gives up a pattern that has no match within this many years."""

_LONGEST = 9_223_372_036
"""The seconds of the longest interval that the server takes: it counts nanoseconds in 63 bits."""

_MOST_DIGITS = 18
"""The most digits of a number. The server reads numbers of 64 bits."""

_DAY = 86400
_FORTNIGHT = 14 * _DAY
_CHANGES_BACK = 400 * _DAY
_LOOK_BACK = (64, 3700, 90_000, 700_000, 2_700_000, 32_000_000, 160_000_000)
_EPOCH = datetime(1970, 1, 1)


class Every(Struct, frozen=True):
    """A tick every `interval` seconds. The server counts from the tick before, and at first from the writing."""

    interval: float

    @property
    def pattern(self) -> str:
        """The interval as the server reads it."""
        return f"@every {self.interval:.0f}s"

    @property
    def zone(self) -> None:
        """None, because an interval needs no time zone."""
        return

    def next(self, after: float) -> float:
        """Return the tick that follows a tick at `after`."""
        return after + self.interval

    def previous(self, at: float) -> None:
        """Return None: the last tick at `at` or earlier depends on when the ticks before really came."""
        return

    def before(self, at: float) -> float:
        """Return the tick that precedes a tick at `at`."""
        return at - self.interval

    def upcoming(self, after: float, count: int) -> list[float]:
        """Return the next `count` ticks that follow a tick at `after`."""
        return [after + self.interval * (n + 1) for n in range(count)]


class Cron(Struct, frozen=True):
    """Ticks at the whole seconds whose local time in `zone` matches `pattern`. Times are unix seconds."""

    pattern: str
    """Six fields, seconds first."""

    zone: str | None
    """The IANA name of the time zone; None for UTC."""

    seconds: frozenset[int]
    """The seconds of a minute that match, 0 to 59."""

    minutes: frozenset[int]
    """The minutes that match, 0 to 59."""

    hours: frozenset[int]
    """The hours that match, 0 to 23."""

    days: frozenset[int]
    """The days of a month that match, 1 to 31."""

    months: frozenset[int]
    """The months that match, 1 to 12."""

    weekdays: frozenset[int]
    """The days of a week that match, 0 (Sunday) to 6."""

    either_day: bool
    """Whether a day matches by `days` or by `weekdays`, as in cron if both are restricted. Otherwise it needs both."""

    def next(self, after: float) -> float:
        """Return the first tick later than `after`. Raises DefinitionError if there is none within five years."""
        found = self._next(math.floor(after))
        if found is None:
            raise _never(self.pattern)
        return float(found)

    def upcoming(self, after: float, count: int) -> list[float]:
        """Return the next `count` ticks later than `after`."""
        times: list[float] = []
        for _ in range(count):
            after = self.next(after)
            times.append(after)
        return times

    def before(self, at: float) -> float | None:
        """Return the last tick earlier than `at`; None if there is none within five years.

        If `at` is a tick, the returned tick is the tick after which `at` is `next`. So the times that the server misses
        after a clock change are no ticks here either; only a schedule written in between would have these ticks.
        """
        end = math.ceil(at)
        last = coming = None
        for turn in self._turns(end):
            if coming is None or coming < turn:
                last = self._last_before(turn)
                coming = None if last is None else self._next(last)
        if coming is None or coming < end:
            last = self._last_before(end)
        return None if last is None else float(last)

    def previous(self, at: float) -> float | None:
        """Return the last tick at `at` or earlier; None if there is none within five years."""
        return self.before(math.floor(at) + 1)

    def _last_before(self, end: int) -> int | None:
        """Return the last tick before `end`, right unless the server walked over a clock change on the way to it.

        None if there is none within five years.
        """
        for span in _LOOK_BACK:
            if self._comes_before(end - span, end):
                return self._next(_last_of(end - span, end, lambda at: self._comes_before(at, end)))
        return None

    def _comes_before(self, after: int, end: int) -> bool:
        found = self._next(after)
        return found is not None and found < end

    def _turns(self, end: int) -> list[int]:
        """Return each clock change of the 400 days before `end`, and the time one day after each change.

        A walk that starts within that day may meet the change again, because the walk begins at midnight.
        """
        if self.zone is None:
            return []
        zone, turns = ZoneInfo(self.zone), list[int]()
        for start in range(end - _CHANGES_BACK, end, _FORTNIGHT):
            change = _clock_change(start, min(start + _FORTNIGHT, end), zone)
            if change is not None:
                turns += [change, min(change + _DAY, end)]
        return turns

    def _next(self, after: int) -> int | None:
        return _Walk(self, after + 1).first_match()


Timetable = Cron | Every


def _last_of(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the last time from `low` to `high` at which `holds` is True, by bisection.

    `holds` is True at `low` and False at `high`.
    """
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _clock_change(start: int, end: int, zone: tzinfo) -> int | None:
    """Return the first second after `start` with another offset; None if the offset is the same at `end`."""
    offset = _offset(start, zone)
    if _offset(end, zone) == offset:
        return None
    return _last_of(start, end, lambda at: _offset(at, zone) == offset) + 1


def _offset(at: int, zone: tzinfo) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds())


class _Walk:
    """The server's walk to the next match. It advances each field until the field matches; a carry starts over."""

    def __init__(self, cron: Cron, start: int) -> None:
        self._cron = cron
        self._zone: tzinfo = UTC if cron.zone is None else ZoneInfo(cron.zone)
        self._at = start
        self._local = self._to_local(start)
        self._truncated = False
        self._last_year = self._local.year + _YEARS

    def first_match(self) -> int | None:
        while self._local.year <= self._last_year:
            if self._month() and self._day() and self._hour() and self._minute() and self._second():
                return self._at
        return None

    # Each method returns False after a carry: then the fields before must be checked again.

    def _month(self) -> bool:
        while self._local.month not in self._cron.months:
            self._truncate(day=1, hour=0, minute=0, second=0)
            years, month = divmod(self._local.month, 12)
            self._set_local(self._local.year + years, month + 1, self._local.day)
            if self._local.month == 1:
                return False
        return True

    def _day(self) -> bool:
        while not self._day_matches():
            self._truncate(hour=0, minute=0, second=0)
            tomorrow = self._local.replace(tzinfo=None) + timedelta(days=1)
            self._set_local(tomorrow.year, tomorrow.month, tomorrow.day)
            if self._local.day == 1:
                return False
        return True

    def _day_matches(self) -> bool:
        cron, local = self._cron, self._local
        day, weekday = local.day in cron.days, local.isoweekday() % 7 in cron.weekdays
        return day or weekday if cron.either_day else day and weekday

    def _hour(self) -> bool:
        while self._local.hour not in self._cron.hours:
            self._truncate(minute=0, second=0)
            self._advance(3600)
            if self._local.hour == 0:
                return False
        return True

    def _minute(self) -> bool:
        while self._local.minute not in self._cron.minutes:
            if not self._truncated:
                self._truncated = True
                self._advance(-(self._at % 60))
            self._advance(60)
            if self._local.minute == 0:
                return False
        return True

    def _second(self) -> bool:
        while self._local.second not in self._cron.seconds:
            self._truncated = True
            self._advance(1)
            if self._local.second == 0:
                return False
        return True

    def _truncate(self, **fields: int) -> None:
        if not self._truncated:
            self._truncated = True
            local = self._local.replace(**fields)  # type: ignore[arg-type]
            self._set(local)

    def _set_local(self, year: int, month: int, day: int) -> None:
        """Set another date at the same time of day. A day beyond the month's end goes on into the next month."""
        time = self._local
        first = datetime(year, month, 1, time.hour, time.minute, time.second)
        self._set(first + timedelta(days=day - 1))

    def _set(self, local: datetime) -> None:
        self._at = self._to_unix(local.replace(tzinfo=None))
        self._local = self._to_local(self._at)

    def _advance(self, seconds: int) -> None:
        self._at += seconds
        self._local = self._to_local(self._at)

    def _to_local(self, at: int) -> datetime:
        return datetime.fromtimestamp(at, self._zone)

    def _to_unix(self, local: datetime) -> int:
        """Return the unix time of a local time in the way of Go's time.Date.

        That way decides about a time that a clock change skips or repeats. The first offset is the offset at the
        time `local` of UTC. If the first offset is not 0, the offset that counts is the offset at the unix time that
        the first offset gives.
        """
        unix = round((local - _EPOCH).total_seconds())
        offset = _offset(unix, self._zone)
        if offset:
            offset = _offset(unix - offset, self._zone)
        return unix - offset


def parse_cron(text: str, tz: str | None = None) -> Cron:
    """Read five fields (minute hour day month weekday), six with seconds in front, or a name like `@daily`.

    Raises DefinitionError for a field that is wrong, naming that field, for an unknown time zone `tz`, and for a
    pattern that never comes.
    """
    if not isinstance(text, str):
        raise DefinitionError(f"cron takes a text like '0 9 * * MON-FRI', not {type(text).__name__}")
    zone = None if tz is None else _check_zone(tz)
    pattern = _NICKNAMES.get(text.strip().lower(), text.strip())
    if pattern.startswith("@"):
        raise DefinitionError(f"cron {text!r} is no name", hint=f"there are {', '.join(_NICKNAMES)}, and every=seconds")
    fields = pattern.split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise DefinitionError(
            f"cron {text!r} has {len(fields)} field{'' if len(fields) == 1 else 's'}",
            hint="write minute hour day month weekday, or those with seconds in front",
        )
    read = [_read_field(text, field, *bounds) for field, bounds in zip(fields, _FIELDS, strict=True)]
    seconds, minutes, hours, days, months, weekdays = read
    either_day = not (_is_open(fields[3]) or _is_open(fields[5]))
    cron = Cron(" ".join(fields), zone, seconds, minutes, hours, days, months, weekdays, either_day)
    _check_comes(cron, text)
    return cron


def parse_every(seconds: float) -> Every:
    """Return a tick every `seconds`. Raises DefinitionError unless these are whole seconds, from 1 to 292 years."""
    # The server takes fractions too, but rounds each tick before it adds the interval: 1.5 s would tick every 2 s.
    if not 1 <= seconds <= _LONGEST or seconds != round(seconds):
        raise DefinitionError(f"every takes whole seconds, from 1 to {_LONGEST}, not {seconds:g}")
    return Every(float(seconds))


def _check_comes(cron: Cron, text: str) -> None:
    # The five years from this date have each possible date, also the 29th of February.
    if _Walk(cron, round(datetime(2026, 1, 1, tzinfo=UTC).timestamp())).first_match() is None:
        raise _never(text)


def _never(text: str) -> DefinitionError:
    return DefinitionError(f"cron {text!r} never comes: no month has that day, or not within five years")


def _check_zone(tz: str) -> str:
    if not isinstance(tz, str):
        raise DefinitionError(f"tz takes the name of a time zone, not {type(tz).__name__}")
    known = _known_zones()
    if tz in known and tz not in ("localtime", "Local"):
        return tz
    close = get_close_matches(tz, known, n=1)
    raise DefinitionError(
        f"tz {tz!r} is not a time zone",
        hint=f"did you mean {close[0]!r}?" if close else "IANA names, like 'Europe/Berlin'",
    )


@cache
def _known_zones() -> set[str]:
    # Cached: to find the zones reads hundreds of files, and a stored schedule is parsed at each tick.
    return available_timezones()


def _is_open(field: str) -> bool:
    """Return whether a field has a `*` or `?` without a step, or with a step of 1, so that every value matches."""
    spans = (part.partition("/") for part in field.split(","))
    return any(span in ("*", "?") and (not slash or int(step) == 1) for span, slash, step in spans)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= _MOST_DIGITS


def _read_field(text: str, field: str, name: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    values: set[int] = set()
    for part in field.split(","):
        start, end, step = _read_range(text, part, name, low, high, names)
        values.update(range(start, end + 1, step))
    return frozenset(values)


def _read_range(text: str, part: str, name: str, low: int, high: int, names: dict[str, int]) -> tuple[int, int, int]:
    def wrong(why: str) -> DefinitionError:
        sunday = "; Sunday is 0" if name == "weekday" else ""
        return DefinitionError(f"cron {text!r}: {name}: {why}", hint=f"{name}s are {low}-{high}{sunday}")

    def number(word: str) -> int:
        value = names.get(word.lower())
        if value is None and _is_number(word):
            value = int(word)
        if value is None:
            raise wrong(f"{word!r} is no number" + (" or name" if names else ""))
        if not low <= value <= high:
            raise wrong(f"{value} is not within {low}-{high}")
        return value

    span, slash, step = part.partition("/")
    first, hyphen, last = span.partition("-")
    if span in ("*", "?"):
        start, end = low, high
    else:
        start = number(first)
        end = number(last) if hyphen else high if slash else start
    if start > end:
        raise wrong(f"{part!r} begins after its end")
    if not slash:
        return start, end, 1
    if not _is_number(step) or int(step) == 0:
        raise wrong(f"the step {step!r} is no number from 1")
    return start, end, int(step)
