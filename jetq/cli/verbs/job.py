"""`jetq job`: shows one job and why it does not run, and cancels or reschedules jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import click
import msgspec
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.cli.app_option import ask_broker, choose_app, for_app
from jetq.cli.durations import DURATION
from jetq.cli.exit import FAILED, Failed, verbose_option
from jetq.cli.groups import Verbs
from jetq.cli.output import (
    arguments,
    echo_errors,
    echo_fields,
    echo_json,
    errors_json,
    moment,
    printable,
    redacted_entry,
    redacted_errors,
    result,
)
from jetq.client.app import Jetq
from jetq.model.job import Place, StoredJob
from jetq.model.names import check_queue, key_token
from jetq.operations.cancel import Cancellation, cancel, cancel_found
from jetq.operations.job_view import JobView, view_job
from jetq.operations.reschedule import move_job
from jetq.operations.why_waiting import diagnose

__all__ = ["job"]


@click.group(cls=Verbs)
def job() -> None:
    """Jobs."""


@job.command()
@click.argument("id")
@click.option("-q", "--queue", help="The queue to look in. By default every queue.")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def show(id: str, queue: str | None, app_path: str | None, json: bool) -> None:
    """Show where job ID stands, its arguments, its attempts and its result."""
    app = choose_app(app_path)
    view = ask_broker(app, lambda broker: view_job(broker, id, queue=queue))
    if view.dead is not None:
        view = replace(view, dead=redacted_entry(app, view.dead))
    if view.body is not None:
        view = replace(view, errors=redacted_errors(app, view, view.body, view.errors))
    if json:
        echo_json(_as_json(app, view))
    else:
        _echo(app, view)


@job.command()
@click.argument("id")
@click.option("-q", "--queue", help="The queue to look in. By default every queue.")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def why(id: str, queue: str | None, app_path: str | None, json: bool) -> None:
    """Say why job ID is not running."""
    diagnosis = ask_broker(choose_app(app_path), lambda broker: diagnose(broker, id, queue=queue))
    if json:
        echo_json({"id": diagnosis.job.id, "state": diagnosis.job.state, "reasons": diagnosis.reasons})
        return
    click.echo(printable(f"{diagnosis.job.state}: {diagnosis.reasons[0]}"))
    for reason in diagnosis.reasons[1:]:
        click.echo(printable(f"also: {reason}"))


@job.command("cancel")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--task", help="All jobs of this task.")
@click.option("--key", help="The job of this unique key; with --task, of that task only.")
@click.option("-q", "--queue", help="Only jobs of this queue. By default of every queue.")
@click.option(
    "--timeout", type=DURATION, default="10s", show_default=True, help="How long to wait for a running job to end."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@for_app
@verbose_option
def cancel_(
    ids: tuple[str, ...],
    task: str | None,
    key: str | None,
    queue: str | None,
    timeout: float,
    yes: bool,
    app_path: str | None,
) -> None:
    """Cancel jobs, by id, key or task: those that wait are removed, those that run are told to end.

    A cancelled job does not run again. One that had finished stays as it is. Exit code 1 if a run did not end in time.
    """
    if bool(ids) == (task is not None or key is not None):
        raise click.UsageError("say which: one or more IDs, or --task NAME, or --key KEY")
    app = choose_app(app_path)
    if task is not None and key is None and not yes:
        click.confirm(f"Cancel all jobs of task {task} in {_where(queue)}?", abort=True, err=True)

    async def cancel_all(broker: Broker) -> list[Cancellation]:
        if ids:
            return [await _cancel_one(broker, id, queue, timeout) for id in ids]
        return await _cancel_chosen(broker, task, key, queue, timeout)

    counts = Counter(ask_broker(app, cancel_all))
    if not counts:
        click.echo("no such job stands")
    for answer, count in counts.items():
        click.echo(f"{count} {_SAID[answer]}")
    if counts["unconfirmed"]:
        raise Failed(
            "not every run has ended in time",
            hint="it does not run again; a task that ignores its cancellation ends when it returns",
            code=FAILED,
        )


_SAID: dict[Cancellation, str] = {
    "removed": "removed before it ran",
    "stopped": "stopped while it ran",
    "unconfirmed": "told to end, and still running",
    "finished": "finished already",
    "cancelled": "cancelled already",
}


async def _cancel_one(broker: Broker, id: str, queue: str | None, timeout: float) -> Cancellation:
    view = await view_job(broker, id, queue=queue)
    return await cancel(broker, view.queue, id, timeout=timeout)


async def _cancel_chosen(
    broker: Broker, task: str | None, key: str | None, queue: str | None, timeout: float
) -> list[Cancellation]:
    queues = [check_queue(queue)] if queue is not None else [info.name for info in await broker.queues()]
    existing: list[StoredJob] = []
    for name in queues:
        existing += await broker.stored_jobs(name, task=task, key=None if key is None else key_token(key))
    return _answers(await cancel_found(broker, existing, timeout=timeout))


def _answers(answers: Sequence[Cancellation | BaseException]) -> list[Cancellation]:
    given: list[Cancellation] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        given.append(answer)
    return given


def _where(queue: str | None) -> str:
    return "every queue" if queue is None else f"queue {queue}"


@job.command()
@click.argument("id")
@click.option("--delay", type=DURATION, help="Make the job due after this time, like 10m.")
@click.option(
    "--at",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S"]),
    help="Make the job due at this time. Without an offset it is local time.",
)
@click.option("--now", is_flag=True, help="Make the job due now.")
@click.option("-q", "--queue", help="The queue to look in. By default every queue.")
@for_app
@verbose_option
def reschedule(
    id: str, delay: float | None, at: datetime | None, now: bool, queue: str | None, app_path: str | None
) -> None:
    """Give the scheduled job ID, or a retry that waits its turn, another due time."""
    if sum((delay is not None, at is not None, now)) != 1:
        raise click.UsageError("say when: --delay, --at or --now")

    async def move(broker: Broker) -> tuple[str, float | None]:
        view = await view_job(broker, id, queue=queue)
        due = None
        if delay is not None:
            due = await broker.time(view.queue, make=False) + delay
        elif at is not None:
            due = at.astimezone().timestamp()
        state = await move_job(broker, view.queue, id, due)
        return state or (await view_job(broker, id, queue=view.queue)).state, due

    state, due = ask_broker(choose_app(app_path), move)
    if state == "scheduled":
        click.echo(f"due {moment(due)}")
    elif state == "queued":
        click.echo("it is the job's turn now")
    else:
        raise Failed(f"job {id} is {state}, so it has no due time any more", code=FAILED)


_SHOWN_APART = ("errors", "body", "result", "dead", "place")
"""Fields of a view that its JSON shows in another form, or not at all."""


def _as_json(app: Jetq, view: JobView) -> dict[str, object]:
    shown: dict[str, object] = {
        name: getattr(view, name) for name in view.__struct_fields__ if name not in _SHOWN_APART
    }
    shown["errors"] = errors_json(view.errors)
    shown["arguments"] = None if view.body is None else arguments(app, view, view.body)
    if view.result is not None and view.result.state == "succeeded":
        shown["result"] = result(app, view.result)
    if view.place is not None:
        shown |= {"workflow": view.place.workflow, "step": view.place.step, "member": view.place.member}
    if view.dead is not None:
        shown["reason"] = view.dead.letter.reason
        shown["failure"] = view.dead.letter.failure
    return shown


def _place(place: Place | None) -> str:
    if place is None:
        return ""
    return printable(f"{place.workflow}, step {place.step}, member {place.member}")


def _echo(app: Jetq, view: JobView) -> None:
    fields: list[tuple[str, object]] = [
        ("job", view.id),
        ("task", view.task),
        ("queue", view.queue),
        ("workflow", _place(view.place)),
        ("state", view.state),
        ("attempt", view.attempt),
        ("enqueued", moment(view.enqueued)),
        ("due", moment(view.due)),
        ("in line since", moment(view.in_line)),
        ("started", moment(view.started)),
        ("ended", moment(view.ended)),
        ("worker", view.worker),
        ("snoozed", f"{view.snoozes} times" if view.snoozes else ""),
        ("replayed", f"{view.replays} times" if view.replays else ""),
        ("edited", f"{view.edits} times" if view.edits else ""),
    ]
    if view.body is not None:
        fields.append(("arguments", msgspec.json.encode(arguments(app, view, view.body)).decode()))
    if view.result is not None and view.result.state == "succeeded":
        fields.append(("result", msgspec.json.encode(result(app, view.result)).decode()))
    echo_fields(fields)
    if view.errors:
        click.echo("errors")
        echo_errors(view.errors, view.errors_dropped)
    if view.dead is not None:
        click.echo(f"\njetq dlq show {view.id} has its traceback")
