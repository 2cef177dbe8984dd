"""Tasks by name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jetq.client.task import Task
from jetq.errors import DefinitionError
from jetq.model.names import check_task

__all__ = ["IMPORTED", "Registry", "TwoTasks", "defined_at", "merged", "task_name"]


class TwoTasks(DefinitionError):
    """Two functions want one name: `other` has the name already, and `task` wants it too."""

    def __init__(self, other: Task[..., Any], task: Task[..., Any]) -> None:
        super().__init__(
            f"two tasks are named {task.name!r}: {defined_at(other.fn)} and {defined_at(task.fn)}",
            hint="give one of them a name of its own: @task(name=...)",
        )
        self.other = other
        self.task = task


class Registry(Mapping[str, Task[..., Any]]):
    """Tasks by name, each name once."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        self._imports: dict[str, object] = {}

    def __getitem__(self, name: str) -> Task[..., Any]:
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._tasks))  # a copy: another thread may import a task meanwhile

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task[..., Any]) -> None:
        """Register `task`. When a module is imported again, the same function takes the old task's place.

        Raises DefinitionError, which names both places, if another function has the name.
        """
        other, run = self._tasks.get(task.name), _import_of(task.fn)
        if other is not None:
            twice = run is not None and run is self._imports[task.name] and defined_at(other.fn) != defined_at(task.fn)
            if twice or _identity(other.fn) != _identity(task.fn):
                raise TwoTasks(other, task)
        self._tasks[task.name] = task
        self._imports[task.name] = run


IMPORTED = Registry()
"""Every imported `@task` for which no app was named."""


def merged(first: Registry, second: Registry) -> dict[str, Task[..., Any]]:
    """Return the tasks of both, by name. Raises TwoTasks if two functions have one name."""
    tasks = dict(first)
    for name, task in second.items():
        other = tasks.setdefault(name, task)
        if _identity(other.fn) != _identity(task.fn):
            raise TwoTasks(other, task)
        tasks[name] = task
    return tasks


def task_name(fn: Callable[..., Any], name: str | None) -> str:
    """Return the name of the task made of `fn`: `name`, or `module.qualname`, where the stem of the file replaces
    `__main__`.

    Raises DefinitionError for what is not a plain function, and for a local function without `name`.
    """
    if not inspect.isfunction(fn):
        raise DefinitionError(f"@task decorates functions, not {fn!r}", hint="wrap it in a function")
    enclosing, _, own_name = fn.__qualname__.rpartition("<locals>.")
    if own_name == "<lambda>":
        raise DefinitionError(
            f"the lambda at {defined_at(fn)} cannot be a task", hint="define a function: def name(...)"
        )
    if "." in own_name:
        raise DefinitionError(
            f"{own_name} at {defined_at(fn)} is a method: a job has no object to call it on",
            hint="define a function at the top of a module, and pass it an id",
        )
    if name is not None:
        return check_task(name)
    if enclosing:
        raise DefinitionError(
            f"{fn.__qualname__} at {defined_at(fn)} is a local function: no worker could import it by its name",
            hint="define it at the top of a module, or name it: @task(name=...)",
        )
    return check_task(f"{_module_name(fn)}.{own_name}")


def _module_name(fn: Callable[..., Any]) -> str:
    """Return the module by which a worker imports `fn`. In place of `__main__` this is the name given to `-m`, or the
    file's stem."""
    if fn.__module__ != "__main__":
        return fn.__module__
    main = sys.modules["__main__"]
    if main.__spec__ is not None:  # python -m package.module
        return main.__spec__.name
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def defined_at(fn: Callable[..., Any]) -> str:
    """Return where `fn`, without its decorators, is defined, as `file:line`."""
    inner = inspect.unwrap(fn)
    return f"{inner.__code__.co_filename}:{inner.__code__.co_firstlineno}" if inspect.isfunction(inner) else repr(fn)


def _import_of(fn: Callable[..., Any]) -> object | None:
    """Return an object that is the same for one execution of the module of `fn`: each import makes a new spec, and a
    script runs once. Return None for code of a notebook or a shell."""
    module = sys.modules.get(fn.__module__)
    spec = getattr(module, "__spec__", None)
    return module if spec is None and _has_file(fn.__module__) else spec


def _identity(fn: Callable[..., Any]) -> tuple[str, str]:
    """Return what stays the same of a function that is defined again: its file and its name. In a notebook the file is
    empty."""
    inner = inspect.unwrap(fn)
    if not inspect.isfunction(inner):
        return repr(fn), ""
    file = inner.__code__.co_filename
    # Each cell of a notebook has a file name of its own, and its `__main__` has none.
    return "" if inner.__module__ == "__main__" and not _has_file("__main__") else file, inner.__qualname__


def _has_file(module: str) -> bool:
    return getattr(sys.modules.get(module), "__file__", None) is not None
