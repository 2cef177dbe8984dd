"""The patterns under test: the workflows run in memory, and time moves when a test says so."""

from __future__ import annotations

from typing import TypeVar

import patterns
import pytest

from jetq import Work
from jetq.testing import AppTester, run

R = TypeVar("R")


def value(app: AppTester, work: Work[R]) -> R:
    workflow = work.delay()
    app.run_until_empty()
    return workflow.result(timeout=1)


def test_words_are_counted_side_by_side_and_added_up(jetq_app: AppTester) -> None:
    assert value(jetq_app, patterns.word_count(["a rose is", "a rose"])) == {"a": 2, "rose": 2, "is": 1}


@pytest.mark.parametrize("video", ["", "v", "video"])
def test_a_video_is_put_together_of_as_many_segments_as_it_has(jetq_app: AppTester, video: str) -> None:
    segments = [f"{video}#{number}.h264" for number in range(len(video))]
    assert value(jetq_app, patterns.convert(video)) == "+".join(segments)


def test_a_report_is_made_without_the_branch_that_failed() -> None:
    flow = run(patterns.report())
    assert flow.result() == "6 sold"  # time passes until the attempts of the weather are spent
    assert flow.steps()["weather"].failed == 1


def test_failures_stand_among_the_values(jetq_app: AppTester) -> None:
    assert value(jetq_app, patterns.survey(["a.example", "nowhere", "b.example"])) == "2 up; there is no nowhere"


def test_each_night_has_a_report(jetq_app: AppTester) -> None:
    patterns.every_night(jetq_app.app)
    (schedule,) = jetq_app.app.schedules()
    jetq_app.advance(86_400)
    for _ in range(5):
        jetq_app.run_until_empty()
        jetq_app.advance(600)  # until the attempts of the weather are spent
    workflow = jetq_app.app.workflow(f"report-{schedule.next[0]:%Y%m%dT%H%M%S}")
    assert workflow.result(timeout=1) == "6 sold"


def test_what_was_booked_is_undone_when_the_payment_fails(jetq_app: AppTester) -> None:
    assert value(jetq_app, patterns.travel("rome", 100)) == "flight-rome and hotel-rome"
    assert patterns.BOOKED == {"flight-rome", "hotel-rome"}
    workflow = patterns.travel("rome", 200_000).delay()
    jetq_app.run_until_empty()
    assert workflow.status() == "failed"
    assert patterns.BOOKED == set()


@pytest.mark.parametrize(("parts", "status"), [([1, 2], "succeeded"), ([1, 9], "failed")])
def test_a_cluster_is_stopped_whatever_the_end(jetq_app: AppTester, parts: list[int], status: str) -> None:
    workflow = patterns.training("c1", parts).delay()
    assert jetq_app.run_until_empty().succeeded >= 3
    assert (workflow.status(), patterns.CLUSTERS) == (status, set())


def test_rows_are_reduced_and_then_all_of_them(jetq_app: AppTester) -> None:
    assert value(jetq_app, patterns.brightest_of_all([range(10), range(20, 90), []])) == 89


def test_a_release_is_live_when_its_checks_are_good(jetq_app: AppTester) -> None:
    workflow = patterns.release("abc").delay()
    assert jetq_app.run_until_empty().succeeded == 5
    assert workflow.result(timeout=1) == "image-abc is live"
    assert list(workflow.steps()) == ["lint", "build", "unit", "slow", "deploy"]


def test_a_customer_has_one_sync_at_a_time(jetq_app: AppTester) -> None:
    first, again, other = patterns.sync(1), patterns.sync(1), patterns.sync(2)
    assert (first[1], again[1], other[1]) == (True, False, True)
    assert first[0] == again[0] != other[0]
    jetq_app.run_until_empty()
    assert patterns.sync(1)[1]
