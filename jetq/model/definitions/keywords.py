"""The keywords of tasks and calls as users write them, before they are checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypedDict

from jetq.model.job import Level

if TYPE_CHECKING:
    from tenacity.wait import wait_base

    from jetq.model.definitions.schedule import Schedule

__all__ = ["CallOptions", "Condition", "Exceptions", "Seconds", "TaskKeywords", "Unique"]

Seconds = float | timedelta

Condition = tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""The exceptions that an option means: exceptions of these classes, or exceptions for which a function returns True."""

Exceptions = type[BaseException] | Condition
Unique = Literal["done", "running"]


class TaskKeywords(TypedDict, total=False):
    """The keywords of `@task(...)`."""

    name: str
    """The task's name, by which workers find its code; `MODULE.FUNCTION` without."""

    queue: str
    """The queue of its jobs; `default` without."""

    max_attempts: int
    """Runs in all before a job is dead, from 1."""

    wait: Seconds | wait_base
    """Seconds between attempts, or a tenacity wait strategy; without, exponential with full jitter, 1 to 300 s."""

    dead_on: Exceptions
    """Exceptions not worth a retry: a class, a tuple of classes, or a function that tells whether one is."""

    retry_on: Exceptions
    """Exceptions worth a retry, if not all others, given in the same way."""

    timeout: Seconds | None
    """Seconds that an attempt may take; None for no bound."""

    max_crashes: int
    """Starts that may end with the worker's death, from 1. With 1 the jobs run alone in their process, one by one."""

    result_ttl: Seconds | None
    """Seconds for which a result is kept, from 1; None keeps none. Without, an hour, and nothing for a function
    annotated to return nothing."""

    ends_kept: Seconds
    """For a function annotated to return nothing: seconds for which it is kept that the job has succeeded, from 1."""

    expires: Seconds | None
    """Seconds from its due time after which a job is not started any more, also not again; None for no bound."""

    key: str | Callable[..., str]
    """The unique key of each call: a function of the call's arguments, or a text with them, like `welcome:{user_id}`.
    """

    unique: Unique
    """Until when a key is taken: until its job is `done`, or until it is `running`. With `running` one more may be
    queued while one runs."""

    run_in: Literal["loop", "thread", "process"]
    """Where it runs: on the event `loop`, in a `thread`, or in a `process`. Without, an async function on the loop and
    others in a thread."""

    cron: str
    """When it runs again and again: five fields, six with seconds in front, or `@daily` and the like. See `Schedule`.
    """

    every: Seconds
    """In place of `cron`: whole seconds from one run to the next, from 1."""

    tz: str
    """The time zone of `cron`, an IANA name; UTC without."""

    schedules: Sequence[Schedule]
    """Several schedules, in place of `cron` and `every`: a list of `Schedule(...)`."""

    priority: Level
    """The priority of its jobs, `high`, `normal` or `low`, in a queue that has levels."""

    limit: int
    """How many of its jobs run at once, over all workers, from 1; without, no limit."""

    limit_per: str | Callable[..., str]
    """The parameter by whose value jobs are told apart for `limit` and `rate`, or a text or function as for `key`. Each
    value has a limit and a rate of its own then."""

    rate: str
    """How often one of its jobs is started, over all workers, like `100/m`, evenly spread; without, no bound."""


class CallOptions(TypedDict, total=False):
    """The keywords of `.options(...)`."""

    queue: str
    """The queue of the job, instead of the task's own."""

    max_attempts: int
    """Runs in all before the job is dead, from 1, instead of the task's own."""

    timeout: Seconds | None
    """Seconds that an attempt may take, instead of the task's own; None for no bound."""

    result_ttl: Seconds | None
    """Seconds for which the result is kept, from 1, instead of the task's own; None keeps none."""

    expires: Seconds | None
    """Seconds from its due time after which the job is not started any more, instead of the task's own; None for no
    bound."""

    delay: Seconds
    """Seconds from now, or a timedelta, after which the job is due."""

    at: datetime
    """An aware datetime at which the job is due; one in the past means now. Not with `delay`."""

    id: str
    """The job's id, to repeat an enqueue whose fate is unknown; a new one without."""

    priority: Level
    """`high`, `normal` or `low`, in a queue that has levels, instead of the task's own."""

    key: str | None
    """The unique key, any text. While a job of this task, queue and key is scheduled, queued or running, another is not
    stored, and the handle is that of the stored job. None for no key, whatever the task says."""

    unique: Unique
    """Until when the key is taken: `done`, as said at `key`, or `running`: one more may be queued while one runs, and
    is started when that one has ended."""

    replace: bool
    """If the stored job of the key is not due within two seconds, it takes these arguments and this due time instead.
    """

    max_wait: Seconds
    """With `replace`: the job stays due within so many seconds of the first call."""

    throttle: Seconds
    """At most one job of the key is stored in so many seconds (whole ones, from 1), finished or not."""
