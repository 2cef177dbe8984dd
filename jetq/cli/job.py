"""`jetq job`: one job as it stands."""

from __future__ import annotations

import click
import msgspec

from jetq.cli.choosing import ask_broker, choose_app, for_app
from jetq.cli.failing import verbose_option
from jetq.cli.showing import arguments, echo_errors, echo_fields, echo_json, errors_json, moment
from jetq.inspect import JobView, view_job

__all__ = ["job"]


@click.group()
def job() -> None:
    """Jobs."""


@job.command()
@click.argument("id")
@click.option("-q", "--queue", help="Its queue; every queue is searched without.")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def show(id: str, queue: str | None, spec: str | None, json: bool) -> None:
    """Show where job ID stands, its arguments, its attempts and its result."""
    view = ask_broker(choose_app(spec), lambda broker: view_job(broker, id, queue=queue))
    if json:
        echo_json(_as_json(view))
    else:
        _echo(view)


def _as_json(view: JobView) -> dict[str, object]:
    shown: dict[str, object] = {
        name: getattr(view, name) for name in view.__struct_fields__ if name not in ("errors", "body", "result", "dead")
    }
    shown["errors"] = errors_json(view.errors)
    shown["arguments"] = None if view.body is None else arguments(view.body)
    if view.result is not None and view.result.state == "succeeded":
        shown["result"] = view.result.value
    if view.dead is not None:
        shown["reason"] = view.dead.letter.reason
        shown["failure"] = view.dead.letter.failure
    return shown


def _echo(view: JobView) -> None:
    fields: list[tuple[str, object]] = [
        ("job", view.id),
        ("task", view.task),
        ("queue", view.queue),
        ("state", view.state),
        ("attempt", view.attempt),
        ("enqueued", moment(view.enqueued)),
        ("due", moment(view.due)),
        ("ended", moment(view.ended)),
        ("worker", view.worker),
        ("snoozed", f"{view.snoozes} times" if view.snoozes else ""),
        ("replayed", f"{view.replays} times" if view.replays else ""),
    ]
    if view.body is not None:
        fields.append(("arguments", msgspec.json.encode(arguments(view.body)).decode()))
    if view.result is not None and view.result.state == "succeeded":
        fields.append(("result", bytes(view.result.value).decode("utf-8", "replace")))
    echo_fields(fields)
    if view.errors:
        click.echo("errors")
        echo_errors(view.errors, view.errors_dropped)
    if view.dead is not None:
        click.echo(f"\njetq dlq show {view.id} has its traceback")
