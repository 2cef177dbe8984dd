"""`jetq.testing.faults`: what goes wrong for users' tasks and applications, when their tests ask for it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jetq import DefinitionError, Jetq, NotSent, NotStored, Rejected, current_job
from jetq.model.job import JobRecord
from jetq.testing import AppTester, ServerTester, faults, in_memory, inline, on_server

Tester = AppTester | ServerTester


class World:
    """An app, and what its tasks did."""

    def __init__(self) -> None:
        self.app = Jetq()
        self.runs: list[tuple[str, int]] = []

        @self.app.task(name="charge", result_ttl=60, wait=0.01)
        async def charge(order: int) -> int:
            self.runs.append((current_job().id, current_job().attempt))
            if order < 0:
                raise ValueError("no such order")
            return order

        @self.app.task(name="ship", max_attempts=1)
        def ship(order: int) -> None:
            self.runs.append((current_job().id, current_job().attempt))
            if order < 0:
                raise ValueError("no such order")

        @self.app.task(name="order", wait=60)
        async def order(number: int) -> None:
            await ship.adelay(number)

        self.charge, self.ship, self.order = charge, ship, order


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=["memory", "server"])
def jobs(request: pytest.FixtureRequest, world: World) -> Iterator[Tester]:
    if request.param == "memory":
        with in_memory(world.app) as tester:
            yield tester
    else:
        with on_server(request.getfixturevalue("nats_url"), world.app) as real:
            yield real


# --- a server that refuses


@pytest.mark.parametrize("error", [Rejected, NotSent])
def test_what_is_refused_is_not_stored(error: type[Rejected], world: World, jobs: Tester) -> None:
    world.ship.delay(1)  # over the connection that stands from here on
    with faults.refuse(jobs, error):
        with pytest.raises(error, match="made to refuse") as raised:
            world.ship.options(id="refused").delay(2)
        assert raised.value.job_ids == ("refused",)
        with pytest.raises(error):
            world.ship.delay(3)
        with pytest.raises(error):
            world.ship.delay_many([world.ship.bind(4), world.ship.bind(5)])
        with pytest.raises(error):
            world.app.send("ship", {"order": 6})
    world.ship.delay(7)
    assert jobs.run_until_empty().succeeded == 2


def test_an_answer_that_is_lost_leaves_the_job_stored(world: World, jobs: Tester) -> None:
    with faults.refuse(jobs, NotStored):
        with pytest.raises(NotStored, match="made to refuse"):
            world.ship.options(id="lost").delay(1)
        with pytest.raises(NotStored):
            world.ship.delay_many([world.ship.bind(2)])
    assert world.ship.options(id="lost").delay(1).disposition == "existing"
    assert jobs.run_until_empty().succeeded == 2


def test_the_first_few_are_refused(world: World, jobs: Tester) -> None:
    with faults.refuse(jobs, times=2):
        for _ in range(2):
            with pytest.raises(Rejected):
                world.ship.delay(1)
        world.ship.delay(1)
    assert jobs.run_until_empty().succeeded == 1


def test_a_job_meets_it_too(world: World) -> None:
    with in_memory(world.app) as jobs:
        world.order.delay(1)
        with faults.refuse(jobs):
            assert jobs.run_until_empty().retried == 1
            performed = jobs.perform(world.order, 1)
        assert performed.outcome == "retrying"
        assert performed.error is not None and performed.error.type == "jetq.Rejected"
        assert jobs.perform(world.order, 1).outcome == "succeeded"


@pytest.mark.anyio
async def test_async_callers_meet_it_too(world: World, jobs: Tester) -> None:
    await world.ship.adelay(1)
    with faults.refuse(jobs):
        with pytest.raises(Rejected):
            await world.ship.adelay(2)
        with pytest.raises(Rejected):
            await world.ship.adelay_many([world.ship.bind(3)])
    assert (await jobs.arun_until_empty()).succeeded == 1


@pytest.mark.anyio
async def test_the_connection_of_a_thread_leaves_it_to_who_meets_it(nats_url: str, world: World) -> None:
    with on_server(nats_url, world.app) as jobs:
        await world.ship.adelay(1)
        line = await (await world.app.session.broker()).open_direct()
        assert line is not None
        job = JobRecord("0123456789", "ship", "default", b'{"order":2}', fresh=True)
        try:
            with faults.refuse(jobs):
                assert await asyncio.to_thread(line.store, job) is None
            stored = await asyncio.to_thread(line.store, job)
            assert stored is not None and stored.disposition == "new"
        finally:
            line.close()


def test_only_errors_that_an_enqueue_raises_can_be_asked_for(world: World) -> None:
    with in_memory(world.app) as jobs:
        for error in (ValueError, NotStored("x")):
            with pytest.raises(DefinitionError, match="takes Rejected, NotSent or NotStored, not"):
                faults.refuse(jobs, error)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="by: expected a duration"):
            faults.slow_down(jobs, -1)


# --- a server that is slow


@pytest.mark.anyio
async def test_an_enqueue_takes_longer(world: World, jobs: Tester) -> None:
    await world.ship.adelay(1)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    with pytest.MonkeyPatch.context() as patch, faults.slow_down(jobs, 0.7):
        patch.setattr("jetq.testing.faulty.asyncio", _Sleeping(sleep))
        await world.ship.adelay(2)
        await world.ship.adelay_many([world.ship.bind(3)])
    await world.ship.adelay(4)
    assert waited == [0.7, 0.7]


class _Sleeping:
    """asyncio with another `sleep`."""

    def __init__(self, sleep: Any) -> None:
        self.sleep = sleep


# --- a worker that dies


def test_a_job_whose_worker_dies_runs_again_as_it_was(world: World, jobs: Tester) -> None:
    job = world.charge.delay(1)
    with faults.crash(jobs):
        ran = jobs.run_until_empty()
    assert world.runs == [(job.id, 1)] * 2
    assert ran.succeeded == 1
    assert job.result(timeout=10) == 1


@pytest.mark.parametrize("name", ["charge", "ship"])
def test_a_failure_is_lost_with_the_worker_too(name: str, world: World, jobs: Tester) -> None:
    job = world.app.send(name, {"order": -1})
    with faults.crash(jobs):
        first = jobs.run_until_empty()
    assert world.runs[:2] == [(job.id, 1)] * 2  # and no attempt is burnt by it
    assert (first.retried, first.dead) == ((1, 0) if name == "charge" else (0, 1))
    assert len(jobs.dead_letters()) == first.dead


def test_only_the_jobs_that_are_meant_crash(world: World, jobs: Tester) -> None:
    world.order.delay(1)
    with faults.crash(jobs, world.ship):
        assert jobs.run_until_empty().succeeded == 2
    assert len(world.runs) == 2


def test_a_crash_that_nobody_had_fails_the_test(world: World, jobs: Tester) -> None:
    world.ship.delay(1)
    with pytest.raises(AssertionError, match="no job of misspelt has run"), faults.crash(jobs, "misspelt"):
        assert jobs.run_until_empty().succeeded == 1
    assert len(world.runs) == 1
    with pytest.raises(AssertionError, match="no job has run"), faults.crash(jobs):
        pass
    with pytest.raises(KeyError), faults.crash(jobs):
        raise KeyError


def test_what_it_enqueued_before_it_died_is_enqueued_twice(world: World, jobs: Tester) -> None:
    world.order.delay(1)
    with faults.crash(jobs, world.order):
        assert jobs.run_until_empty().succeeded == 3
    assert len({id for id, _ in world.runs}) == 2


def test_who_dies_too_often_is_dead(world: World, jobs: Tester) -> None:
    job = world.charge.delay(1)
    with faults.crash(jobs, times=10):
        jobs.run_until_empty()
    (letter,) = jobs.dead_letters()
    assert (letter.id, letter.reason) == (job.id, "crashed")
    assert len(world.runs) == 3


def test_the_app_is_as_it_was_afterwards(world: World, jobs: Tester) -> None:
    middleware = world.app.middleware
    world.charge.delay(1)
    with faults.crash(jobs, times=2), faults.refuse(jobs), faults.slow_down(jobs, timedelta(seconds=1)):
        assert world.app.middleware != middleware
        jobs.run_until_empty()
    assert world.app.middleware == middleware
    world.runs.clear()
    world.charge.delay(1)
    assert jobs.run_until_empty().succeeded == 1
    assert len(world.runs) == 1


def test_a_job_that_runs_at_once_can_crash(world: World) -> None:
    with inline(world.app) as jobs, faults.crash(jobs):
        assert world.charge.delay(1).result() == 1
        assert len(world.runs) == 2


def test_one_attempt_that_crashes_has_no_outcome(world: World) -> None:
    with in_memory(world.app) as jobs, faults.crash(jobs):
        with pytest.raises(AssertionError, match="its worker died"):
            jobs.perform(world.charge, 1)


# --- a process that ends


KILLED = """
import sys
from jetq import Jetq
from jetq.testing import faults, in_memory

app = Jetq()

@app.task(name="noted", result_ttl=60)
async def noted() -> int:
    print("ran", flush=True)
    return 1

with in_memory(app) as tester:
    faults.kill_at(app, int(sys.argv[1]), points=sys.argv[2])
    noted.delay()
    tester.run_until_empty()
print("lived")
"""


@pytest.mark.parametrize(("number", "says"), [(0, "ran\nlived\n"), (2, "ran\n"), (3, "ran\n")])
def test_a_process_ends_at_the_point_that_is_named(number: int, says: str, tmp_path: Path) -> None:
    points = tmp_path / "points"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(number), str(points)], capture_output=True, text=True, timeout=50
    )
    assert (ended.stdout, ended.returncode) == (says, -signal.SIGKILL if number else 0), ended.stderr
    there = ["1 before send_result", "2 after send_result", "3 before finish", "4 after finish"]
    assert points.read_text().splitlines() == there[: number or None]
