"""Records, as applications and plugins use them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import pytest

from jetq import DefinitionError, Jetq, Records, task
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio


@task(name="records.note", queue="default")
async def note(key: str, value: str) -> None:
    await Records("shop").aput(key, value.encode())


async def test_a_task_writes_and_the_application_reads(nats_url: str) -> None:
    app = fresh_app(nats_url)
    records = Records("shop", app)
    async with working(app):
        job = await app.aenqueue(note.bind("a.b", "hello"))
        await job.await_(timeout=20)
    record = await records.aget("a.b")
    assert record is not None
    assert (record.key, record.value) == ("a.b", b"hello")
    assert datetime.now(UTC) - record.at < timedelta(minutes=5)
    assert await Records("other", app).aget("a.b") is None
    assert [each.key async for each in records.aeach("a")] == ["a.b"]
    now = records.now()
    assert now is not None and abs(now - record.at.timestamp()) < 300.0
    assert await records.aput("a.b", b"x", expected=0) is None
    assert not await records.aremove("a.b", version=record.version + 1)
    assert await records.aremove("a.b")
    assert not await records.aremove("a.b")
    await app.session.aclose()


def test_the_same_from_code_that_is_not_async(nats_url: str) -> None:
    app = fresh_app(nats_url)
    records = Records("shop", app)
    assert records.get("a") is None
    assert records.put("a", b"1") is not None
    assert [(each.key, each.value) for each in records.each()] == [("a", b"1")]
    assert records.remove("a")
    app.session.close()


async def test_who_reads_makes_no_stream(nats_url: str) -> None:
    app = fresh_app(nats_url)
    assert await Records("shop", app).aget("a") is None
    assert [each async for each in Records("shop", app).aeach()] == []
    client = await nats.connect(nats_url)
    names = [info.config.name or "" for info in await client.jetstream().streams_info()]
    assert not [
        name for name in names if name.endswith("JETQ_RECORDS") and name.startswith(app.settings.namespace.upper())
    ]
    await client.close()
    await app.session.aclose()


async def test_records_are_made_again_with_their_stream(nats_url: str) -> None:
    app = fresh_app(nats_url)
    records = Records("shop", app)
    await records.aput("a", b"1")
    client = await nats.connect(nats_url)
    await client.jetstream().delete_stream(f"{app.settings.namespace.upper()}_JETQ_RECORDS")
    await client.close()
    assert await records.aget("a") is None
    assert await records.aput("a", b"2") is not None
    await app.session.aclose()


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "ä", "a" * 129, ".".join("abcdefghi")])
async def test_what_is_no_key_is_refused(key: str) -> None:
    records = Records("shop", Jetq("nats://127.0.0.1:1"))
    for call in (records.aget(key), records.aput(key, b""), records.aremove(key)):
        with pytest.raises(DefinitionError, match="is not the key of a record"):
            await call


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match="not a name"):
        Records(name)


async def test_a_large_value_is_refused() -> None:
    value: Any = bytes(65537)
    with pytest.raises(DefinitionError, match="65,537 bytes"):
        await Records("shop", Jetq("nats://127.0.0.1:1")).aput("a", value)
