"""Doing what `evaluate` says has to be done next: by the creator, by the watch, and by whoever retries."""

from __future__ import annotations

from jetq.model.workflows import names
from jetq.model.workflows.evaluate import (
    Action,
    CallBack,
    Close,
    Cover,
    End,
    Expire,
    Feed,
    Fire,
    Measure,
    Reopen,
    Verdict,
)
from jetq.operations.workflows.advancing import end, go_on, settle_failure, start, start_one
from jetq.operations.workflows.life import Life
from jetq.operations.workflows.states import call_back, reopen, stop

__all__ = ["act"]


async def act(life: Life, action: Action, *, again: bool = False) -> None:
    """Do one action. It is refused, or changes nothing, if it was done. `again`: it may have been done before, so long
    ago that the broker has forgotten."""
    looked = life.broker.now()
    match action:
        case Fire(step, member):
            await start_one(life, step, member, looked=looked, again=again)
        case Feed(step) | Measure(step):
            if await start(life, step, looked=looked, again=again):
                await go_on(life, step, looked=looked, again=again)
        case Cover(step, page):
            await life.write(names.full(life.id, step, page), b"")
        case Verdict(step, member):
            await settle_failure(life, step, member)
        case Reopen():
            await reopen(life)
        case End():
            await end(life)
        case Expire():
            await stop(life, "expired")
            await call_back(life)
        case CallBack():
            await call_back(life)
        case Close():
            pass  # by the watch, when the value has been kept for long enough
