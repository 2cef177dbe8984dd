"""A workflow that has failed is taken up again: what failed runs again, and the rest follows once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jetq import Jetq, TaskFailed, WorkflowError, group
from jetq.client.workflows.workflow import Workflow
from jetq.model.workflows import names
from jetq.operations.dead_letters import EVERY, Replay, refs_of
from jetq.operations.workflows import states
from tests.apps.working import until, working
from tests.integration.workflows.flows import Steps, life_of, quiet, until_status

pytestmark = pytest.mark.anyio


async def until_called_back(app: Jetq, steps: Steps, flow: Workflow[Any]) -> None:
    """Until the workflow has failed, and its callbacks have ended."""
    await until_status(flow, "failed")
    await steps.until_ran("failure", "end")
    await quiet(app)


async def test_only_what_failed_runs_again_and_the_callbacks_at_each_end(app: Jetq, steps: Steps) -> None:
    steps.broken.add("c")
    work = steps.called_back(group(steps.say.bind(word) for word in "abc") | steps.join)
    async with working(app):
        flow = await work.adelay()
        await until_called_back(app, steps, flow)
        assert await flow.aretry() == 1  # and fails again
        await steps.until_ran("failure", "end", times=2)
        await quiet(app)
        assert (steps.ran["c"], await flow.astatus()) == (2, "failed")
        steps.broken.clear()
        assert await flow.aretry(step="say") == 1
        assert await flow.aresult(20) == "a+b+c"
        await steps.until_ran("end", times=3)
        assert await flow.aretry() == 0
    assert steps.ran == {"a": 1, "b": 1, "c": 3, "join": 1, "failure": 2, "end": 3}


async def test_two_retries_at_once_are_as_one(app: Jetq, steps: Steps) -> None:
    steps.broken |= set("bcd")
    work = steps.called_back(group(steps.say.bind(word) for word in "abcd") | steps.join)
    async with working(app):
        for _ in range(5):
            steps.ran.clear()
            steps.broken |= set("bcd")
            flow = await work.adelay()
            await steps.until_ran("failure", "end")
            await steps.until_ran(*"abcd")
            await quiet(app)
            steps.broken.clear()
            numbers = await asyncio.gather(*(flow.aretry() for _ in range(2)))
            assert await flow.aresult(20) == "a+b+c+d"
            await steps.until_ran("end", times=2)
            assert sum(numbers) == 3
            assert steps.ran == {"a": 1, "b": 2, "c": 2, "d": 2, "join": 1, "failure": 1, "end": 2}


async def test_a_retry_of_one_step_leaves_the_failures_of_others(app: Jetq, steps: Steps) -> None:
    steps.broken |= {"a", "b"}
    work = group([steps.say.bind("a").named("one"), steps.say.bind("b").named("two")]) | steps.join
    async with working(app):
        flow = await work.adelay()
        await steps.until_ran("a", "b")
        await quiet(app)
        steps.broken.clear()
        assert await flow.aretry(step="one") == 1
        await steps.until_ran("a", times=2)
        await quiet(app)
        assert await flow.astatus() == "failed"
        assert {name: view.state for name, view in (await flow.asteps()).items()}["one"] == "succeeded"
        assert await flow.aretry(step="two") == 1
        assert await flow.aresult(20) == "a+b"
    assert steps.ran == {"a": 2, "b": 2, "join": 1}


async def test_a_step_that_does_not_exist_is_told_with_those_that_do(app: Jetq, steps: Steps) -> None:
    flow = await steps.called_back(steps.say.bind("a") | steps.after).adelay()
    with pytest.raises(WorkflowError, match="'x'") as caught:
        await flow.aretry(step="x")
    assert caught.value.hint == "its steps: say, after"
    await flow.acancel()
    with pytest.raises(WorkflowError, match="was cancelled"):
        await flow.aretry()
    await app.session.aclose()


async def test_without_its_letter_a_member_is_stored_anew_from_the_plan(app: Jetq, steps: Steps) -> None:
    steps.broken.add("b")
    async with working(app):
        flow = await (group(steps.say.bind(word) for word in "ab") | steps.join).adelay()
        await until_status(flow, "failed")
        await quiet(app)
        assert await (await app.session.broker()).purge_dead("default") == 1
        steps.broken.clear()
        assert await flow.aretry() == 1
        assert await flow.aresult(20) == "a+b"


@pytest.mark.parametrize("letter", ["letter", "none"])
async def test_a_retry_that_died_halfway_is_done_again(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch, letter: str
) -> None:
    """The job is stored, and the failure still stands: the member runs all the same, and its value wins."""
    steps.broken.add("a")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a") | steps.after).adelay()
        await until_called_back(app, steps, flow)
        steps.broken.clear()
        steps.hold("a")
        broker = await app.session.broker()
        if letter == "none":
            await broker.purge_dead("default")
        with monkeypatch.context() as patch:
            patch.setattr(broker, "drop_entry", died)
            with pytest.raises(ConnectionError):
                await flow.aretry()
        await steps.until_ran("a", times=2)
        assert await flow.aretry() == 1
        steps.gates["a"].set()
        assert await flow.aresult(20) == "a-after"
        await steps.until_ran("end", times=2)
    assert steps.ran == {"a": 2, "after": 1, "failure": 1, "end": 2}


async def died(*_: object) -> bool:
    raise ConnectionError("died here")


@pytest.mark.parametrize("before", ["failure", "end"])
async def test_a_member_that_fails_again_during_the_retry_ends_the_workflow_anew(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """The member has failed again before the retry removes its failure, or before it removes the end."""
    steps.broken.add("a")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a")).adelay()
        await until_called_back(app, steps, flow)
        life = await life_of(app, flow)
        removed = names.end(life.id) if before == "end" else names.bad(life.id, "say", 0, 0)
        entry = await life.broker.read_entry(removed, surely=True)
        assert entry is not None
        slow, drop = entry.sequence, life.broker.drop_entry

        async def drop_late(sequence: int) -> bool:
            if sequence == slow:
                await steps.until_ran("a", times=2)
                await quiet(app)
            return await drop(sequence)

        monkeypatch.setattr(life.broker, "drop_entry", drop_late)
        assert await flow.aretry() == 1
        assert await flow.astatus() == "failed"
        await steps.until_ran("failure", "end", times=2)
        await quiet(app)
        assert steps.ran == {"a": 2, "failure": 2, "end": 2}


# --- a letter that somebody replays


async def replay_all(app: Jetq) -> None:
    broker: Any = await app.session.broker()
    await Replay(broker, await refs_of(broker, EVERY)).run(lambda _: None)


async def test_a_replayed_letter_takes_back_that_the_workflow_has_failed(app: Jetq, steps: Steps) -> None:
    steps.broken.add("a")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a") | steps.after).adelay()
        await until_called_back(app, steps, flow)
        await replay_all(app)
        await steps.until_ran("a", times=2)
        await quiet(app)
        assert (await flow.astatus(), steps.ran["failure"]) == ("failed", 1)
        steps.broken.clear()
        await replay_all(app)
        await until_status(flow, "succeeded")
        assert await flow.aresult(20) == "a-after"
        await steps.until_ran("end", times=2)
    assert steps.ran == {"a": 3, "after": 1, "failure": 1, "end": 2}


async def test_the_replayed_letter_of_the_last_step_gives_the_value(app: Jetq, steps: Steps) -> None:
    steps.broken.add("after")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a") | steps.after).adelay()
        await steps.until_ran("end")
        await quiet(app)
        steps.broken.clear()
        await replay_all(app)
        await until_status(flow, "succeeded")
        assert await flow.aresult(20) == "a-after"
        await steps.until_ran("end", times=2)
        view = (await flow.asteps())["after"]
        assert (view.state, view.done, view.failed) == ("succeeded", 1, 0)


async def test_the_letter_of_a_workflow_that_was_cancelled_is_dropped_with_words(
    app: Jetq, steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    steps.broken.add("a")
    steps.hold("end")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a") | steps.after).adelay()
        await until_status(flow, "failed")
        await steps.until_ran("failure", "end")
        assert await flow.acancel() == "cancelled"
        await replay_all(app)
        await until(lambda: "is dropped: workflow" in caplog.text)
        steps.gates["end"].set()
        assert await flow.astatus() == "cancelled"
    assert steps.ran["a"] == 1


async def test_the_letter_of_a_workflow_that_is_over_runs_as_a_plain_job(
    app: Jetq, steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    steps.broken.add("a")
    async with working(app):
        flow = await steps.say.bind("a").adelay()
        await until_status(flow, "failed")
        await quiet(app)
        life = await life_of(app, flow)
        await life.broker.purge_entries(names.plan(life.home, life.workflow))
        steps.broken.clear()
        await replay_all(app)
        await steps.until_ran("a", times=2)
        await quiet(app)
    assert "runs as a plain job" in caplog.text
    assert not [each for each in caplog.records if each.levelname == "ERROR" and "say" not in each.message]


async def test_a_late_success_wins_over_a_verdict_that_was_under_way(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is written when the late value has been: it is refused, or taken back."""
    steps.broken.add("a")
    async with working(app):
        flow = await steps.called_back(steps.say.bind("a") | steps.after).adelay()
        await until_called_back(app, steps, flow)
        life, late = await life_of(app, flow), asyncio.Event()
        await life.broker.drop_entry((await end_of(life)).sequence)  # as before the verdict
        write, drop = life.broker.write_entries, life.broker.drop_entry

        async def write_late(entries: Any) -> int | None:
            await late.wait()
            return await write(entries)

        async def between(sequence: int) -> bool:  # the value stands, the failure not yet gone
            late.set()
            await verdict
            return await drop(sequence)

        monkeypatch.setattr(life.broker, "write_entries", write_late)
        monkeypatch.setattr(life.broker, "drop_entry", between)
        verdict = asyncio.create_task(states.give_verdict(life, "say", 0))
        steps.broken.clear()
        await replay_all(app)
        await until_status(flow, "succeeded")
        assert await flow.aresult(20) == "a-after"
        await verdict
        await quiet(app)
        assert await flow.astatus() == "succeeded"
    assert steps.ran["after"] == 1


async def test_a_new_failure_beside_a_late_success_fails_the_workflow_anew(
    app: Jetq, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second member fails while the failure of the first is taken back: its verdict finds the old end in its
    way."""
    steps.broken |= {"a", "b"}
    steps.hold("b")
    async with working(app):
        work = group(steps.say.bind(word) for word in "ab") | steps.join
        flow = await steps.called_back(work).adelay()
        await until_status(flow, "failed")
        await steps.until_ran("failure", "end")
        looks, look = 0, states.failures

        async def looked(life: Any) -> Any:
            nonlocal looks
            found = await look(life)
            looks += 1
            if looks == 1:  # after the look, before the end is dropped
                steps.gates["b"].set()
                async with asyncio.timeout(10):
                    while await life.broker.read_entry(names.bad(life.id, "say", 0, 1), surely=True) is None:
                        await asyncio.sleep(0.01)
            return found

        monkeypatch.setattr(states, "failures", looked)
        steps.broken.discard("a")
        await replay_all(app)
        await steps.until_ran("failure", times=2)
        await until_status(flow, "failed")
        with pytest.raises(TaskFailed, match="b is broken"):
            await flow.aresult(5)
        steps.broken.clear()
        assert await flow.aretry() == 1
        assert await flow.aresult(20) == "a+b"


async def end_of(life: Any) -> Any:
    return await life.broker.read_entry(names.end(life.id), surely=True)


async def test_a_deadline_beyond_what_is_kept_is_refused(app: Jetq, steps: Steps) -> None:
    steps.broken.add("a")
    async with working(app):
        flow = await (steps.say.bind("a") | steps.after).adelay()
        await until_status(flow, "failed")
        with pytest.raises(WorkflowError, match="its records are kept for 400"):
            await flow.aretry(expires=401 * 86_400)
        assert steps.ran == {"a": 1}
        assert await flow.aretry(expires=399 * 86_400) == 1
        await steps.until_ran("a", times=2)
