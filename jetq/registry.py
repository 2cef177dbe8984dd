"""Tasks by name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jetq.errors import DefinitionError
from jetq.names import check_task
from jetq.task import Task

__all__ = ["IMPORTED", "Registry", "task_name"]


class Registry(Mapping[str, Task[..., Any]]):
    """Tasks by name, each name once."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}

    def __getitem__(self, name: str) -> Task[..., Any]:
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task[..., Any]) -> None:
        """Register `task`. The very same function imported again takes the old one's place.

        Raises DefinitionError, naming both places, if the name is another function's.
        """
        other = self._tasks.get(task.name)
        if other is not None and _identity(other.fn) != _identity(task.fn):
            raise DefinitionError(
                f"two tasks are named {task.name!r}: {place(other.fn)} and {place(task.fn)}",
                hint="give one of them a name of its own: @task(name=...)",
            )
        self._tasks[task.name] = task


IMPORTED = Registry()
"""Every imported `@task` that no app was named for."""


def task_name(fn: Callable[..., Any], name: str | None) -> str:
    """The name of the task made of `fn`: `name`, or `module.qualname`, where `__main__` is its file's stem.

    Raises DefinitionError for what is not a plain function, and for a local function without a name.
    """
    if not inspect.isfunction(fn):
        raise DefinitionError(f"@task decorates functions, not {fn!r}", hint="wrap it in a function")
    if name is not None:
        return check_task(name)
    qualname = fn.__qualname__
    if "<" in qualname:
        raise DefinitionError(
            f"{qualname} at {place(fn)} is a local function: no worker could import it by a name of its own",
            hint="define it at the top of a module, or name it: @task(name=...)",
        )
    module = fn.__module__
    if module == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        module = Path(file).stem if file else module
    return check_task(f"{module}.{qualname}")


def place(fn: Callable[..., Any]) -> str:
    """Where `fn` is defined, as `file:line`."""
    return f"{fn.__code__.co_filename}:{fn.__code__.co_firstlineno}" if inspect.isfunction(fn) else repr(fn)


def _identity(fn: Callable[..., Any]) -> tuple[str, str]:
    return (fn.__code__.co_filename, fn.__qualname__) if inspect.isfunction(fn) else (repr(fn), "")
