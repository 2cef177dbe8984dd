"""`jetq dlq`: lists, shows and purges dead letters. Other modules replay, edit, export and import them."""

from __future__ import annotations

import click
import msgspec
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.cli.app_option import ask_broker, choose_app, for_app
from jetq.cli.dead_letter_options import described, for_letters
from jetq.cli.dead_letter_rows import count, echo_rows, row, summary
from jetq.cli.exit import verbose_option
from jetq.cli.groups import Verbs
from jetq.cli.output import (
    arguments,
    echo_errors,
    echo_fields,
    echo_json,
    errors_json,
    moment,
    printable,
    redacted_entry,
)
from jetq.cli.verbs.dlq_edit import edit
from jetq.cli.verbs.dlq_files import export, import_
from jetq.cli.verbs.dlq_replay import replay
from jetq.client.app import Jetq
from jetq.model.dead_letter import DeadEntry
from jetq.operations.dead_letters import EVERY, DeadFilter, count_dead, each_dead, find_dead, purge_dead

__all__ = ["dlq"]


@click.group(cls=Verbs)
def dlq() -> None:
    """Dead letters: jobs that can or may not run again by themselves."""


for command in (replay, edit, export, import_):
    dlq.add_command(command)


@dlq.command("list")
@for_letters(ids=False, limit=50)
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def list_(which: DeadFilter, app_path: str | None, json: bool) -> None:
    """List dead letters by queue, the oldest first."""
    app, limit = choose_app(app_path), which.limit
    form = summary if json else row

    async def ask(broker: Broker) -> tuple[list[object], str]:
        found: list[object] = []
        one_more = which if limit is None else replace(which, limit=limit + 1)
        async for entry in each_dead(broker, one_more):
            if len(found) == limit:
                return found, await _in_all(broker, which)
            found.append(form(redacted_entry(app, entry)))
        return found, ""

    found, in_all = ask_broker(app, ask)
    if json:
        echo_json(found)
    elif not found:
        click.echo("no dead letters")
    else:
        echo_rows([each for each in found if isinstance(each, tuple)])
        if in_all:
            click.echo(f"the first {limit}{in_all}; --limit shows more, --all every one")


async def _in_all(broker: Broker, which: DeadFilter) -> str:
    """Say how many letters there are in all, if the number is known without reading the letters; else return an empty
    text."""
    known = replace(which, queue=None, limit=None) == EVERY
    return f" of {await count_dead(broker, queue=which.queue)} in all" if known else ""


@dlq.command()
@click.argument("id")
@click.option("-q", "--queue", help="The queue to look in. By default every queue.")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def show(id: str, queue: str | None, app_path: str | None, json: bool) -> None:
    """Show the dead letter of job ID: its attempts' errors, the traceback and the arguments."""
    app = choose_app(app_path)
    entry = ask_broker(app, lambda broker: find_dead(broker, id, queue=queue))
    entry = redacted_entry(app, entry)
    if json:
        echo_json({**summary(entry), **_details(app, entry)})
    else:
        _echo(app, entry)


@dlq.command()
@for_letters(named=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@for_app
@verbose_option
def purge(which: DeadFilter, yes: bool, app_path: str | None) -> None:
    """Drop dead letters for good."""
    app = choose_app(app_path)
    if not yes:
        click.confirm(f"Drop the dead letters {described(which)} for good?", abort=True, err=True)
    dropped = ask_broker(app, lambda broker: purge_dead(broker, which))
    click.echo(f"dropped {count(dropped, 'dead letter')}")


def _details(app: Jetq, entry: DeadEntry) -> dict[str, object]:
    letter = entry.letter
    return {
        "worker": letter.worker,
        "deliveries": letter.count,
        "snoozes": letter.snoozes,
        "errors": errors_json(letter.errors),
        "errors_dropped": letter.errors_dropped,
        "traceback": letter.failure.traceback,
        "arguments": arguments(app, letter, entry.body),
        "address": letter.address,
        "sequence": letter.sequence,
        "headers": dict(letter.headers),
    }


def _echo(app: Jetq, entry: DeadEntry) -> None:
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
            ("edited", f"{letter.edits} times" if letter.edits else ""),
            ("arguments", msgspec.json.encode(arguments(app, letter, entry.body)).decode()),
        ]
    )
    click.echo("errors")
    echo_errors(letter.errors, letter.errors_dropped)
    if letter.failure.traceback:
        click.echo(f"\n{printable(letter.failure.traceback.rstrip())}")
