"""Bad input never costs data: it ends in the dead letters with its bytes, and the worker lives."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass

import nats
import pytest

from jetq import ArgumentError, Jetq, Retry, TaskFailed
from jetq.model.dead_letter import DeadEntry
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio


async def _dead(app: Jetq, count: int) -> list[DeadEntry]:
    broker = await app.session.broker()
    async with asyncio.timeout(20):
        while len(entries := list(await broker.dead("default"))) < count:
            await asyncio.sleep(0.02)
    return entries


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_what_is_no_job_is_dead_lettered_with_its_bytes(nats_url: str, impatient: None) -> None:
    app = fresh_app(nats_url)
    namespace = app.settings.namespace

    @app.task(name="good")
    async def good(n: int) -> int:
        return n

    bodies = {
        "random": b"\xff\x00\x80random",
        "nested": b"[" * 100_000,
        "array": b"[1,2]",
        "types": b'{"n":"three"}',
        "missing": b"{}",
        "unknown": b'{"n":1,"zz":2}',
    }
    async with working(app):
        broker = await app.session.broker()
        await broker.setup("default")
        client = await nats.connect(nats_url)
        js = client.jetstream()
        for id, body in bodies.items():
            await js.publish(f"{namespace}.default.run.good.-.{id}", body)
        await js.publish(f"{namespace}.default.run.short", b"stray")
        await js.publish(f"{namespace}.default.run.*.-.wild", b"wild")
        await js.publish(f"{namespace}.default.run.good.-.header", b'{"n":1}', headers={"Jetq": "{nonsense"})
        await js.publish(f"{namespace}.default.run.good.-.newer", b'{"n":1}', headers={"Jetq": '{"v":99}'})
        await js.publish(f"{namespace}.default.run.good.-.status", b'{"n":41}', headers={"Status": "404"})
        await client.close()

        entries = await _dead(app, len(bodies) + 4)
        by_id = {entry.letter.id: entry for entry in entries}
        for id, body in bodies.items():
            assert by_id[id].body == body
        reasons = {entry.letter.id: entry.letter.reason for entry in entries}
        assert reasons["random"] == reasons["header"] == reasons["newer"] == "undecodable"
        assert reasons["types"] == reasons["missing"] == reasons["unknown"] == "bad-arguments"
        assert reasons["nested"] in ("undecodable", "bad-arguments")
        stray = [entry for entry in entries if entry.letter.task == ""]
        assert sorted(entry.body for entry in stray) == [b"stray", b"wild"]
        assert {entry.letter.reason for entry in stray} == {"undecodable"}

        result = await broker.wait_result("default", "status", timeout=10)
        assert result is not None
        assert bytes(result.value) == b"41"
        assert await (await good.adelay(1)).aresult(timeout=10) == 1


async def test_hostile_exceptions_are_recorded_cut(nats_url: str) -> None:
    app = fresh_app(nats_url)
    errors = {"hostile": Hostile(), "long": ValueError("x" * 10_000_000), "surrogates": ValueError("\ud800" * 100)}

    @app.task(name="raises", max_attempts=1)
    async def raises(which: str) -> int:
        raise errors[which]

    async with working(app):
        for which in errors:
            job = await raises.adelay(which)
            with pytest.raises((Hostile, ValueError, TaskFailed)):
                await job.aresult(timeout=20)
        assert len(await _dead(app, 3)) == 3


async def test_an_unknown_task_waits_for_a_worker_that_knows_it(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="known")
    async def known() -> int:
        return 1

    async with working(app):
        job = await app.asend("knwon", {}, queue="default")
        broker = await app.session.broker()
        async with asyncio.timeout(10):
            while (found := await broker.find("default", job.id)) is None or found.state != "scheduled":
                await asyncio.sleep(0.02)
        assert await broker.dead("default") == []


async def test_a_task_whose_module_has_another_name_here_is_told_once(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = fresh_app(nats_url)

    @app.task(name="jobs.mail")
    async def mail() -> None:
        pass

    async with working(app):
        for name in ("shop.jobs.mail", "shop.jobs.mail", "myjobs.mail", "mail"):
            job = await app.asend(name, {}, queue="default")
            async with asyncio.timeout(10):
                while f"{job.id}: this worker does not know its task" not in caplog.text:
                    await asyncio.sleep(0.02)
    told = [each.getMessage() for each in caplog.records if "under another name" in each.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("the task shop.jobs.mail is called jobs.mail in this worker")
    assert "`jetq worker shop.jobs`" in told[0]


@pytest.mark.parametrize("kind", ["unencodable", "wrong type", "too large"])
async def test_a_result_that_cannot_be_kept_fails_the_job(kind: str, nats_url: str) -> None:
    app = fresh_app(nats_url)
    values: dict[str, object] = {"unencodable": object(), "wrong type": "text", "too large": 0}

    @app.task(name="returns")
    async def returns() -> int:
        value = values[kind]
        return value  # type: ignore[return-value]

    @app.task(name="large")
    async def large() -> str:
        return "x" * 2_000_000

    async with working(app):
        job = await (large if kind == "too large" else returns).adelay()
        with pytest.raises(TaskFailed, match=r"result|outcome"):
            await job.aresult(timeout=20)
        assert len(await _dead(app, 1)) == 1


async def test_wrong_arguments_send_nothing(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="tasks.add")
    async def add(x: int, y: int) -> int:
        return x + y

    try:
        with pytest.raises(ArgumentError, match=r"^tasks\.add\(x: int, y: int\): y: expected int, got str$"):
            await add.adelay(1, "two")  # type: ignore[arg-type]
        broker = await app.session.broker()
        assert await broker.queues() == []
    finally:
        await app.session.aclose()


@dataclass
class Fussy:
    """A type whose constructor raises what no decoder expects."""

    n: int

    def __post_init__(self) -> None:
        if self.n > 1:
            raise KeyError(self.n)


async def test_a_type_that_raises_anything_does_not_make_its_job_go_round(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="fussy", max_attempts=2)
    async def fussy(value: Fussy) -> int:
        raise Retry(0.0, arguments={"value": {"n": 3}})

    async with working(app):
        job = await fussy.adelay(Fussy(1))
        with pytest.raises((ArgumentError, TaskFailed, KeyError)):
            await job.aresult(timeout=20)
        client = await nats.connect(nats_url)
        await client.jetstream().publish(f"{app.settings.namespace}.default.run.fussy.-.raw", b'{"value":{"n":2}}')
        await client.close()
        entries = await _dead(app, 2)
    assert {entry.letter.reason for entry in entries} == {"bad-arguments"}


async def test_a_dead_letter_that_cannot_be_read_hides_no_other(nats_url: str) -> None:
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    await broker.setup("default")
    client = await nats.connect(nats_url)
    await client.jetstream().publish(f"{app.settings.namespace}.default.dead.some:task.id-1", b"bytes")
    await client.close()
    (entry,) = await broker.dead("default")
    assert (entry.letter.id, entry.letter.task, entry.body) == ("id-1", "some.task", b"bytes")
    await app.session.aclose()


async def test_nothing_is_imported_because_a_message_names_it(nats_url: str) -> None:
    """Guarantee: a name in a message finds what the worker has, and loads nothing."""
    app = fresh_app(nats_url)
    strange = ["antigravity", "antigravity.fly", "this", "idlelib.idle.main", "os.system", "builtins.eval"]

    @app.task(name="good")
    async def good(n: int) -> int:
        return n

    async with working(app):
        broker = await app.session.broker()
        await broker.setup("default")
        client = await nats.connect(nats_url)
        js = client.jetstream()
        before = set(sys.modules)
        for place, name in enumerate(strange):
            await js.publish(f"{app.settings.namespace}.default.run.{name.replace('.', ':')}.-.t{place}", b"{}")
            error = {"attempt": 1, "type": name, "message": "m", "at": 1}
            meta = json.dumps({"errors": [error], "schedule": name})
            headers = {"Jetq": meta, "Content-Type": f"application/x-python;{name}", "Jetq-Schedule": name}
            await js.publish(f"{app.settings.namespace}.default.run.good.-.h{place}", b'{"n":1}', headers=headers)
        await client.close()
        for place in range(len(strange)):
            result = await broker.wait_result("default", f"h{place}", timeout=10)
            assert result is not None
        assert set(sys.modules) - before == set()
