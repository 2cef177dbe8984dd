"""The mail log, on a real worker: every attempt for every recipient, and no address that was not to be kept."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import pytest

from jetq import BrokerUnavailable, Jetq, Records, Worker
from jetq_email import send_email
from jetq_email.mail_log import Entry, MailLog
from jetq_email.suppression import Suppression, address_hash
from tests.apps.mail_settings import MailSettings
from tests.apps.smtp_server import Session, SmtpServer, serving_smtp
from tests.apps.working import settled, working

pytestmark = pytest.mark.anyio

ANN, BOB, CLEO = "ann@example.com", "bob@example.com", "cleo@example.com"


@pytest.fixture
def configure(mail_settings: MailSettings) -> MailSettings:
    """Sets what the log is kept by, and the fields given."""
    return partial(mail_settings, host="127.0.0.1", tls="none", sender="s@example.org", retry_wait=0.05, log_ttl=600)


async def mailed(app: Jetq, **mail: Any) -> None:
    async with working(app, queues=["email"]):
        await app.aenqueue(send_email.bind(subject="s", text="t", **mail))
        await settled(app)


async def entries(app: Jetq, address: str | None = None) -> list[Entry]:
    return [entry async for entry in MailLog(app).each(address)]


async def test_each_outcome_of_each_attempt(app: Jetq, configure: MailSettings) -> None:
    """Guarantee: the log tells of every attempt what came of it for each recipient."""
    busy = ["450 4.2.0 later, bob@example.com"]

    def answer(session: Session, to: str) -> str | None:
        return busy.pop() if to == BOB and busy else "550 5.1.1 nobody" if to == CLEO else None

    server = SmtpServer(
        {"rcpt": lambda session: answer(session, server.commands[-1].partition("<")[2].partition(">")[0])}
    )
    await Suppression(app).add("dan@example.com", "complaint", "test")
    async with serving_smtp(server):
        configure(port=server.port)
        await mailed(app, to=[ANN, BOB, CLEO, "dan@example.com"], bcc="eve", tag="receipts", topic="orders")
    found = await entries(app)
    names = {address_hash(each): each.partition("@")[0] for each in (ANN, BOB, CLEO, "dan@example.com", "eve")}
    told = sorted((names[each.hash], each.attempt, each.outcome) for each in found)
    assert told[:4] == [("ann", 1, "sent"), ("bob", 1, "deferred"), ("bob", 2, "sent"), ("cleo", 1, "refused")]
    assert ("dan", 1, "suppressed") in told and told[-1] == ("eve", 3, "refused")
    assert {(each.via, each.tag, each.topic, each.message_id) for each in found} == {
        ("smtp", "receipts", "orders", found[0].message_id)
    }
    assert "450 4.2.0 later, <address>" in {each.detail for each in found}
    assert [each.outcome for each in await entries(app, BOB)] == ["deferred", "sent"]
    assert [each.address for each in found] == [None] * len(found)


async def test_a_server_that_fails_and_one_that_says_nothing(app: Jetq, configure: MailSettings) -> None:
    replies = ["421 closing"]
    server = SmtpServer({"data": lambda _: replies.pop() if replies else None})
    async with serving_smtp(server):
        configure(port=server.port, addresses="clear")
        await mailed(app, to=ANN)
    assert [(each.outcome, each.address) for each in await entries(app)] == [("failed", ANN), ("sent", ANN)]


async def test_without_the_setting_there_is_none(app: Jetq, configure: MailSettings) -> None:
    async with serving_smtp(SmtpServer()) as server:
        configure(port=server.port, log_ttl=0)
        await mailed(app, to=ANN)
    assert server.delivered == [ANN]
    assert await entries(app) == []


async def test_a_mail_that_cannot_be_logged_is_sent_once(
    app: Jetq, configure: MailSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: what was sent is not sent again because its entry could not be written."""

    async def fail(*_: object, **__: object) -> int:
        raise BrokerUnavailable("the server is away")

    monkeypatch.setattr(Records, "aput", fail)
    async with serving_smtp(SmtpServer()) as server:
        configure(port=server.port)
        await mailed(app, to=ANN)
    assert server.delivered == [ANN]
    assert "a mail is not in the log: the server is away" in caplog.text


async def test_a_worker_that_ends_while_it_writes_the_log_does_not_have_the_mail_sent_again(
    app: Jetq, configure: MailSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: a mail that was handed over is not sent again because its job was cancelled after that."""
    begun, put = asyncio.Event(), Records.aput

    async def hang(*_: object, **__: object) -> int:
        begun.set()
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(Records, "aput", hang)
    async with serving_smtp(SmtpServer()) as server:
        configure(port=server.port)
        worker = Worker(app, queues=["email"], grace=0.0)
        running = asyncio.create_task(worker.run())
        await app.aenqueue(send_email.bind(ANN, "s", text="t"))
        async with asyncio.timeout(20):
            await begun.wait()
            worker.stop()
            await running
        monkeypatch.setattr(Records, "aput", put)
        async with working(app, queues=["email"]):
            await settled(app)
    assert server.delivered == [ANN]
    assert await (await app.session.broker()).dead("email") == []


async def test_entries_end(app: Jetq, configure: MailSettings) -> None:
    async with serving_smtp(SmtpServer()) as server:
        configure(port=server.port, log_ttl=1)
        await mailed(app, to=ANN)
    async with asyncio.timeout(20):
        while await entries(app):
            await asyncio.sleep(0.1)


async def test_what_nobody_can_read_is_passed_over(app: Jetq, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await Records("jetq_email", app).aput(f"log.{address_hash(ANN)}.x-1", b'{"v": 2}')
    assert await entries(app) == []
