"""One attempt of one job under test: its outcome, by the real encoding, middleware and retry rules."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from jetq import ArgumentError, Jetq, Reject, Retry, Snooze, current_job
from jetq.testing import AppTester, in_memory


class World:
    """An app with tasks of every ending."""

    def __init__(self) -> None:
        self.seen: list[str] = []

        async def looks(job: Any, call_next: Any) -> Any:
            self.seen.append(job.task)
            return await call_next()

        self.app = Jetq(middleware=[looks])

        @self.app.task(name="add")
        def add(x: int, at: date) -> tuple[int, date]:
            return x + 1, at

        @self.app.task(name="silent")
        async def silent(how: str = "") -> None:
            assert current_job().attempt == 1
            match how:
                case "retry":
                    raise Retry(30)
                case "fails":
                    raise ValueError("no such order")
                case "snooze":
                    raise Snooze(60)
                case "reject":
                    raise Reject("never")
                case "makes":
                    await add.adelay(1, date(2024, 2, 29))
                    await silent.options(delay=60).adelay()

        self.add, self.silent = add, silent


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def jobs(world: World) -> Iterator[AppTester]:
    with in_memory(world.app) as tester:
        yield tester


def test_what_the_task_returned_comes_as_its_caller_gets_it(world: World, jobs: AppTester) -> None:
    performed = jobs.perform(world.add, 1, date(2024, 2, 29))
    assert (performed.outcome, performed.value) == ("succeeded", (2, date(2024, 2, 29)))
    assert (performed.after, performed.error, performed.letter, performed.enqueued) == (None, None, None, ())
    assert world.seen == ["add"]
    assert jobs.perform(world.silent).value is None


@pytest.mark.parametrize(
    ("how", "outcome", "after"), [("retry", "retrying", 30), ("snooze", "snoozed", 60), ("reject", "dead", None)]
)
def test_each_ending_is_told(how: str, outcome: str, after: float | None, world: World, jobs: AppTester) -> None:
    performed = jobs.perform(world.silent, how)
    assert performed.outcome == outcome
    assert performed.after == (None if after is None else pytest.approx(after, abs=1))
    assert (performed.letter is not None) == (outcome == "dead")
    assert performed.value is None


def test_an_error_is_told_and_the_wait_is_the_policys(world: World, jobs: AppTester) -> None:
    performed = jobs.perform(world.silent, how="fails")
    assert performed.outcome == "retrying"
    assert performed.error is not None and performed.error.message == "no such order"
    assert performed.after is not None and 0 < performed.after <= 3
    last = jobs.perform(world.silent.options(max_attempts=1), "fails")
    assert (last.outcome, last.letter is not None) == ("dead", True)


def test_what_it_stores_is_told_and_does_not_run(world: World, jobs: AppTester) -> None:
    performed = jobs.perform(world.silent, "makes")
    assert [(each.task, each.state) for each in performed.enqueued] == [("add", "queued"), ("silent", "scheduled")]
    assert world.seen == ["silent"]


def test_nothing_else_runs_and_nothing_is_left(world: World, jobs: AppTester) -> None:
    world.silent.delay()
    jobs.perform(world.silent, "makes")
    assert world.seen == ["silent"]
    assert len(jobs.enqueued()) == 1
    assert jobs.run_until_empty().succeeded == 1


def test_a_job_for_later_runs_at_its_time(world: World, jobs: AppTester) -> None:
    assert jobs.perform(world.silent.options(delay=3600, expires=60)).outcome == "succeeded"


def test_arguments_are_checked_as_ever(world: World, jobs: AppTester) -> None:
    with pytest.raises(ArgumentError, match="x: expected int, got str"):
        jobs.perform(world.add, "one", date(2024, 2, 29))  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_from_async_code(world: World, jobs: AppTester) -> None:
    assert (await jobs.aperform(world.add, 1, date(2024, 2, 29))).value == (2, date(2024, 2, 29))


def test_what_cannot_be_stored_is_told_with_the_way_to_keep_none(world: World, jobs: AppTester) -> None:
    def charge():  # type: ignore[no-untyped-def]
        return object()

    kept = world.app.task(name="charge")(charge)
    performed = jobs.perform(kept)
    assert performed.letter is not None
    assert performed.letter.failure.message.endswith("@task(result_ttl=None) keeps none")
    world.app.task(name="charge-unkept", result_ttl=None)(charge).delay()
    assert jobs.run_until_empty().succeeded == 1
