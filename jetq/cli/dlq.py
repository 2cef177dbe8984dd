"""`jetq dlq`: dead letters listed, shown, replayed and purged."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
import msgspec

from jetq.broker import Broker
from jetq.cli.choosing import ask_broker, choose_app, for_app
from jetq.cli.failing import FAILED, Failed, verbose_option
from jetq.cli.showing import (
    age,
    arguments,
    echo_errors,
    echo_fields,
    echo_json,
    echo_table,
    errors_json,
    moment,
    printable,
)
from jetq.dead_letters import count_dead, find_dead, list_dead, purge_dead, replay
from jetq.model import DeadEntry

__all__ = ["dlq"]


@click.group()
def dlq() -> None:
    """Dead letters: jobs that can or may not run again by themselves."""


@dlq.command("list")
@click.option("-q", "--queue", help="Of this queue; of all without.")
@click.option("--task", help="Of this task.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def list_(queue: str | None, task: str | None, limit: int, spec: str | None, json: bool) -> None:
    """List dead letters by queue, the oldest first."""

    async def ask(broker: Broker) -> tuple[Sequence[DeadEntry], int]:
        return await list_dead(broker, queue=queue, task=task, limit=limit), await count_dead(broker, queue=queue)

    entries, total = ask_broker(choose_app(spec), ask)
    if json:
        echo_json([_summary(entry) for entry in entries])
        return
    if not entries:
        click.echo("no dead letters")
        return
    now = time.time()
    echo_table(
        ("JOB", "QUEUE", "TASK", "REASON", "ATTEMPT", "AGE", "ERROR"),
        [
            (
                e.letter.id,
                e.letter.queue,
                e.letter.task,
                e.letter.reason,
                e.letter.attempt,
                age(now - e.letter.at),
                _error(e),
            )
            for e in entries
        ],
        right=(4, 5),
    )
    if len(entries) == limit and total > limit:
        click.echo(f"the first {limit} of {total} in all; --limit shows more")


@dlq.command()
@click.argument("id")
@click.option("-q", "--queue", help="Its queue; every queue is searched without.")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def show(id: str, queue: str | None, spec: str | None, json: bool) -> None:
    """Show the dead letter of job ID: every attempt's error, the traceback and the arguments."""
    entry = ask_broker(choose_app(spec), lambda broker: find_dead(broker, id, queue=queue))
    if json:
        echo_json({**_summary(entry), **_details(entry)})
    else:
        _echo(entry)


@dlq.command("replay")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--task", help="All of this task.")
@click.option("--all", is_flag=True, help="All of them.")
@click.option("-q", "--queue", help="Of this queue; of all without.")
@for_app
@verbose_option
def replay_(ids: tuple[str, ...], task: str | None, all: bool, queue: str | None, spec: str | None) -> None:
    """Put dead jobs back into their queues, with the same id and their history, their attempts counted anew."""
    _check_choice(ids, task, all)

    async def ask(broker: Broker) -> tuple[int, list[str]]:
        if ids:
            return await replay(broker, [await find_dead(broker, id, queue=queue) for id in ids])
        return await replay(broker, await list_dead(broker, queue=queue, task=task))

    replayed, standing = ask_broker(choose_app(spec), ask)
    click.echo(f"replayed {_jobs(replayed)}")
    if standing:
        raise Failed(
            f"not replayed, because a job of that id or key stands in its queue already: {', '.join(standing)}",
            hint=f"jetq job show {standing[0]}",
            code=FAILED,
        )


@dlq.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--task", help="All of this task.")
@click.option("--all", is_flag=True, help="All of them.")
@click.option("-q", "--queue", help="Of this queue; of all without.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@for_app
@verbose_option
def purge(ids: tuple[str, ...], task: str | None, all: bool, queue: str | None, yes: bool, spec: str | None) -> None:
    """Drop dead letters for good."""
    _check_choice(ids, task, all)
    app = choose_app(spec)
    if not yes:
        click.confirm(f"Drop the dead letters {_choice(ids, task, queue)} for good?", abort=True, err=True)
    dropped = ask_broker(app, lambda broker: purge_dead(broker, ids=ids, task=task, queue=queue))
    click.echo(f"dropped {dropped} dead letter{'' if dropped == 1 else 's'}")


def _check_choice(ids: Sequence[str], task: str | None, all: bool) -> None:
    if sum((bool(ids), task is not None, all)) != 1:
        raise click.UsageError("say which: one or more IDs, --task NAME, or --all")


def _choice(ids: Sequence[str], task: str | None, queue: str | None) -> str:
    what = f"of {_jobs(len(ids))}" if ids else "of every task" if task is None else f"of task {task}"
    return f"{what} in {'every queue' if queue is None else f'queue {queue}'}"


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _error(entry: DeadEntry) -> str:
    text = f"{entry.letter.failure.type}: {entry.letter.failure.message}"
    return text if len(text) <= 60 else f"{text[:59]}…"


def _summary(entry: DeadEntry) -> dict[str, object]:
    letter = entry.letter
    return {
        "id": letter.id,
        "task": letter.task,
        "queue": letter.queue,
        "reason": letter.reason,
        "attempt": letter.attempt,
        "at": letter.at,
        "enqueued": letter.enqueued,
        "error": {"type": letter.failure.type, "message": letter.failure.message},
        "replays": letter.replays,
    }


def _details(entry: DeadEntry) -> dict[str, object]:
    letter = entry.letter
    return {
        "worker": letter.worker,
        "deliveries": letter.count,
        "snoozes": letter.snoozes,
        "errors": errors_json(letter.errors),
        "errors_dropped": letter.errors_dropped,
        "traceback": letter.failure.traceback,
        "arguments": arguments(entry.body),
        "address": letter.address,
        "sequence": letter.sequence,
        "headers": dict(letter.headers),
    }


def _echo(entry: DeadEntry) -> None:
    letter = entry.letter
    echo_fields(
        [
            ("job", letter.id),
            ("task", letter.task),
            ("queue", letter.queue),
            ("reason", letter.reason),
            ("attempt", letter.attempt),
            ("enqueued", moment(letter.enqueued)),
            ("died", moment(letter.at)),
            ("worker", letter.worker),
            ("snoozed", f"{letter.snoozes} times" if letter.snoozes else ""),
            ("replayed", f"{letter.replays} times" if letter.replays else ""),
            ("arguments", msgspec.json.encode(arguments(entry.body)).decode()),
        ]
    )
    click.echo("errors")
    echo_errors(letter.errors, letter.errors_dropped)
    if letter.failure.traceback:
        click.echo(f"\n{printable(letter.failure.traceback.rstrip())}")
