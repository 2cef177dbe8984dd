"""`jetq queue`: the queues in numbers."""

from __future__ import annotations

import click
from msgspec.structs import asdict

from jetq.cli.choosing import ask_broker, choose_app, for_app
from jetq.cli.failing import verbose_option
from jetq.cli.showing import echo_json, echo_table

__all__ = ["queue"]


@click.group()
def queue() -> None:
    """Queues."""


@queue.command("ls")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def ls(spec: str | None, json: bool) -> None:
    """List the queues with what stands in them.

    ready: for the next free worker; running: handed to one; scheduled: due later; dead: in the dead letters;
    idle: requests of workers that wait for a job.
    """
    infos = ask_broker(choose_app(spec), lambda broker: broker.queues())
    if json:
        echo_json([asdict(info) for info in infos])
    elif infos:
        rows = [(i.name, i.ready, i.running, i.scheduled, i.dead, i.waiting) for i in infos]
        echo_table(("QUEUE", "READY", "RUNNING", "SCHEDULED", "DEAD", "IDLE"), rows, right=range(1, 6))
    else:
        click.echo("no queues yet: the first job or worker of a queue makes it")
