"""`jetq schedule`: lists, adds, pauses, runs and removes recurring schedules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click
import msgspec
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.cli.app_option import ask_broker, choose_app, for_app
from jetq.cli.durations import DURATION
from jetq.cli.exit import verbose_option
from jetq.cli.groups import Verbs
from jetq.cli.output import echo_fields, echo_json, echo_table
from jetq.cli.task_argument import call_arguments, choose_task
from jetq.client.app import Jetq
from jetq.client.declared_schedules import definitions, schedule_record
from jetq.model.definitions.options import CallOptions
from jetq.model.definitions.schedule import Schedule
from jetq.model.redaction import redacted
from jetq.model.schedule import Overlap, StoredSchedule
from jetq.operations.schedules import (
    ScheduleInfo,
    find_schedule,
    gone,
    list_schedules,
    pause_schedule,
    put_schedule,
    remove_schedule,
    run_schedule,
    view_schedule,
)
from jetq.operations.workflows.creating import START
from jetq.units import span

__all__ = ["schedule"]

in_queue = click.option("-q", "--queue", help="The queue to look in. By default every queue.")


@click.group(cls=Verbs)
def schedule() -> None:
    """Recurring schedules."""


@schedule.command()
@click.option("-q", "--queue", help="Only schedules of this queue.")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def ls(queue: str | None, app_path: str | None, json: bool) -> None:
    """List the recurring schedules with their next time."""

    app = choose_app(app_path)

    async def look(broker: Broker) -> list[ScheduleInfo]:
        existing = await list_schedules(broker, queue)
        return [await view_schedule(broker, stored, payloads=app.payloads) for stored in existing]

    infos = [_discreet(info, app) for info in ask_broker(app, look)]
    if json:
        echo_json(infos)
    elif infos:
        rows = [(i.name, i.queue, _when(i), _local(i.next[:1]) or "paused", _what(i)) for i in infos]
        echo_table(("NAME", "QUEUE", "WHEN", "NEXT", "TASK"), rows)
    else:
        click.echo("no schedules yet: @task(cron=...), app.schedule or `jetq schedule add` makes one")


@schedule.command()
@click.argument("name")
@in_queue
@click.option(
    "-n",
    "--count",
    type=click.IntRange(0, 100),
    default=5,
    show_default=True,
    help="How many of the next times to show.",
)
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def show(name: str, queue: str | None, count: int, app_path: str | None, json: bool) -> None:
    """Show schedule NAME and its next times."""

    app = choose_app(app_path)

    async def look(broker: Broker) -> ScheduleInfo:
        return await view_schedule(broker, await find_schedule(broker, name, queue), count, app.payloads)

    info = _discreet(ask_broker(app, look), app)
    if json:
        echo_json(info)
        return
    echo_fields(
        [
            ("schedule", info.name),
            ("queue", info.queue),
            ("task", "" if info.task == START else info.task),
            ("workflow", ", ".join(info.steps or ("?",)) if info.task == START else ""),
            ("arguments", "" if info.task == START else msgspec.json.encode(info.arguments).decode()),
            ("when", _when(info)),
            ("defined", "in code" if info.source == "code" else "at run time"),
            ("overlap", info.overlap),
            ("catch-up", f"within {span(info.catch_up)}" if info.catch_up else "never"),
            ("jitter", span(info.jitter) if info.jitter else ""),
            ("state", "paused" if info.paused else ""),
            ("last", _local([info.last]) if info.last else ""),
            *(("next" if place == 0 else "", _local([at])) for place, at in enumerate(info.next)),
        ]
    )


@schedule.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("task")
@click.argument("words", metavar="[ARGUMENT]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", metavar="OBJECT", help="Arguments by name, as a JSON object.")
@click.option("--cron", help="When to run: minute hour day month weekday, or a name like @daily.")
@click.option("--tz", help="The time zone of --cron, like Europe/Berlin. By default UTC.")
@click.option("--every", type=DURATION, help="Instead of --cron: the time from one run to the next, like 30s.")
@click.option(
    "--overlap",
    type=click.Choice(["allow", "skip"]),
    default="allow",
    show_default=True,
    help="What to do while the job of the run before is not done.",
)
@click.option(
    "--catch-up",
    type=DURATION,
    default="1h",
    show_default=True,
    help="Run what was missed if it was due less than this time ago.",
)
@click.option(
    "--jitter", type=DURATION, default="0s", show_default=True, help="Delay each job by a random time up to this."
)
@click.option("-q", "--queue", help="The queue of the jobs. By default the task's own.")
@for_app
@verbose_option
def add(
    name: str,
    task: str,
    words: tuple[str, ...],
    json: str | None,
    cron: str | None,
    tz: str | None,
    every: float | None,
    overlap: Overlap,
    catch_up: float,
    jitter: float,
    queue: str | None,
    app_path: str | None,
) -> None:
    """Let TASK run again and again with the ARGUMENTs, as `jetq call` takes them, under NAME.

    \b
    jetq schedule add digest tasks.digest 7 --cron "0 9 * * MON" --tz Europe/Berlin

    A schedule of that name in the queue is replaced.
    """
    when = Schedule(cron=cron, every=every, tz=tz, overlap=overlap, catch_up=catch_up, jitter=jitter)
    app, known = choose_task(task, app_path)
    options: CallOptions = {} if queue is None else {"queue": queue}
    call = app.call(task, call_arguments(task, known, words, json), **options)
    record = schedule_record(name, call, when)

    async def store(broker: Broker) -> tuple[bool, ScheduleInfo]:
        written = await put_schedule(broker, record, call.body, app.payloads)
        return written, await view_schedule(broker, await find_schedule(broker, name, record.queue))

    written, info = ask_broker(app, store)
    state = "stored" if written else "stands so already"
    click.echo(f"{name} {state}; next: {_local(info.next[:1]) or 'paused'}")


@schedule.command()
@click.argument("name")
@in_queue
@for_app
@verbose_option
def rm(name: str, queue: str | None, app_path: str | None) -> None:
    """Remove schedule NAME. Jobs made of it stay.

    One that a task's definition says comes back with the next worker: take it out there.
    """

    async def remove(broker: Broker) -> None:
        await find_schedule(broker, name, queue)
        await remove_schedule(broker, name, queue)

    ask_broker(choose_app(app_path), remove)
    click.echo(f"removed {name}")


@schedule.command()
@click.argument("name")
@in_queue
@for_app
@verbose_option
def pause(name: str, queue: str | None, app_path: str | None) -> None:
    """Stop the ticks of schedule NAME, until it is resumed; over restarts and deployments."""
    changed = ask_broker(choose_app(app_path), lambda broker: pause_schedule(broker, name, queue, paused=True))
    click.echo(f"paused {name}" if changed else f"{name} is paused already")


@schedule.command()
@click.argument("name")
@in_queue
@for_app
@verbose_option
def resume(name: str, queue: str | None, app_path: str | None) -> None:
    """Let schedule NAME tick again."""
    changed = ask_broker(choose_app(app_path), lambda broker: pause_schedule(broker, name, queue, paused=False))
    click.echo(f"resumed {name}" if changed else f"{name} is not paused")


@schedule.command()
@click.argument("name")
@in_queue
@for_app
@verbose_option
def run(name: str, queue: str | None, app_path: str | None) -> None:
    """Make a job of schedule NAME now, besides its ticks; print its id."""
    click.echo(ask_broker(choose_app(app_path), lambda broker: run_schedule(broker, name, queue)))


@schedule.command()
@click.argument("apps", metavar="APP...", nargs=-1, required=True)
@click.option("-q", "--queue", help="Only schedules of this queue.")
@click.option("--plugins/--no-plugins", default=True, help="Count the schedules that installed plugins define too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@verbose_option
def prune(apps: tuple[str, ...], queue: str | None, plugins: bool, yes: bool) -> None:
    """Remove the schedules that code once defined and APP does not define any more.

    Give every APP whose workers share the namespace: what only another one defines counts as gone. Schedules made at
    run time stay.
    """
    app = choose_app(*apps)
    if plugins:
        app.load_plugins()
    names = {record.name for record, _ in definitions(app.tasks.values())}
    found = ask_broker(app, lambda broker: _gone(broker, queue, names))
    if not found:
        click.echo("nothing to prune")
        return
    for stored in found:
        click.echo(f"{stored.record.name}  of task {stored.record.task}  in queue {stored.record.queue}")
    if not yes:
        click.confirm(f"Remove these {len(found)} schedules?", abort=True, err=True)
    _remove(app, found)
    click.echo(f"removed {len(found)} schedule{'' if len(found) == 1 else 's'}")


async def _gone(broker: Broker, queue: str | None, names: set[str]) -> list[StoredSchedule]:
    queues = [queue] if queue is not None else [info.name for info in await broker.queues()]
    return [stored for each in queues for stored in await gone(broker, each, names)]


def _remove(app: Jetq, found: Sequence[StoredSchedule]) -> None:
    async def remove(broker: Broker) -> None:
        for stored in found:
            await broker.remove_schedule(stored)

    ask_broker(app, remove)


def _when(info: ScheduleInfo) -> str:
    if info.every is not None:
        return f"every {span(info.every)}"
    return f"{info.cron} {info.tz or 'UTC'}"


def _what(info: ScheduleInfo) -> str:
    """Return what the jobs of a schedule do: their task, or that they start a workflow."""
    if info.task != START:
        return info.task
    return f"workflow: {', '.join(info.steps)}" if info.steps else "workflow"


def _local(times: Sequence[datetime]) -> str:
    return " ".join(at.astimezone().strftime("%Y-%m-%d %H:%M:%S") for at in times)


def _discreet(info: ScheduleInfo, app: Jetq) -> ScheduleInfo:
    task = app.tasks.get(info.task)
    return replace(info, arguments=redacted(info.arguments, None if task is None else task.signature.annotations))
