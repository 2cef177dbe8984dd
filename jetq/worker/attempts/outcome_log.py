"""Logs how an attempt has ended: a line for people, and the same facts as fields for machines."""

from __future__ import annotations

import logging
import time
from typing import Any

from jetq.encoding.failures import in_a_line
from jetq.model.failure import Failure
from jetq.model.job_context import FIELDS
from jetq.model.outcome import (
    Cancelled,
    Dead,
    Expired,
    InLine,
    Marked,
    Outcome,
    PutOff,
    Released,
    Retrying,
    Snoozed,
    Succeeded,
    Superseded,
)
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.needs import shown_needs

__all__ = ["log_outcome"]

_log = logging.getLogger("jetq.worker")

_WORDS: dict[type[Outcome], str] = {
    Succeeded: "succeeded",
    Retrying: "retrying",
    InLine: "in-line",
    Snoozed: "snoozed",
    PutOff: "put-off",
    Dead: "dead",
    Cancelled: "cancelled",
    Expired: "expired",
    Released: "released",
    Superseded: "superseded",
    Marked: "marked",
}
"""The values of the field `outcome`, by kind. These words never change, because readers of logs may look for them."""


def log_outcome(attempt: Attempt, outcome: Outcome) -> None:
    """Log how `attempt` has ended, with the fields job, task, queue, attempt, outcome and duration, in seconds."""
    level, text, values = _line(attempt, outcome)
    if not _log.isEnabledFor(level):
        return
    _log.log(level, f"%s %s{text}", attempt.name, attempt.delivery.id, *values, extra=_fields(attempt, outcome))
    if isinstance(outcome, Retrying | Dead):
        _log_traceback(attempt, outcome.failure)


def _line(attempt: Attempt, outcome: Outcome) -> tuple[int, str, tuple[Any, ...]]:
    """Return the log level, and the format and the values of the text that follows the task and the id."""
    match outcome:
        case Succeeded():
            return logging.DEBUG, " succeeded in %.3f s", (_duration(attempt),)
        case Retrying(after=after, failure=failure):
            said = (in_a_line(failure), attempt.meta.attempt + 1, after)
            return logging.WARNING, " failed: %s; attempt %d is due in %.1f s", said
        case InLine(line=line):
            return logging.DEBUG, " waits in the line of %s", (line,)
        case Snoozed(after=after):
            return logging.INFO, " is put off for %.1f s", (after,)
        case PutOff(needs=needs, after=after):
            text = ": this worker %s; the job is put off for one that can run it, for %.1f s at most"
            return logging.WARNING, text, (shown_needs(needs), after)
        case Dead(reason=reason, failure=failure):
            return logging.ERROR, " is dead (%s): %s; see `jetq dlq show`", (reason, in_a_line(failure))
        case Cancelled():
            return logging.INFO, " is cancelled", ()
        case Expired():
            return logging.WARNING, " expired before it was started", ()
        case Released():
            return logging.INFO, " is given back", ()
        case Superseded():
            return logging.INFO, " was settled already", ()
        case Marked(failure=failure):
            if failure is None:
                return logging.INFO, " has left its mark already", ()
            return logging.WARNING, " fails without a run: it takes the value of step %s", (failure.step,)


def _fields(attempt: Attempt, outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "job": attempt.delivery.id,
        "task": attempt.delivery.task,
        "queue": attempt.delivery.queue,
        "attempt": attempt.meta.attempt,
        "outcome": _WORDS[type(outcome)],
    }
    if attempt.started:
        fields["duration"] = round(_duration(attempt), 6)
    return {FIELDS: fields}


def _duration(attempt: Attempt) -> float:
    return time.monotonic() - attempt.started


def _log_traceback(attempt: Attempt, failure: Failure) -> None:
    if failure.traceback:
        _log.debug("%s %s failed here:\n%s", attempt.name, attempt.delivery.id, failure.traceback.rstrip())
