"""Stored jobs as a test sees them, with their arguments decoded as the worker would decode them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from jetq.client.app import Jetq
from jetq.client.task import Task
from jetq.encoding.headers import read_meta
from jetq.errors import ArgumentError
from jetq.model.annotations import bind, signature_of
from jetq.model.job import StoredJob
from jetq.model.redaction import RedactedRepr, redacted

__all__ = ["EnqueuedJob", "as_enqueued", "check_parameters", "decoded_arguments", "listed", "no_such_job"]


class EnqueuedJob(RedactedRepr, Struct, frozen=True):
    """A job that waits in its queue. arguments: as the task will get them, by parameter name, with defaults; of a step
    of a workflow, without the values of other steps.

    due: when the job is to run, aware UTC by the test's clock; None if it is ready. attempt: the attempt that it waits
    for, counted from 1.
    """

    id: str
    task: str
    queue: str
    arguments: Mapping[str, Any]
    state: Literal["scheduled", "queued"]
    due: datetime | None
    attempt: int

    def has(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether the job has all of `arguments`. The job may have further arguments."""
        return all(name in self.arguments and self.arguments[name] == value for name, value in arguments.items())

    def __str__(self) -> str:
        given = listed(self.arguments)
        when = "" if self.due is None else f", due {self.due:%Y-%m-%d %H:%M:%S} UTC"
        again = "" if self.attempt == 1 else f", attempt {self.attempt}"
        return f"{self.task}({given}) in queue {self.queue}{when}{again}"


def as_enqueued(found: StoredJob, app: Jetq, tasks: Mapping[str, Task[..., Any]]) -> EnqueuedJob:
    """Return the stored job as a test sees it. If its task is not in `tasks`, its arguments are the JSON values."""
    delivery, meta = found.delivery, read_meta(found.delivery.headers)
    body = app.open_arguments(delivery.task, delivery.queue, delivery.body)
    return EnqueuedJob(
        id=delivery.id,
        task=delivery.task,
        queue=delivery.queue,
        arguments=decoded_arguments(body, tasks.get(delivery.task), partly=meta.flow is not None),
        state=found.state,
        due=None if found.due is None else datetime.fromtimestamp(found.due, UTC),
        attempt=meta.attempt,
    )


def decoded_arguments(body: bytes, task: Task[..., Any] | None, *, partly: bool = False) -> Mapping[str, Any]:
    """Return the arguments in `body` by parameter name, as `task` gets them; without a task, the JSON values.

    partly: the job is a member of a workflow, which takes values of other steps when it begins. If such a value is
    missing, the others are returned as JSON values. Raises ArgumentError for arguments that do not fit.
    """
    values: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    if task is None:
        return values
    try:
        args, kwargs = task.signature.decode(body)
    except ArgumentError:
        if not partly:
            raise
        return values
    bound = bind(signature_of(task.fn), args, kwargs)
    bound.apply_defaults()
    return bound.arguments


def check_parameters(task: Task[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise ArgumentError for a name that is no parameter of `task`, because no job of `task` could have that
    argument."""
    parameters = signature_of(task.fn).parameters
    for name in arguments:
        if name not in parameters:
            raise ArgumentError(f"{task.signature.text} has no parameter {name!r}")


def no_such_job(task: str, arguments: Mapping[str, Any], jobs: list[EnqueuedJob]) -> str:
    """Return the message of an assertion that found no matching job: what it looked for, and which jobs are stored."""
    wanted = listed(arguments)
    there = "\n".join(f"  {job}" for job in jobs) or "  nothing"
    return f"no job {task}({wanted}) is enqueued; enqueued:\n{there}"


def listed(arguments: Mapping[str, Any]) -> str:
    """Return `arguments` as a call writes them, without those whose names say that they are secret."""
    return ", ".join(f"{name}={value!r}" for name, value in redacted(dict(arguments)).items())
