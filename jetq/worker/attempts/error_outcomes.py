"""Decides what an exception of a job's code means for the job: collects the facts by which the policy decides."""

from __future__ import annotations

import logging
import random
from typing import Any

from msgspec import Struct

from jetq.client.task import Task
from jetq.encoding.sealer import Sealer
from jetq.errors import Retry
from jetq.model.failure import Failure
from jetq.model.job import Meta
from jetq.model.outcome import Cancelled, Dead, Outcome, Released
from jetq.worker.attempt import Attempt, Ending
from jetq.worker.policy import RetryPolicy, decisive, outcome_of_error
from jetq.worker.pools.errors import ProcessDied

__all__ = ["ErrorOutcomes"]

_log = logging.getLogger("jetq.worker")


class ErrorOutcomes:
    """Decides what becomes of attempts whose code has raised. sealer: seals the arguments that a Retry asks for."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._random = random.Random()

    def decisive(self, attempt: Attempt, error: BaseException) -> BaseException:
        """Return the exception that counts, of an `error` that may be a group."""
        return decisive(error, _policy(attempt))

    def outcome(self, attempt: Attempt, task: Task[..., Any], error: BaseException) -> Outcome:
        """Return the outcome of an `attempt` at `task` that has raised `error`. Pass the exception that `decisive`
        returned."""
        outcome = outcome_of_error(error, _FailedRun(attempt, task, self._sealer), self._random)
        if isinstance(error, ProcessDied) and not isinstance(outcome, Cancelled | Released):
            _log.warning("%s %s: %s", attempt.name, attempt.delivery.id, error.message)
        return outcome


class _FailedRun(Struct):
    """The facts of a run, as the policy needs them: see `FailedRun` there."""

    attempt: Attempt
    task: Task[..., Any]
    sealer: Sealer

    @property
    def name(self) -> str:
        return self.attempt.name

    @property
    def ending(self) -> Ending | None:
        return self.attempt.ending

    @property
    def meta(self) -> Meta:
        return self.attempt.meta

    @property
    def policy(self) -> RetryPolicy:
        return _policy(self.attempt)

    @property
    def max_crashes(self) -> int:
        return self.task.declared.max_crashes

    def capture(self, error: BaseException) -> Failure:
        return self.attempt.capture(error)

    def asked_arguments(self, error: BaseException) -> bytes | Dead | None:
        # A subclass may lack the attribute.
        arguments = getattr(error, "arguments", None) if isinstance(error, Retry) else None
        if not arguments:
            return None
        try:
            delivery = self.attempt.delivery
            body = self.sealer.open_arguments(delivery.task, delivery.queue, delivery.body)
            body = self.task.signature.merge(body, arguments)
            return self.sealer.seal_arguments(delivery.task, delivery.queue, body)
        except BaseException as bad:  # ArgumentError, or what the new arguments' own types or the codec raise
            return Dead(reason="bad-arguments", failure=self.attempt.capture(bad))


def _policy(attempt: Attempt) -> RetryPolicy:
    options = attempt.options
    return RetryPolicy(options.max_attempts, options.wait, options.dead_on, options.retry_on)
