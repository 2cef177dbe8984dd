"""Dead letters that cannot be stored, are gone, or are worked with while there is no room: never at the job's cost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import pytest
from msgspec.structs import replace

from jetq import Jetq
from jetq.broker import Broker
from jetq.errors import BrokerError, Rejected
from jetq.model.dead_letter import DeadEntry
from jetq.operations.dead_letter_files import read_line, write_line
from jetq.operations.dead_letters import Replay, each_dead, find_dead, refs_of, replay, replay_edited
from jetq.worker.attempts import calling, settlement
from tests.apps.full_store import SMALL_STORE, full_store, full_stream
from tests.apps.working import fresh_app, settled, until, working
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

BODY = b'{"n":7}'


@pytest.fixture
def small(nats_server: NatsServerFactory, tmp_path: Path) -> str:
    """A server whose store is soon full."""
    return nats_server(SMALL_STORE.format(store=f'"{tmp_path / "small"}"'), jetstream=False).url


def failing(app: Jetq) -> tuple[Any, list[int]]:
    """A task that fails for good, and what it was called with."""
    ran: list[int] = []

    @app.task(name="t.fail", max_attempts=1)
    async def fail(n: int) -> None:
        ran.append(n)
        raise ValueError("no good")

    return fail, ran


def dead_letters_of(app: Jetq) -> str:
    return f"{app.settings.namespace.upper()}_DEFAULT_DLQ"


async def letters(broker: Broker, count: int, timeout: float = 15.0) -> list[DeadEntry]:
    """The dead letters, once there are that many."""
    async with asyncio.timeout(timeout):
        while len(found := [entry async for entry in each_dead(broker)]) < count:
            await asyncio.sleep(0.02)
    assert len(found) == count
    return found


async def stays(app: Jetq, ran: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """The job has failed, nothing takes its letter, and it is not gone."""
    broker = await app.session.broker()
    await until(lambda: "is not settled yet" in caplog.text)
    assert ran == [7]
    assert await broker.find("default", "job") is not None
    with suppress(BrokerError):
        assert await broker.dead("default") == []


async def ends_dead(app: Jetq, ran: list[int]) -> None:
    """Now it is dead, with one letter that has its bytes, and it did not run again."""
    broker = await app.session.broker()
    (entry,) = await letters(broker, 1)
    assert (entry.letter.id, entry.letter.reason, entry.body) == ("job", "failed", BODY)
    assert entry.letter.failure.message == "no good"
    await settled(app)
    assert ran == [7]
    assert len(await letters(broker, 1)) == 1


# --- a job that dies


async def test_a_job_dies_though_its_dead_letters_are_gone(nats_url: str) -> None:
    """Guarantee: the stream of dead letters is made anew, and the job's letter is in it before the job is gone."""
    app = fresh_app(nats_url)
    fail, ran = failing(app)
    async with working(app):
        broker = await app.session.broker()
        await fail.options(id="before").adelay(1)
        await letters(broker, 1)
        client = await nats.connect(nats_url)
        await client.jetstream().delete_stream(dead_letters_of(app))
        await client.close()
        ran.clear()

        await fail.options(id="job").adelay(7)

        await ends_dead(app, ran)


async def test_a_job_whose_dead_letters_are_full_stays_until_there_is_room(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: without room for its letter a job is not removed."""
    app = fresh_app(nats_url)
    fail, ran = failing(app)
    await (await app.session.broker()).setup("default")
    async with working(app):
        async with full_stream(nats_url, dead_letters_of(app)):
            await fail.options(id="job").adelay(7)
            await stays(app, ran, caplog)
        await ends_dead(app, ran)


async def test_a_job_is_not_run_again_only_because_its_letter_has_no_room_for_long(
    nats_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: who has run a job keeps it until its outcome is stored, also beyond its timeout and its lease."""
    monkeypatch.setattr(calling, "_UNWINDING", 0.1)
    monkeypatch.setattr(settlement, "_LAST_BACKOFF", 0.5)
    app = fresh_app(nats_url, ack_wait=1.0)
    ran: list[int] = []

    @app.task(name="t.fail", max_attempts=1, timeout=0.1)
    async def fail(n: int) -> None:
        ran.append(n)
        raise ValueError("no good")

    await (await app.session.broker()).setup("default")
    async with working(app):
        async with full_stream(nats_url, dead_letters_of(app)):
            await fail.options(id="job").adelay(7)
            await until(lambda: caplog.text.count("is not settled yet") >= 5)
            assert ran == [7]
        await ends_dead(app, ran)


async def test_a_job_that_dies_while_the_store_is_full_stays_until_there_is_room(
    small: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: without room for its letter a job is not removed."""
    app = fresh_app(small)
    fail, ran = failing(app)
    await fail.options(id="job").adelay(7)
    async with full_store(small):
        running = working(app)
        await running.__aenter__()
        await stays(app, ran, caplog)
    await ends_dead(app, ran)
    await running.__aexit__(None, None, None)


async def test_a_job_is_not_lost_when_its_dead_letters_are_made_anew_between_two_replays(nats_url: str) -> None:
    """Guarantee: a replay is stored although the letter before had the same place in an earlier stream."""
    app = fresh_app(nats_url)
    fail, ran = failing(app)
    async with working(app):
        broker = await app.session.broker()
        await fail.options(id="job").adelay(7)
        for runs in (1, 2, 3):
            (entry,) = await letters(broker, 1)
            assert (len(ran), entry.sequence) == (runs, 1)
            await settled(app)
            client = await nats.connect(nats_url)
            await client.jetstream().delete_stream(dead_letters_of(app))
            await client.close()
            assert await replay(broker, [entry]) == (1, [])
        (entry,) = await letters(broker, 1)
        assert (len(ran), entry.letter.replays) == (4, 3)


# --- letters worked with


async def test_without_room_nothing_is_replayed_edited_or_imported_and_every_letter_stays(small: str) -> None:
    """Guarantee: a replay, an edit or an import that cannot be stored costs no letter, and can be repeated."""
    app = fresh_app(small)
    fail, ran = failing(app)
    async with working(app):
        broker = await app.session.broker()
        for number in range(3):
            await fail.options(id=f"job-{number}").adelay(number)
        stood = await letters(broker, 3)
        await settled(app)
    broker = await app.session.broker()
    moved = [replace(each, letter=replace(each.letter, id=f"new-{each.letter.id}")) for each in stood]
    lines = [write_line(each) for each in moved]

    async with full_store(small):
        work = Replay(broker, await refs_of(broker))
        with pytest.raises(Rejected):
            await work.run(lambda _: None)
        assert (work.replayed, work.left) == (0, 3)
        with pytest.raises(Rejected):
            await replay_edited(broker, stood[1], b'{"n":8}')
        with pytest.raises(Rejected):
            await broker.import_dead(read_line(lines[0]))
        assert await letters(broker, 3) == stood
        assert [await broker.find("default", each.letter.id) for each in stood] == [None] * 3

    assert [await broker.import_dead(read_line(line)) for line in (*lines, *lines)] == [True] * 3 + [False] * 3
    assert await replay_edited(broker, stood[1], b'{"n":8}')
    work = Replay(broker, await refs_of(broker))
    await work.run(lambda _: None)
    assert (work.replayed, work.left) == (5, 0)
    ran.clear()
    async with working(app):
        broker = await app.session.broker()
        again = await letters(broker, 6)
        await settled(app)
        assert sorted(ran) == [0, 0, 1, 2, 2, 8]
        edits = {each.letter.id: (each.letter.replays, each.letter.edits) for each in again}
        assert edits.pop("job-1") == (1, 1)
        assert set(edits.values()) == {(1, 0)}


async def test_an_edit_is_told_by_every_later_letter(nats_url: str) -> None:
    app = fresh_app(nats_url)
    fail, _ = failing(app)
    async with working(app):
        broker = await app.session.broker()
        await fail.options(id="job").adelay(7)
        for edits in (0, 1, 2):
            (entry,) = await letters(broker, 1)
            await settled(app)
            assert (entry.letter.edits, entry.letter.replays, len(entry.letter.errors)) == (edits, edits, edits + 1)
            assert await replay_edited(broker, await find_dead(broker, "job"), b'{"n":%d}' % edits)
        await letters(broker, 1)


async def test_letters_of_another_namespace_are_imported_replayed_and_run(nats_url: str) -> None:
    """Guarantee: a letter from another server makes a job here, whatever sequences its own server had."""
    there, here = fresh_app(nats_url), fresh_app(nats_url)
    fail, _ = failing(there)
    async with working(there):
        for number in range(3):
            await fail.options(id=f"job-{number}").adelay(number)
        lines = [write_line(each) for each in await letters(await there.session.broker(), 3)]
        await settled(there)

    fail, ran = failing(here)
    async with working(here):
        broker = await here.session.broker()
        for _ in range(2):
            for line in lines:
                await broker.import_dead(read_line(line))
        entries = await letters(broker, 3)
        assert [write_line(each) for each in entries] == lines
        assert await replay(broker, entries) == (3, [])
        again = await letters(broker, 3)
        await settled(here)
        assert sorted(ran) == [0, 1, 2]
        assert [each.letter.replays for each in again] == [1, 1, 1]
