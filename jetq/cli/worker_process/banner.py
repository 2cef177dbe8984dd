"""Prints what a worker serves when it starts: the server, the queues, and the tasks of each queue."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from jetq.client.plugins import Plugin
from jetq.client.task import Task
from jetq.model.annotations import signature_of
from jetq.settings import Settings, safe_url

__all__ = ["example", "introduce", "introduce_as_json"]

_SAMPLES: dict[Any, object] = {int: 2, float: 1.5, bool: True, str: "hello"}


def introduce(
    settings: Settings,
    queues: Sequence[str],
    tasks: Mapping[str, Task[..., Any]],
    unready: Mapping[str, Plugin],
    *,
    aside: Sequence[Plugin] = (),
) -> None:
    """Print servers (without credentials), namespace, queues, the tasks of each queue, and what `unready` plugins lack.

    aside: plugins that are named on one line, without their tasks.
    """
    servers = ", ".join(safe_url(server) for server in settings.servers)
    click.echo(f"jetq worker on {servers}, namespace {settings.namespace}")
    passed_over = {name for plugin in aside for name in plugin.tasks}
    for queue in queues:
        of_queue = [name for name, task in sorted(tasks.items()) if task.queue == queue]
        shown = [name for name in of_queue if name not in passed_over]
        if shown or not of_queue:
            click.echo(f"  queue {queue}")
        for name in shown:
            click.echo(f"    {tasks[name].signature.text}")
    if aside:
        click.echo(f"  plugins: {', '.join(_in_short(plugin, tasks) for plugin in aside)}; see `jetq plugins`")
    for queue, plugin in unready.items():
        if plugin not in aside:
            click.echo(f"  not ready: queue {queue} of plugin {plugin.name}: {plugin.lacks}")
    elsewhere = sorted({task.queue for task in tasks.values()} - set(queues) - unready.keys())
    if elsewhere:
        click.echo(f"  not served: {', '.join(elsewhere)}")


def _in_short(plugin: Plugin, tasks: Mapping[str, Task[..., Any]]) -> str:
    queues = sorted({tasks[name].queue for name in plugin.tasks if name in tasks})
    return f"{plugin.name} ({'not ready here' if plugin.lacks else 'queue ' + ', '.join(queues)})"


def introduce_as_json(
    settings: Settings, queues: Sequence[str], tasks: Mapping[str, Task[..., Any]], unready: Mapping[str, Plugin]
) -> None:
    """Print what `introduce` prints as one JSON object on a line, like the lines of the log."""
    line = {
        "message": "jetq worker",
        "servers": [safe_url(server) for server in settings.servers],
        "namespace": settings.namespace,
        "queues": {
            queue: [task.signature.text for _, task in sorted(tasks.items()) if task.queue == queue] for queue in queues
        },
        "not_ready": {queue: plugin.lacks for queue, plugin in unready.items()},
    }
    click.echo(json.dumps(line))


def example(tasks: Mapping[str, Task[..., Any]]) -> str | None:
    """Return a `jetq call` line that works, for the first task whose required parameters are simple enough to make
    values up.

    None if there is no such task.
    """
    for name in sorted(tasks):
        words = _sample_words(tasks[name])
        if words is not None:
            return " ".join(["jetq call", name, *words])
    return None


def _sample_words(task: Task[..., Any]) -> list[str] | None:
    words = []
    for parameter in signature_of(task.fn).parameters.values():
        if parameter.default is not parameter.empty or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        sample = _SAMPLES.get(task.signature.parameter_type(parameter.name))
        if sample is None:
            return None
        word = sample if isinstance(sample, str) else json.dumps(sample)
        words += [f"--{parameter.name}", word] if parameter.kind is parameter.KEYWORD_ONLY else [word]
    return words
