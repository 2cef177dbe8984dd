"""`jetq dlq replay`: puts dead jobs back into their queues, all at once or at a rate."""

from __future__ import annotations

import signal
import sys
import time

import click

from jetq.broker import Broker
from jetq.cli.app_option import ask_broker, choose_app, for_app
from jetq.cli.dead_letter_options import for_letters
from jetq.cli.dead_letter_rows import Row, already_stored, count, echo_rows, row
from jetq.cli.durations import RATE
from jetq.cli.exit import FAILED, Failed, verbose_option
from jetq.cli.output import redacted_entry
from jetq.cli.signals import on_first_signal
from jetq.client.app import Jetq
from jetq.model.definitions.rate import Rate
from jetq.operations.dead_letters import DeadFilter, Replay, each_dead, refs_of

__all__ = ["replay"]

_SHOWN_EVERY = 0.1
"""Seconds between two states of the progress line."""

_CLEARED = "\r\x1b[K"


@click.command()
@for_letters(named=True)
@click.option("--rate", type=RATE, help="Replay at most this many in a time, like 10/s or 100/m.")
@click.option("--dry-run", is_flag=True, help="Only list what would be replayed.")
@for_app
@verbose_option
def replay(which: DeadFilter, rate: Rate | None, dry_run: bool, app_path: str | None) -> None:
    """Put dead jobs back into their queues, with the same id and their history, their attempts counted anew.

    Only those that are dead when it begins: a job that dies again meanwhile stays dead. Ctrl-C ends in order; what is
    left stays where it is. Exit code 1 if anything was not replayed.
    """
    app = choose_app(app_path)
    if dry_run:
        _list(app, which)
    else:
        _report(ask_broker(app, lambda broker: _replay(broker, which, rate)))


def _list(app: Jetq, which: DeadFilter) -> None:
    async def rows(broker: Broker) -> list[Row]:
        return [row(redacted_entry(app, entry)) async for entry in each_dead(broker, which)]

    found = ask_broker(app, rows)
    if found:
        echo_rows(found)
    click.echo(f"would replay {count(len(found), 'job')}")


async def _replay(broker: Broker, which: DeadFilter, rate: Rate | None) -> Replay:
    work = Replay(broker, await refs_of(broker, which), every=0.0 if rate is None else rate.every)
    progress = _Progress(work.left)
    on_first_signal(work.stop, signal.SIGINT, signal.SIGTERM)
    try:
        await work.run(progress.show)
    finally:  # also if the broker fails halfway: report the jobs that were replayed
        progress.clear()
        remain = f", {work.left} remain" if work.left else ""
        click.echo(f"replayed {count(work.replayed, 'job')}{remain}")
    return work


def _report(work: Replay) -> None:
    if work.passed:
        click.echo(f"passed over {count(work.passed, 'letter')}: replayed or purged meanwhile, or older than another")
    if work.newer:
        raise Failed(
            f"not replayed, because a newer jetq has written it: {', '.join(work.newer[:10])}",
            hint="replay them with a jetq that is as new",
            code=FAILED,
        )
    if work.strays:
        raise Failed(f"not replayed, because it is no job of a task: {', '.join(work.strays[:10])}", code=FAILED)
    if work.existing:
        raise already_stored(work.existing)
    if work.left:
        raise Failed("interrupted", hint="the same command goes on with those that remain", code=FAILED)


class _Progress:
    """A line on the terminal that shows how many jobs were replayed; nothing where there is no terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown_at = 0.0
        self._visible = sys.stderr.isatty()

    def show(self, work: Replay) -> None:
        now = time.monotonic()
        if self._visible and now - self._shown_at >= _SHOWN_EVERY:
            self._shown_at = now
            click.echo(f"{_CLEARED}{self._total - work.left} of {self._total}", nl=False, err=True)

    def clear(self) -> None:
        if self._visible:
            click.echo(_CLEARED, nl=False, err=True)
