"""A task named on the command line, and the words that are its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import click

from jetq.cli.app_loading import add_working_directory, import_module_of_task
from jetq.cli.app_option import choose_app, use_local_server
from jetq.cli.arguments import fit, read_words, without_signature
from jetq.cli.exit import Failed
from jetq.client.app import Jetq
from jetq.client.task import Task
from jetq.errors import PluginError
from jetq.model.annotations import signature_of

__all__ = ["call_arguments", "choose_task"]


def choose_task(name: str, spec: str | None) -> tuple[Jetq, Task[..., Any] | None]:
    """The app that `spec` names, or else that of the task's module, and task `name`; None if its code is not here."""
    if spec is None:
        add_working_directory()
        use_local_server()
        import_module_of_task(name)  # first: the module may make the app, and then the task belongs to that one
    app = choose_app(spec)
    return app, _find(app, name)


def call_arguments(
    name: str, task: Task[..., Any] | None, words: Sequence[str], document: str | None
) -> dict[str, Any]:
    """The arguments of task `name` in `words` and in a JSON object, by name. Raises Failed, ArgumentError."""
    given = read_words(words, document)
    if task is None:
        return without_signature(given, name)
    return fit(given, task.signature, list(signature_of(task.fn).parameters.values()))


def _find(app: Jetq, name: str) -> Task[..., Any] | None:
    """Task `name` after importing the module it seems to be in, or the plugins; None if its code is not here."""
    if name in app.tasks:
        return app.tasks[name]
    module = import_module_of_task(name)
    if name not in app.tasks:
        try:
            app.load_plugins()
        except PluginError as error:  # one that is broken should not keep others from being called
            click.echo(f"warning: {error.message}", err=True)
    if name in app.tasks:
        return app.tasks[name]
    if module is not None:
        others = {own.rpartition(".")[2]: own for own, task in app.tasks.items() if task.fn.__module__ == module}
        if others:
            near = get_close_matches(name.rpartition(".")[2], others, n=1)
            hint = f"did you mean {others[near[0]]}?" if near else f"it has {', '.join(sorted(others.values()))}"
            raise Failed(f"module '{module}' has no task '{name}'", hint=hint)
    return None
