"""Environment variables that stand for options: `JETQ_WORKER_CONCURRENCY` is `jetq worker --concurrency`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

import click

from jetq.errors import SettingsError
from jetq.settings import from_jetq_environment, is_service_link

__all__ = ["check_variables", "variables"]


def check_variables(command: click.Command, name: str, environment: Mapping[str, str]) -> None:
    """Raise SettingsError for a variable that is named like an option of the command `jetq NAME` that does not
    exist."""
    prefix = _prefix("JETQ", name)
    known = {variable.removeprefix(prefix): variable for variable in variables(command, name)}
    for variable, value in environment.items():
        own = variable.removeprefix(prefix)
        if own == variable or own in known or is_service_link(variable, value) or _is_setting(variable):
            continue
        near = get_close_matches(own, known, n=1)
        raise SettingsError(
            f"the environment variable {variable} is none of jetq's",
            hint=f"did you mean {known[near[0]]}?" if near else f"`jetq {name} --help` lists the options",
        )


def variables(command: click.Command, *path: str) -> Iterator[str]:
    """Yield the variables of the options of `command` and of the commands below it, as click names them."""
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        if isinstance(option.envvar, str):
            yield option.envvar
        if option.allow_from_autoenv and option.name is not None:
            yield _prefix("JETQ", *path) + option.name.upper()
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from variables(below, *path, name)


def _is_setting(variable: str) -> bool:
    """Return whether a variable that is named like an option of a command is a setting."""
    return bool(from_jetq_environment({variable: "1"}))


def _prefix(*path: str) -> str:
    return "".join(f"{word.upper().replace('-', '_')}_" for word in path)
