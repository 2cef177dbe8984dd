"""What counts where an attempt is ended, and raises beside."""

from __future__ import annotations

import asyncio
from random import Random

from jetq.errors import Reject, Retry, Snooze
from jetq.model.definitions.wrappers import NeverRan
from jetq.model.failure import Failure
from jetq.model.job import Meta
from jetq.model.outcome import Cancelled, Dead, Outcome, Released, Retrying, Snoozed
from jetq.worker.attempt import Ending
from jetq.worker.policy import (
    RetryPolicy,
    outcome_of_error,
)
from jetq.worker.pools.errors import ProcessDied, ThreadLost

FAILURE = Failure(type="t", message="m")


class Run:
    """A run that was being ended in some way when it raised."""

    name, meta, policy, max_crashes = "tasks.f", Meta(attempt=2), RetryPolicy(), 3

    def __init__(self, ending: Ending | None, asked: bytes | Dead | None = None) -> None:
        self.ending: Ending | None = ending
        self.asked = asked

    def capture(self, error: BaseException) -> Failure:
        return Failure(type=type(error).__name__, message=str(error))

    def asked_arguments(self, error: BaseException) -> bytes | Dead | None:
        return self.asked if isinstance(error, Retry) else None


REJECT, RETRY, PLAIN, SHORT = Reject("no"), Retry(5), ValueError("plain"), Snooze(1)
STOPPED = asyncio.CancelledError()
LOST, LOST_AT_TIMEOUT = ThreadLost("lost"), ThreadLost("lost", at_timeout=True)
WRONG = Dead(reason="bad-arguments", failure=FAILURE)
ENDINGS: tuple[Ending | None, ...] = (None, "timeout", "release", "cancel")


def outcomes(error: BaseException, asked: bytes | Dead | None = None) -> list[Outcome]:
    """The outcomes of `error`, by how the run was being ended: not, by its timeout, by its worker, on request."""
    return [outcome_of_error(error, Run(ending, asked), Random(1)) for ending in ENDINGS]


def test_a_job_that_is_cancelled_or_given_back_is_that_whatever_it_raised() -> None:
    for error in (STOPPED, PLAIN, REJECT, SHORT, ProcessDied("died"), NeverRan("never ran"), LOST):
        assert outcomes(error)[2:] == [Released(), Cancelled()]


def test_what_it_raises_after_its_timeout_is_its_timeout() -> None:
    for error in (STOPPED, PLAIN, REJECT, SHORT):
        timed_out = outcomes(error)[1]
        assert isinstance(timed_out, Retrying)
        assert timed_out.failure == Failure("JobTimeout", "tasks.f did not finish within its timeout")


def test_a_process_that_died_is_charged_as_a_crash_and_no_attempt() -> None:
    for outcome in outcomes(ProcessDied("died"))[:2]:
        assert isinstance(outcome, Snoozed)
        assert outcome.meta == Meta(attempt=2, crashes=1)


def test_what_never_ran_or_never_ends_is_dead_without_another_attempt() -> None:
    for ending in outcomes(NeverRan("never ran"))[:2]:
        assert isinstance(ending, Dead)
        assert (ending.reason, ending.failure.type) == ("failed", "jetq.NeverRan")
    for ending in (*outcomes(LOST)[:2], *outcomes(LOST_AT_TIMEOUT)[:3]):  # also when the worker gives back what it runs
        assert isinstance(ending, Dead)
        assert (ending.reason, ending.failure.type) == ("timeout", "jetq.ThreadLost")
    assert outcomes(LOST_AT_TIMEOUT)[3] == Cancelled()


def test_the_arguments_it_asked_for_go_on_with_the_job_and_wrong_ones_end_it() -> None:
    failed, timed_out, released, cancelled = outcomes(RETRY, b"{}")
    assert isinstance(failed, Retrying)
    assert failed.body == b"{}"
    assert isinstance(timed_out, Retrying)
    assert timed_out.body is None  # it is the timeout that counts
    assert (released, cancelled) == (Released(b"{}"), Cancelled())
    failed, _, released, cancelled = outcomes(RETRY, WRONG)
    assert (failed, released, cancelled) == (WRONG, WRONG, Cancelled())
