"""`jetq dlq edit`: replays a dead job with other arguments, which its task must accept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from jetq.cli.app_option import ask_broker, choose_app, for_app
from jetq.cli.arguments import Words, fit
from jetq.cli.dead_letter_rows import already_stored
from jetq.cli.exit import Failed, report, verbose_option
from jetq.client.app import Jetq
from jetq.client.task import Task
from jetq.errors import ArgumentError
from jetq.model.annotations import signature_of
from jetq.model.dead_letter import DeadEntry
from jetq.operations.dead_letter_editing import Draft
from jetq.operations.dead_letters import check_readable, find_dead, replay_edited

__all__ = ["edit"]


@click.command()
@click.argument("id")
@click.option(
    "--set",
    metavar="NAME=VALUE",
    multiple=True,
    help="Set this argument without an editor, written as for `jetq call`. May be repeated.",
)
@click.option("-q", "--queue", help="The queue to look in. By default every queue.")
@for_app
@verbose_option
def edit(id: str, set: tuple[str, ...], queue: str | None, app_path: str | None) -> None:
    """Change the arguments of the dead job ID, and replay it.

    \b
    jetq dlq edit ID -A tasks                    # in $VISUAL or $EDITOR, as JSON
    jetq dlq edit ID -A tasks --set to=a@b.c     # without an editor; --set may be repeated

    The task checks them as it checks a call; what it refuses changes nothing, and neither does a text left as it was.
    What is secret is shown as ***, and keeps its value if it is left so.
    """
    app = choose_app(app_path)
    entry = ask_broker(app, lambda broker: find_dead(broker, id, queue=queue))
    letter, task = check_readable(entry), _task_of(app, entry)
    draft = Draft(task.signature, app.open_arguments(letter.task, letter.queue, entry.body))
    if not draft.readable:
        click.echo("its arguments are no JSON object by parameter name, so they begin empty", err=True)
    body = draft.with_values(_values(task, draft, set)) if set else _edited(draft)
    if body is None:
        click.echo(f"nothing is changed, so job {letter.id} stays dead")
        return
    stored = app.seal_arguments(letter.task, letter.queue, body)
    if not ask_broker(app, lambda broker: replay_edited(broker, entry, stored)):
        raise already_stored([letter.id])
    click.echo(f"replayed job {letter.id} with other arguments")


def _task_of(app: Jetq, entry: DeadEntry) -> Task[..., Any]:
    name = entry.letter.task
    if name not in app.tasks:
        app.load_plugins()
    if name not in app.tasks:
        module = name.rpartition(".")[0]
        raise Failed(
            f"task {name or '(none)'} is not defined here, so nothing can check arguments for it",
            hint=f"name the module that defines it: -A {module or 'MODULE'}",
        )
    return app.tasks[name]


def _values(task: Task[..., Any], draft: Draft, given: Sequence[str]) -> dict[str, Any]:
    """Return the arguments that --set gives, by parameter name. Values of `**kwargs` that --set does not name stay."""
    named: dict[str, str | None] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals:
            raise Failed(f"--set {each}: expected NAME=VALUE")
        if name in named:
            raise Failed(f"--set {name} is given twice")
        named[name] = text
    parameters = list(signature_of(task.fn).parameters.values())
    values = fit(Words([], named, {}), task.signature, parameters)
    for parameter in parameters:
        stands = draft.value(parameter.name)
        if parameter.kind is parameter.VAR_KEYWORD and parameter.name in values and isinstance(stands, dict):
            values[parameter.name] = {**stands, **values[parameter.name]}
    return values


def _edited(draft: Draft) -> bytes | None:
    """Return the arguments as the editor leaves them; None if nothing has changed. In a terminal a refused text can be
    mended."""
    text = draft.text
    while True:
        written = click.edit(text, extension=".json")
        if written is None:
            written = text
        try:
            return draft.changed_by(written)
        except ArgumentError as error:
            if not sys.stdin.isatty():
                raise
            report(error.message, error.hint)
            if not click.confirm("Edit again?", default=True, err=True):
                raise click.Abort() from None
            text = written
