"""Storing a work as a workflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from jetq.client.call import Call, Start, Work
from jetq.client.workflows.parts import Called, Each, Group, check_work
from jetq.client.workflows.shape import Shape, shape
from jetq.client.workflows.workflow import Workflow
from jetq.encoding.json_text import decode_plain
from jetq.encoding.sealer import Sealer
from jetq.errors import DefinitionError, WorkflowError
from jetq.model.definitions.options import due_settings
from jetq.model.names import check_job_id, check_key, key_token, new_job_id, new_life
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.plan import EXPIRES, Plan
from jetq.operations.workflows.creating import home_of
from jetq.units import seconds

if TYPE_CHECKING:
    from jetq.client.app import Jetq

__all__ = ["adelay", "app_of", "decoder", "delay", "identity"]


def delay(work: Work[Any], start: Start) -> Workflow[Any]:
    """Store `work` as a workflow; see `Work.delay`."""
    check_work(work)
    shaped = shape(work)
    app = app_of(shaped)
    return app.session.run(lambda: _store(app, work, shaped, start))


async def adelay(work: Work[Any], start: Start) -> Workflow[Any]:
    """Do what `delay` does, from async code."""
    check_work(work)
    shaped = shape(work)
    return await _store(app_of(shaped), work, shaped, start)


def app_of(shaped: Shape) -> Jetq:
    """Return the app of all calls of a work. Raises WorkflowError if they belong to several apps."""
    apps = {id(app): app for app in (call.app() for call in shaped.calls.values())}
    if len(apps) > 1:
        raise WorkflowError("the calls belong to tasks of several apps, and a workflow has one")
    if not apps:
        from jetq.client.app import default_app

        return default_app()
    app: Jetq = next(iter(apps.values()))
    return app


async def _store(app: Jetq, work: Work[Any], shaped: Shape, start: Start) -> Workflow[Any]:
    workflow, anew = identity(start)
    broker = await app.session.broker()
    home = home_of(shaped.steps)
    now = await broker.time(home)
    begins = None
    if "delay" in start or "at" in start:
        begins = due_settings(start.get("delay"), start.get("at")).due(now, app.session.instant)
    expires = start.get("expires")
    span = EXPIRES if expires is None else seconds(expires, "expires")
    plan = Plan(
        life=new_life(),
        value=shaped.value,
        steps=shaped.steps,
        deadline=(now if begins is None else max(now, begins)) + span,
        begins=begins,
        keep=shaped.keep,
    )
    fresh = "id" not in start and not anew
    created = await app.client.create_workflow(
        Sealer(app.payloads), workflow, plan, shaped.bodies, fresh=fresh, anew=anew
    )
    return Workflow(app, workflow, decoder(work), created.disposition)


def identity(start: Start) -> tuple[str, bool]:
    """Return the id of the workflow, and whether a new one takes the place of one that has ended. Raises
    DefinitionError for options that a workflow does not have, and for what is no id or key."""
    unknown = set(start) - set(Start.__annotations__)
    if unknown:
        raise DefinitionError(
            f"a workflow has no option {min(unknown)!r}", hint=f"it has {', '.join(Start.__annotations__)}"
        )
    id, key = start.get("id"), start.get("key")
    if id is not None and key is not None:
        raise DefinitionError("id and key contradict each other: a workflow with a key has an id made of it")
    if key is not None:
        return f"key:{key_token(check_key(key))}", True
    return (new_job_id() if id is None else check_job_id(id)), False


# --- values


def decoder(work: Work[Any]) -> Callable[[bytes], Any]:
    """Return a function that makes the value of `work` of its JSON."""
    if isinstance(work, Call):
        return work.decode
    if isinstance(work, Called):
        return _Either(work.call.decode, bytes(work.instead)) if work.instead else work.call.decode
    if isinstance(work, Group):
        return _Listed([decoder(member) for member in work.members], work.settles)
    if isinstance(work, Each):
        return _Listed(work.call.decode, work.settles)
    return decode_plain


class _Either(Struct):
    """Decodes a value, or another that takes its place."""

    decode: Callable[[bytes], Any]
    instead: bytes

    def __call__(self, body: bytes) -> Any:
        return decode_plain(body) if body == self.instead else self.decode(body)


class _Listed(Struct):
    """Decodes a list, each item in its way, or all in one; with `settles` an item may be a failure."""

    items: Callable[[bytes], Any] | list[Callable[[bytes], Any]]
    settles: bool

    def __call__(self, body: bytes) -> list[Any]:
        values = msgspec.json.decode(body, type=list[Raw])
        items = self.items if isinstance(self.items, list) else [self.items] * len(values)
        return [self._item(decode, bytes(value)) for decode, value in zip(items, values, strict=True)]

    def _item(self, decode: Callable[[bytes], Any], value: bytes) -> Any:
        if self.settles and value.startswith(b'{"jetq":"failure"'):
            return msgspec.json.decode(value, type=Failure)
        return decode(value)
