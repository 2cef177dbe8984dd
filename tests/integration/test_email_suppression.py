"""Who must not get mail does not, on a real worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jetq import Jetq
from jetq_email import send_email
from jetq_email.suppression import Suppression, address_hash
from jetq_email.transports.memory import OUTBOX
from tests.apps.working import fresh_app, settled, working

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Jetq]:
    monkeypatch.setenv("JETQ_EMAIL_TRANSPORT", "memory")
    monkeypatch.setenv("JETQ_EMAIL_SENDER", "shop@example.org")
    OUTBOX.clear()
    app = fresh_app(nats_url)
    yield app
    OUTBOX.clear()
    await app.session.aclose()


async def mailed(app: Jetq, *mails: dict[str, Any]) -> list[tuple[str, ...]]:
    """Who got each of `mails`."""
    async with working(app, queues=["email"]):
        for mail in mails:
            await app.aenqueue(send_email.bind(**{"subject": "s", "text": "t", **mail}))
        await settled(app)
    return [envelope.recipients for envelope in OUTBOX]


async def test_who_is_on_the_list_is_left_out(app: Jetq, caplog: pytest.LogCaptureFixture) -> None:
    """Guarantee: nobody on the list gets mail, and the others do."""
    caplog.set_level(logging.DEBUG)
    assert await Suppression(app).add("Bob@Example.com", "bounce", "postmark")
    got = await mailed(app, {"to": ["ann@example.com", "bob@example.com"], "bcc": "cleo@example.com"})
    assert got == [("ann@example.com", "cleo@example.com")]
    assert "1 of 3 recipients get no mail: 1 bounce" in caplog.text
    assert "example.com" not in caplog.text


async def test_a_mail_to_nobody_else_is_not_sent_and_is_no_failure(app: Jetq) -> None:
    await Suppression(app).add("bob@example.com", "complaint", "ses")
    assert await mailed(app, {"to": "bob@example.com"}, {"to": "ann@example.com"}) == [("ann@example.com",)]
    broker = await app.session.broker()
    assert await broker.dead("email") == []


async def test_a_topic_that_is_not_wanted(app: Jetq) -> None:
    await Suppression(app).add("bob@example.com", "unsubscribed", "link", topic="news")
    got = await mailed(
        app,
        {"to": "bob@example.com", "topic": "news"},
        {"to": "bob@example.com", "topic": "offers"},
        {"to": "bob@example.com"},
    )
    assert got == [("bob@example.com",)] * 2


async def test_who_is_taken_off_gets_mail_again(app: Jetq) -> None:
    suppression = Suppression(app)
    await suppression.add("bob@example.com", "bounce", "smtp")
    await suppression.add("bob@example.com", "manual", "cli", topic="news")
    assert await suppression.remove("bob@example.com")
    assert not await suppression.remove(address_hash("bob@example.com"))
    assert await suppression.remove(address_hash("bob@example.com"), "news")
    assert await mailed(app, {"to": "bob@example.com", "topic": "news"}) == [("bob@example.com",)]


async def test_the_first_reason_stays(app: Jetq) -> None:
    suppression = Suppression(app)
    added = await asyncio.gather(*(suppression.add("bob@example.com", "bounce", f"p{n}") for n in range(8)))
    assert sorted(added) == [False] * 7 + [True]
    await suppression.add("ann@example.com", "manual", "cli", keep_address=True)
    await suppression.add("ann@example.com", "unsubscribed", "link", topic="news", detail="by hand")
    listed = [each async for each in suppression.each()]
    assert [(each.reason, each.topic, each.address) for each in listed] == [
        ("bounce", None, None),
        ("manual", None, "ann@example.com"),
        ("unsubscribed", "news", None),
    ]
    assert listed[0].hash == address_hash("bob@example.com")


async def test_the_list_can_be_turned_off(app: Jetq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETQ_EMAIL_SUPPRESSION", "false")
    await Suppression(app).add("bob@example.com", "bounce", "postmark")
    assert await mailed(app, {"to": "bob@example.com"}) == [("bob@example.com",)]


async def test_a_plain_call_asks_nobody(app: Jetq) -> None:
    await send_email("bob@example.com", "s", "t", topic="news")
    assert [envelope.recipients for envelope in OUTBOX] == [("bob@example.com",)]
