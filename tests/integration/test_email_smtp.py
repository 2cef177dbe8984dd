"""The mail tasks against a real SMTP server on loopback whose replies are scripted, one attempt after the other."""

from __future__ import annotations

import email
import email.policy
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from jetq import Reject, Retry
from jetq.model.job_context import CURRENT, Current, JobContext
from jetq_email import TransportError, send_email, send_template
from jetq_email.routing.opening import transport_for
from jetq_email.settings import current

pytestmark = pytest.mark.anyio

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Sink:
    """Takes mails. rcpt: replies to RCPT by address, used up in order; data: replies to the content, "drop" closes."""

    def __init__(self) -> None:
        self.rcpt: dict[str, list[str]] = {}
        self.data: list[str] = []
        self.mail: list[str] = []
        self.seen: list[tuple[list[str], bytes]] = []
        self.asked: list[str] = []
        self.connections: set[Any] = set()

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.connections.add(session.peer)
        reply = self.mail.pop(0) if self.mail else "250 OK"
        if reply.startswith("250"):
            envelope.mail_from = address
        return reply

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.asked.append(address)
        replies = self.rcpt.get(address)
        reply = replies.pop(0) if replies else "250 OK"
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        reply = self.data.pop(0) if self.data else "250 OK"
        if reply.startswith("250") or reply == "drop":
            self.seen.append((list(envelope.rcpt_tos), envelope.content))
        if reply == "drop":
            server.transport.abort()
        return reply

    @property
    def delivered(self) -> list[str]:
        return [recipient for recipients, _ in self.seen for recipient in recipients]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    values = {"HOST": "127.0.0.1", "TLS": "none", "SENDER": "app@example.org", "TIMEOUT": "5", "SUPPRESSION": "false"}
    for name, value in values.items():
        monkeypatch.setenv(f"JETQ_EMAIL_{name}", value)
    yield monkeypatch


@pytest.fixture
async def serve(sink: Sink, environment: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    started: list[Controller] = []

    def start(**options: Any) -> Controller:
        controller = Controller(sink, hostname="127.0.0.1", port=free_port(), **options)
        controller.start()
        started.append(controller)
        environment.setenv("JETQ_EMAIL_PORT", str(controller.port))
        return controller

    yield start
    await (await transport_for(current())).close()
    for controller in started:
        if controller.server is not None and controller.server.is_serving():
            controller.stop()


async def attempt(number: int = 1, /, **arguments: Any) -> BaseException | None:
    """One attempt of job `job1`, as the worker runs it: what it raised."""
    job = JobContext("job1", number, 3, "jetq_email.send_email", "email", WHEN, None, "worker")
    token = CURRENT.set(Current(lambda: job, object()))
    try:
        await send_email(**{"to": ["a@x.com"], "subject": "Hi", "text": "hello"} | arguments)
    except Exception as error:
        return error
    finally:
        CURRENT.reset(token)
    return None


def message_of(sink: Sink, index: int) -> Any:
    return email.message_from_bytes(sink.seen[index][1], policy=email.policy.default)


async def test_a_mail_arrives_whole_and_connections_are_used_again(sink: Sink, serve: Any) -> None:
    serve()
    for _ in range(3):
        assert await attempt(to=["Ann <a@x.com>"], bcc=["b@x.com"], text=".dot\nüber") is None
    assert [recipients for recipients, _ in sink.seen] == [["a@x.com", "b@x.com"]] * 3
    message = message_of(sink, 0)
    assert (message["From"], message["To"], message["Bcc"]) == ("app@example.org", "Ann <a@x.com>", None)
    assert message["Message-ID"] == "<job1@example.org>"
    assert message.get_content().split() == [".dot", "über"]
    assert len(sink.connections) == 1


async def test_only_who_was_put_off_is_tried_again_under_the_same_headers(sink: Sink, serve: Any) -> None:
    serve()
    sink.rcpt["b@x.com"] = ["450 later"]
    mail = {"to": ["a@x.com"], "cc": ["b@x.com"], "bcc": ["c@x.com"]}
    error = await attempt(1, **mail)
    assert isinstance(error, Retry) and error.arguments is not None
    assert await attempt(2, **mail, **error.arguments) is None
    assert sorted(sink.delivered) == ["a@x.com", "b@x.com", "c@x.com"]
    first, second = message_of(sink, 0), message_of(sink, 1)
    for header in ("Message-ID", "Date", "To", "Cc", "Subject", "From"):
        assert first[header] == second[header]


async def test_who_is_refused_for_good_is_dead_with_the_codes_and_without_the_address(sink: Sink, serve: Any) -> None:
    serve()
    sink.rcpt["gone@x.com"] = ["550 5.1.1 <gone@x.com>: no such user"]
    error = await attempt(to="gone@x.com")
    assert isinstance(error, Reject)
    assert error.reason == "the recipient was refused: 550 5.1.1 (no such mailbox)"
    assert sink.seen == []


async def test_taken_put_off_and_refused_in_one_mail(sink: Sink, serve: Any) -> None:
    """Everybody gets the mail once, and what is left in the dead letter is the refused address alone."""
    serve()
    sink.rcpt = {"b@x.com": ["450 later"], "c@x.com": ["550 no"] * 9}
    mail: dict[str, Any] = {"to": ["a@x.com", "b@x.com", "c@x.com"]}
    left: dict[str, Any] = {}
    for number in range(1, 4):
        error = await attempt(number, **mail, **left)
        if isinstance(error, Reject):
            break
        assert isinstance(error, Retry) and error.arguments is not None
        left = error.arguments
    assert isinstance(error, Reject)
    assert left == {"recipients": ["c@x.com"]}
    assert sorted(sink.delivered) == ["a@x.com", "b@x.com"]
    sink.rcpt.clear()  # mended, then replayed
    assert await attempt(1, **mail, **left) is None
    assert sorted(sink.delivered) == ["a@x.com", "b@x.com", "c@x.com"]


@pytest.mark.parametrize(("reply", "kind"), [("451 busy", Retry), ("554 spam", Reject), ("421 bye", TransportError)])
@pytest.mark.parametrize("stage", ["mail", "data"])
async def test_a_refused_sender_or_content(
    sink: Sink, serve: Any, stage: str, reply: str, kind: type[Exception]
) -> None:
    serve()
    getattr(sink, stage).append(reply)
    assert isinstance(await attempt(), kind)
    assert await attempt(2) is None
    assert sink.delivered == ["a@x.com"]


async def test_a_connection_lost_after_the_dot_is_tried_again_under_the_same_message_id(sink: Sink, serve: Any) -> None:
    """Guarantee: the outcome is unknown, so the mail is not given up, and the repeat can be told for one."""
    serve()
    sink.data.append("drop")
    assert isinstance(await attempt(1), TransportError)
    assert await attempt(2) is None
    assert [message_of(sink, index)["Message-ID"] for index in (0, 1)] == ["<job1@example.org>"] * 2


async def test_a_connection_the_server_closed_costs_no_attempt(sink: Sink, serve: Any) -> None:
    controller = serve()
    assert await attempt() is None
    controller.stop()
    again = Controller(sink, hostname="127.0.0.1", port=controller.port)
    again.start()
    try:
        assert await attempt() is None
    finally:
        again.stop()
    assert len(sink.connections) == 2


async def test_nobody_listening_is_a_transport_error_with_the_place(environment: pytest.MonkeyPatch) -> None:
    port = free_port()
    environment.setenv("JETQ_EMAIL_PORT", str(port))
    error = await attempt()
    assert isinstance(error, TransportError) and f"127.0.0.1:{port}" in error.message


async def test_an_international_address_needs_smtputf8(sink: Sink, serve: Any) -> None:
    serve(enable_SMTPUTF8=False)
    error = await attempt(to="jörg@x.com")
    assert isinstance(error, Reject) and "SMTPUTF8" in error.reason
    assert sink.seen == []


@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
async def test_who_needs_smtputf8_keeps_a_mail_from_nobody_else(sink: Sink, serve: Any, field: str) -> None:
    """Guarantee: where a server takes no international addresses, they alone are left in the dead letter."""
    serve(enable_SMTPUTF8=False)
    mail: dict[str, Any] = {"to": ["a@x.com"], field: ["a@x.com", "jörg@x.com"]}
    error = await attempt(**mail)
    assert isinstance(error, Retry) and error.arguments == {"recipients": ["jörg@x.com"]}
    assert error.args == ("1 of 2 recipients was refused: 553 5.6.7 (the server takes no international addresses)",)
    error = await attempt(2, **mail, **error.arguments)
    assert isinstance(error, Reject) and "SMTPUTF8" in error.reason
    assert sink.delivered == ["a@x.com"]
    assert sink.seen[0][1].isascii()


async def test_who_is_put_off_where_another_needs_smtputf8_is_tried_again(sink: Sink, serve: Any) -> None:
    serve(enable_SMTPUTF8=False)
    sink.rcpt["b@x.com"] = ["450 later"]
    mail: dict[str, Any] = {"to": ["a@x.com", "b@x.com", "jörg@x.com"]}
    error = await attempt(**mail)
    assert isinstance(error, Retry) and error.arguments == {"recipients": ["jörg@x.com", "b@x.com"]}
    assert isinstance(await attempt(2, **mail, **error.arguments), Retry)
    assert sink.delivered == ["a@x.com", "b@x.com"]


async def test_what_is_no_address_in_bcc_is_left_in_the_dead_letter(sink: Sink, serve: Any) -> None:
    """Guarantee: all others have the mail, and a replay sends it to none of them again."""
    serve()
    mail: dict[str, Any] = {"to": ["a@x.com"], "bcc": ["b@x.com", "canary"]}
    error = await attempt(**mail)
    assert isinstance(error, Retry) and error.arguments == {"recipients": ["canary"]}
    error = await attempt(2, **mail, **error.arguments)
    assert isinstance(error, Reject) and error.reason == "bcc[1]: not a mail address: it has no @"
    assert sink.delivered == ["a@x.com", "b@x.com"]


async def test_an_international_address_travels_where_it_can(sink: Sink, serve: Any) -> None:
    serve(enable_SMTPUTF8=True)
    assert await attempt(to="jörg@x.com") is None
    assert sink.delivered == ["jörg@x.com"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"to": "nobody"},
        {"subject": "a\r\nBcc: e@x.com"},
        {"headers": {"Bcc": "e@x.com"}},
        {"text": None},
        {"recipients": []},
        {"recipients": ["e@x.com"]},
    ],
)
async def test_a_mail_that_cannot_be_sent_is_rejected_before_any_connection(
    sink: Sink, serve: Any, arguments: dict[str, Any]
) -> None:
    serve()
    assert isinstance(await attempt(**arguments), Reject)
    assert sink.connections == set()


async def test_a_template_with_a_missing_variable_is_rejected(sink: Sink, serve: Any) -> None:
    serve()
    with pytest.raises(Reject, match="undefined"):
        await send_template("welcome", "a@x.com", {})
    assert sink.connections == set()


# --- TLS and login


@pytest.fixture
def authority(tmp_path: Path, environment: pytest.MonkeyPatch) -> ssl.SSLContext:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    environment.setenv("JETQ_EMAIL_CA_FILE", str(tmp_path / "ca.pem"))
    environment.setenv("JETQ_EMAIL_TLS", "starttls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"app", b"canary")
    return AuthResult(success=right, handled=False)


async def test_starttls_and_login(sink: Sink, serve: Any, authority: ssl.SSLContext, environment: Any) -> None:
    serve(tls_context=authority, require_starttls=True, authenticator=check, auth_required=True)
    environment.setenv("JETQ_EMAIL_USER", "app")
    environment.setenv("JETQ_EMAIL_PASSWORD", "canary")
    assert await attempt() is None
    assert sink.delivered == ["a@x.com"]


async def test_a_refused_login_is_tried_again_and_shows_no_password(
    sink: Sink, serve: Any, authority: ssl.SSLContext, environment: Any
) -> None:
    serve(tls_context=authority, require_starttls=True, authenticator=check, auth_required=True)
    environment.setenv("JETQ_EMAIL_USER", "app")
    environment.setenv("JETQ_EMAIL_PASSWORD", "canary-wrong")
    error = await attempt()
    assert isinstance(error, TransportError) and "535" in error.message and "JETQ_EMAIL_PASSWORD" in str(error)
    assert "canary" not in str(error)


async def test_starttls_never_falls_back_to_clear_text(sink: Sink, serve: Any, authority: ssl.SSLContext) -> None:
    serve()
    assert isinstance(await attempt(), TransportError)
    assert sink.connections == set()


async def test_a_certificate_of_an_unknown_authority_is_refused(
    sink: Sink, serve: Any, authority: ssl.SSLContext, environment: Any
) -> None:
    serve(tls_context=authority)
    environment.delenv("JETQ_EMAIL_CA_FILE")
    error = await attempt()
    assert isinstance(error, TransportError) and "certificate" in error.message.lower()
    assert sink.connections == set()


# --- the other transports


async def test_eml_files(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("JETQ_EMAIL_TRANSPORT", "file")
    environment.setenv("JETQ_EMAIL_OUTBOX", str(tmp_path / "out"))
    for number in (1, 2):  # a repeat of the job replaces its file
        assert await attempt(number, bcc="b@x.com") is None
    [file] = (tmp_path / "out").iterdir()
    message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    assert file.name == "job1.eml"
    assert (message["X-Envelope-To"], message["Subject"], message["Bcc"]) == ("a@x.com, b@x.com", "Hi", None)


async def test_console(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setenv("JETQ_EMAIL_TRANSPORT", "console")
    assert await attempt(text="über") is None
    shown = capsys.readouterr().out
    assert "mail to a@x.com" in shown and "Subject: Hi" in shown and "über" in shown
