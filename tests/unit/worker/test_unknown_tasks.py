"""A task that no worker knows: how often somebody looks for one, and how the job ends."""

from __future__ import annotations

import pytest

from jetq.model.outcome import Needs, PutOff
from jetq.worker.policy import put_off, unknown_task

NEEDS = Needs("billing.chrage")


def lookings(patience: float, since: float | None = None) -> list[float]:
    """The pauses of a job that nobody can run, until its end."""
    now, looks = 1_000_000.0, 0
    pauses: list[float] = []
    for _ in range(1_000):
        outcome = put_off(NEEDS, since, looks, now, able=False, patience=patience)
        if outcome is None:
            return pauses
        pauses.append(outcome.after)
        now, since, looks = now + outcome.after, outcome.since, outcome.looks
    raise AssertionError("it never ends")


@pytest.mark.parametrize("patience", [1.0, 60.0, 600.0, 3600.0])
def test_an_unknown_task_comes_back_at_growing_pauses_for_a_bounded_while(patience: float) -> None:
    pauses = lookings(patience)
    assert sum(pauses) == pytest.approx(patience, abs=1.0)
    assert pauses[:-1] == sorted(pauses[:-1])
    assert all(1.0 <= pause <= 60.0 for pause in pauses)


def test_patience_begins_anew_while_somebody_is_able() -> None:
    assert put_off(NEEDS, 50.0, 3, 5000.0, able=True) == PutOff(40.0, NEEDS, since=5000.0, looks=4)
    assert put_off(NEEDS, 50.0, 3, 5000.0, able=False) is None


@pytest.mark.parametrize("since", [2_000_000.0, 1e300])
def test_a_first_look_in_the_future_is_not_waited_for(since: float) -> None:
    pauses = lookings(600.0, since)
    assert sum(pauses) == pytest.approx(600.0, abs=1.0)


def test_the_end_names_the_nearest_tasks() -> None:
    dead = unknown_task(["billing.charge", "email.send"], "billing.chrage")
    assert dead.reason == "unknown-task"
    assert dead.failure.type == "jetq.UnknownTask"
    assert dead.failure.message == (
        "no worker of this queue knows the task 'billing.chrage'; did you mean billing.charge?"
        " Start one that imports it, e.g. jetq worker billing, then replay the job."
    )


def test_without_a_near_name_the_end_tells_what_there_is() -> None:
    dead = unknown_task([f"m{n}.t" for n in range(9)], "billing.chrage")
    assert "; it has m0.t, m1.t, m2.t, m3.t, m4.t and more. Start" in dead.failure.message
