"""The group of all verbs, and the one place that turns an exception into an exit code and two lines on stderr.

Exit codes: 0 ok, 1 the job failed or the worker was killed, 2 usage, import or arguments, 3 broker.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from jetq.cli.exit import BROKER, FAILED, USAGE, Failed, is_verbose, report, verbose_option
from jetq.cli.groups import Verbs
from jetq.cli.option_variables import check_variables
from jetq.client.plugins import load_verb, verbs
from jetq.errors import BrokerError, JetqError, PluginError, ResultError
from jetq.migration_hints import COMMANDS, flag_answer

__all__ = ["cli", "main"]


_ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}
_VERBS = (
    "call",
    "dev",
    "dlq",
    "doctor",
    "job",
    "plugins",
    "queue",
    "schedule",
    "server",
    "setup",
    "worker",
    "workflow",
)


class _Verbs(Verbs):
    """The group of all verbs: each verb is a module of the same name, imported only when the verb is asked for.

    Most verbs use modules that other verbs do not use, and a worker should start quickly. Plugins may add verbs, which
    are looked for last.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_VERBS, *verbs()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return _of_plugin(cmd_name)
        command: click.Command = getattr(import_module(f"jetq.cli.verbs.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in COMMANDS:
            raise click.UsageError(f"jetq has no command {args[0]}: {COMMANDS[args[0]]}")
        name, command, rest = super().resolve_command(ctx, args)
        if name in _VERBS and command is not None and not set(ctx.help_option_names).intersection(rest):
            check_variables(command, name, os.environ)
        return name, command, rest


class _Unusable(click.Command):
    """A plugin's verb that cannot be used here. Its error appears only when the verb is asked for, so other verbs still
    work."""

    def __init__(self, name: str, error: PluginError) -> None:
        super().__init__(name, help=error.message, context_settings=_ANY_WORDS)
        self._error = error

    def invoke(self, ctx: click.Context) -> NoReturn:
        raise self._error


def _of_plugin(name: str) -> click.Command | None:
    try:
        found = load_verb(name)
        if found is None or isinstance(found, click.Command):
            return found
        raise PluginError(f"what a plugin names as the command {name!r} is no command of click's")
    except PluginError as error:
        return _Unusable(name, error)


@click.group(cls=_Verbs, context_settings={"auto_envvar_prefix": "JETQ", "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jetq-nats", prog_name="jetq", message="%(prog)s %(version)s")
@verbose_option
def cli() -> None:
    """Background jobs on NATS JetStream.

    \b
    jetq dev tasks.py          a local server, a worker and reload
    jetq call tasks.add 2 3    run a task there and print its result

    Every option has an environment variable: JETQ_WORKER_CONCURRENCY is `jetq worker --concurrency`.
    """


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    logging.captureWarnings(True)
    sys.exit(_run())


def _run() -> int:
    context = None
    try:
        with cli.make_context("jetq", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        return FAILED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output has gone; the interpreter's own error message helps nobody
        return FAILED
    except Failed as error:
        report(error.message, error.hint)
        return error.code
    except JetqError as error:
        if is_verbose(context):
            raise
        report(error.message, error.hint)
        return _code(error)
    return 0


def _usage(error: click.ClickException) -> int:
    message, hint = error.format_message(), None
    if isinstance(error, click.UsageError) and error.ctx is not None:
        path = error.ctx.command_path
        hint = f"{path} --help"
        if isinstance(error, click.NoSuchOption) and (answer := flag_answer(path, error.option_name)) is not None:
            message, hint = f"{path} has no option {error.option_name}: {answer}", None
    report(message, hint)
    return USAGE


def _code(error: JetqError) -> int:
    if isinstance(error, BrokerError):
        return BROKER
    return FAILED if isinstance(error, ResultError) else USAGE
