"""Mail through a worker: who is mailed, once, over retries, dead letters and replays."""

from __future__ import annotations

import asyncio
import email
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from jetq import Jetq
from jetq.model.dead_letter import DeadEntry
from jetq.operations.dead_letters import replay
from jetq_email import send_email
from tests.apps.mail_settings import MailSettings
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio


class Server:
    """An SMTP server whose replies are scripted by address: the first of the list each time, the last for ever."""

    def __init__(self, **replies: list[str]) -> None:
        self.replies = {f"{name}@example.com": list(texts) for name, texts in replies.items()}
        self.delivered: Counter[str] = Counter()
        self.message_ids: list[str] = []
        self.drop_after_dot = 0

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        script = self.replies.get(address, ["250 OK"])
        reply = script.pop(0) if len(script) > 1 else script[0]
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.message_ids.append(email.message_from_bytes(envelope.content)["Message-ID"])
        self.delivered.update(envelope.rcpt_tos)
        if self.drop_after_dot:
            self.drop_after_dot -= 1
            server.transport.abort()
        return "250 OK"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(handler: Server) -> Iterator[int]:
    controller = Controller(handler, hostname="127.0.0.1", port=_free_port())
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@pytest.fixture
def configure(mail_settings: MailSettings) -> MailSettings:
    """Sets a server that is asked again soon, and the fields given."""
    return partial(mail_settings, host="127.0.0.1", tls="none", sender="me@example.org", retry_wait=0.3, timeout=5)


@asynccontextmanager
async def mailing(nats_url: str) -> AsyncIterator[Jetq]:
    app = fresh_app(nats_url)
    async with working(app, queues=["email"]):
        yield app


async def _settled(app: Jetq) -> list[DeadEntry]:
    """The dead letters, once nothing is left in the queue."""
    broker = await app.session.broker()
    async with asyncio.timeout(30):
        while True:
            (info,) = [info for info in await broker.queues() if info.name == "email"]
            if info.ready == info.running == info.scheduled == 0:
                return list(await broker.dead("email"))
            await asyncio.sleep(0.05)


async def _send(app: Jetq, *to: str) -> None:
    recipients = [f"{name}@example.com" for name in to]
    await app.aenqueue(send_email.options(max_attempts=3).bind(recipients, "Hi", text="Hello"))


async def test_each_recipient_gets_one_mail_and_only_the_refused_are_left(
    nats_url: str, configure: MailSettings
) -> None:
    server = Server(later=["450 busy", "250 OK"], never=["550 no such user"])
    with serving(server) as port:
        configure(port=port)
        async with mailing(nats_url) as app:
            await _send(app, "a", "later", "never", "b")
            (entry,) = await _settled(app)
            assert server.delivered == {"a@example.com": 1, "b@example.com": 1, "later@example.com": 1}
            assert entry.letter.reason == "rejected"
            assert b'"recipients":["never@example.com"]' in entry.body

            server.replies["never@example.com"] = ["250 OK"]
            assert await replay(await app.session.broker(), [entry]) == (1, [])
            assert await _settled(app) == []
    assert server.delivered == {f"{name}@example.com": 1 for name in ("a", "b", "later", "never")}
    assert len(set(server.message_ids)) == 1


async def test_that_a_mail_was_sent_is_known_for_a_while(nats_url: str, configure: MailSettings) -> None:
    server = Server()
    with serving(server) as port:
        configure(port=port)
        async with mailing(nats_url) as app:
            job = await app.aenqueue(send_email.bind("a@example.com", "Hi", text="Hello"))
            await job.await_()
            assert server.delivered == {"a@example.com": 1}
            assert await app.job(job.id, "email").astatus() == "succeeded"


async def test_who_is_put_off_to_the_last_attempt_is_alone_in_the_dead_letter(
    nats_url: str, configure: MailSettings
) -> None:
    server = Server(busy=["450 busy"], slow=["450 busy", "450 busy", "250 OK"])
    with serving(server) as port:
        configure(port=port)
        async with mailing(nats_url) as app:
            await _send(app, "a", "busy", "slow")
            (entry,) = await _settled(app)
    assert server.delivered == {"a@example.com": 1, "slow@example.com": 1}
    assert (entry.letter.attempt, len(entry.letter.errors)) == (3, 3)
    assert b'"recipients":["busy@example.com"]' in entry.body  # a replay mails nobody else


async def test_a_connection_lost_after_the_dot_is_retried_under_one_message_id(
    nats_url: str, configure: MailSettings
) -> None:
    server = Server()
    server.drop_after_dot = 1
    with serving(server) as port:
        configure(port=port)
        async with mailing(nats_url) as app:
            await _send(app, "a")
            assert await _settled(app) == []
    assert len(server.message_ids) == 2
    assert len(set(server.message_ids)) == 1


async def test_a_server_that_is_down_is_tried_again(nats_url: str, configure: MailSettings) -> None:
    configure(port=_free_port())
    async with mailing(nats_url) as app:
        await _send(app, "a")
        (entry,) = await _settled(app)
    assert entry.letter.reason == "failed"
    assert [error.type for error in entry.letter.errors] == ["jetq_email.errors.TransportError"] * 3
