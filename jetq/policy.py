"""What becomes of an attempt that did not return: pure decisions, with clock and random numbers handed in."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from random import Random

from msgspec import Struct
from msgspec.structs import replace
from tenacity import RetryCallState
from tenacity import Retrying as TenacityRetrying
from tenacity.wait import wait_base

from jetq.errors import Reject, Retry, Snooze
from jetq.model import Dead, Failure, Meta, Needs, PutOff, Retrying, Snoozed
from jetq.units import seconds

__all__ = ["LONGEST_WAIT", "RetryPolicy", "crashed", "decide", "decisive", "default_wait", "put_off", "unknown_task"]

_log = logging.getLogger("jetq.worker")

LONGEST_WAIT = 10 * 365 * 86_400.0
"""Seconds to which every wait is cut. An exponential without a bound soon exceeds what a date can say."""

_BASE = 3.0
_SHORTEST, _CAP = 1.0, 300.0
_PATIENCE = 600.0
_FIRST_LOOK, _LAST_LOOK = 5.0, 60.0
_NAMES_SHOWN = 5


class RetryPolicy(Struct, frozen=True):
    """When a job is run again.

    max_attempts: runs in all, from 1. wait: seconds, a tenacity wait strategy, or None for `default_wait`. dead_on:
    exceptions that no further attempt would mend.

    Guarantee: tests/integration/test_worker_retries.py: no attempt is early, and each counts once;
    tests/faults/test_crash_sweep.py: none is lost with its worker.
    """

    max_attempts: int = 3
    wait: float | wait_base | None = None
    dead_on: tuple[type[BaseException], ...] = ()


def default_wait(attempt: int, random: Random) -> float:
    """Seconds after failed attempt number `attempt`, from 1: evenly spread from 1 to min(300, 3 ** attempt).

    So 2, 5, 14, 41, 122 and from then on 150 s on average. Full jitter, the whole way down to the least wait, spreads
    a crowd of jobs that failed together better than a narrow band around the mean does; the base of 3 makes the waits
    grow in spite of it. The least is 1 s, because whatever failed needs a moment.
    """
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
    """The outcome of attempt number `attempt` that ended in `error`, of which `failure` is the text.

    Every kind of exception is a failed attempt, SystemExit, KeyboardInterrupt and a CancelledError of the task's own
    making among them: what a task raises never ends its worker. A task that raises Retry asks for another attempt
    whatever `dead_on` says. `body` are the arguments it asked for by `Retry(arguments=...)`. Raises nothing.
    """
    asked = _asked(error) if isinstance(error, Snooze | Retry) else None
    if isinstance(error, Snooze):
        return Snoozed(after=default_wait(attempt, random) if asked is None else asked)
    if isinstance(error, Reject):
        return Dead(reason="rejected", failure=failure)
    hopeless = isinstance(error, policy.dead_on) and not isinstance(error, Retry)
    if hopeless or attempt >= policy.max_attempts:
        return Dead(reason="failed", failure=failure, body=body)
    after = _wait(error, attempt, policy, random) if asked is None else asked
    return Retrying(after=min(after, LONGEST_WAIT), failure=failure, body=body)


def decisive(error: BaseException, dead_on: tuple[type[BaseException], ...] = ()) -> BaseException:
    """What counts of an `error` that may be a group, as a task group raises one: the one that it holds; of several a
    Reject, one of `dead_on` or a Retry, in this order, or the longest Snooze if all are. Else the group."""
    if not isinstance(error, BaseExceptionGroup) or isinstance(error, dead_on):
        return error
    leaves = list(_leaves(error))
    if len(leaves) == 1:
        return leaves[0]
    for kinds in (Reject, dead_on, Retry):
        for leaf in leaves:
            if isinstance(leaf, kinds):
                return leaf
    if leaves and all(isinstance(leaf, Snooze) for leaf in leaves):
        return max(leaves, key=lambda leaf: _asked(leaf) or 0.0)
    return error


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


def crashed(starts: int, max_crashes: int) -> Dead | None:
    """Dead, if a job was started `max_crashes` times and never ended: `starts` times on record, and once before its
    first redelivery, which is not recorded unless it is the only one. None if it may be started again.

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
    return Dead(reason="crashed", failure=Failure(type="jetq.WorkerLost", message=message))


def process_died(meta: Meta, max_crashes: int, failure: Failure) -> Dead | Snoozed:
    """What becomes of a job that ended its process: it runs again after some seconds, or is dead when this happened
    `max_crashes` times. It is charged for that, and no attempt is."""
    crashes = meta.crashes + 1
    if crashes >= max_crashes:
        return Dead(reason="crashed", failure=failure)
    return Snoozed(after=float(crashes), meta=replace(meta, crashes=crashes))


def put_off(
    needs: Needs, since: float | None, looks: int, now: float, *, able: bool, patience: float = _PATIENCE
) -> PutOff | None:
    """What becomes of a job that this worker's code cannot run: back to the queue, for `patience` seconds from `since`
    on; then None, and it is dead.

    In a rolling deploy a worker that can is starting or busy. able: one is known at the moment, so patience begins
    anew. looks: how often it was put off before: the pauses grow from 5 to 60 s. Times in unix seconds.
    """
    # Another worker's clock may be ahead of this one's, and what a message says may be anything.
    since = now if since is None or able else min(since, now)
    waited = now - since
    if waited >= patience:
        return None
    after = min(_FIRST_LOOK * 2 ** min(looks, 10), _LAST_LOOK, max(patience - waited, 1.0))
    return PutOff(after=after, needs=needs, since=since, looks=looks + 1)


def unknown_task(known: Collection[str], name: str) -> Dead:
    """The end of a job whose task `name` is not among the `known` ones."""
    return Dead(reason="unknown-task", failure=Failure(type="jetq.UnknownTask", message=_unknown(name, known)))


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
    """The wait that the task asked for, None if it named none. A subclass may have left anything there."""
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
    except BaseException as broken:  # a strategy is user code, and a fault in it must not cost the job
        strategy = type(policy.wait).__name__
        _log.warning("wait strategy %s failed (%s); the default takes its place", strategy, type(broken).__name__)
        return default_wait(attempt, random)


def _call_state(error: BaseException, attempt: int) -> RetryCallState:
    """What a wait strategy is asked with. Strategies read the attempt's number and its outcome."""
    state = RetryCallState(_TENACITY, None, (), {})
    state.attempt_number = attempt
    state.set_exception((type(error), error, error.__traceback__))
    return state


_TENACITY = TenacityRetrying()
