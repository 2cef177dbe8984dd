"""A workflow fails in the night and is taken up hours and weeks later: time passes, and what does not run stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from jetq import Work, WorkflowError, group, task
from jetq.client.workflows.workflow import Workflow
from jetq.testing import AppTester, in_memory
from tests.apps.fresh import no_app_yet, own_tasks

ran: Counter[str] = Counter()
broken: set[str] = set()

EIGHT_HOURS = timedelta(hours=8)


@pytest.fixture
def tester(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTester]:
    own_tasks(monkeypatch)
    no_app_yet(monkeypatch)
    ran.clear()
    broken.clear()
    with in_memory() as tester:
        yield tester


def etl() -> Work[str]:
    @task(name="tests.extract", max_attempts=1)
    def extract(branch: str) -> str:
        ran[f"extract-{branch}"] += 1
        return branch

    @task(name="tests.transform", max_attempts=1)
    def transform(branch: str) -> str:
        ran[f"transform-{branch}"] += 1
        if branch in broken:
            raise ValueError(f"branch {branch} has a row without a date")
        return branch.upper()

    @task(name="tests.publish", max_attempts=1)
    def publish(parts: list[str]) -> str:
        ran["publish"] += 1
        return "".join(parts)

    @task(name="tests.tell", max_attempts=1)
    def tell(whom: str) -> None:
        ran[whom] += 1

    branches = [(extract.bind(each) | transform).named(f"transform-{each}") for each in "abcde"]
    return (group(branches) | publish).on_failure(tell.bind("page-me")).finally_(tell.bind("close-books"))


ONCE = Counter(f"{step}-{branch}" for step in ("extract", "transform") for branch in "abcde")


def failed_at_two(tester: AppTester) -> Workflow[str]:
    """Store the ETL with a deadline at ten, and let c fail."""
    broken.add("c")
    flow = etl().delay(id="etl", expires=EIGHT_HOURS)
    tester.run_until_empty()
    assert flow.status() == "failed"
    assert ran == ONCE + Counter({"page-me": 1, "close-books": 1})
    return flow


def pass_time(tester: AppTester, flow: Workflow[str], **time: float) -> None:
    """Let time pass, and the watch take its turns; nothing of the workflow runs."""
    before = ran.copy()
    tester.advance(timedelta(**time))
    tester.run_until_empty()
    assert (flow.status(), ran) == ("failed", before)
    steps = flow.steps()
    assert [name for name, step in steps.items() if step.state == "failed"] == ["transform-c"]
    assert steps["transform-c"].failures[0].message == "branch c has a row without a date"


def test_nine_hours_and_twenty_days_later_only_what_failed_runs_again(tester: AppTester) -> None:
    flow = failed_at_two(tester)
    pass_time(tester, flow, hours=9)
    assert flow.retry(step="transform-c", expires=EIGHT_HOURS) == 1  # before anybody has mended it
    tester.run_until_empty()
    assert (flow.status(), ran["transform-c"], ran["page-me"], ran["close-books"]) == ("failed", 2, 2, 2)
    pass_time(tester, flow, days=20)
    broken.clear()
    assert flow.retry(step="transform-c", expires=EIGHT_HOURS) == 1
    tester.run_until_empty()
    assert (flow.status(), flow.result()) == ("succeeded", "ABCDE")
    assert ran == ONCE + Counter({"transform-c": 2, "publish": 1, "page-me": 2, "close-books": 3})
    assert not tester.dead_letters()
    tester.advance(timedelta(minutes=30))  # the watch closes it, and it is kept for an hour
    tester.run_until_empty()
    assert flow.result() == "ABCDE"
    assert not tester.enqueued()


@pytest.mark.parametrize("days", [20, 30.9])
def test_weeks_later_it_runs_without_a_letter_too(tester: AppTester, days: float) -> None:
    flow = failed_at_two(tester)
    tester.app.session.run(lambda: purge_letters(tester))
    pass_time(tester, flow, days=days)
    broken.clear()
    assert flow.retry(step="transform-c", expires=3_600) == 1
    tester.run_until_empty()
    assert flow.result() == "ABCDE"
    assert ran == ONCE + Counter({"transform-c": 1, "publish": 1, "page-me": 1, "close-books": 2})


async def purge_letters(tester: AppTester) -> None:
    await (await tester.app.session.broker()).purge_dead("default")


def test_after_each_further_failure_there_are_31_days_again(tester: AppTester) -> None:
    flow = failed_at_two(tester)
    for times in range(2, 5):
        pass_time(tester, flow, days=30)
        assert flow.retry(step="transform-c", expires=3_600) == 1
        tester.run_until_empty()
        assert (flow.status(), ran["transform-c"], ran["page-me"]) == ("failed", times, times)
    tester.advance(timedelta(days=31, hours=25))
    tester.run_until_empty()
    with pytest.raises(WorkflowError, match="so long ago that its values are not kept any more"):
        flow.retry(step="transform-c", expires=3_600)
    assert ran == ONCE + Counter({"transform-c": 3, "page-me": 4, "close-books": 4})
