"""Many works of one kind: works that are put side by side, and one task that is called with each item."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar

from jetq.client.call import Work
from jetq.client.task import BoundTask, Task
from jetq.client.workflows.inputs import Placeholder
from jetq.client.workflows.parts import Called, Each, Group, Many, check_work, part
from jetq.errors import WorkflowError
from jetq.model.workflows.plan import Spot

__all__ = ["each", "group"]

Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


def group(works: Iterable[Work[R]], /) -> Many[R]:
    """Return `works` side by side: `group(fetch.bind(url) | words for url in urls) | total`.

    Their value is the list of their values, in their order; `[]` for no works. Works of one shape, the same tasks with
    the same options in the same order, are the members of one step, and there may be any number of them. Raises
    WorkflowError for what is no work.
    """
    if isinstance(works, Work) or not isinstance(works, Iterable):
        check_work(works)
        raise WorkflowError("a group has several works, and was given one", hint="group([add.bind(2, 3)])")
    members = tuple(works)
    for member in members:
        check_work(member)
    return Group(members=members)


def each(
    task: Task[Concatenate[T, Q], S] | BoundTask[Concatenate[T, Q], S],
    items: Iterable[T],
    /,
    *args: Q.args,
    **kwargs: Q.kwargs,
) -> Many[S]:
    """Return calls of `task`, one for each of `items`: `each(thumbnail, paths, width=200)`.

    The items may be the value of another work, `each(transcode, split.bind(video).out)`: then nobody knows how many
    they are before that work is done. Their value is the list of the values, in the order of the items. Raises
    ArgumentError for an item that does not fit, WorkflowError for items that are none.
    """
    if not hasattr(type(task), "bind"):
        raise WorkflowError(
            f"each calls a task, and {type(task).__name__} is none", hint="@task makes a task of a function"
        )
    if isinstance(items, Placeholder):
        return _of_value(task, items, *args, **kwargs)
    if isinstance(items, str | bytes | Work) or not isinstance(items, Iterable):
        hint = "the value of a work is its .out" if isinstance(items, Work) else "one item goes into a list: [item]"
        raise WorkflowError(f"each takes several items, and was given one {type(items).__name__}", hint=hint)
    calls = [_called(task.bind(item, *args, **kwargs)) for item in items]
    if not calls:
        return Each(call=task.bind_to_none(), bodies=())
    first = calls[0]
    if any(_waits_for(call) != _waits_for(first) for call in calls):  # an item is the value of a work itself
        return Group(members=tuple(calls))
    return Each(call=first.call, bodies=tuple(call.call.body for call in calls), inputs=first.inputs)


def _of_value(task: Any, items: Placeholder, *args: Any, **kwargs: Any) -> Many[Any]:
    source = items.work
    if isinstance(source, Group) and not source.settles:  # one by one, so that no item waits for the others
        return group([task.bind(member.out, *args, **kwargs) for member in source.members])
    made = _called(task.bind(Placeholder(source, item=True), *args, **kwargs))
    return Each(call=made.call, bodies=None, inputs=made.inputs)


def _called(work: Work[S]) -> Called[S]:
    made = part(work)
    assert isinstance(made, Called)
    return made


def _waits_for(called: Called[Any]) -> list[tuple[int, tuple[Spot, ...]]]:
    return [(id(each.work), each.spots) for each in called.inputs]
