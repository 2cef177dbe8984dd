"""Decisions on attempts that did not return, as tables."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from tenacity import RetryCallState
from tenacity.wait import wait_base

from jetq.errors import JobTimeout, Reject, Retry, Snooze
from jetq.failures import capture
from jetq.model import Dead, Failure, Needs, PutOff, Retrying, Snoozed
from jetq.policy import LONGEST_WAIT, RetryPolicy, crashed, decide, decisive, default_wait, put_off, unknown_task

FAILURE = Failure(type="t", message="m")


def decision(
    error: BaseException, attempt: int = 1, policy: RetryPolicy | None = None, body: bytes | None = None
) -> Retrying | Snoozed | Dead:
    return decide(error, attempt, capture(error), policy or RetryPolicy(), random=Random(1), body=body)


def wait_after(error: BaseException, attempt: int, policy: RetryPolicy) -> float:
    outcome = decision(error, attempt, policy)
    assert isinstance(outcome, Retrying)
    return outcome.after


# --- kinds of errors


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        JobTimeout(),
        asyncio.CancelledError(),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(5),
        BaseException("bare"),
        ExceptionGroup("g", [ValueError("x")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_is_raised_is_a_failed_attempt(error: BaseException) -> None:
    assert isinstance(decision(error), Retrying)
    last = decision(error, attempt=3)
    assert last == Dead(reason="failed", failure=capture(error))


@pytest.mark.parametrize(
    ("attempt", "max_attempts", "dead"), [(1, 1, True), (1, 2, False), (2, 2, True), (3, 2, True), (9, 10, False)]
)
def test_the_last_attempt_allowed_ends_the_job(attempt: int, max_attempts: int, dead: bool) -> None:
    outcome = decision(ValueError(), attempt, RetryPolicy(max_attempts=max_attempts))
    assert isinstance(outcome, Dead) == dead


def test_a_snooze_is_no_attempt() -> None:
    assert decision(Snooze(7), attempt=3) == Snoozed(after=7.0)
    assert decision(Snooze(0), attempt=3) == Snoozed(after=0.0)
    assert decision(Snooze(timedelta(hours=1))) == Snoozed(after=3600.0)


def test_a_rejected_job_is_dead_at_once() -> None:
    assert decision(Reject("no such user")) == Dead(reason="rejected", failure=capture(Reject("no such user")))


def test_a_retry_waits_as_long_as_it_says_and_brings_new_arguments() -> None:
    outcome = decision(Retry(after=9), body=b'{"x":1}')
    assert isinstance(outcome, Retrying)
    assert (outcome.after, outcome.body) == (9.0, b'{"x":1}')
    assert wait_after(Retry(after=0), 1, RetryPolicy(wait=5.0)) == 0.0


def test_a_retry_counts_as_an_attempt() -> None:
    assert isinstance(decision(Retry(after=9), attempt=3), Dead)


def test_a_retry_without_a_time_takes_the_tasks_wait() -> None:
    assert wait_after(Retry(), 1, RetryPolicy(wait=5.0)) == 5.0


@pytest.mark.parametrize(
    ("error", "dead"),
    [(KeyError(), True), (LookupError(), True), (ValueError(), False), (OSError(), True), (Retry(), False)],
)
def test_dead_on_ends_the_job_unless_the_task_asks_for_more(error: Exception, dead: bool) -> None:
    policy = RetryPolicy(dead_on=(LookupError, OSError, Retry))
    assert isinstance(decision(error, policy=policy), Dead) == dead


class OwnSnooze(Snooze):
    def __init__(self, after: object) -> None:
        if after is not ...:
            self.after = after  # type: ignore[assignment]


class OwnRetry(Retry):
    __init__ = OwnSnooze.__init__


@pytest.mark.parametrize("after", [..., None, -1, float("nan"), float("inf"), "soon", True, [], 10**400])
def test_an_impossible_wait_of_the_tasks_is_replaced(after: object) -> None:
    snoozed = decision(OwnSnooze(after))
    assert isinstance(snoozed, Snoozed)
    assert 1 <= snoozed.after <= 3
    assert wait_after(OwnRetry(after), 1, RetryPolicy(wait=5.0)) == 5.0


# --- waits


def test_a_number_is_the_exact_wait() -> None:
    assert [wait_after(ValueError(), attempt, RetryPolicy(wait=5.0)) for attempt in (1, 2)] == [5.0, 5.0]


@given(attempt=st.integers(-5, 10_000), seed=st.integers())
def test_the_default_wait_stays_within_its_bounds(attempt: int, seed: int) -> None:
    top = 300.0 if attempt > 5 else 3.0 ** max(attempt, 1)
    assert 1.0 <= default_wait(attempt, Random(seed)) <= top


def test_the_default_wait_grows_and_spreads() -> None:
    random = Random(7)
    waits = [[default_wait(attempt, random) for _ in range(2_000)] for attempt in range(1, 7)]
    means = [sum(each) / len(each) for each in waits]
    assert all(later > 1.15 * sooner for sooner, later in pairwise(means)), means
    assert all(min(each) < 0.1 * max(each) for each in waits[3:]), "full jitter goes down to the least wait"


class Broken(wait_base):
    def __init__(self, act: Callable[[], float]) -> None:
        self.act = act

    def __call__(self, retry_state: RetryCallState) -> float:
        return self.act()


def divide() -> float:
    return 1 / 0


def leave() -> float:
    raise SystemExit


@pytest.mark.parametrize(
    ("strategy", "waits"),
    [
        (tenacity.wait_fixed(4), [4, 4, 4]),
        (tenacity.wait_none(), [0, 0, 0]),
        (tenacity.wait_exponential(multiplier=1, max=3), [1, 2, 3]),
        (tenacity.wait_incrementing(start=1, increment=10), [1, 11, 21]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(9)), [1, 9, 9]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3, 3, 3]),
        (tenacity.wait_exponential(), [1, 2, 4]),
    ],
)
def test_strategies_of_tenacity_are_asked_with_the_attempts_number(strategy: wait_base, waits: list[float]) -> None:
    policy = RetryPolicy(max_attempts=9, wait=strategy)
    assert [wait_after(ValueError(), attempt, policy) for attempt in (1, 2, 3)] == waits


def test_a_strategy_sees_the_exception() -> None:
    class Polite(Exception):
        retry_after = 17.0

    def by_exception(error: BaseException) -> float:
        assert isinstance(error, Polite)
        return error.retry_after

    strategy = tenacity.wait_exception(by_exception)
    assert wait_after(Polite(), 1, RetryPolicy(wait=strategy)) == 17.0


@pytest.mark.parametrize(
    "act", [divide, leave, lambda: -1.0, lambda: float("nan"), lambda: float("inf"), lambda: "x", lambda: None]
)
def test_a_broken_strategy_does_not_cost_the_job(act: Callable[[], float], caplog: pytest.LogCaptureFixture) -> None:
    """Guarantee: user code that decides on waits cannot lose a job."""
    with caplog.at_level(logging.WARNING, "jetq.worker"):
        assert 1 <= wait_after(ValueError("secret"), 1, RetryPolicy(wait=Broken(act))) <= 3
    assert "the default takes its place" in caplog.text
    assert "secret" not in caplog.text


def test_a_wait_ends_within_the_calendar() -> None:
    strategy = tenacity.wait_exponential()
    assert wait_after(ValueError(), 2_000, RetryPolicy(max_attempts=5_000, wait=strategy)) == LONGEST_WAIT
    assert wait_after(ValueError(), 1, RetryPolicy(wait=1e300)) == LONGEST_WAIT
    assert decision(Snooze(1e300)) == Snoozed(after=LONGEST_WAIT)


# --- crashes


@pytest.mark.parametrize(
    ("recorded", "max_crashes", "dead"),
    [
        (0, 1, False),
        (1, 1, True),
        (0, 2, False),
        (1, 2, True),
        (0, 3, False),
        (1, 3, False),
        (2, 3, True),
        (7, 3, True),
    ],
)
def test_starts_are_counted_with_the_first_one_that_is_recorded_only_where_it_is_the_last(
    recorded: int, max_crashes: int, dead: bool
) -> None:
    outcome = crashed(recorded, max_crashes)
    assert (outcome is not None) == dead
    if outcome is not None:
        assert outcome.reason == "crashed"
        assert ("once" if max_crashes == 1 else f"{recorded + 1} times") in outcome.failure.message


# --- unknown tasks


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


class Gone(Exception):
    pass


REJECT, GONE, RETRY, PLAIN = Reject("no"), Gone(), Retry(5), ValueError("plain")
SHORT, LONG = Snooze(1), Snooze(10)


@pytest.mark.parametrize(
    ("held", "decides"),
    [
        ([PLAIN], PLAIN),
        ([ExceptionGroup("inner", [REJECT])], REJECT),
        ([PLAIN, RETRY, GONE, REJECT], REJECT),
        ([PLAIN, RETRY, ExceptionGroup("inner", [GONE, PLAIN])], GONE),
        ([SHORT, RETRY, PLAIN], RETRY),
        ([SHORT, LONG], LONG),
    ],
)
def test_what_decides_in_a_group_is_what_a_task_said(held: list[Exception], decides: Exception) -> None:
    """Guarantee: Reject, Retry, Snooze and `dead_on` mean the same out of a task group."""
    assert decisive(ExceptionGroup("several", held), (Gone,)) is decides


def test_of_several_plain_errors_the_group_counts() -> None:
    several = ExceptionGroup("several", [PLAIN, SHORT, ValueError("another")])
    assert decisive(several, (Gone,)) is several
    assert decisive(several, (ExceptionGroup,)) is several
    assert decisive(PLAIN) is PLAIN
