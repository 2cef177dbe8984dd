"""The group of all verbs, and the one place where an exception becomes an exit code and two lines on stderr.

Exit codes: 0 ok, 1 the job failed or the worker was killed, 2 usage, import or arguments, 3 broker.
"""

from __future__ import annotations

import logging
import sys
from typing import NoReturn

import click

from jetq.cli.call import call
from jetq.cli.dev import dev
from jetq.cli.dlq import dlq
from jetq.cli.failing import BROKER, FAILED, USAGE, Failed, is_verbose, report, verbose_option
from jetq.cli.job import job
from jetq.cli.plugins import plugins
from jetq.cli.queue import queue
from jetq.cli.schedule import schedule
from jetq.cli.server import server
from jetq.cli.setup import setup
from jetq.cli.worker import worker
from jetq.errors import BrokerError, JetqError, ResultError

__all__ = ["cli", "main"]


@click.group(context_settings={"auto_envvar_prefix": "JETQ", "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jetq-nats", prog_name="jetq", message="%(prog)s %(version)s")
@verbose_option
def cli() -> None:
    """Background jobs on NATS JetStream.

    \b
    jetq dev tasks.py          a local server, a worker and reload
    jetq call tasks.add 2 3    run a task there and print its result

    Every option has an environment variable: JETQ_WORKER_CONCURRENCY is `jetq worker --concurrency`.
    """


for command in (dev, server, worker, call, queue, job, schedule, dlq, setup, plugins):
    cli.add_command(command)


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
        sys.stderr.close()  # whoever read the output has left; the interpreter's own complaint helps nobody
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
    hint = None
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
    report(error.format_message(), hint)
    return USAGE


def _code(error: JetqError) -> int:
    if isinstance(error, BrokerError):
        return BROKER
    return FAILED if isinstance(error, ResultError) else USAGE
