"""Who a worker says it is: its name at EHLO, its login by password or token, and the sender of the envelope."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import sys
import traceback
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jetq_email import TransportError, Unsendable
from jetq_email.message import Email, Envelope, compose
from jetq_email.settings import parse
from jetq_email.transports.smtp import SmtpTransport
from jetq_email.transports.smtp import ehlo as ehlo_module
from jetq_email.transports.smtp.login import _read
from tests.apps.smtp_server import Said, Session, SmtpServer, in_order, serving_smtp

pytestmark = pytest.mark.anyio

OFFERS = ("AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2",)


def mail(*to: str, job_id: str = "j1", **fields: Any) -> Envelope:
    email = Email(to=to or ("a@example.com",), subject="s", text="hello", sender="Shop <shop@example.org>", **fields)
    return compose(email, job_id=job_id, date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


@asynccontextmanager
async def transport(server: SmtpServer, **settings: object) -> AsyncIterator[SmtpTransport]:
    async with serving_smtp(server):
        values = {"host": "127.0.0.1", "port": server.port, "tls": "none", "timeout": 5, **settings}
        made = SmtpTransport(parse({f"JETQ_EMAIL_{name.upper()}": str(value) for name, value in values.items()}))
        try:
            yield made
        finally:
            await made.close()


def said(server: SmtpServer, word: str) -> list[str]:
    return [command for command in server.commands if command.startswith(word)]


# --- EHLO


async def test_a_worker_calls_itself_what_the_settings_say() -> None:
    async with transport(server := SmtpServer(), ehlo="worker.example.com") as sending:
        await sending.send(mail())
    assert said(server, "EHLO") == ["EHLO worker.example.com"]


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("w1.example.com", "w1.example.com"),
        ("w1", "[127.0.0.1]"),
        ("localhost.localdomain", "[127.0.0.1]"),
        ("1.0.0.127.in-addr.arpa", "[127.0.0.1]"),
        ("w_1.example.com", "[127.0.0.1]"),
    ],
)
async def test_a_machine_without_a_full_name_says_its_address(
    machine: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: machine)
    async with transport(server := SmtpServer()) as sending:
        await sending.send(mail())
    assert said(server, "EHLO") == [f"EHLO {name}"]


def test_an_address_of_ipv6_is_marked_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "w1")
    monkeypatch.setattr(ehlo_module, "_address_towards", lambda host, port: "2001:db8::1")
    assert ehlo_module.own_name("mail.example.com", 25) == "[IPv6:2001:db8::1]"


async def test_whose_name_is_refused_is_told_which_setting_it_is() -> None:
    refusing = SmtpServer({word: lambda _: "550 5.7.1 who are you" for word in ("ehlo", "helo")})
    async with transport(refusing) as sending:
        with pytest.raises(TransportError, match="JETQ_EMAIL_EHLO"):
            await sending.send(mail())


# --- by a password


@pytest.mark.parametrize(("auth", "way"), [("auto", "PLAIN"), ("plain", "PLAIN"), ("login", "LOGIN")])
async def test_a_login_by_the_way_that_is_set(auth: str, way: str) -> None:
    password = b64encode(b"canary").decode().lower()
    server = SmtpServer({password: lambda _: "235 in"}, extensions=("AUTH LOGIN PLAIN",))
    if way == "LOGIN":
        server.replies["auth"] = lambda _: "334 UGFzc3dvcmQ6"
    async with transport(server, user="shop", password="canary", auth=auth) as sending:
        await sending.send(mail())
    assert [command.split()[1] for command in said(server, "AUTH")] == [way]


# --- by a token


def token_of(command: str) -> str:
    way, text = command.split()[1:]
    user, bearer, *rest = b64decode(text).decode().split("\x01")
    assert (way, user, rest) == ("XOAUTH2", "user=shop", ["", ""])
    return bearer.removeprefix("auth=Bearer ")


@pytest.mark.parametrize("auth", ["auto", "xoauth2"])
async def test_a_token_logs_in(auth: str) -> None:
    async with transport(server := SmtpServer(extensions=OFFERS), user="shop", token="canary", auth=auth) as sending:
        await sending.send(mail())
    assert list(map(token_of, said(server, "AUTH"))) == ["canary"]


@pytest.fixture
def printing(tmp_path: Path) -> Any:
    """A command that prints `canary-1`, `canary-2` and so on, in what is given for `{}`; and how often it was run."""
    runs = tmp_path / "runs"

    def make(output: str = "{}") -> str:
        program = tmp_path / "token.py"
        program.write_text(
            f"with open({str(runs)!r}, 'a+') as runs:\n    runs.write('x')\n    number = runs.tell()\n"
            f"print({output!r}.replace('{{}}', f'canary-{{number}}'))\n"
        )
        return shlex.join([sys.executable, str(program)])

    make.count = lambda: runs.stat().st_size  # type: ignore[attr-defined]
    return make


async def test_one_command_prints_the_token_of_all_connections(printing: Any) -> None:
    server = SmtpServer(extensions=OFFERS)
    async with transport(server, user="shop", token_command=printing(), connections=4) as sending:
        await asyncio.gather(*(sending.send(mail(f"u{number}@example.com")) for number in range(20)))
    assert len(server.delivered) == 20 and server.sessions > 1
    assert set(map(token_of, said(server, "AUTH"))) == {"canary-1"}
    assert printing.count() == 1


async def test_a_token_that_the_server_refuses_is_printed_anew(printing: Any) -> None:
    """Guarantee: a token that has expired costs no attempt."""
    server = SmtpServer({"data": lambda _: "421 4.3.0 enough" if server.taken else None}, extensions=OFFERS)
    async with transport(server, user="shop", token_command=printing()) as sending:
        await sending.send(mail("a@example.com"))
        server.replies["auth"] = in_order("334 eyJzdGF0dXMiOiI0MDAifQ==")
        server.replies[""] = in_order("535 5.7.8 canary-1 has expired")
        server.replies["data"] = in_order("421 4.3.0 enough")
        await sending.send(mail("b@example.com"))
    assert server.delivered == ["a@example.com", "b@example.com"]
    assert list(map(token_of, said(server, "AUTH"))) == ["canary-1", "canary-1", "canary-2"]


async def test_a_new_token_that_is_refused_is_an_error_without_it(printing: Any) -> None:
    server = SmtpServer({"auth": lambda _: "535 5.7.8 canary-1"}, extensions=OFFERS)
    async with transport(server, user="shop", token_command=printing()) as sending:
        for number in (1, 2):
            with pytest.raises(TransportError, match="JETQ_EMAIL_TOKEN_COMMAND") as caught:
                await sending.send(mail())
            assert "refused the login: 535 5.7.8" in caught.value.message
            assert "canary" not in "".join(traceback.format_exception(caught.value))
            assert printing.count() == number


async def test_a_token_is_not_used_to_its_last_minute(printing: Any) -> None:
    def ending(session: Session) -> Said:
        return "421 4.3.0 enough" if session.mails else None

    server = SmtpServer({"mail": ending}, extensions=OFFERS)
    command = printing('{"access_token": "{}", "expires_in": 59}')
    async with transport(server, user="shop", token_command=command, connections=1) as sending:
        await sending.send(mail())
        await sending.send(mail())
    assert list(map(token_of, said(server, "AUTH"))) == ["canary-1", "canary-2"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sh -c 'echo canary; echo canary >&2; exit 3'", "ended with code 3"),
        ("/nowhere/canary", "cannot be run: No such file or directory"),
        ("sh -c 'echo canary canary'", "printed no token"),
        ("true canary", "printed no token"),
        ("sh -c 'exec sleep 30 # canary'", r"did not end within 0\.2 s"),
    ],
)
async def test_a_command_that_fails_is_an_error_without_secrets(command: str, message: str) -> None:
    server = SmtpServer(extensions=OFFERS)
    timeout = 0.2 if "sleep" in command else 20
    async with transport(server, user="shop", token_command=command, timeout=timeout) as sending:
        with pytest.raises(TransportError, match=f"JETQ_EMAIL_TOKEN_COMMAND {message}") as caught:
            await sending.send(mail())
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert said(server, "AUTH") == []


@pytest.mark.parametrize(
    ("printed", "token", "expires"),
    [
        ("  abc\n", "abc", float("inf")),
        ('{"access_token": "abc", "token_type": "Bearer"}', "abc", float("inf")),
        ('{"accessToken": "abc", "expiresOn": "2023-10-31 21:59:10", "expires_on": 1698760750}', "abc", 1698760750),
        ('{"access_token": "abc", "expires_on": "1698760750"}', "abc", 1698760750),
        ("123456", "123456", float("inf")),
    ],
)
def test_what_commands_print(printed: str, token: str, expires: float) -> None:
    assert _read(printed) == (token, expires)


@pytest.mark.parametrize("printed", ["", "a b", "{}", '{"access_token": 5}', '{"access_token": ""}', "tök", "[]x y"])
def test_what_is_no_token(printed: str) -> None:
    with pytest.raises(TransportError, match="printed no token"):
        _read(printed)


def test_seconds_left_count_from_now() -> None:
    token, expires = _read(json.dumps({"access_token": "abc", "expires_in": 3600}))
    assert token == "abc" and expires > datetime.now(UTC).timestamp() + 3500


# --- the sender of the envelope


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, ["shop@example.org"]),
        ("bounces@example.net", ["bounces@example.net"]),
        ("<>", [""]),
        ("b-{id}@example.net", ["b-k+1@example.net"]),
        ("b+{recipient}@example.net", ["b+a=example.com@example.net", "b+b=example.com@example.net"]),
    ],
)
async def test_bounces_go_where_the_envelope_says(given: str | None, sent: list[str]) -> None:
    envelope = mail("a@example.com", "b@example.com", envelope_sender=given, job_id="k:1")
    async with transport(server := SmtpServer()) as sending:
        outcome = await sending.send(envelope)
    assert outcome.delivered == ("a@example.com", "b@example.com")
    assert [command.removeprefix("MAIL FROM:<").removesuffix(">") for command in said(server, "MAIL")] == sent
    assert b"example.net" not in server.contents[0] and b"From: Shop <shop@example.org>" in server.contents[0]


async def test_of_recipients_with_senders_of_their_own_one_refused_stops_no_other() -> None:
    server = SmtpServer({"data": in_order(None, "550 5.7.1 no", None)})
    to = ["a@example.com", "b@example.com", "jörg@example.com", "c@example.com"]
    async with transport(server) as sending:
        outcome = await sending.send(mail(*to, envelope_sender="b+{recipient}@example.net"))
    assert outcome.delivered == ("a@example.com", "c@example.com")
    assert [(each.recipient, each.permanent) for each in outcome.refused] == [
        ("b@example.com", True),
        ("jörg@example.com", True),
    ]


async def test_of_recipients_with_senders_of_their_own_those_after_a_lost_connection_are_tried_again() -> None:
    server = SmtpServer({"data": in_order(None, b"")})
    to = ["a@example.com", "b@example.com", "c@example.com"]
    async with transport(server) as sending:
        outcome = await sending.send(mail(*to, envelope_sender="b+{recipient}@example.net"))
    assert outcome.delivered == ("a@example.com",)
    assert [(each.recipient, each.permanent) for each in outcome.refused] == [
        ("b@example.com", False),
        ("c@example.com", False),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nobody", "envelope_sender: not a mail address"),
        ("b@{recipient}", "envelope_sender: not a mail address"),
        ("b+{recepient}@example.net", r"known: \{id\} and \{recipient\}"),
        ("b@example.net, c@example.net", "looks like several"),
        ("x\r\nRCPT TO:<e@x.com>@example.net", "no header may"),
    ],
)
def test_what_is_no_sender_of_an_envelope_is_refused(given: str, message: str) -> None:
    with pytest.raises(Unsendable, match=message):
        mail(envelope_sender=given)


def test_a_sender_of_the_envelope_beyond_ascii_asks_for_smtputf8() -> None:
    envelope = mail(envelope_sender="jörg@example.net")
    assert envelope.smtputf8 and envelope.without_utf8 is None
