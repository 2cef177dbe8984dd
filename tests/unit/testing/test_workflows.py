"""Workflows in memory: they run, wait and end as on a server, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from jetq import TaskFailed, Work, each, group, task
from jetq.testing import AppTester, in_memory
from tests.apps.fresh import no_app_yet, own_tasks

told: list[str] = []


@pytest.fixture
def tester(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTester]:
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)
    told.clear()
    with in_memory() as tester:
        yield tester


def sums(*numbers: int) -> Work[int]:
    @task(name="tests.double")
    def double(n: int) -> int:
        return 2 * n

    @task(name="tests.total")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    return each(double, numbers) | total


def failing() -> Work[int]:
    @task(name="tests.fail", max_attempts=1)
    def fail(n: int) -> int:
        raise ValueError(f"no {n}")

    @task(name="tests.tell")
    def tell(text: str) -> None:
        told.append(text)

    return fail.bind(3).on_failure(tell.bind("failed")).finally_(tell.bind("over"))


def test_a_workflow_runs_until_its_value(tester: AppTester) -> None:
    flow = sums(1, 2, 3).delay(id="sums")
    assert flow.status() == "running"
    assert [job.task for job in tester.enqueued()] == ["tests.double"] * 3
    ran = tester.run_until_empty()
    assert ran.succeeded == 4
    assert (flow.status(), flow.result()) == ("succeeded", 12)
    assert {name: (step.state, step.done, step.total) for name, step in flow.steps().items()} == {
        "double": ("succeeded", 3, 3),
        "total": ("succeeded", 1, 1),
    }


def test_the_same_id_gives_the_same_workflow(tester: AppTester) -> None:
    assert sums(1).delay(id="once").disposition == "stored"
    again = sums(5).delay(id="once")
    assert again.disposition == "existing"
    tester.run_until_empty()
    assert again.result() == 2
    assert sums(5).delay(id="once").disposition == "existing"


def test_a_key_is_free_again_once_its_workflow_has_ended(tester: AppTester) -> None:
    assert sums(1).delay(key="weekly").disposition == "stored"
    assert sums(2).delay(key="weekly").disposition == "existing"
    tester.run_until_empty()
    flow = sums(2).delay(key="weekly")
    assert flow.disposition == "stored"
    tester.run_until_empty()
    assert flow.result() == 4


def test_what_fails_is_told_and_called_back(tester: AppTester) -> None:
    flow = failing().delay()
    tester.run_until_empty()
    assert flow.status() == "failed"
    assert sorted(told) == ["failed", "over"]
    with pytest.raises(TaskFailed, match=r"step fail: builtins\.ValueError: no 3"):
        flow.result()
    assert [letter.task for letter in tester.dead_letters()] == ["tests.fail"]


def test_a_value_is_kept_after_the_workflow_is_closed(tester: AppTester) -> None:
    flow, alone = sums(1, 2).delay(), group([sums(4), sums(5)]).delay()
    tester.run_until_empty()
    tester.advance(60)
    tester.run_until_empty()
    assert (flow.status(), flow.result(), alone.result()) == ("succeeded", 6, [8, 10])
    assert flow.steps()["double"].done == 2


def test_a_workflow_begins_when_it_is_told_to(tester: AppTester) -> None:
    flow = sums(1).delay(delay=3_600)
    tester.run_until_empty()
    assert flow.steps()["double"].done == 0
    tester.advance(3_600)
    tester.run_until_empty()
    assert flow.result() == 2


def test_past_its_deadline_nothing_begins(tester: AppTester) -> None:
    flow = failing().delay(expires=60)
    tester.advance(120)
    tester.run_until_empty()
    assert flow.status() == "expired"
    assert sorted(told) == ["failed", "over"]
    assert not tester.dead_letters()


def test_a_step_that_waits_is_listed_without_the_values_of_others(tester: AppTester) -> None:
    @task(name="tests.busy", max_attempts=2, wait=60)
    def busy(n: int, since: date, by: str = "nobody") -> None:
        raise OSError("busy")

    first = sums(1)
    busy.bind(first.out, date(2030, 1, 1)).delay()
    tester.run_until_empty()
    (waiting,) = tester.enqueued(busy, since="2030-01-01")
    assert (waiting.arguments, waiting.attempt) == ({"since": "2030-01-01"}, 2)
