"""Servers as they are: few connections, short sessions, few recipients, a login that lacks. No mail pays for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tenacity import RetryCallState

from jetq import Reject, Retry, Snooze
from jetq.model.job_context import CURRENT, Current, JobContext
from jetq_email import TransportError, send_email
from jetq_email.errors import ServerBusy
from jetq_email.message import Email, Envelope, compose
from jetq_email.settings import Settings, parse
from jetq_email.tasks.attempts import RetryWait, task_options
from jetq_email.transports.smtp import SmtpTransport
from jetq_email.transports.smtp import connections as connections_module
from jetq_email.transports.smtp.connections import Connections
from tests.apps.smtp_server import SmtpServer, serving_smtp

pytestmark = pytest.mark.anyio

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def settings_for(port: int, **more: object) -> Settings:
    values: dict[str, object] = {"host": "127.0.0.1", "port": port, "tls": "none", "timeout": 5, **more}
    return parse({f"JETQ_EMAIL_{name.upper()}": str(value) for name, value in values.items()})


def mail(*to: str, text: str = "hello") -> Envelope:
    return compose(Email(to=to, subject="s", text=text, sender="s@example.com"), job_id="j1", date=WHEN)


def users(count: int) -> list[str]:
    return [f"u{number}@example.com" for number in range(count)]


@asynccontextmanager
async def transport(server: SmtpServer, **settings: object) -> AsyncIterator[SmtpTransport]:
    async with serving_smtp(server):
        made = SmtpTransport(settings_for(server.port, **settings))
        try:
            yield made
        finally:
            await made.close()


# --- connections


async def test_who_finds_no_connection_waits_for_one_that_stands() -> None:
    """Guarantee: a server's limit of connections costs no attempt."""
    async with transport(SmtpServer(most=3)) as sending, asyncio.TaskGroup() as group:
        sent = [group.create_task(sending.send(mail(user))) for user in users(60)]
    assert [task.result().delivered for task in sent] == [(user,) for user in users(60)]


async def test_no_more_are_tried_than_the_server_takes_until_some_time_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = SmtpServer(most=2)
    async with transport(server) as sending:
        await asyncio.gather(*(sending.send(mail(user)) for user in users(40)))
        turned_away = server.turned_away
        assert 0 < turned_away < 10  # those that were begun at once
        await asyncio.gather(*(sending.send(mail(user)) for user in users(40)))
        assert (server.turned_away, server.peak) == (turned_away, 2)
        monkeypatch.setattr(connections_module, "_MORE_AFTER", 0.0)
        server.most = 4
        await asyncio.gather(*(sending.send(mail(user)) for user in users(40)))
        await asyncio.gather(*(sending.send(mail(user)) for user in users(40)))
        assert server.peak == 4


@pytest.mark.parametrize("turned", ["a connection", "a greeting", "another word"])
async def test_a_server_that_takes_none_is_busy(turned: str) -> None:
    greetings = {"a greeting": "450 4.3.2 not now", "another word": "221 bye"}
    server = SmtpServer(most=0) if turned == "a connection" else SmtpServer({"greet": lambda _: greetings[turned]})
    async with transport(server) as sending:
        failed = await asyncio.gather(*(sending.send(mail(user)) for user in users(5)), return_exceptions=True)
    kind = TransportError if turned == "another word" else ServerBusy
    assert [type(error) for error in failed] == [kind] * 5


@pytest.mark.parametrize("woken", [False, True])
async def test_who_gives_up_its_turn_leaves_it_to_the_next(woken: bool) -> None:
    async with serving_smtp(SmtpServer()) as server:
        connections = Connections(settings_for(server.port, connections=1))
        client, _ = await connections.borrow()
        first, second = (asyncio.create_task(connections.borrow()) for _ in range(2))
        await asyncio.sleep(0)  # both wait now
        if woken:
            connections.give_back(client)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        if not woken:
            connections.give_back(client)
        async with asyncio.timeout(20):
            assert await second == (client, True)
        connections.drop(client)
        await connections.close()


async def test_a_connection_that_is_lost_makes_room_for_another() -> None:
    server = SmtpServer({"data": lambda _: "421 4.3.2 shutting down"})
    async with transport(server, connections=1) as sending:
        failed = await asyncio.gather(*(sending.send(mail(user)) for user in users(4)), return_exceptions=True)
        assert all(isinstance(error, TransportError) for error in failed)
        server.replies.clear()
        assert (await sending.send(mail("a@example.com"))).delivered == ("a@example.com",)


# --- sessions and transactions


@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
async def test_a_session_that_has_had_its_mails_is_followed_by_another(step: str) -> None:
    """Guarantee: 421 after some mails costs no attempt, and nobody gets the mail twice."""
    server = SmtpServer({step: lambda session: "421 4.7.0 enough" if session.mails >= 2 else None})
    async with transport(server, connections=2) as sending:
        await asyncio.gather(*(sending.send(mail(user)) for user in users(11)))
    assert server.delivered == sorted(users(11))


async def test_the_rest_of_too_many_recipients_is_in_the_next_transaction() -> None:
    server = SmtpServer({"rcpt": lambda session: "452 4.5.3 too many" if len(session.recipients) >= 10 else None})
    async with transport(server) as sending:
        sent = await sending.send(mail(*users(45)))
    assert (sorted(sent.delivered), sent.refused) == (sorted(users(45)), ())
    assert server.delivered == sorted(users(45))
    assert [len(recipients) for recipients in server.taken] == [10, 10, 10, 10, 5]


@pytest.mark.parametrize(
    "reply", ["452 4.2.2 mailbox full", "452 4.3.1 disk full", "552 5.2.2 over quota", "450 later"]
)
async def test_a_recipient_that_is_refused_for_itself_ends_no_transaction(reply: str) -> None:
    asked = iter([None, reply, None])
    async with transport(SmtpServer({"rcpt": lambda _: next(asked)})) as sending:
        sent = await sending.send(mail(*users(3)))
    assert sent.delivered == ("u0@example.com", "u2@example.com")
    assert [refusal.recipient for refusal in sent.refused] == ["u1@example.com"]


async def test_who_has_the_mail_keeps_it_when_a_later_transaction_fails() -> None:
    """Guarantee: a retry is for those alone of whom nobody knows whether they have the mail."""
    server = SmtpServer({"rcpt": lambda session: "452 4.5.3 too many" if session.recipients else None})
    server.replies["data"] = lambda session: "421 gone" if len(server.taken) == 1 else None
    server.replies["greet"] = lambda _: "421 gone" if server.taken else None
    async with transport(server) as sending:
        sent = await sending.send(mail(*users(3)))
    assert sent.delivered == ("u0@example.com",)
    assert [(each.recipient, each.permanent) for each in sent.refused] == [
        ("u1@example.com", False),
        ("u2@example.com", False),
    ]


@pytest.mark.parametrize("after_the_dot", [True, False])
async def test_of_a_later_transaction_it_is_said_whether_it_may_have_arrived(after_the_dot: bool) -> None:
    def lost(_: object) -> None:
        if server.taken:
            raise ConnectionResetError

    server = SmtpServer({"rcpt": lambda session: "452 4.5.3 too many" if session.recipients else None})
    server.replies["data" if after_the_dot else "mail"] = lost
    async with transport(server) as sending:
        sent = await sending.send(mail(*users(2)))
    assert [(each.recipient, each.unknown) for each in sent.refused] == [("u1@example.com", after_the_dot)]


@pytest.mark.parametrize("step", ["mail", "rcpt"])
async def test_a_login_that_lacks_is_no_fault_of_the_mail(step: str) -> None:
    async with transport(SmtpServer({step: lambda _: "530 5.7.0 Authentication required"})) as sending:
        sent = await sending.send(mail("a@example.com"))
    assert [(refusal.code, refusal.permanent) for refusal in sent.refused] == [(530, False)]


async def test_a_mail_that_is_too_large_is_not_begun() -> None:
    server = SmtpServer(extensions=("SIZE 2000",))
    async with transport(server) as sending:
        with pytest.raises(Exception, match=r"the mail has \d+ bytes, and 127.0.0.1:\d+ takes 2000"):
            await sending.send(mail("a@example.com", text="x\n" * 2000))
        assert not any(command.startswith("MAIL") for command in server.commands)
        await sending.send(mail("a@example.com"))
    (begun,) = [command for command in server.commands if command.startswith("MAIL")]
    assert "SIZE=" in begun


# --- what a job does


async def attempt(server: SmtpServer, enqueued: datetime, monkeypatch: pytest.MonkeyPatch) -> BaseException | None:
    """One attempt of a job that was enqueued then: what it raised."""
    for name, value in {
        "HOST": "127.0.0.1",
        "PORT": str(server.port),
        "TLS": "none",
        "SENDER": "s@example.com",
        "SUPPRESSION": "false",
    }.items():
        monkeypatch.setenv(f"JETQ_EMAIL_{name}", value)
    job = JobContext("job1", 1, 8, "jetq_email.send_email", "email", enqueued, None, "worker")
    token = CURRENT.set(Current(lambda: job, object()))
    try:
        await send_email("a@example.com", "Hi", text="hello")
    except Exception as error:
        return error
    finally:
        CURRENT.reset(token)
    return None


async def test_a_busy_server_costs_no_attempt_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_smtp(SmtpServer(most=0)) as server:
        now = datetime.now(UTC)
        put_off = await attempt(server, now - timedelta(minutes=59), monkeypatch)
        assert isinstance(put_off, Snooze) and 0 < put_off.after <= 5
        assert isinstance(await attempt(server, now - timedelta(minutes=61), monkeypatch), ServerBusy)


@pytest.mark.parametrize(
    ("reply", "kind"), [("530 5.7.0 log in", Retry), ("550 5.7.1 no", Reject), ("450 4.2.0 greylisted", Retry)]
)
async def test_only_what_can_never_be_sent_is_dead_at_once(
    reply: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving_smtp(SmtpServer({"mail": lambda _: reply})) as server:
        assert type(await attempt(server, datetime.now(UTC), monkeypatch)) is kind


def test_attempts_outlast_greylisting_and_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: five minutes of greylisting leave attempts, and so does a server that is away for hours."""
    waits: list[float] = []
    call: Any = RetryCallState
    for number in range(1, send_email.declared.max_attempts):
        state = call(None, None, (), {})
        state.attempt_number = number
        waits.append(RetryWait()(state))
    assert send_email.declared.max_attempts == 8
    assert 60 <= waits[0] <= 75
    assert sum(waits[:2]) > 5 * 60
    assert sum(waits) > 7 * 3600
    assert waits == sorted(waits)


def test_attempts_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETQ_EMAIL_ATTEMPTS", "3")
    assert task_options() == {"max_attempts": 3}
    monkeypatch.setenv("JETQ_EMAIL_ATTEMPTS", "many")
    assert task_options() == {"max_attempts": 8}
