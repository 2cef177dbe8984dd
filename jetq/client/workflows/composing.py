"""What the methods of a work do: each gives another work, and the work stays as it was."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Raw
from msgspec.structs import replace

from jetq.client.call import Call, Work
from jetq.client.workflows.inputs import Input, Placeholder
from jetq.client.workflows.parts import Callback, Called, Each, Group, all_sources, check_work, in_order, part
from jetq.encoding.roundtrip import no_json
from jetq.encoding.type_hooks import encode
from jetq.errors import WorkflowError

__all__ = ["after", "called", "followed_by", "named", "or_else", "out", "with_callback"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,36}")


def out(work: Work[Any]) -> Placeholder:
    """Return what stands for the value of `work`."""
    check_work(work)
    return Placeholder(work)


def called(call: Call[Any], inputs: tuple[Input, ...]) -> Work[Any]:
    """Return `call` with the values that it takes."""
    check_work(call)
    return Called(call=call, inputs=inputs)


def followed_by(work: Work[Any], then: Any) -> Work[Any]:
    """Return the work that goes on with `then`; see `Work.__or__`."""
    check_work(work)
    if isinstance(then, Work):
        return after(then, (work,))
    if isinstance(then, Placeholder) or not hasattr(type(then), "bind_waiting"):
        raise WorkflowError(
            f"a work goes on with a task or another work, and {type(then).__name__} is neither",
            hint="@task makes a task of a function",
        )
    made: Work[Any] = then.bind_waiting((Placeholder(work),), {})
    return made


def after(work: Work[Any], others: Sequence[Work[Any]]) -> Work[Any]:
    """Return the same work, whose first steps begin after `others` are done."""
    for each in (work, *others):
        check_work(each)
    made: dict[int, Work[Any]] = {}
    for each in in_order(work, all_sources):
        made[id(each)] = _moved(each, tuple(others), made)
    return made[id(work)]


def _moved(work: Work[Any], others: tuple[Work[Any], ...], made: dict[int, Work[Any]]) -> Work[Any]:
    """Return `work` with the works in `made` in the place of those it waits for; without any, after `others`."""
    if isinstance(work, Group):
        return replace(work, members=tuple(made[id(each)] for each in work.members))
    moved = part(work)
    assert isinstance(moved, Called | Each)
    if not moved.inputs and not moved.waits_for:
        return replace(moved, waits_for=others)
    inputs = tuple(replace(each, work=made[id(each.work)]) for each in moved.inputs)
    return replace(moved, inputs=inputs, waits_for=tuple(made[id(each)] for each in moved.waits_for))


def named(work: Work[Any], step: str) -> Work[Any]:
    """Return the same work, whose last step has a name."""
    if not isinstance(step, str) or not _NAME.fullmatch(step):
        raise WorkflowError(f"a step is called by 1 to 36 letters, digits, - or _, not {step!r}")
    return replace(part(work), name=step)


def or_else(work: Work[Any], value: Any) -> Work[Any]:
    """Return the same work with another value if it fails."""
    moved = part(work)
    if not isinstance(moved, Called):
        raise WorkflowError(
            "or_else says one value, and these are many works",
            hint="give it to each of them, or take their failures: .settled()",
        )
    found = no_json(value)
    if found is not None:
        raise WorkflowError(f"or_else{found[0]}: {found[1]}")
    return replace(moved, instead=Raw(encode(value)))


def with_callback(work: Work[Any], call: Any, when: Literal["failure", "end"]) -> Work[Any]:
    """Return the same work, whose workflow calls back."""
    if not isinstance(call, Call):
        waits = isinstance(call, Work)
        raise WorkflowError(
            "a callback is one call" + (", and waits for nothing" if waits else f", and {type(call).__name__} is none"),
            hint="current_job().workflow tells a callback what has happened" if waits else "notify.bind('failed')",
        )
    check_work(call)
    moved = part(work)
    return replace(moved, callbacks=(*moved.callbacks, Callback(call, when)))
