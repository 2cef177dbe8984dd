"""Find the task that a command line names, and read the words that are its arguments."""

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


def choose_task(name: str, app_path: str | None) -> tuple[Jetq, Task[..., Any] | None]:
    """Return the app that `app_path` names, else the app of the task's module, with task `name`; None if its code is
    not here."""
    if app_path is None:
        add_working_directory()
        use_local_server()
        import_module_of_task(name)  # first, because the module may make the app that the task belongs to
    app = choose_app(app_path)
    return app, _find(app, name)


def call_arguments(
    name: str, task: Task[..., Any] | None, words: Sequence[str], document: str | None
) -> dict[str, Any]:
    """Return the arguments of task `name`, by parameter name, from `words` and a JSON object. Raises Failed,
    ArgumentError."""
    given = read_words(words, document)
    if task is None:
        return without_signature(given, name)
    return fit(given, task.signature, list(signature_of(task.fn).parameters.values()))


def _find(app: Jetq, name: str) -> Task[..., Any] | None:
    """Import the module that task `name` seems to be in, or the plugins, and return the task; None if its code is not
    here.

    Raises Failed if the module has other tasks, and not this one.
    """
    if name in app.tasks:
        return app.tasks[name]
    module = import_module_of_task(name)
    if name not in app.tasks:
        try:
            app.load_plugins()
        except PluginError as error:  # a broken plugin should not keep other tasks from being called
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
