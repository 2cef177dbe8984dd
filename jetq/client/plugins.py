"""Plugins: distributions that name modules with tasks in the entry-point group `jetq.tasks`, or commands in
`jetq.verbs`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from jetq.client.registry import IMPORTED, TwoTasks
from jetq.client.task import Task
from jetq.errors import JetqError, PluginError

__all__ = ["GROUP", "VERBS", "Plugin", "installed", "load", "load_verb", "unready_queues", "verbs"]

GROUP = "jetq.tasks"
VERBS = "jetq.verbs"


class Plugin(Struct, frozen=True):
    """An installed plugin: the name of its entry, its module, and the distribution that it comes from.

    extras: the extras of the distribution without which the plugin cannot be imported. tasks: the names of the tasks
    that its module defines, once loaded. lacks: what the plugin's tasks need here and do not have, as `jetq_ready` of
    its module says; None if nothing is missing.
    """

    name: str
    module: str
    distribution: str
    version: str
    extras: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    lacks: str | None = None

    def is_left_out(self, error: PluginError) -> bool:
        """Return whether `error` is no fault: the plugin comes with an extra of its distribution that is not
        installed."""
        return bool(self.extras) and isinstance(error.__cause__, ImportError)


def installed() -> list[Plugin]:
    """Return all installed plugins, by name. Imports nothing."""
    return sorted((_plugin(entry) for entry in entry_points(group=GROUP)), key=lambda plugin: plugin.name)


def load(allow: Collection[str] | None = None) -> list[Plugin]:
    """Import the installed plugins, or only those whose entry or distribution `allow` names, and return them.

    A plugin whose extra is not installed is left out unless `allow` names the plugin.

    Raises PluginError, which names the distribution of a plugin that cannot be imported, both distributions of two
    plugins that define the same task, or a name in `allow` that is not installed.
    """
    everyone = found = installed()
    if allow is not None:
        _refuse_missing(allow, found)
        wanted = {_normal(name) for name in allow}
        found = [plugin for plugin in found if not wanted.isdisjoint(_names(plugin))]
    loaded = []
    for plugin in found:
        try:
            loaded.append(_load(plugin, everyone))
        except PluginError as error:
            if allow is not None or not plugin.is_left_out(error):
                raise
    _refuse_twins(loaded)
    return loaded


def _plugin(entry: EntryPoint) -> Plugin:
    distribution = entry.dist
    return Plugin(
        name=entry.name,
        module=entry.module,
        distribution=distribution.name if distribution else "an unknown distribution",
        version=distribution.version if distribution else "",
        extras=tuple(entry.extras),
    )


def _load(plugin: Plugin, everyone: Collection[Plugin]) -> Plugin:
    before: Mapping[str, object] = dict(IMPORTED)
    try:
        module = importlib.import_module(plugin.module)
    except TwoTasks as error:
        raise _twins(_owner(error.other), plugin.distribution, error.task.name) from error
    except (Exception, SystemExit) as error:  # whatever importing somebody's module raises
        raise PluginError(
            f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version} cannot be imported: "
            f"{type(error).__name__}: {error}",
            hint="mend or uninstall that distribution, or start with --no-plugins",
        ) from error
    new = {name: task for name, task in IMPORTED.items() if name not in before}
    new = {name: task for name, task in new.items() if _home(task, everyone) in (None, plugin.distribution)}
    return replace(plugin, tasks=tuple(sorted({*new, *_own(plugin, module)})), lacks=_lacks(plugin, module))


def _own(plugin: Plugin, module: ModuleType) -> list[str]:
    """Return the names of the tasks of the plugin's module, and of the tasks of its package that the module holds: an
    application that uses the package may have imported these tasks before."""
    shown = {id(each) for each in vars(module).values() if isinstance(each, Task)}
    return [
        name
        for name, task in IMPORTED.items()
        if _is_within(task.fn.__module__, plugin.module)
        or (id(task) in shown and _is_within(task.fn.__module__, _package(plugin)))
    ]


def _home(task: Task[..., Any], everyone: Collection[Plugin]) -> str | None:
    """Return the distribution of the plugin in whose package `task` is defined; None if there is no such plugin. A
    plugin may import another plugin, and its tasks."""
    near = [plugin for plugin in everyone if _is_within(task.fn.__module__, _package(plugin))]
    return max(near, key=lambda plugin: len(_package(plugin))).distribution if near else None


def _package(plugin: Plugin) -> str:
    """Return the package that the plugin's module is in, or the module itself."""
    return plugin.module.rpartition(".")[0] or plugin.module


def _lacks(plugin: Plugin, module: ModuleType) -> str | None:
    """Return what the plugin needs and does not have here; None if nothing is missing. `jetq_ready()` beside its tasks
    raises a JetqError if the tasks cannot run."""
    ready = getattr(module, "jetq_ready", None)
    if ready is None:
        return None
    try:
        ready()
    except JetqError as error:
        return f"{error.message}; {error.hint}" if error.hint else error.message
    except Exception as error:
        raise PluginError(
            f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version} does not say whether it is ready: "
            f"{type(error).__name__}: {error}",
            hint="mend or uninstall that distribution, or start with --no-plugins",
        ) from error
    return None


def unready_queues(loaded: Collection[Plugin], tasks: Mapping[str, Task[..., Any]]) -> dict[str, Plugin]:
    """Return the queues whose `tasks` all come from plugins that are not ready here, each with one such plugin."""
    owner = {task: plugin for plugin in loaded if plugin.lacks for task in plugin.tasks}
    ready = {task.queue for name, task in tasks.items() if name not in owner}
    return {tasks[name].queue: plugin for name, plugin in owner.items() if tasks[name].queue not in ready}


def _refuse_missing(allow: Collection[str], found: Collection[Plugin]) -> None:
    names = {name for plugin in found for name in _names(plugin)}
    for name in allow:
        if _normal(name) not in names:
            known = {plugin.name for plugin in found} | {plugin.distribution for plugin in found}
            raise PluginError(
                f"there is no plugin {name!r}",
                hint=f"installed: {', '.join(sorted(known)) or 'none'}; see `jetq plugins`",
            )


def _names(plugin: Plugin) -> set[str]:
    return {_normal(plugin.name), _normal(plugin.distribution)}


def _normal(name: str) -> str:
    """Return a distribution's name in the form in which package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _refuse_twins(loaded: Collection[Plugin]) -> None:
    owner: dict[str, Plugin] = {}
    for plugin in loaded:
        for task in plugin.tasks:
            other = owner.setdefault(task, plugin)
            if other.distribution != plugin.distribution:
                raise _twins(other.distribution, plugin.distribution, task)


def _owner(task: Task[..., Any]) -> str:
    """Return the distribution whose plugin defines `task`, or else the task's module."""
    module = task.fn.__module__
    for plugin in installed():
        if _is_within(module, plugin.module.partition(".")[0]):
            return plugin.distribution
    return f"module {module}"


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _twins(one: str, other: str, task: str) -> PluginError:
    return PluginError(
        f"{one} and {other} both define the task {task!r}",
        hint="leave one of them out: name the others with --plugin, or start with --no-plugins",
    )


# --- verbs


def verbs() -> list[str]:
    """Return the commands that plugins bring to the command line, by name. Imports nothing."""
    return sorted({entry.name for entry in entry_points(group=VERBS)})


def load_verb(name: str) -> object | None:
    """Return what a plugin's entry names as the command `name`; None if there is no such command.

    Raises PluginError for a command that cannot be imported, that needs an extra, or that two distributions bring.
    """
    entries = tuple(entry_points(group=VERBS, name=name))
    if not entries:
        return None
    plugins = [_plugin(entry) for entry in entries]
    owners = sorted({plugin.distribution for plugin in plugins})
    if len(owners) > 1:
        raise PluginError(f"{' and '.join(owners)} both bring the command {name!r}", hint="uninstall one of them")
    try:
        found: object = entries[0].load()
        return found
    except (Exception, SystemExit) as error:
        raise _unusable(plugins[0], error) from error


def _unusable(plugin: Plugin, error: BaseException) -> PluginError:
    if plugin.extras and isinstance(error, ImportError):
        needed = f"{plugin.distribution}[{','.join(plugin.extras)}]"
        return PluginError(f"the command {plugin.name!r} needs {needed}: {error}", hint=f"pip install '{needed}'")
    return PluginError(
        f"the command {plugin.name!r} of {plugin.distribution} {plugin.version} cannot be imported: "
        f"{type(error).__name__}: {error}",
        hint="mend or uninstall that distribution",
    )
