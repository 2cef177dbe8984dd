"""`jetq doctor`: says what is wrong or weak in a deployment, in words and as an exit code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click
from msgspec.structs import asdict, replace

from jetq.cli.app_option import ask_broker, choose_app
from jetq.cli.durations import DURATION
from jetq.cli.exit import FAILED, Failed, verbose_option
from jetq.cli.output import echo_fields, echo_json, printable
from jetq.client.app import Jetq
from jetq.client.plugins import unready_queues
from jetq.errors import PluginError
from jetq.model.deployment_facts import Usage
from jetq.operations.doctor.examination import Report, examine
from jetq.operations.doctor.findings import Finding, Fleet
from jetq.units import size

__all__ = ["doctor"]


@click.command()
@click.argument("apps", metavar="[APP]...", nargs=-1)
@click.option(
    "--monitor",
    multiple=True,
    metavar="URL",
    help="Also read the monitoring page of this server. May be repeated, for each server.",
)
@click.option("--max-dead", type=click.IntRange(min=0), help="Report a queue with more dead letters than this.")
@click.option("--max-age", type=DURATION, help="Count only dead letters younger than this for --max-dead, like 1d.")
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def doctor(
    apps: tuple[str, ...], monitor: tuple[str, ...], max_dead: int | None, max_age: float | None, json: bool
) -> None:
    """Examine the server, its streams and the workers, and say what is wrong or weak.

    Nothing is changed. With modules APP it also says which of their tasks no worker can run. Exit code 0: nothing is
    wrong, though there may be notes; 1: there are problems or warnings; 3: no server that jetq can use.
    """
    app = choose_app(*apps)
    tasks = _tasks_by_queue(app) if apps else {}
    replicas = app.settings.replicas
    most_dead = 0 if max_dead is None and max_age is not None else max_dead
    report = ask_broker(
        app,
        lambda broker: examine(
            broker, tasks, replicas=replicas, monitors=monitor, most_dead=most_dead, dead_within=max_age
        ),
    )
    report = replace(report, findings=(*report.findings, *_unready_plugins(app, report.fleets)))
    if json:
        echo_json(_as_json(report))
    else:
        _show(report)
    if not report.healthy:
        bad = [finding for finding in report.findings if finding.severity != "note"]
        raise Failed(f"{len(bad)} thing{'s' if len(bad) > 1 else ''} found wrong or weak", code=FAILED)


def _unready_plugins(app: Jetq, fleets: Sequence[Fleet]) -> Iterator[Finding]:
    """Yield a note for each queue that has no worker, and whose jobs could not run here either."""
    without = {fleet.queue.name for fleet in fleets if not fleet.workers}
    try:
        unready = unready_queues(app.load_plugins(), app.tasks) if without else {}
    except PluginError:
        return  # `jetq plugins` and a starting worker report this error
    for queue in sorted(without & unready.keys()):
        plugin = unready[queue]
        yield Finding(
            "note",
            "plugin-not-ready",
            queue,
            f"a worker that is started here leaves it to others, for plugin {plugin.name} is not ready: {plugin.lacks}",
        )


def _tasks_by_queue(app: Jetq) -> dict[str, list[str]]:
    tasks: dict[str, list[str]] = {queue: [] for queue in app.queues}
    for name, task in sorted(app.tasks.items()):
        tasks.setdefault(task.queue, []).append(name)
    return tasks


def _show(report: Report) -> None:
    server = report.survey.server
    ways = [
        f"NATS {server.version}",
        "encrypted" if server.encrypted else "in clear text",
        f"messages up to {size(server.max_payload)}",
    ]
    echo_fields(
        [
            ("server", f"{server.address} ({', '.join(ways)})"),
            ("durability", report.durability.text),
            *((use.what, _used(use)) for use in report.survey.usage if use.bytes),
            *((f"queue {fleet.queue.name}", _numbers(fleet)) for fleet in report.fleets),
        ]
    )
    click.echo()
    for finding in report.findings:
        _show_finding(finding)
    if not report.findings:
        click.echo("nothing is wrong")


def _show_finding(finding: Finding) -> None:
    click.echo(printable(f"{finding.severity}  {finding.code}  {finding.about}: {finding.message}"))
    if finding.hint:
        click.echo(printable(f"  hint: {finding.hint}"))


def _used(use: Usage) -> str:
    return size(use.used) if use.limit is None else f"{size(use.used)} of {size(use.limit)}"


def _numbers(fleet: Fleet) -> str:
    queue, workers = fleet.queue, len(fleet.workers)
    return (
        f"{workers} worker{'' if workers == 1 else 's'}, {queue.ready} ready, {queue.running} running, "
        f"{queue.scheduled} scheduled, {queue.dead} dead"
    )


def _as_json(report: Report) -> dict[str, Any]:
    survey = report.survey
    return {
        "healthy": report.healthy,
        "findings": [asdict(finding) for finding in report.findings],
        "durability": asdict(report.durability),
        "server": asdict(survey.server),
        "usage": [asdict(use) for use in survey.usage],
        "streams": [asdict(stream) for stream in survey.streams],
        "queues": [
            {
                "name": fleet.queue.name,
                "ready": fleet.queue.ready,
                "running": fleet.queue.running,
                "scheduled": fleet.queue.scheduled,
                "dead": fleet.queue.dead,
                "workers": [
                    {"worker": each.worker, "version": each.version, "slots": each.slots, "busy": each.busy}
                    for each in fleet.workers
                ],
            }
            for fleet in report.fleets
        ],
    }
