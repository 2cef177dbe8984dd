"""`jetq queue`: shows the queues in numbers, and pauses, drains, purges and removes them."""

from __future__ import annotations

import asyncio
import math
import time

import click
from msgspec.structs import asdict

from jetq.broker import Broker
from jetq.cli.app_option import ask_broker, choose_app, for_app
from jetq.cli.durations import DURATION
from jetq.cli.exit import FAILED, Failed, verbose_option
from jetq.cli.groups import Verbs
from jetq.cli.output import echo_json, echo_table, moment
from jetq.encoding.worker_status import encode, read_answers
from jetq.errors import BrokerError
from jetq.model.names import check_queue
from jetq.model.queue_info import QueueInfo
from jetq.model.worker_status import StatusQuery

__all__ = ["queue"]

_ANSWERS_WITHIN = 0.5
"""Seconds in which a live worker answers: a round trip, and the longest time for which its loop may be busy."""


@click.group(cls=Verbs)
def queue() -> None:
    """Queues."""


@queue.command("ls")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def ls(app_path: str | None, json: bool) -> None:
    """List the queues with what stands in them.

    ready: for the next free worker; running: handed to one; scheduled: due later; dead: in the dead letters;
    idle: requests of workers that wait for a job. A paused queue hands out nothing, and one without a worker may have
    been made by a misspelt name.
    """
    found = ask_broker(choose_app(app_path), _all_with_their_workers)
    if json:
        echo_json([_as_json(info, served) for info, served in found])
    elif found:
        rows = [(i.name, i.ready, i.running, i.scheduled, i.dead, i.waiting, _notes(i, served)) for i, served in found]
        echo_table(("QUEUE", "READY", "RUNNING", "SCHEDULED", "DEAD", "IDLE", ""), rows, right=range(1, 6))
    else:
        click.echo("no queues yet: the first job or worker of a queue makes it")


async def _all_with_their_workers(broker: Broker) -> list[tuple[QueueInfo, bool | None]]:
    """Return all queues, each with whether a live worker serves it; None if this user may not ask that."""
    infos = await broker.queues()
    return list(zip(infos, await asyncio.gather(*(_is_served(broker, info) for info in infos)), strict=True))


async def _is_served(broker: Broker, info: QueueInfo) -> bool | None:
    if info.waiting:
        return True
    try:
        return bool(await broker.ask(info.name, encode(StatusQuery()), _ANSWERS_WITHIN, enough=1))
    except BrokerError:
        return None


def _as_json(info: QueueInfo, served: bool | None) -> dict[str, object]:
    until = info.paused_until
    paused = {"paused": until is not None, "paused_until": None if until == math.inf else until}
    return {**asdict(info), **paused, "served": served}


def _notes(info: QueueInfo, served: bool | None) -> str:
    notes = ["no live worker"] if served is False else []
    if info.paused_until is not None:
        notes.insert(0, "paused" if math.isinf(info.paused_until) else f"paused until {moment(info.paused_until)}")
    return ", ".join(notes)


@queue.command()
@click.argument("name", metavar="QUEUE")
@click.option(
    "--for", "seconds", type=DURATION, envvar="JETQ_QUEUE_PAUSE_FOR", help="Resume by itself after this time, like 10m."
)
@for_app
@verbose_option
def pause(name: str, seconds: float | None, app_path: str | None) -> None:
    """Hand out no more jobs of QUEUE; what runs goes on.

    It stays paused over restarts of workers and servers, until `jetq queue resume` or the end of --for.
    """

    async def hold(broker: Broker) -> float | None:
        await _look(broker, name)
        until = None if seconds is None else await broker.time(name, make=False) + seconds
        await broker.pause(name, until)
        return until

    until = ask_broker(choose_app(app_path), hold)
    click.echo(f"paused {name}" if until is None else f"paused {name} until {moment(until)}")


@queue.command()
@click.argument("name", metavar="QUEUE")
@for_app
@verbose_option
def resume(name: str, app_path: str | None) -> None:
    """Hand out the jobs of QUEUE again."""

    async def go_on(broker: Broker) -> None:
        await _look(broker, name)
        await broker.resume(name)

    ask_broker(choose_app(app_path), go_on)
    click.echo(f"resumed {name}")


@queue.command()
@click.argument("name", metavar="QUEUE")
@click.option("--timeout", type=DURATION, default="5m", show_default=True, help="How long to wait for running jobs.")
@for_app
@verbose_option
def drain(name: str, timeout: float, app_path: str | None) -> None:
    """Pause QUEUE and wait until nothing of it runs. Exit code 1 if something still does after --timeout."""

    async def drained(broker: Broker) -> int:
        await _look(broker, name)
        await broker.pause(name)
        deadline = time.monotonic() + timeout
        while True:
            running = (await _look(broker, name)).running
            if not running or time.monotonic() > deadline:
                return running
            await asyncio.sleep(0.2)

    running = ask_broker(choose_app(app_path), drained)
    if running:
        raise Failed(
            f"{running} jobs of queue {name} still run; it stays paused",
            hint=f"wait longer, cancel them, or `jetq queue resume {name}`",
            code=FAILED,
        )
    click.echo(f"queue {name} is paused, and nothing of it runs; `jetq queue resume {name}` ends that")


async def _look(broker: Broker, name: str) -> QueueInfo:
    """Return the queue in numbers. Raises Failed if no queue has that name: a misspelt name must not make a queue."""
    for info in await broker.queues():
        if info.name == check_queue(name):
            return info
    raise Failed(f"there is no queue {name}", hint="jetq queue ls")


@queue.command()
@click.argument("name", metavar="QUEUE")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@for_app
@verbose_option
def purge(name: str, yes: bool, app_path: str | None) -> None:
    """Remove every job that waits in QUEUE, scheduled ones too, for good.

    What runs ends, and is not run again. Recurring schedules and dead letters stay.
    """
    app = choose_app(app_path)

    async def waiting(broker: Broker) -> int:
        info = await _look(broker, name)
        return info.ready + info.scheduled

    count = ask_broker(app, waiting)
    if not yes:
        click.confirm(f"Remove {count} waiting jobs of queue {name} for good?", abort=True, err=True)
    removed = ask_broker(app, lambda broker: broker.purge(name))
    click.echo(f"removed {removed} job{'' if removed == 1 else 's'}")


@queue.command()
@click.argument("name", metavar="QUEUE")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@for_app
@verbose_option
def rm(name: str, yes: bool, app_path: str | None) -> None:
    """Remove QUEUE, which a misspelt name may have made, with its recurring schedules.

    It must be empty, and no live worker may serve it. A producer that stores a job in it makes it again.
    """
    app = choose_app(app_path)

    async def look(broker: Broker) -> tuple[str, list[str]]:
        info = await _look(broker, name)
        await _refuse_served(broker, info)
        return _contents(info), [each.record.name for each in await broker.schedules(name)]

    contents, schedules = ask_broker(app, look)
    if not contents and not yes:
        besides = f" and its schedules {', '.join(schedules)}" if schedules else ""
        click.confirm(f"Remove queue {name}{besides} for good?", abort=True, err=True)
    if not ask_broker(app, lambda broker: broker.remove_queue(name)):
        contents = contents or _contents(ask_broker(app, lambda broker: _look(broker, name))) or "something"
        raise Failed(f"queue {name} is not empty: {contents}", hint=_how_to_empty(name), code=FAILED)
    click.echo(f"removed queue {name}")


async def _refuse_served(broker: Broker, info: QueueInfo) -> None:
    """Raise Failed if a live worker serves the queue, because the worker would make it again."""
    answers = read_answers(await broker.ask(info.name, encode(StatusQuery()), _ANSWERS_WITHIN, enough=1))
    if answers or info.waiting:
        who = f"the worker {answers[0].worker} on {answers[0].host}" if answers else "a worker that does not answer"
        raise Failed(
            f"queue {info.name} is served by {who}",
            hint="stop it, or start it without that queue; if its code names the queue, correct the name there first",
            code=FAILED,
        )


def _contents(info: QueueInfo) -> str:
    """Say in words what a queue holds; return an empty text if it holds nothing."""
    counts = {"ready": info.ready, "running": info.running, "scheduled": info.scheduled, "dead": info.dead}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _how_to_empty(name: str) -> str:
    return (
        f"`jetq queue purge {name}` removes what waits, `jetq dlq purge -q {name} --all` the dead letters; "
        "what runs must end first"
    )
