"""Questions to running workers, and their answers.

They are not stored, but the two sides may be of different versions. So the names on the wire, which `field(name=)`
keeps, never change.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from msgspec import Struct, field

__all__ = ["HeldJob", "StatusQuery", "WorkerStatus", "own_version", "waits_for_itself"]


class StatusQuery(Struct, frozen=True, omit_defaults=True):
    """A question to the workers of a queue, about one job and some tasks, each as far as it is given."""

    id: str | None = None
    """The id of the job to tell of; None for no job."""

    task: str | None = None
    """The name of a task: the worker tells whether its code can run this task. None for no task."""

    only_holder: bool = field(name="holders", default=False)
    """Whether only a worker that has the job is to answer."""

    tasks: tuple[str, ...] = ()
    """Names of tasks: the worker tells which of these tasks its code cannot run."""


class HeldJob(Struct, frozen=True, omit_defaults=True):
    """A job that a worker holds."""

    attempt: int = 1
    """The number of the attempt, from 1."""

    started: float | None = None
    """When the attempt started, in unix seconds; None while the job waits for its turn."""

    cancelled: bool = False
    """Whether the job was asked to end."""

    waits: str = ""
    """What the job waits for; empty if it waits for nothing."""


class WorkerStatus(Struct, frozen=True, omit_defaults=True):
    """The state of a worker now."""

    worker: str
    """Its name."""

    host: str
    """The name of its machine."""

    pid: int
    """Its process id."""

    version: str
    """The version of jetq; empty if jetq runs from its sources."""

    since: float
    """When the worker started, in unix seconds."""

    slots: int
    """How many jobs the worker can run at once."""

    busy: int
    """How many of its slots run jobs."""

    queues: tuple[str, ...] = ()
    """The queues that the worker serves."""

    stopping: bool = False
    """Whether the worker takes no more jobs."""

    can_run: bool | None = field(name="knows", default=None)
    """Whether the worker can run the `task` of the question; None if the question names no task."""

    held: HeldJob | None = None
    """The job of the question; None if the worker does not hold the job."""

    missing_tasks: tuple[str, ...] | None = field(name="lacks", default=None)
    """The `tasks` of the question that the worker cannot run. None in answers of older versions, which do not tell."""

    now: float | None = None
    """The worker's clock, in unix seconds. None in answers of older versions, which do not tell."""


def waits_for_itself(answers: Iterable[WorkerStatus], worker: str) -> bool:
    """Return whether a job of `worker` that waits for another job may keep that other job from a slot.

    That is so if no worker has started the other job, all slots of its queue's workers are taken, and `worker` is among
    these workers. answers: the workers' answers to the question for the other job.
    """
    answers = list(answers)
    begun = any(answer.held is not None and answer.held.started is not None for answer in answers)
    full = all(answer.busy >= answer.slots for answer in answers)
    return full and not begun and any(answer.worker == worker for answer in answers)


def own_version() -> str:
    """Return the version of the installed package; empty if jetq runs from its sources alone."""
    try:
        return version("jetq-nats")
    except PackageNotFoundError:
        return ""
