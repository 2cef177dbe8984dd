"""The rate of a provider, on real workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import pytest

from jetq import Jetq
from jetq_email import send_email, send_template
from jetq_email.mail_log import MailLog
from tests.apps.http_server import Asked, Told, serving_http
from tests.apps.mail_settings import MailSettings
from tests.apps.working import settled, until, working

pytestmark = pytest.mark.anyio


@pytest.fixture
def configure(mail_settings: MailSettings) -> MailSettings:
    """Sets a provider and the log, and the fields given."""
    return partial(mail_settings, postmark_token="t", sender="s@example.org", log_ttl=600)


def take(_: Asked) -> Told:
    return Told(200, {"ErrorCode": 0, "Message": "OK", "MessageID": "m"})


async def enqueue(app: Jetq, count: int) -> None:
    words = {"name": "Ann", "product": "Shop", "url": "https://shop.example"}
    for number in range(0, count, 2):
        await app.aenqueue(send_email.bind(f"u{number}@example.com", "s", text="t"))
        await app.aenqueue(send_template.bind("welcome", f"u{number + 1}@example.com", words))


async def test_mails_of_both_tasks_keep_one_pace_and_pay_nothing(app: Jetq, configure: MailSettings) -> None:
    """Guarantee: a mail that waits for its turn at a provider pays no attempt, and none is lost."""
    async with serving_http(take) as server:
        configure(postmark_url=server.url, postmark_rate="40/s")
        await enqueue(app, 100)  # more than wait here for their turn
        async with working(app, queues=["email"]):
            await settled(app, timeout=60)
    entries = [entry async for entry in MailLog(app).each()]
    assert Counter(entry.outcome for entry in entries) == {"sent": 100}
    assert {entry.attempt for entry in entries} == {1}
    assert len(server.asked) == 100


async def test_one_that_has_its_mail_of_the_day_gets_no_other(app: Jetq, configure: MailSettings) -> None:
    async with serving_http(take) as server:
        configure(postmark_url=server.url, postmark_rate="1/d")
        await enqueue(app, 4)
        async with working(app, queues=["email"]):
            await until(lambda: server.asked)
            broker = await app.session.broker()
            async with asyncio.timeout(20):  # until one is put off, which pauses its task for all
                while not any(found.due is not None for found in await broker.stored_jobs("email")):
                    await asyncio.sleep(0.05)
        broker = await app.session.broker()  # the worker has closed the other
        assert len(await broker.stored_jobs("email")) == 3
    assert len(server.asked) == 1
    assert await broker.dead("email") == []
