"""`jetq call`: enqueues a job from the command line and prints its result."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import click
import msgspec

from jetq.cli import logs
from jetq.cli.app_option import for_app
from jetq.cli.exit import FAILED, Failed, is_verbose, verbose_option
from jetq.cli.output import printable
from jetq.cli.task_argument import call_arguments, choose_task
from jetq.client.app import Jetq
from jetq.client.job import Job
from jetq.errors import RemoteTraceback, TaskFailed
from jetq.model.definitions.options import CallOptions

__all__ = ["call"]

_RESULT_TTL = 600.0
"""Seconds for which the result of a task that keeps none is kept for this command."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="TASK")
@click.argument("words", metavar="[ARGUMENT]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", metavar="OBJECT", help="Arguments by name, as a JSON object.")
@click.option("--queue", help="Store the job in this queue instead of the task's own.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    help="How many seconds to wait for the result. By default without a bound.",
)
@click.option("--no-wait", is_flag=True, help="Print the job's id and do not wait.")
@for_app
@verbose_option
def call(
    name: str,
    words: tuple[str, ...],
    json: str | None,
    queue: str | None,
    timeout: float | None,
    no_wait: bool,
    app_path: str | None,
) -> None:
    """Run TASK as a job and print its result as JSON.

    \b
    jetq call tasks.add 2 3
    jetq call tasks.add 2 --y 3
    jetq call tasks.add --json '{"x": 2, "y": 3}'

    TASK is a task's name; its module is imported if it can be. Each ARGUMENT is read as JSON if it is some, and as text
    otherwise or where the parameter is text.
    """
    logs.set_up("console", "debug" if is_verbose() else "warning")
    app, task = choose_task(name, app_path)
    arguments = call_arguments(name, task, words, json)
    options: CallOptions = {}
    if queue is not None:
        options["queue"] = queue
    if not no_wait and (task is None or task.declared.result_ttl is None):
        options["result_ttl"] = _RESULT_TTL
    asyncio.run(_call(app, name, arguments, options, wait=not no_wait, timeout=timeout))


async def _call(
    app: Jetq, name: str, arguments: dict[str, Any], options: CallOptions, *, wait: bool, timeout: float | None
) -> None:
    try:
        job = await app.asend(name, arguments, **options)
        if wait:
            await _print_result(job, timeout)
        else:
            click.echo(job.id)
    finally:
        await app.session.aclose()


async def _print_result(job: Job[Any], timeout: float | None) -> None:
    try:
        value = await job.aresult(timeout)
    except asyncio.CancelledError:
        click.echo(f"job {job.id} goes on: jetq job show {job.id}", err=True)
        raise
    except Exception as error:
        if isinstance(error, TaskFailed) or isinstance(error.__cause__, RemoteTraceback):
            raise _job_failed(job, error) from None
        raise
    click.echo(msgspec.json.encode(value, enc_hook=str).decode())


def _job_failed(job: Job[Any], error: Exception) -> Failed:
    remote = error.remote_traceback if isinstance(error, TaskFailed) else str(error.__cause__)
    if remote.strip():
        click.echo(printable(remote.strip()), err=True)
    what = "".join(traceback.format_exception_only(error)).strip().partition("\n")[0]
    return Failed(f"job {job.id} failed: {printable(what)}", hint=f"jetq dlq show {job.id}", code=FAILED)
