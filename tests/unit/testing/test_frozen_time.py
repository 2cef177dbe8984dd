"""Tests of users that stop the clock."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import freezegun
import msgspec
import pytest

from jetq import ArgumentError, Jetq, Retry, current_job, task
from jetq.testing import in_memory


@pytest.mark.parametrize("run_in", ["loop", "thread"])
def test_jobs_run_while_the_clock_stands_still(run_in: str) -> None:
    seen: list[tuple[int, datetime]] = []

    def sync(x: int) -> int:
        seen.append((current_job().attempt, datetime.now(UTC)))
        if current_job().attempt == 1:
            raise Retry(60)
        return x + 1

    async def on_loop(x: int) -> int:
        return sync(x)

    made = task(name=f"frozen.{run_in}")(on_loop if run_in == "loop" else sync)
    frozen = datetime(2024, 2, 29, 12, tzinfo=UTC)
    with freezegun.freeze_time(frozen), in_memory(Jetq()) as tester:
        job = made.delay(1)
        assert tester.run_until_empty().retried == 1
        tester.advance(timedelta(minutes=1))
        assert tester.run_until_empty().succeeded == 1
        assert job.result(timeout=1) == 2
    assert seen == [(1, frozen), (2, frozen)]


TASKS = """
from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, NamedTuple, TypedDict

import msgspec

from jetq import Jetq
from tests.unit.testing.test_frozen_time import Before

app = Jetq()


@dataclass
class Data:
    on: date
    at: datetime | None


class Record(msgspec.Struct):
    on: date
    at: datetime | None


class Named(NamedTuple):
    on: date
    at: datetime | None


class Typed(TypedDict):
    on: date
    at: datetime | None


@app.task(name="plain")
def plain(on: date, at: datetime) -> tuple[date, datetime]:
    return on, at


@app.task(name="within")
def within(
    days: dict[date, int],
    times: list[datetime],
    one: datetime | int | None,
    zoned: Annotated[datetime, msgspec.Meta(tz=True)],
) -> list[object]:
    assert (type(one), type(zoned)) == (type(times[0]), type(times[0]))
    return [repr(days), repr(times), repr(one)]


@app.task(name="fields")
def fields(data: Data, record: Record, named: Named, typed: Typed) -> tuple[Data, Record, Named, Typed]:
    return data, record, named, typed


@app.task(name="earlier")
def earlier(before: Before) -> Before:
    return before
"""

AT = datetime(2024, 2, 29, 12, tzinfo=timezone(timedelta(hours=1)))
ON = date(2024, 2, 29)


Before: Any = msgspec.defstruct("Before", [("on", date), ("at", list[datetime])])
"""With the real classes in it, of a module that was imported while the time was not frozen."""


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of tasks that was imported while the time was frozen."""
    (tmp_path / "frozen_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    with freezegun.freeze_time("2024-02-29"):
        made = importlib.import_module("frozen_tasks")
        made.app.tasks  # prepares them  # noqa: B018
    try:
        yield made
    finally:
        del sys.modules["frozen_tasks"]


@pytest.mark.parametrize("still", [True, False])
def test_a_task_that_was_defined_in_frozen_time_takes_times(still: bool, frozen: Any) -> None:
    with in_memory(frozen.app) as tester:
        if still:
            with freezegun.freeze_time("2024-03-01"):
                _take_times(frozen, tester, *_now())
        _take_times(frozen, tester, ON, AT)


def _now() -> tuple[date, datetime]:
    """As the code under test has them: of the classes that stand for date and datetime."""
    now = datetime.now(UTC)
    assert type(now) is not type(AT)
    return now.date(), now


def _take_times(frozen: Any, tester: Any, on: date, at: datetime) -> None:
    day, moment = date.fromisoformat(on.isoformat()), datetime.fromisoformat(at.isoformat())
    assert tester.perform(frozen.plain, on, at).value == (day, moment)
    listed = tester.perform(frozen.within, {on: 1}, [at], at, at)
    assert listed.outcome == "succeeded"
    assert "Fake" not in str(listed.value)
    given = (frozen.Data(on, at), frozen.Record(on, at), frozen.Named(on, at), {"on": on, "at": None})
    assert tester.perform(frozen.fields, *given).value == given
    assert tester.perform(frozen.earlier, Before(on, [at])).value == Before(day, [moment])


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("plain", (AT, AT), "on: expected date, got datetime"),
        ("plain", ("2024-02-29", AT), "on: expected date, got str"),
        ("plain", (ON, ON), "at: expected datetime, got date"),
        ("plain", (ON, datetime(2024, 2, 29)), "at: has no time zone"),
        ("earlier", (Before(ON, [datetime(2024, 2, 29)]),), "has no time zone"),
    ],
)
def test_it_refuses_what_it_would_have_refused(name: str, arguments: tuple[Any, ...], said: str, frozen: Any) -> None:
    with pytest.raises(ArgumentError, match=said):
        getattr(frozen, name).bind(*arguments)
