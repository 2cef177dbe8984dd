"""What becomes of an attempt that did not return: pure decisions, with clock and random numbers handed in."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from difflib import get_close_matches
from random import Random

from msgspec import Struct
from msgspec.structs import replace
from tenacity import RetryCallState
from tenacity import Retrying as TenacityRetrying
from tenacity.wait import wait_base

from jetq.errors import Reject, Retry, Snooze
from jetq.model import Dead, Failure, Meta, Retrying, Snoozed

__all__ = ["RetryPolicy", "crashed", "decide", "default_wait", "unknown_task"]

_log = logging.getLogger("jetq.worker")

_BASE = 1.0
_CAP = 300.0
_PATIENCE = 600.0
_FIRST_LOOK, _LAST_LOOK = 5.0, 60.0


class RetryPolicy(Struct, frozen=True):
    """When a job is run again.

    max_attempts: runs in all, from 1. wait: seconds, a tenacity wait strategy, or None for `default_wait`. dead_on:
    exceptions that no further attempt would mend.
    """

    max_attempts: int = 3
    wait: float | wait_base | None = None
    dead_on: tuple[type[BaseException], ...] = ()


def default_wait(attempt: int, random: Random) -> float:
    """Seconds after failed attempt number `attempt` (from 1): between 1 and min(300, 3 ** attempt), evenly spread.

    Full jitter spreads a crowd of jobs that failed together; the floor of 1 s keeps the first retry from being none.
    """
    return random.uniform(_BASE, min(_CAP, 3.0 ** min(attempt, 10)))


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

    `body` are the arguments the task asked for by `Retry(arguments=...)`.
    """
    if isinstance(error, Snooze):
        return Snoozed(after=error.after)
    if isinstance(error, Reject):
        return Dead(reason="rejected", failure=replace(failure, message=error.reason))
    if policy.dead_on and isinstance(error, policy.dead_on):
        return Dead(reason="failed", failure=failure)
    if attempt >= policy.max_attempts:
        return Dead(reason="failed", failure=failure)
    after = error.after if isinstance(error, Retry) else None
    if after is None:
        after = _wait(error, attempt, policy, random)
    return Retrying(after=after, failure=failure, body=body)


def crashed(starts: int, max_crashes: int) -> Dead | None:
    """Dead, if a redelivered job was started `max_crashes` times: once before its first redelivery, which nobody
    recorded, and `starts` times since."""
    if starts + 1 < max_crashes:
        return None
    return Dead(
        reason="crashed",
        failure=Failure(
            type="jetq.WorkerLost",
            message=f"its worker was lost {starts + 1} times while it ran: killed, out of memory, or cut off",
        ),
    )


def unknown_task(
    meta: Meta, now: float, known: Collection[str], name: str, *, patience: float = _PATIENCE
) -> Snoozed | Dead:
    """A job of a task this worker does not know: back to the queue for `patience` seconds, then dead.

    A worker that knows it may be starting in a rolling deploy. The pauses grow from 5 to 60 s.
    """
    since = now if meta.unknown_since is None else meta.unknown_since
    waited = now - since
    if waited >= patience:
        return Dead(reason="unknown-task", failure=Failure(type="jetq.UnknownTask", message=_unknown(name, known)))
    after = min(max(_FIRST_LOOK, waited), _LAST_LOOK, max(patience - waited, 1.0))
    return Snoozed(after=after, meta=replace(meta, unknown_since=since))


def _unknown(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, known, n=3)
    nearest = f" The nearest names are {', '.join(close)}." if close else ""
    return f"No worker knows the task {name!r}.{nearest} Start a worker that imports its module, then replay the job."


def _wait(error: BaseException, attempt: int, policy: RetryPolicy, random: Random) -> float:
    wait = policy.wait
    if isinstance(wait, wait_base):
        try:
            after = float(wait(_call_state(error, attempt)))
            if math.isfinite(after) and after >= 0:
                return after
            _log.warning("wait strategy %s gave %r; the default takes its place", type(wait).__name__, after)
        except Exception as broken:  # a strategy is user code, and must not cost the job
            _log.warning("wait strategy %s failed (%s); the default takes its place", type(wait).__name__, broken)
        wait = None
    return default_wait(attempt, random) if wait is None else wait


def _call_state(error: BaseException, attempt: int) -> RetryCallState:
    state = RetryCallState(_TENACITY, None, (), {})
    state.attempt_number = attempt
    state.set_exception((type(error), error, error.__traceback__))
    return state


_TENACITY = TenacityRetrying()
