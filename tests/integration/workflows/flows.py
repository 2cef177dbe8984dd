"""Tasks of workflows whose ends a test decides, and what ran."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec import Struct, field

from jetq import Jetq, Work, task
from jetq.client.workflows.workflow import Workflow
from jetq.encoding.sealer import Sealer
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.life import Life
from tests.apps.fresh import own_tasks


class Steps(Struct):
    """Tasks, and what a test does with them.

    ran: how often each was started, by its word. done: how often each has returned. broken: words that fail. gates:
    words whose task waits until the event is set.
    """

    ran: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    broken: set[str] = field(default_factory=set)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    say: Any = None
    after: Any = None
    join: Any = None

    def hold(self, word: str) -> asyncio.Event:
        """Let the task that says `word` wait until the event is set that this returns."""
        return self.gates.setdefault(word, asyncio.Event())

    def called_back(self, work: Work[Any]) -> Work[Any]:
        """Return `work` with callbacks that say `failure` and `end`."""
        return work.on_failure(self.say.bind("failure")).finally_(self.say.bind("end"))

    async def until_ran(self, *words: str, times: int = 1) -> None:
        """Until each of `words` was said so often."""
        async with asyncio.timeout(45):
            while any(self.ran[word] < times for word in words):
                await asyncio.sleep(0.02)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    own_tasks(monkeypatch)
    made = Steps()

    async def run(word: str) -> str:
        made.ran[word] += 1
        if word in made.gates:
            await made.gates[word].wait()
        if word in made.broken:
            raise ValueError(f"{word} is broken")
        made.done[word] += 1
        return word

    @task(name="tests.say", max_attempts=1)
    async def say(word: str) -> str:
        return await run(word)

    @task(name="tests.after", max_attempts=1)
    async def after(before: str, word: str = "after") -> str:
        return f"{before}-{await run(word)}"

    @task(name="tests.join", max_attempts=1)
    async def join(words: list[str]) -> str:
        await run("join")
        return "+".join(words)

    made.say, made.after, made.join = say, after, join
    return made


async def life_of(app: Jetq, flow: Workflow[Any]) -> Life:
    """The open life of a workflow, as another process would read it."""
    life, _ = await open_life(await app.session.broker(), Sealer(app.payloads), flow.id)
    assert life is not None
    return life


async def until_status(flow: Workflow[Any], status: str) -> None:
    """Until the workflow is in that state."""
    async with asyncio.timeout(45):
        while await flow.astatus() != status:
            await asyncio.sleep(0.02)


async def quiet(app: Jetq, *, held: int = 0) -> None:
    """Until no job is ready, and none runs but those `held`."""
    broker = await app.session.broker()
    async with asyncio.timeout(45):
        while any(info.ready or info.running > held for info in await broker.queues()):
            await asyncio.sleep(0.02)
