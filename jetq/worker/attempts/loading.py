"""Reads a delivery: finds its task and its arguments, and whether the job can and may run in this worker."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Raw

from jetq.broker.clock import Clock
from jetq.client.task import Task
from jetq.encoding.filling import filled
from jetq.encoding.headers import BadHeader, NewerHeader, read_meta, read_off
from jetq.encoding.sealer import Sealer
from jetq.encoding.signature import Undecodable
from jetq.errors import ArgumentError, BadPayload
from jetq.model.job import Delivery
from jetq.model.outcome import Cancelled, Dead, Expired, Needs, Outcome, PutOff, dead, stray
from jetq.model.workflows.plan import Spot
from jetq.operations.workflows.creating import START, WATCH
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.error_outcomes import ErrorOutcomes
from jetq.worker.attempts.handover import SETTLED_AFTER, Handover
from jetq.worker.attempts.needs import lacking_arguments, other_name
from jetq.worker.policy import put_off, unknown_task

__all__ = ["Loader"]

_log = logging.getLogger("jetq.worker")


class Loader:
    """Reads the jobs of one worker.

    tasks: the tasks that the worker can run, by name. handover: knows which other workers can run jobs that this worker
    cannot run. sealer: opens arguments.
    """

    def __init__(self, clock: Clock, tasks: Mapping[str, Task[..., Any]], handover: Handover, sealer: Sealer) -> None:
        self.tasks = tasks
        self._clock = clock
        self._handover = handover
        self._sealer = sealer
        self._errors = ErrorOutcomes(sealer)
        self._misnamed: set[str] = set()

    def load(self, attempt: Attempt) -> Outcome | None:
        """Read the job into `attempt`. Return an outcome if the job cannot or must not run, else None. A member of a
        workflow is loaded twice: its arguments are read when it has the values of other steps.

        Guarantee: tests/integration/bad_input/test_fuzzed_frames.py: whatever was stored is run, or dead with its
        bytes, once.
        """
        outcome = self.recognize(attempt) if attempt.values is None else None
        if outcome is None and attempt.task is not None and (attempt.meta.flow is None or attempt.values is not None):
            outcome = self._decode(attempt, attempt.task)
        if attempt.ending == "cancel":
            return Cancelled()
        if (outcome is None or isinstance(outcome, PutOff)) and self.has_expired(attempt):
            return Expired()
        return outcome

    def has_expired(self, attempt: Attempt) -> bool:
        """Return whether the job came too late to be run. Call `recognize` before."""
        expires = attempt.meta.expires
        return expires is not None and self._clock.now() > expires

    def recognize(self, attempt: Attempt) -> Outcome | None:
        """Find out what the job is, without any user code. Return an outcome if the job cannot run, else None."""
        delivery = attempt.delivery
        try:
            meta = read_meta(delivery.headers)
            attempt.meta = meta if attempt.kept is None else attempt.kept[0].next_meta(meta)
        except NewerHeader as error:
            needs, newer = Needs(delivery.task, v=error.v), dead("undecodable", "jetq.NewerHeader", str(error))
            return self._put_off(attempt, needs, newer) if delivery.task else newer
        except BadHeader as error:
            return dead("undecodable", "jetq.BadHeader", str(error))
        task = self.tasks.get(delivery.task)
        if task is None:
            if delivery.task == START or (delivery.task == WATCH and meta.flow is not None):
                return None  # each worker has these tasks, which are none of the application
            if not delivery.task:
                return stray(delivery.address)
            self._warn_of_other_name(delivery.task)
            return self._put_off(attempt, Needs(delivery.task), unknown_task(self.tasks.keys(), delivery.task))
        attempt.task = task
        return None

    def _decode(self, attempt: Attempt, task: Task[..., Any]) -> Outcome | None:
        delivery, body = attempt.delivery, attempt.delivery.body
        try:
            if self._sealer.codec is not None:  # checked here, which saves a call for each job
                body = self._opened(delivery)
            if attempt.values:
                body = _with_values(body, attempt.values)
            attempt.args, attempt.kwargs = task.signature.decode(body)
        except BadPayload as error:
            return dead("undecodable", "jetq.BadPayload", error.message)
        except Undecodable as error:
            return self._undecodable(delivery, error)
        except ArgumentError as error:
            wrong, lacking = dead("bad-arguments", "jetq.ArgumentError", error.message), lacking_arguments(task, body)
            return wrong if lacking is None else self._put_off(attempt, lacking, wrong)
        except BaseException as error:  # an argument's own type may raise anything, and must not make the job go round
            if isinstance(error, Exception):
                return Dead(reason="bad-arguments", failure=attempt.capture(error))
            return self._errors.outcome(attempt, task, error)
        return None

    def _opened(self, delivery: Delivery) -> bytes:
        return self._sealer.open_arguments(delivery.task, delivery.queue, delivery.body)

    def _undecodable(self, delivery: Delivery, error: Undecodable) -> Outcome:
        try:
            self._opened(delivery)  # without a codec it was not checked yet whether the arguments need one
        except BadPayload as bad:
            return dead("undecodable", "jetq.BadPayload", bad.message)
        return dead("undecodable", "jetq.Undecodable", str(error))

    def _put_off(self, attempt: Attempt, needs: Needs, otherwise: Dead) -> PutOff | Dead:
        """Send the job back to the queue, for a worker whose code is different. Return `otherwise` once it is known
        that there is no such worker.

        Guarantee: tests/faults/test_mixed_fleet.py.
        """
        delivery = attempt.delivery
        off, able = read_off(delivery.headers), self._handover.knows_of(delivery.queue, needs)
        since = attempt.meta.unknown_since if off.since is None else off.since
        outcome = put_off(needs, since, off.looks, self._clock.now(), able=able)
        # Able workers have not announced themselves yet, because this worker asks none.
        if outcome is None and not self._handover.settled:
            return PutOff(SETTLED_AFTER, needs, since or self._clock.now(), off.looks)
        return otherwise if outcome is None else outcome

    def _warn_of_other_name(self, task: str) -> None:
        """Warn once of a task that has another name in this worker: its producer and this worker import the task
        differently."""
        here = None if task in self._misnamed else other_name(task, self.tasks)
        if here is not None:
            self._misnamed.add(task)
            _log.warning(
                "the task %s is called %s in this worker, as it seems because its module was imported under another "
                "name: import it by one name everywhere, here by `jetq worker %s`, where the producer runs too",
                task, here, task.rpartition(".")[0],
            )  # fmt: skip


def _with_values(body: bytes, values: Iterable[tuple[Spot, Raw]]) -> bytes:
    """Return the arguments of a member with the values of other steps. Raises Undecodable."""
    try:
        return filled(body, values)
    except (ValueError, TypeError) as error:
        raise Undecodable(f"the arguments do not take the values of other steps: {error}") from None
