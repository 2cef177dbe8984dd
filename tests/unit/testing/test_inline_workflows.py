"""Workflows that run where they are stored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jetq import Jetq, Work, each, group
from jetq.testing import AppTester, inline


class World:
    """An app with tasks for workflows."""

    def __init__(self) -> None:
        self.app = Jetq()
        self.seen: list[int] = []

        @self.app.task(name="number")
        async def number(n: int) -> int:
            self.seen.append(n)
            return n

        @self.app.task(name="total", queue="sums")
        async def total(numbers: list[int]) -> int:
            return sum(numbers)

        @self.app.task(name="fails", max_attempts=1)
        def fails(n: int) -> int:
            raise KeyError(n)

        @self.app.task(name="starts")
        async def starts(n: int) -> str:
            return (await self.work(n).adelay(id="inner")).id

        self.number, self.total, self.fails, self.starts = number, total, fails, starts

    def work(self, n: int) -> Work[int]:
        return group(self.number.bind(m) for m in range(n)) | self.total


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def jobs(world: World) -> Iterator[AppTester]:
    with inline(world.app) as tester:
        yield tester


def test_all_steps_have_run_when_delay_returns(world: World, jobs: AppTester) -> None:
    workflow = world.work(4).delay()
    assert workflow.status() == "succeeded"
    assert (workflow.result(timeout=1), sorted(world.seen)) == (6, [0, 1, 2, 3])


@pytest.mark.anyio
async def test_so_they_have_in_async_code(world: World, jobs: AppTester) -> None:
    workflow = await world.work(3).adelay()
    assert await workflow.astatus() == "succeeded"


def test_what_follows_an_empty_group_has_run_too(world: World, jobs: AppTester) -> None:
    assert (each(world.number, []) | world.total).delay().status() == "succeeded"


def test_a_workflow_that_a_job_stores_has_run_when_the_job_was_delayed(world: World, jobs: AppTester) -> None:
    assert world.starts.delay(3).result(timeout=1) == "inner"
    assert world.work(3).delay(id="inner").result(timeout=1) == 3


def test_one_for_later_waits_for_its_time(world: World, jobs: AppTester) -> None:
    workflow = world.work(2).delay(delay=60)
    assert (workflow.status(), world.seen) == ("running", [])
    jobs.advance(60)
    jobs.run_until_empty()
    assert workflow.status() == "succeeded"


def test_the_error_of_a_step_is_raised_where_that_is_wanted(world: World) -> None:
    work = world.number.bind(1) | world.fails
    with inline(world.app):
        assert work.delay().status() == "failed"
    with inline(world.app, raises=True), pytest.raises(KeyError):
        work.delay()
