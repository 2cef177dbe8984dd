"""Workflows that a schedule starts, in memory, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from jetq import DefinitionError, EncryptedPayloads, Jetq, Work, WorkflowError, each
from jetq.model.workflows.recurring import MOST_BYTES
from jetq.operations.workflows.recurring import workflow_of_time
from jetq.testing import AppTester, in_memory


class World:
    """An app with tasks for workflows."""

    def __init__(self, payloads: EncryptedPayloads | None) -> None:
        self.app = Jetq(payloads=payloads)
        self.totals: list[int] = []

        @self.app.task(name="number")
        async def number(n: int) -> int:
            return n

        @self.app.task(name="total", queue="sums")
        async def total(numbers: list[int]) -> int:
            self.totals.append(sum(numbers))
            return sum(numbers)

        self.number, self.total = number, total

    def work(self, n: int = 3) -> Work[int]:
        return each(self.number, range(n)) | self.total


@pytest.fixture(params=["plain", "encrypted"])
def world(request: pytest.FixtureRequest) -> World:
    return World(None if request.param == "plain" else EncryptedPayloads({"now": b"1" * 32}))


@pytest.fixture
def tester(world: World) -> Iterator[AppTester]:
    with in_memory(world.app) as tester:
        yield tester


def test_each_time_has_a_workflow_of_its_own(world: World, tester: AppTester) -> None:
    info = world.app.schedule("nightly", world.work(), cron="0 2 * * *")
    assert (info.queue, info.task, info.steps, info.arguments) == ("default", "jetq.start", ("number", "total"), None)
    first = info.next[0]
    for day in (1, 2):
        tester.advance(86_400)
        tester.run_until_empty()
        assert world.totals == [3] * day
    workflow = world.app.workflow(f"nightly-{first + timedelta(days=1):%Y%m%dT%H%M%S}")
    assert (workflow.status(), workflow.result()) == ("succeeded", 3)
    assert not tester.dead_letters()


def test_it_is_written_anew_only_if_it_differs(world: World, tester: AppTester) -> None:
    stored = world.app.schedule("nightly", world.work(), cron="0 2 * * *")
    assert world.app.schedule("nightly", world.work(), cron="0 2 * * *") == stored
    world.app.schedule("nightly", world.work(5), cron="0 2 * * *")
    tester.advance(86_400)
    tester.run_until_empty()
    assert world.totals == [10]
    assert world.app.unschedule("nightly")


@pytest.mark.parametrize(("hours", "state"), [(1, "expired"), (3, "succeeded")])
def test_the_workflow_of_a_time_has_until_its_deadline(world: World, tester: AppTester, hours: int, state: str) -> None:
    attempts: list[int] = []

    @world.app.task(name="second_time_lucky", max_attempts=2, wait=2 * 3_600)
    async def lucky(n: int) -> int:
        attempts.append(n)
        if len(attempts) == 1:
            raise ConnectionError("not yet")
        return n

    work = lucky.bind(1) | world.number
    info = world.app.schedule("nightly", work, cron="0 2 * * *", expires=timedelta(hours=hours))
    assert world.app.schedule("nightly", work, cron="0 2 * * *", expires=hours * 3_600) == info
    tester.advance(86_400)
    tester.run_until_empty()
    tester.advance(2 * 3_600 + 60)
    tester.run_until_empty()
    assert world.app.workflow(f"nightly-{info.next[0]:%Y%m%dT%H%M%S}").status() == state


def test_a_call_by_itself_stays_a_job(world: World, tester: AppTester) -> None:
    info = world.app.schedule("one", world.number.bind(1), every=60)
    assert (info.task, info.arguments, info.steps) == ("number", {"n": 1}, None)
    named = world.app.schedule("named", world.number.bind(1).named("first"), every=60)
    assert (named.task, named.steps) == ("jetq.start", ("first",))


def test_what_cannot_be_scheduled_is_refused_in_words(world: World, tester: AppTester) -> None:
    with pytest.raises(DefinitionError, match=r"the plan of schedule large has .* bytes, and a plan that is scheduled"):
        world.app.schedule("large", world.work(MOST_BYTES // 8), every=60)
    with pytest.raises(DefinitionError, match="may overlap"):
        world.app.schedule("one", world.work(), every=60, overlap="skip")
    with pytest.raises(DefinitionError, match="expires is about workflows"):
        world.app.schedule("one", world.number.bind(1), every=60, expires=60)
    with pytest.raises(WorkflowError, match="has the option delay"):
        world.app.schedule("one", world.number.options(delay=3).bind(1).named("x"), every=60)
    assert world.app.schedules() == []


def test_the_arguments_of_members_may_differ_and_be_many(world: World, tester: AppTester) -> None:
    world.app.schedule("many", world.work(3_000), every=60)
    tester.advance(60)
    tester.run_until_empty()
    assert world.totals == [sum(range(3_000))]


def test_a_plan_that_cannot_be_followed_is_a_dead_letter(world: World, tester: AppTester) -> None:
    world.app.send("jetq.start", {"value": [], "steps": {}, "expires": 60})
    world.app.send(
        "jetq.start",
        {"value": [{"source": "a"}], "steps": {"a": {"call": {"task": "number", "queue": "default"}}}, "expires": 60},
    )
    tester.run_until_empty()
    letters = tester.dead_letters()
    assert [letter.reason for letter in letters] == ["undecodable", "undecodable"]
    assert "1 to 1,000 steps" in letters[0].failure.message
    assert "step a has arguments of 0 members, and not of 1" in letters[1].failure.message


def test_no_two_schedules_start_a_workflow_of_one_id() -> None:
    time = "20300101T020000"
    assert workflow_of_time("default", "nightly", time) == f"nightly-{time}"
    ids = {workflow_of_time(*each, time) for each in [("default", "mail.x"), ("mail", "x"), ("default", "mail-x")]}
    assert len(ids) == 3
    long = workflow_of_time("mail", "x" * 200, time)
    assert len(long) < 96
    assert long != workflow_of_time("default", "x" * 200, time)
