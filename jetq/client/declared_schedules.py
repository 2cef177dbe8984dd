"""The recurring schedules that tasks and calls define, as records to be stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jetq.client.call import Call
from jetq.client.call_keys import call_key
from jetq.client.registry import defined_at
from jetq.client.task import Task
from jetq.errors import ArgumentError, DefinitionError
from jetq.model.definitions.schedule import Schedule
from jetq.model.names import NO_KEY, check_schedule, key_token
from jetq.model.schedule import ScheduleRecord

__all__ = ["Definition", "check_schedules", "definitions", "schedule_record"]

Definition = tuple[ScheduleRecord, bytes]
"""A schedule, and the arguments of its jobs as JSON."""


def check_schedules(task: Task[..., Any]) -> None:
    """Raise DefinitionError if schedules of `task` have no names of their own, or have arguments that do not fit."""
    names = [schedule.name for schedule in task.declared.schedules]
    if len(names) > 1 and (None in names or len(set(names)) < len(names)):
        raise DefinitionError(
            f"{task.name} has {len(names)} schedules: each needs a name of its own", hint='Schedule(name="...", ...)'
        )
    for schedule in task.declared.schedules:
        check_schedule(_name(task, schedule))
        try:
            task.signature.values((), dict(schedule.arguments))
        except TypeError as error:
            raise _do_not_fit(task, str(error)) from None


def definitions(tasks: Iterable[Task[..., Any]]) -> list[Definition]:
    """Return the schedules that tasks define. Raises DefinitionError if the arguments of a schedule do not fit, or if a
    schedule would tick twice because its module was imported under two names."""
    tasks = [task for task in tasks if task.declared.schedules]
    _check_modules(tasks)
    return [(_record(task, schedule), _body(task, schedule)) for task in tasks for schedule in task.declared.schedules]


def _check_modules(tasks: Iterable[Task[..., Any]]) -> None:
    places: dict[str, Task[..., Any]] = {}
    for task in tasks:
        other = places.setdefault(defined_at(task.fn), task)
        if other.fn.__module__ != task.fn.__module__:
            raise DefinitionError(
                f"{defined_at(task.fn)} is imported under two names, and would tick twice: "
                f"as {other.name} and {task.name}",
                hint=f"import it as {task.fn.__module__} everywhere, or as {other.fn.__module__}",
            )


def _record(task: Task[..., Any], schedule: Schedule) -> ScheduleRecord:
    key = NO_KEY
    if task.declared.key is not None:
        key = key_token(call_key(task.declared.key, task.signature, (), dict(schedule.arguments)))
    return schedule.record(
        _name(task, schedule),
        queue=task.queue,
        task=task.name,
        source="code",
        key=key,
        expires=task.declared.expires,
        level=task.declared.priority,
    )


def _body(task: Task[..., Any], schedule: Schedule) -> bytes:
    try:
        return task.signature.encode((), dict(schedule.arguments))
    except ArgumentError as error:
        raise _do_not_fit(task, error.message) from None


def _name(task: Task[..., Any], schedule: Schedule) -> str:
    return task.name if schedule.name is None else f"{task.name}.{schedule.name}"


def _do_not_fit(task: Task[..., Any], why: str) -> DefinitionError:
    return DefinitionError(
        f"the arguments of a schedule of {task.name} do not fit {task.signature.call_text}: {why}",
        hint="Schedule(arguments={...}) gives them by name",
    )


def schedule_record(name: str, call: Call[Any], schedule: Schedule) -> ScheduleRecord:
    """Return the record of a schedule made at run time. Raises DefinitionError for a call with options about one
    job."""
    settings = call.settings
    for option in ("delay", "at", "id", "replace", "throttle"):
        if getattr(settings, option):
            raise DefinitionError(f"{option} is about one job, so a schedule cannot have it")
    return schedule.record(
        name,
        queue=call.queue,
        task=call.task,
        source="runtime",
        key=NO_KEY if call.key is None else key_token(call.key),
        expires=call.effective.expires,
        meta=settings.carrying(),
        level=call.effective.priority,
    )
