"""`jetq setup`: queues made before they are used, and compared with what stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from jetq.broker import Broker
from jetq.cli.choosing import ask_broker, choose_app
from jetq.cli.failing import BROKER, Failed, verbose_option
from jetq.model import Drift

__all__ = ["setup"]


@click.command()
@click.argument("apps", metavar="[APP]...", nargs=-1)
@click.option("-q", "--queue", multiple=True, help="This queue; every queue of the tasks without.")
@click.option("--plugins/--no-plugins", default=True, help="Also the queues of installed plugins.")
@verbose_option
def setup(apps: tuple[str, ...], queue: tuple[str, ...], plugins: bool) -> None:
    """Make the queues of the tasks that the modules APP define, and report where what stands differs."""
    app = choose_app(*apps)
    if plugins and not queue:
        app.load_plugins()
    names = queue or sorted({*(task.queue for task in app.tasks.values()), *app.queues})
    if not names:
        raise Failed("there are no tasks, so there are no queues to make", hint="name a module, or a queue with -q")

    async def ask(broker: Broker) -> Mapping[str, Sequence[Drift]]:
        declared = {name for name, queue in app.queues.items() if queue.levels is not None}
        return {name: await broker.setup(name, levels=name in declared) for name in names}

    found = ask_broker(app, ask)
    for name, drifts in found.items():
        click.echo(f"queue {name}: {'ready' if not drifts else 'differs'}")
        for drift in drifts:
            click.echo(f"  {drift}")
    if any(found.values()):
        raise Failed("what stands was left alone", hint="change it with the nats command, or make it anew", code=BROKER)
