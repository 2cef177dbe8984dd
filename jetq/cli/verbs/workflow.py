"""`jetq workflow`: lists and shows workflows, and retries and cancels them."""

from __future__ import annotations

import time
from typing import Any, get_args

import click
from msgspec.structs import asdict

from jetq.broker import Broker
from jetq.cli.app_option import ask_broker, choose_app, for_app
from jetq.cli.dead_letter_rows import count
from jetq.cli.durations import DURATION
from jetq.cli.exit import FAILED, Failed, verbose_option
from jetq.cli.groups import Verbs
from jetq.cli.output import age, echo_fields, echo_json, echo_table, moment, printable
from jetq.cli.workflow_following import follow_workflow
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import BadRecord
from jetq.model.names import check_queue, check_workflow_id
from jetq.model.workflows.records import WorkflowState
from jetq.operations.workflows.views.drawing import draw_flowchart, draw_tree
from jetq.operations.workflows.views.viewing import WorkflowView, list_workflows, view_workflow

__all__ = ["workflow"]


@click.group(cls=Verbs)
def workflow() -> None:
    """Workflows."""


@workflow.command()
@click.option("-q", "--queue", help="Only workflows whose first call is in this queue.")
@click.option("--state", type=click.Choice(get_args(WorkflowState)), help="Only workflows in this state.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many to show at most, the newest first."
)
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def ls(queue: str | None, state: WorkflowState | None, limit: int, app_path: str | None, json: bool) -> None:
    """List the newest workflows with their state, their age and how many of their steps are done."""
    app = choose_app(app_path)
    if queue is not None:
        check_queue(queue)

    lines = ask_broker(
        app, lambda broker: list_workflows(broker, Sealer(app.payloads), queue=queue, state=state, limit=limit)
    )
    if json:
        echo_json(lines)
    elif lines:
        rows = [(each.id, each.queue, each.state, f"{each.done}/{each.total}", _age(each.began)) for each in lines]
        echo_table(("WORKFLOW", "QUEUE", "STATE", "STEPS", "AGE"), rows, right=[3, 4])
    elif queue is None and state is None:
        click.echo("no workflows yet: .delay() of a work stores one")
    else:
        click.echo("no such workflow stands")


@workflow.command()
@click.argument("id")
@click.option("--mermaid", is_flag=True, help="Print the plan as a flowchart of Mermaid.")
@click.option("--follow", "-f", is_flag=True, help="Show the progress until the workflow has ended.")
@for_app
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def show(id: str, mermaid: bool, follow: bool, app_path: str | None, json: bool) -> None:
    """Show where workflow ID stands: its steps, each below what it waits for, and their first failures.

    With --follow the exit code is 1 if the workflow has not succeeded.
    """
    if mermaid + follow + json > 1:
        raise click.UsageError("--mermaid, --follow and --json exclude each other")
    app = choose_app(app_path)
    sealer = Sealer(app.payloads)
    check_workflow_id(id)

    async def look(broker: Broker) -> WorkflowView:
        try:
            return await (follow_workflow if follow else view_workflow)(broker, sealer, id)
        except BadRecord as error:
            raise Failed(f"workflow {id} cannot be read: {error}", code=FAILED) from None

    view = ask_broker(app, look)
    if json:
        echo_json(_as_json(view))
    elif mermaid:
        click.echo(_flowchart(view))
    elif follow:
        _end(view)
    else:
        _echo(view)


@workflow.command()
@click.argument("id")
@click.option("--step", help="Only what has failed of this step.")
@click.option("--expires", type=DURATION, help="Begin no step any more after this time from now, like 12h.")
@for_app
@verbose_option
def retry(id: str, step: str | None, expires: float | None, app_path: str | None) -> None:
    """Run again what has failed of workflow ID, and go on with what waited for it, on today's code.

    Without --expires a deadline that has not passed stays. Members whose failure the work tolerates are not run again.
    """
    app = choose_app(app_path)
    handle = app.workflow(id)
    again = ask_broker(app, lambda _: handle.aretry(step=step, expires=expires))
    if again:
        click.echo(f"{count(again, 'job')} of workflow {id} {'runs' if again == 1 else 'run'} again")
    else:
        click.echo(f"nothing of workflow {id}{'' if step is None else f' in step {step}'} has failed")


@workflow.command()
@click.argument("id")
@for_app
@verbose_option
def cancel(id: str, app_path: str | None) -> None:
    """Cancel workflow ID: what waits is not started, and what runs is told to end.

    A cancelled workflow cannot be retried. One that has its value stays as it is.
    """
    app = choose_app(app_path)
    handle = app.workflow(id)
    answer = ask_broker(app, lambda _: handle.acancel())
    click.echo(f"workflow {id} is cancelled" if answer == "cancelled" else f"workflow {id} had finished already")


def _age(began: float | None) -> str:
    return "" if began is None else age(time.time() - began)


def _flowchart(view: WorkflowView) -> str:
    if view.plan is None:
        raise Failed(
            f"workflow {view.id} is over, and its plan is not kept",
            hint=f"jetq workflow show {view.id} shows its steps",
            code=FAILED,
        )
    return draw_flowchart(view.steps, view.plan)


def _end(view: WorkflowView) -> None:
    if view.state != "succeeded":
        raise Failed(f"workflow {view.id} has not succeeded: it is {view.state}", code=FAILED)
    click.echo(f"workflow {view.id} has succeeded")


def _echo(view: WorkflowView) -> None:
    echo_fields(
        [
            ("workflow", view.id),
            ("queue", view.queue),
            ("state", view.state),
            ("began", _moment(view.began)),
            ("deadline", "" if view.plan is None else _moment(view.plan.deadline)),
            ("ended", _moment(view.ended)),
        ]
    )
    click.echo("steps")
    for line in draw_tree(view.steps, view.plan):
        click.echo(printable(f"  {line}"))


def _moment(at: float | None) -> str:
    try:
        return moment(at)
    except (OverflowError, ValueError, OSError):  # anyone may have written the plan
        return f"{at:g}"


def _as_json(view: WorkflowView) -> dict[str, Any]:
    return {
        "id": view.id,
        "queue": view.queue,
        "state": view.state,
        "began": view.began,
        "deadline": None if view.plan is None else view.plan.deadline,
        "ended": view.ended,
        "steps": [
            {
                **asdict(step),
                "failures": [asdict(failure) for failure in step.failures],
                "after": None if view.plan is None else [edge.source for edge in view.plan.steps[name].edges],
            }
            for name, step in view.steps.items()
        ],
    }
