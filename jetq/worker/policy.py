"""Decides what becomes of an attempt that did not return. The decisions are pure: clock and random numbers are passed
in."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from random import Random
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace
from tenacity import RetryCallState
from tenacity import Retrying as TenacityRetrying
from tenacity.wait import wait_base

from jetq.encoding.failures import members, text_of, type_name
from jetq.errors import Interruption, JobTimeout, RateLimited, Reject, Retry, Snooze
from jetq.model.definitions.options import MAX_ATTEMPTS, Condition
from jetq.model.definitions.wrappers import NeverRan
from jetq.model.failure import Failure
from jetq.model.job import Meta
from jetq.model.outcome import Cancelled, Dead, Needs, Outcome, PutOff, Released, Retrying, Snoozed, dead
from jetq.units import seconds
from jetq.worker.attempt import Ending
from jetq.worker.pools.errors import ProcessDied, ThreadLost

__all__ = [
    "LONGEST_WAIT",
    "FailedRun",
    "RetryPolicy",
    "crashed",
    "decide",
    "decisive",
    "default_wait",
    "outcome_of_error",
    "process_died",
    "put_off",
    "unknown_task",
    "unraised",
]

_log = logging.getLogger("jetq.worker")

LONGEST_WAIT = 10 * 365 * 86_400.0
"""The most seconds of every wait. An exponential wait without a bound soon exceeds what a date can express."""

_BASE = 3.0
"""Base of the exponential `default_wait`: see there."""
_SHORTEST, _CAP = 1.0, 300.0
"""The least and the most seconds of `default_wait`."""
_PATIENCE = 600.0
"""Seconds for which a job that no worker can run is put off before the job is dead."""
_FIRST_LOOK, _LAST_LOOK = 5.0, 60.0
"""The first and the most seconds for which a job that this worker cannot run is put off."""
_NAMES_SHOWN = 5
"""The most names of known tasks in a message about an unknown task."""


class RetryPolicy(Struct, frozen=True):
    """Decides when a job is run again.

    max_attempts: runs in all, from 1. wait: seconds, a tenacity wait strategy, or None for `default_wait`. dead_on:
    exceptions that no further attempt would mend. retry_on: exceptions that a further attempt may mend; None means all
    others. A job whose exception matches both is not run again. Where a function of `dead_on` or `retry_on` raises, the
    job is run again.

    Guarantee: tests/integration/attempts/test_retries.py: no attempt is early, and each counts once;
    tests/faults/test_crash_sweep.py: none is lost with its worker.
    """

    max_attempts: int = MAX_ATTEMPTS
    wait: float | wait_base | None = None
    dead_on: Condition = ()
    retry_on: Condition | None = None


class FailedRun(Protocol):
    """The facts by which a run that ended in an exception is judged."""

    @property
    def name(self) -> str:
        """The task's name."""
        ...

    @property
    def ending(self) -> Ending | None:
        """How the run was being ended, or None."""
        ...

    @property
    def meta(self) -> Meta:
        """The metadata of the job, with its earlier attempts."""
        ...

    @property
    def policy(self) -> RetryPolicy:
        """The policy by which the job is run again."""
        ...

    @property
    def max_crashes(self) -> int:
        """How many processes the job may end, from 1."""
        ...

    def capture(self, error: BaseException) -> Failure:
        """Return `error` as text."""
        ...

    def asked_arguments(self, error: BaseException) -> bytes | Dead | None:
        """Return the arguments of the next attempt if `error` asks for other arguments, Dead if those arguments are
        wrong, else None."""
        ...


def outcome_of_error(error: BaseException, run: FailedRun, random: Random) -> Outcome:
    """Return the outcome of a `run` that raised `error`; of a group, pass the `decisive` exception. The first of these
    rules counts:

    1. the job was cancelled,
    2. its worker gives the job back, unless its thread had been lost at its timeout by then: that is no fault of the
       worker,
    3. its process died of the job,
    4. the job returned what cannot be run,
    5. its thread was lost,
    6. its timeout has passed, whatever the job has raised since,
    7. the exception counts, as `decide` says.

    Raises nothing but what `run` raises.
    """
    if run.ending == "cancel":
        return Cancelled()
    if run.ending == "release" and not (isinstance(error, ThreadLost) and error.at_timeout):
        body = run.asked_arguments(error)
        return body if isinstance(body, Dead) else Released(body)
    if isinstance(error, ProcessDied):
        return process_died(run.meta, run.max_crashes, run.capture(error))
    if isinstance(error, NeverRan):
        return dead("failed", "jetq.NeverRan", str(error))
    if isinstance(error, ThreadLost):
        return dead("timeout", "jetq.ThreadLost", str(error))
    if run.ending == "timeout" and not isinstance(error, JobTimeout):
        timeout = JobTimeout(f"{run.name} did not finish within its timeout")
        timeout.__cause__ = error
        error = timeout
    body = run.asked_arguments(error)
    if isinstance(body, Dead):
        return body
    return decide(error, run.meta.attempt, run.capture(error), run.policy, random=random, body=body)


def default_wait(attempt: int, random: Random) -> float:
    """Return the seconds to wait after failed attempt number `attempt`, from 1.

    The wait is evenly spread from 1 to min(300, 3 ** attempt). So the mean is 2, 5, 14, 41, 122 and from then on 150 s.
    Full jitter, the whole way down to the least wait, spreads a crowd of jobs that failed together better than a narrow
    band around the mean does; the base of 3 makes the waits grow in spite of the jitter. The least wait is 1 s, because
    whatever failed needs a moment.
    """
    # 3 ** 10 is far above the cap already, and a larger power would overflow in the end.
    return random.uniform(_SHORTEST, min(_CAP, _BASE ** min(max(attempt, 1), 10)))


def decide(
    error: BaseException,
    attempt: int,
    failure: Failure,
    policy: RetryPolicy,
    *,
    random: Random,
    body: bytes | None = None,
) -> Retrying | Snoozed | Dead:
    """Return the outcome of attempt number `attempt` that ended in `error`. `failure` is the text of `error`.

    Every kind of exception is a failed attempt, also SystemExit, KeyboardInterrupt and a CancelledError of the task's
    own making: an exception of a task never ends its worker. A task that raises Retry asks for another attempt whatever
    `dead_on` and `retry_on` say. `body` are the arguments that the task asked for by `Retry(arguments=...)`. Raises
    nothing.
    """
    asked = _asked(error) if isinstance(error, Snooze | Retry) else None
    if isinstance(error, Snooze):
        return Snoozed(after=default_wait(attempt, random) if asked is None else asked)
    if isinstance(error, Reject):
        return Dead(reason="rejected", failure=failure)
    if attempt >= policy.max_attempts or _hopeless(error, policy) is not None:
        return Dead(reason="failed", failure=failure, body=body)
    after = _wait(error, attempt, policy, random) if asked is None else asked
    return Retrying(after=min(after, LONGEST_WAIT), failure=failure, body=body)


_OWN = (ProcessDied, ThreadLost, NeverRan)
"""Exceptions that tell how a run has ended, whatever its own code has raised beside them."""


def decisive(error: BaseException, policy: RetryPolicy) -> BaseException:
    """Return the exception that counts, of an `error` that may be a group, as a task group raises one. The first in the
    group, at any depth, counts that is

    1. raised by jetq alone: a lost thread or process, a task that never ran, or an Interruption, as the error that the
       Interruption represents,
    2. a Reject,
    3. an exception that no further attempt would mend, as `dead_on` and `retry_on` say, or the group if `dead_on` names
       its class,
    4. a Retry,
    5. the Snooze or RateLimited with the longest wait;

    otherwise an exception that is the only one, or says the same as all others; otherwise the group.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    held = [each for each in members(error) if not isinstance(each, BaseExceptionGroup)]
    own = _first((*_OWN, Interruption), held)
    if isinstance(own, Interruption):
        return own.error().with_traceback(own.__traceback__)
    for found in (own, _first(Reject, held), _hopeless(error, policy), _first(Retry, held)):
        if found is not None:
            return found
    snoozes = [each for each in held if isinstance(each, Snooze)]
    if snoozes:
        return max(snoozes, key=lambda each: (_asked(each) or 0.0, isinstance(each, RateLimited)))
    alike = len({(type(each), text_of(each)) for each in held}) == 1
    return held[0] if alike else error


def _first(
    kinds: type[BaseException] | tuple[type[BaseException], ...], held: Iterable[BaseException]
) -> BaseException | None:
    return next((each for each in held if isinstance(each, kinds)), None)


def _hopeless(error: BaseException, policy: RetryPolicy) -> BaseException | None:
    """Return the first exception in `error`, which may be a group, that no further attempt would mend; None if there is
    none.

    An exception by which a task asks for something (Reject, Retry, Snooze) is not looked at. A group itself counts only
    where `dead_on` has its class.
    """
    dead_on, retry_on = policy.dead_on, policy.retry_on
    groups, ordinary = list[BaseException](), list[BaseException]()
    for each in members(error):
        if not isinstance(each, Reject | Retry | Snooze):
            (groups if isinstance(each, BaseExceptionGroup) else ordinary).append(each)
    for each in ordinary:
        if _is_meant("dead_on", dead_on, each, unsure=False):
            return each
        if retry_on is not None and not _is_meant("retry_on", retry_on, each, unsure=True):
            return each
    by_class = ordinary and isinstance(dead_on, tuple)
    return error if by_class and any(_is_meant("dead_on", dead_on, each, unsure=False) for each in groups) else None


def _is_meant(option: str, meant: Condition, error: BaseException, *, unsure: bool) -> bool:
    """Return whether an option means `error`; `unsure` if that cannot be told."""
    try:
        return isinstance(error, meant) if isinstance(meant, tuple) else bool(meant(error))
    except BaseException as broken:  # the option may be user code, whose faults must not cost the job
        _log.warning(
            "%s failed when it was asked about %s (%s); another attempt is taken to be worth it",
            option, type_name(type(error)), type_name(type(broken)),
        )  # fmt: skip
        return unsure


def unraised(value: object) -> Dead | None:
    """Return Dead if `value`, which a task returned, is an exception or an exception class: it was meant to be raised.
    Else None."""
    kind: type = value if issubclass(type(value), type) else type(value)  # type: ignore[assignment]
    if not issubclass(kind, BaseException):
        return None
    name = type_name(kind).rpartition(".")[2]
    message = f"the task returned {name} and did not raise it, which has no effect: write `raise {name}(...)`"
    return dead("failed", "jetq.ResultError", message)


def crashed(starts: int, max_crashes: int) -> Dead | None:
    """Return Dead if a job was started `max_crashes` times and never ended, or None if it may be started again. The
    starts are the `starts` on record, and one before the first redelivery, which is not recorded unless it is the only
    start.

    Guarantee: tests/faults/test_poison.py: who kills its worker is dead after `max_crashes` starts, and its neighbours
    are not charged.
    """
    started = starts if max_crashes == 1 else starts + 1
    if started < max_crashes:
        return None
    times = "once" if started == 1 else f"{started} times"
    message = (
        f"the worker was lost {times} while it ran this job: it was killed, ran out of memory, or was cut off"
        " from the broker for longer than its lease"
    )
    return dead("crashed", "jetq.WorkerLost", message)


def process_died(meta: Meta, max_crashes: int, failure: Failure) -> Dead | Snoozed:
    """Return the outcome of a job that ended its process: the job runs again after some seconds, or is dead when this
    happened `max_crashes` times. The crash is charged to the job, and no attempt is."""
    crashes = meta.crashes + 1
    if crashes >= max_crashes:
        return Dead(reason="crashed", failure=failure)
    return Snoozed(after=float(crashes), meta=replace(meta, crashes=crashes))


def put_off(
    needs: Needs, since: float | None, looks: int, now: float, *, able: bool, patience: float = _PATIENCE
) -> PutOff | None:
    """Return the outcome of a job that this worker's code cannot run: back to the queue, for `patience` seconds from
    `since` on. After that return None: the job is dead.

    In a rolling deploy a worker that can run the job is starting or busy. able: an able worker is known at the moment,
    so `patience` begins anew. looks: how many times the job was put off before: the pauses grow from 5 to 60 s. Times
    are in unix seconds.
    """
    # Another worker's clock may be ahead of this worker's clock, and a message may name any time.
    since = now if since is None or able else min(since, now)
    waited = now - since
    if waited >= patience:
        return None
    # The exponent is bounded for the same reason as in `default_wait`.
    after = min(_FIRST_LOOK * 2 ** min(looks, 10), _LAST_LOOK, max(patience - waited, 1.0))
    return PutOff(after=after, needs=needs, since=since, looks=looks + 1)


def unknown_task(known: Collection[str], name: str) -> Dead:
    """Return the outcome of a job whose task `name` is not among the `known` tasks."""
    return dead("unknown-task", "jetq.UnknownTask", _unknown(name, known))


def _unknown(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, known, n=3)
    if close:
        others = f"did you mean {' or '.join(close)}?"
    else:
        some = sorted(known)[:_NAMES_SHOWN]
        others = f"it has {', '.join(some)}{' and more' if len(known) > len(some) else ''}."
    module = name.rpartition(".")[0] or "MODULE"
    return (
        f"no worker of this queue knows the task {name!r}; {others}"
        f" Start one that imports it, e.g. jetq worker {module}, then replay the job."
    )


def _asked(error: BaseException) -> float | None:
    """Return the seconds that the task asked to wait, None if the task named none. A subclass may have left anything in
    the attribute."""
    after: object = getattr(error, "after", None)
    try:
        return None if after is None else min(seconds(after, "after"), LONGEST_WAIT)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as wrong:
        _log.warning("%s: %s; the task's own wait takes its place", type(error).__name__, wrong)
        return None


def _wait(error: BaseException, attempt: int, policy: RetryPolicy, random: Random) -> float:
    if policy.wait is None:
        return default_wait(attempt, random)
    if not isinstance(policy.wait, wait_base):
        return policy.wait
    try:
        return seconds(policy.wait(_call_state(error, attempt)), "wait")
    except BaseException as broken:  # a strategy is user code, whose faults must not cost the job
        strategy = type(policy.wait).__name__
        _log.warning("wait strategy %s failed (%s); the default takes its place", strategy, type(broken).__name__)
        return default_wait(attempt, random)


def _call_state(error: BaseException, attempt: int) -> RetryCallState:
    """Return the state with which a wait strategy is called. Strategies read the attempt's number and its outcome."""
    state = RetryCallState(_TENACITY, None, (), {})
    state.attempt_number = attempt
    state.set_exception((type(error), error, error.__traceback__))
    return state


_TENACITY = TenacityRetrying()
