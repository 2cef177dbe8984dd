"""How a command fails: its exit code, its `error:` and `hint:` lines, and when it shows a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["BROKER", "FAILED", "USAGE", "Failed", "is_verbose", "report", "verbose_option"]

FAILED = 1
USAGE = 2
BROKER = 3

_VERBOSE = "jetq.verbose"

F = TypeVar("F", bound=Callable[..., Any])


class Failed(Exception):
    """Ends the command with `code` after printing `message` and `hint`."""

    def __init__(self, message: str, *, hint: str | None = None, code: int = USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


def report(message: str, hint: str | None = None) -> None:
    """Print on stderr one line that says what happened, and one line that says what to do about it."""
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def verbose_option(command: F) -> F:
    """Add the option `-v`, which shows tracebacks and debug logs. `-v` may be given before or after the verb."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            context.find_root().meta[_VERBOSE] = True

    option = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        envvar="JETQ_VERBOSE",
        expose_value=False,
        callback=remember,
        help="Show tracebacks and debug logs.",
    )
    return option(command)


def is_verbose(context: click.Context | None = None) -> bool:
    """Return whether `-v` was given."""
    context = context or click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().meta.get(_VERBOSE))
