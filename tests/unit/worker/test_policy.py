"""Decisions on attempts that did not return, as tables."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from random import Random
from unittest.mock import Mock

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from tenacity import RetryCallState
from tenacity.wait import wait_base

from jetq.encoding.failures import capture, text_of
from jetq.errors import Interruption, JobTimeout, RateLimited, Reject, Retry, Snooze
from jetq.model.definitions.options import Condition
from jetq.model.definitions.wrappers import FINISHED, NeverRan
from jetq.model.failure import Failure
from jetq.model.outcome import Dead, Retrying, Snoozed
from jetq.worker.policy import (
    LONGEST_WAIT,
    RetryPolicy,
    crashed,
    decide,
    decisive,
    default_wait,
    unraised,
)
from jetq.worker.pools.errors import ProcessDied, ThreadLost

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


class Gone(Exception):
    pass


class Batch(ExceptionGroup[Exception]):
    """A group of the user's own."""


class TimedOut(Interruption):
    error = JobTimeout


REJECT, GONE, RETRY, PLAIN, OTHER = Reject("no"), Gone(), Retry(5), ValueError("plain"), KeyError("x")
SHORT, LONG, LIMITED = Snooze(1), Snooze(10), RateLimited(10)
STOPPED = asyncio.CancelledError()
BY_CLASS = RetryPolicy(dead_on=(Gone, Batch))
BY_FUNCTION = RetryPolicy(dead_on=lambda error: isinstance(error, Gone | Batch))
ALL_BUT_GONE = RetryPolicy(retry_on=(ValueError, LookupError, asyncio.CancelledError, JobTimeout))


@pytest.mark.parametrize("policy", [BY_CLASS, BY_FUNCTION, ALL_BUT_GONE], ids=["class", "function", "retry_on"])
@pytest.mark.parametrize("depth", [1, 2, 500])
@pytest.mark.parametrize(
    ("held", "decides"),
    [
        ([REJECT], REJECT),
        ([GONE], GONE),
        ([RETRY], RETRY),
        ([SHORT], SHORT),
        ([LIMITED], LIMITED),
        ([PLAIN], PLAIN),
        ([STOPPED], STOPPED),
        ([PLAIN, SHORT, LIMITED, RETRY, GONE, REJECT], REJECT),
        ([PLAIN, SHORT, LIMITED, RETRY, GONE], GONE),
        ([PLAIN, SHORT, LIMITED, RETRY], RETRY),
        ([PLAIN, SHORT, LIMITED, LONG], LIMITED),
        ([PLAIN, SHORT, STOPPED], SHORT),
        ([SHORT, LONG], LONG),
    ],
    ids=str,
)
def test_what_decides_in_a_group_is_what_a_task_said(
    held: list[BaseException], decides: BaseException, depth: int, policy: RetryPolicy
) -> None:
    """Guarantee: Reject, Retry, Snooze, RateLimited, `dead_on` and `retry_on` mean the same out of a task group."""
    assert decisive(nested(held, depth), policy) is decides
    assert decisive(nested(held[::-1], depth), policy) is decides


def nested(held: list[BaseException], depth: int) -> BaseException:
    """So many groups, each in another; the innermost has all that is held."""
    group = BaseExceptionGroup("g", held)
    for _ in range(depth - 1):
        group = BaseExceptionGroup("g", [group])
    return group


@pytest.mark.parametrize("beside", [REJECT, GONE, RETRY, LONG, PLAIN])
@pytest.mark.parametrize("own", [ThreadLost("lost"), ProcessDied("died"), NeverRan("never ran")], ids=type)
def test_what_the_worker_ended_is_that_before_all_else(beside: Exception, own: Exception) -> None:
    assert decisive(ExceptionGroup("g", [beside, own]), BY_CLASS) is own
    timeout = decisive(BaseExceptionGroup("g", [beside, BaseExceptionGroup("in", [TimedOut()])]), BY_CLASS)
    assert type(timeout) is JobTimeout


def test_errors_that_say_the_same_are_one() -> None:
    another = ValueError("plain")
    assert decisive(ExceptionGroup("g", [PLAIN, another]), BY_CLASS) is PLAIN
    assert decisive(ExceptionGroup("g", [another, ExceptionGroup("in", [PLAIN])]), BY_CLASS) is another


def test_of_several_plain_errors_the_group_counts_and_names_them() -> None:
    several = ExceptionGroup("unhandled errors in a TaskGroup", [PLAIN, ExceptionGroup("in", [OTHER])])
    for policy in (BY_CLASS, BY_FUNCTION, ALL_BUT_GONE):
        assert decisive(several, policy) is several
        outcome = decision(several, policy=policy)
        assert isinstance(outcome, Retrying)
        assert outcome.failure.message == "ValueError: plain; KeyError: 'x'"


@pytest.mark.parametrize("make", [lambda group: group, lambda group: ExceptionGroup("g", [group])])
def test_a_group_whose_class_is_named_is_one_of_them(make: Callable[[Exception], ExceptionGroup]) -> None:
    group = make(Batch("b", [PLAIN, OTHER]))
    assert decisive(group, BY_CLASS) is group
    assert isinstance(decision(group, policy=BY_CLASS), Dead)
    assert isinstance(decision(make(Batch("b", [SHORT, RETRY])), policy=BY_CLASS), Retrying)
    snoozed = decisive(make(Batch("b", [SHORT])), RetryPolicy(dead_on=(Exception,)))
    assert snoozed is SHORT


def test_what_is_no_group_decides_itself() -> None:
    assert decisive(PLAIN, BY_CLASS) is PLAIN


def test_groups_that_share_what_they_hold_are_looked_through_once() -> None:
    group = ExceptionGroup("g", [PLAIN, OTHER])
    for _ in range(64):
        group = ExceptionGroup("g", [group, group])
    assert text_of(decisive(group, BY_CLASS)) == "ValueError: plain; KeyError: 'x'"


# --- dead_on and retry_on


def is_lookup(error: BaseException) -> bool:
    return isinstance(error, LookupError)


@pytest.mark.parametrize("retry_on", [(LookupError,), is_lookup], ids=["class", "function"])
@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (KeyError(), False),
        (IndexError(), True),  # dead_on means it too, and wins
        (ValueError(), True),
        (JobTimeout(), True),
        (asyncio.CancelledError(), True),
        (SystemExit(), True),
        (Retry(1), False),
        (ExceptionGroup("g", [KeyError(), KeyError()]), False),
        (ExceptionGroup("g", [KeyError(), ValueError()]), True),
    ],
    ids=repr,
)
def test_only_what_retry_on_means_is_run_again(error: BaseException, ends: bool, retry_on: Condition) -> None:
    outcome = decision(error, policy=RetryPolicy(dead_on=(IndexError,), retry_on=retry_on))
    assert isinstance(outcome, Dead) == ends
    if isinstance(outcome, Dead):
        assert outcome.reason == "failed"


def test_what_is_worth_a_retry_is_bounded_by_the_attempts_all_the_same() -> None:
    assert isinstance(decision(KeyError(), attempt=3, policy=RetryPolicy(retry_on=is_lookup)), Dead)


def test_what_a_task_says_itself_stands_whatever_the_options_mean() -> None:
    policy = RetryPolicy(dead_on=lambda error: True, retry_on=lambda error: False)
    assert isinstance(decision(Retry(1), policy=policy), Retrying)
    assert isinstance(decision(Snooze(1), policy=policy), Snoozed)
    assert decision(Reject("no"), policy=RetryPolicy(retry_on=(Reject,))) == Dead("rejected", capture(Reject("no")))


class Unanswerable(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError("secret")


class Strange(Exception, metaclass=Unanswerable):
    pass


def divides(error: BaseException) -> bool:
    return bool(1 / 0)


def leaves(error: BaseException) -> bool:
    raise SystemExit("secret")


@pytest.mark.parametrize("condition", [divides, leaves, (Strange,)])
@pytest.mark.parametrize("option", ["dead_on", "retry_on"])
def test_a_broken_condition_does_not_cost_the_job(
    option: str, condition: Condition, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: user code that decides on errors cannot lose a job, or end it before its last attempt."""
    policy = RetryPolicy(dead_on=condition) if option == "dead_on" else RetryPolicy(retry_on=condition)
    for error in (ValueError("secret"), ExceptionGroup("g", [ValueError("secret"), KeyError()])):
        caplog.clear()
        assert isinstance(decision(decisive(error, policy), policy=policy), Retrying)
        assert f"{option} failed when it was asked about builtins.ValueError" in caplog.text
        assert "secret" not in caplog.text


# --- what is returned in place of being raised


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Retry(1), "Retry"),
        (Retry, "Retry"),
        (Snooze(1), "Snooze"),
        (Reject("no"), "Reject"),
        (RateLimited(1), "RateLimited"),
        (ValueError("secret"), "ValueError"),
        (Gone, "Gone"),
        (SystemExit, "SystemExit"),
        (ExceptionGroup("g", [PLAIN]), "ExceptionGroup"),
    ],
    ids=repr,
)
def test_an_exception_that_is_returned_is_told_to_be_raised(value: object, name: str) -> None:
    outcome = unraised(value)
    assert outcome is not None and outcome.reason == "failed"
    said = f"the task returned {name} and did not raise it, which has no effect: write `raise {name}(...)`"
    assert outcome.failure == Failure(type="jetq.ResultError", message=said)
    assert type(value) not in FINISHED


@pytest.mark.parametrize("value", [None, 5, "x", [Retry(1)], {}, int, object(), Random, type, Mock(spec=Retry)])
def test_all_else_may_be_returned(value: object) -> None:
    assert unraised(value) is None
