"""The options by which commands choose dead letters, read into one value."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, get_args

import click

from jetq.cli.durations import PAST
from jetq.model.failure import DeadReason
from jetq.operations.dead_letters import DeadFilter

__all__ = ["described", "for_letters"]

Command = Callable[..., None]

_FILTERS = (
    click.option("-q", "--queue", help="Only dead letters of this queue. By default of every queue."),
    click.option("--task", help="Only dead letters of this task."),
    click.option("--reason", type=click.Choice(get_args(DeadReason)), help="Only jobs that died for this reason."),
    click.option("--error", metavar="TYPE", help="Only jobs that died of this exception: module.Name, or Name."),
    click.option(
        "--since",
        type=PAST,
        metavar="WHEN",
        help="Only jobs that died after this time, or within an age like 2h or 3d.",
    ),
    click.option("--until", type=PAST, metavar="WHEN", help="Only jobs that died before this time or age."),
)
_IDS = click.argument("ids", metavar="[ID]...", nargs=-1)
_ALL = click.option("--all", is_flag=True, help="All dead letters, or all of the queue.")


def for_letters(*, ids: bool = True, named: bool = False, limit: int | None = None) -> Callable[[Command], Command]:
    """Give a command its options for choosing dead letters, as one parameter `which`.

    ids: the command also takes jobs by their ids. named: the user must say which letters, if need be with --all. limit:
    how many letters are taken without --limit; None has no limit.
    """

    def add(command: Command) -> Command:
        @wraps(command)
        def run(*, ids: tuple[str, ...] = (), all: bool = False, limit: int | None, **rest: Any) -> None:
            given = {name: rest.pop(name) for name in ("queue", "task", "reason", "error", "since", "until")}
            which = DeadFilter(ids=ids, limit=None if all else limit, **given)
            _check(which, all=all, named=named)
            command(which=which, **rest)

        many = click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=limit,
            show_default=True,
            help="At most this many dead letters.",
        )
        options = [_IDS] * ids + list(_FILTERS) + [many] + [_ALL] * (named or limit is not None)
        for option in reversed(options):
            run = option(run)
        return run

    return add


def _check(which: DeadFilter, *, all: bool, named: bool) -> None:
    filters = DeadFilter(queue=which.queue, ids=which.ids, limit=which.limit)
    filtered = which != filters
    if which.ids and (filtered or all):
        raise click.UsageError("IDs say which already; --task, --reason and the like choose among all")
    if named and all == bool(which.ids or filtered):
        raise click.UsageError("say which: one or more IDs, filters such as --task NAME, or --all")


def described(which: DeadFilter) -> str:
    """Return in words which letters `which` chooses."""
    if which.ids:
        what = f"of {len(which.ids)} job{'' if len(which.ids) == 1 else 's'}"
    else:
        what = "of every task" if which.task is None else f"of task {which.task}"
    parts = [what, f"in {'every queue' if which.queue is None else f'queue {which.queue}'}"]
    parts += [f"dead for {which.reason}"] if which.reason else []
    parts += [f"of {which.error}"] if which.error else []
    parts += [f"{word} {_time(at)}" for word, at in (("since", which.since), ("before", which.until)) if at is not None]
    parts += [f"at most {which.limit}"] if which.limit else []
    return ", ".join([" ".join(parts[:2]), *parts[2:]])


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")
