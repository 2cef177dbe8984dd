"""Decisions on attempts: bounded, no wait that is none, and the same for the same clock and random numbers."""

from __future__ import annotations

import math
from datetime import timedelta
from random import Random

import tenacity
from hypothesis import given
from hypothesis import strategies as st

from jetq.errors import Reject, Retry, Snooze
from jetq.model.definitions.options import Condition
from jetq.model.failure import Failure
from jetq.model.job import Meta
from jetq.model.outcome import Dead, Needs, Retrying, Snoozed
from jetq.worker.policy import LONGEST_WAIT, RetryPolicy, crashed, decide, default_wait, process_died, put_off
from tests.unit.properties.examples import examples

FAILURE = Failure(type="t", message="m")
ATTEMPTS = st.one_of(st.integers(1, 12), st.sampled_from([1, 10**6, 2**31 - 1]))
NUMBERS = st.one_of(st.floats(0, 1e6), st.sampled_from([0.0, 5e-324, 1e300, math.inf, math.nan, -1.0]))
WAITS = st.one_of(
    st.none(),
    st.floats(0, 1e6),
    st.builds(tenacity.wait_fixed, st.floats(0, 1e9)),
    st.builds(tenacity.wait_exponential, multiplier=st.floats(0, 1e9)),
    st.builds(tenacity.wait_random, st.floats(0, 10), st.floats(10, 1e6)),
    st.builds(lambda value: tenacity.wait_none() + tenacity.wait_fixed(value), st.sampled_from([-5.0, math.inf])),
)


class Broken(tenacity.wait.wait_base):
    """A strategy of the user's that gives anything, or nothing."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value  # type: ignore[return-value]


BROKEN = st.builds(Broken, st.sampled_from([math.nan, -math.inf, "5", None, KeyboardInterrupt(), RecursionError(), []]))
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.one_of(st.integers(1, 10), st.just(2**31 - 1)),
    wait=st.one_of(WAITS, BROKEN),
    dead_on=st.sampled_from(
        [(), (ValueError,), (OSError, ValueError), (BaseException,), lambda error: bool(error.args)]
    ),
    retry_on=st.sampled_from([None, (), (ValueError,), (BaseException,), lambda error: bool(error.args)]),
)


def is_meant(condition: Condition, error: BaseException) -> bool:
    return isinstance(error, condition) if isinstance(condition, tuple) else condition(error)


def asked(kind: type[Retry] | type[Snooze], after: object) -> Retry | Snooze:
    """An exception that asks for a wait, whatever its own class would say to that."""
    error = kind.__new__(kind)
    error.after = after  # type: ignore[assignment]
    return error


ASKED: st.SearchStrategy[object] = st.one_of(
    NUMBERS, st.sampled_from([None, "1", timedelta(seconds=3), timedelta(-1), True, [], 10**400])
)
ERRORS = st.one_of(
    st.sampled_from([ValueError("x"), OSError(), KeyboardInterrupt(), SystemExit(3), Reject("no"), KeyError("k")]),
    st.builds(asked, st.sampled_from([Retry, Snooze]), ASKED),
)


@examples(400)
@given(ERRORS, ATTEMPTS, POLICIES, st.integers())
def test_every_decision_is_bounded_and_pure(error: BaseException, attempt: int, policy: RetryPolicy, seed: int) -> None:
    """Guarantee: no exception, strategy or number makes a job run beyond its attempts, at once for ever, or never."""
    outcome = decide(error, attempt, FAILURE, policy, random=Random(seed))
    if isinstance(error, Snooze):
        assert isinstance(outcome, Snoozed)
    elif isinstance(error, Reject):
        assert isinstance(outcome, Dead) and outcome.reason == "rejected"
    elif attempt >= policy.max_attempts:
        assert isinstance(outcome, Dead) and outcome.reason == "failed"
    elif not isinstance(error, Retry) and (
        is_meant(policy.dead_on, error) or (policy.retry_on is not None and not is_meant(policy.retry_on, error))
    ):
        assert isinstance(outcome, Dead) and outcome.reason == "failed"
    else:
        assert isinstance(outcome, Retrying)
    if isinstance(outcome, Snoozed | Retrying):
        assert 0.0 <= outcome.after <= LONGEST_WAIT


@examples(200)
@given(ERRORS, ATTEMPTS, st.builds(RetryPolicy, wait=st.one_of(st.none(), st.floats(0, 1e6), BROKEN)), st.integers())
def test_the_same_clock_and_numbers_decide_the_same(
    error: BaseException, attempt: int, policy: RetryPolicy, seed: int
) -> None:
    decisions = [decide(error, attempt, FAILURE, policy, random=Random(seed)) for _ in range(2)]
    assert decisions[0] == decisions[1]


@examples(200)
@given(ATTEMPTS, st.integers())
def test_the_default_wait_is_within_its_bounds(attempt: int, seed: int) -> None:
    assert 1.0 <= default_wait(attempt, Random(seed)) <= min(300.0, 3.0 ** min(attempt, 10))


@examples(200)
@given(st.integers(1, 50))
def test_a_job_that_kills_is_dead_after_exactly_so_many_starts(max_crashes: int) -> None:
    starts = 0  # on record: the first start is not, unless there is no other
    while crashed(starts, max_crashes) is None:
        starts += 1
    assert starts + (max_crashes > 1) == max_crashes
    meta, deaths = Meta(), 0
    while True:
        deaths += 1
        outcome = process_died(meta, max_crashes, FAILURE)
        if isinstance(outcome, Dead):
            break
        assert outcome.meta is not None and 0.0 < outcome.after <= max_crashes
        meta = outcome.meta
    assert deaths == max_crashes


@examples(200)
@given(st.floats(0, 2e11), st.one_of(st.none(), st.floats(0, 2.5e11)), st.floats(0.5, 1e5))
def test_an_unknown_task_is_dead_after_its_patience_and_not_before(
    now: float, since: float | None, patience: float
) -> None:
    first, looks = None, 0
    while (outcome := put_off(Needs("a.c"), since, looks, now, able=False, patience=patience)) is not None:
        assert 1.0 <= outcome.after <= 60.0
        first = outcome.since if first is None else first
        assert outcome.since == first <= now
        assert outcome.looks == looks + 1
        since, now, looks = outcome.since, now + outcome.after, outcome.looks
        assert looks < 20 + patience / 5
    assert first is None or now - first >= patience
