"""`jetq plugins`: lists the installed plugins, and says whether they can be used."""

from __future__ import annotations

import click

from jetq.cli.app_loading import add_working_directory
from jetq.cli.exit import USAGE, Failed, verbose_option
from jetq.cli.output import echo_table
from jetq.client.plugins import Plugin, installed, load
from jetq.errors import PluginError

__all__ = ["plugins"]


@click.command()
@verbose_option
def plugins() -> None:
    """List the installed plugins with the tasks they define, and what these need here and do not have."""
    add_working_directory()  # as a worker does: a plugin may import modules from there
    broken: list[PluginError] = []
    rows = [row for plugin in installed() for row in _rows(plugin, broken)]
    if rows:
        echo_table(("PLUGIN", "DISTRIBUTION", "MODULE", "TASK"), rows)
    else:
        click.echo("no plugins are installed")
    if broken:
        raise Failed("\n       ".join(error.message for error in broken), hint=broken[0].hint, code=USAGE)


def _rows(plugin: Plugin, broken: list[PluginError]) -> list[tuple[str, str, str, str]]:
    """Return one row for each of the plugin's tasks. The first row also names the plugin."""
    try:
        (loaded,) = (each for each in load([plugin.name]) if each.module == plugin.module)
        tasks = [*loaded.tasks, *([f"(not ready here: {loaded.lacks})"] if loaded.lacks else [])]
    except PluginError as error:
        if plugin.is_left_out(error):
            tasks = [f"(needs {plugin.distribution}[{','.join(plugin.extras)}])"]
        else:
            broken.append(error)
            tasks = ["(cannot be imported)"]
    first, *others = tasks or ["(none)"]
    rows = [(plugin.name, f"{plugin.distribution} {plugin.version}", plugin.module, first)]
    return rows + [("", "", "", task) for task in others]
