"""`jetq setup`: makes queues before they are used, and compares existing queues with what jetq needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from jetq.broker import Broker
from jetq.cli.app_option import ask_broker, choose_app
from jetq.cli.exit import BROKER, Failed, verbose_option
from jetq.cli.verbs.setup_acl import acl
from jetq.model.deployment_facts import Drift

__all__ = ["setup"]


class _Setup(click.Group):
    """Makes the queues if the first word is no verb of this group: `jetq setup tasks` is `jetq setup queues tasks`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if first not in self.commands and first not in self.get_help_option_names(ctx):
            args = ["queues", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Setup, subcommand_metavar="[queues] [OPTIONS] [APP]... | acl [OPTIONS] APP...")
def setup() -> None:
    """Make what must stand before producers and workers start: queues (what it does unless told), or permissions."""


setup.add_command(acl)


@setup.command()
@click.argument("apps", metavar="[APP]...", nargs=-1)
@click.option(
    "-q", "--queue", multiple=True, envvar="JETQ_SETUP_QUEUE", help="Set up only this queue. By default every queue."
)
@click.option(
    "--plugins/--no-plugins", default=True, envvar="JETQ_SETUP_PLUGINS", help="Set up the queues of plugins too."
)
@verbose_option
def queues(apps: tuple[str, ...], queue: tuple[str, ...], plugins: bool) -> None:
    """Make the queues of the tasks that the modules APP define, and report where what stands differs."""
    app = choose_app(*apps)
    if plugins and not queue:
        app.load_plugins()
    names = queue or sorted({*(task.queue for task in app.tasks.values()), *app.queues})
    if not names:
        raise Failed("there are no tasks, so there are no queues to make", hint="name a module, or a queue with -q")

    async def ask(broker: Broker) -> Mapping[str, Sequence[Drift]]:
        declared = {name for name, queue in app.queues.items() if queue.levels is not None}
        found = {f"queue {name}": await broker.setup(name, levels=name in declared) for name in names}
        return found | {"records": await broker.setup_records(), "workflows": await broker.setup_ledger()}

    found = ask_broker(app, ask)
    for what, drifts in found.items():
        click.echo(f"{what}: {'ready' if not drifts else 'differs'}")
        for drift in drifts:
            click.echo(f"  {drift}")
    if any(found.values()):
        raise Failed("what stands was left alone", hint="change it with the nats command, or make it anew", code=BROKER)
