"""How many jobs are asked for ahead: by how fast they are started, and never for long ones."""

from __future__ import annotations

import pytest

from jetq.worker.prefetch import Prefetch

STEP = 0.0625
"""Seconds: no less than the time over which starts are counted, and exact."""


def looking(ahead: Prefetch, *, rate: float, seconds: float, since: float = 0.0) -> float:
    """Let `rate` jobs a second be started for so long; the time after that."""
    steps = round(seconds / STEP)
    for step in range(steps):
        ahead.started += round(rate * STEP)
        ahead.recompute(since + (step + 1) * STEP)
    return since + steps * STEP


@pytest.mark.parametrize(
    ("rate", "jobs"), [(0, 0), (20, 0), (400, 0), (1000, 1), (2000, 3), (20_000, 39), (1_000_000, 100)]
)
def test_as_many_as_are_started_in_two_round_trips(rate: float, jobs: int) -> None:
    ahead = Prefetch(100, 0.0)
    looking(ahead, rate=rate, seconds=1.0)
    assert ahead.jobs == jobs


def test_none_where_it_may_not_be() -> None:
    ahead = Prefetch(0, 0.0)
    looking(ahead, rate=50_000, seconds=1.0)
    assert ahead.jobs == 0


def test_the_round_trip_is_learned_and_waiting_for_a_job_is_none() -> None:
    ahead = Prefetch(100, 0.0)
    for start in range(100):
        ahead.asked(start)
        ahead.answered(start + 0.004)
        ahead.answered(start + 0.5)  # of no request that is timed
    now = looking(ahead, rate=5000, seconds=1.0, since=100)
    assert ahead.jobs in (39, 40)
    for start in range(100):
        ahead.asked(start)
        ahead.answered(start + 7.0)
    looking(ahead, rate=5000, seconds=1.0, since=now)
    assert ahead.jobs in (39, 40)


def test_what_waits_behind_long_jobs_is_too_much_soon() -> None:
    ahead = Prefetch(100, 0.0)
    now = looking(ahead, rate=20_000, seconds=1.0)
    assert ahead.excess(100) == 0
    now = looking(ahead, rate=40, seconds=0.5, since=now)
    assert ahead.excess(100) == 0  # it slowed down a moment ago
    now = looking(ahead, rate=40, seconds=2.0, since=now)
    assert ahead.excess(100) == 68
    looking(ahead, rate=0, seconds=5.0, since=now)
    assert [ahead.excess(waiting) for waiting in (100, 1, 0)] == [100, 1, 0]
