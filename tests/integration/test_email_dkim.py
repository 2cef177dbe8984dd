"""Signed mails as a server and a directory get them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from jetq_email.message import Email, Envelope, Part, compose
from jetq_email.routing.opening import transport_for
from jetq_email.settings import Settings, parse
from jetq_email.transports.memory import OUTBOX
from tests.apps.dkim_keys import DOMAIN, SELECTORS, pem, verifies

pytestmark = pytest.mark.anyio

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class _Server:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope.content)
        return "250 OK"


@contextmanager
def _serving(**options: Any) -> Iterator[tuple[_Server, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = _Server()
    controller = Controller(server, hostname="127.0.0.1", port=port, data_size_limit=10**8, **options)
    controller.start()
    try:
        yield server, port
    finally:
        controller.stop()


def _settings(**more: object) -> Settings:
    values = {"dkim_domain": DOMAIN, "dkim_selector": SELECTORS, "dkim_key": pem(), **more}
    return parse({f"JETQ_EMAIL_{name.upper()}": str(value) for name, value in values.items()})


def _mail(*parts: Part, text: str = "Hi\n\n.\n..  two\nGrüße\n") -> Envelope:
    email = Email(to=["a@example.com", "b@example.com"], subject="Grüße", text=text, html="<p>Hi", sender=f"s@{DOMAIN}")
    return compose(email, parts, job_id="j1", date=WHEN)


async def test_a_server_gets_mails_with_good_signatures() -> None:
    """Guarantee: what travels, with its points and its last line, is what was signed, small or large."""
    with _serving() as (server, port):
        transport = await transport_for(_settings(host="127.0.0.1", port=port, tls="none"))
        try:
            for mail in (
                _mail(),
                _mail(text=""),
                _mail(text=".\n" * 99 + "\n\n"),
                _mail(Part("a", b"\x00" * 2_000_000)),
            ):
                assert (await transport.send(mail)).delivered == ("a@example.com", "b@example.com")
        finally:
            await transport.close()
    assert [verifies(mail) for mail in server.mails] == [[True, True]] * 4


@pytest.mark.parametrize("field", ["cc", "bcc"])
async def test_what_a_server_gets_without_international_addresses_is_signed_too(field: str) -> None:
    """Guarantee: a mail is signed whichever of its two forms a server can take."""
    there: dict[str, Any] = {field: ["jörg@example.com"]}
    email = Email(to=["a@example.com"], subject="s", text="t", sender=f"s@{DOMAIN}", **there)
    with _serving(enable_SMTPUTF8=False) as (server, port):
        transport = await transport_for(_settings(host="127.0.0.1", port=port, tls="none"))
        try:
            sent = await transport.send(compose(email, job_id="j1", date=WHEN))
        finally:
            await transport.close()
    assert (sent.delivered, [each.recipient for each in sent.refused]) == (("a@example.com",), ["jörg@example.com"])
    assert [verifies(mail) for mail in server.mails] == [[True, True]]


async def test_a_file_has_the_signatures_too(tmp_path: Path) -> None:
    transport = await transport_for(_settings(transport="file", outbox=tmp_path))
    await transport.send(_mail())
    (file,) = tmp_path.glob("*.eml")
    assert verifies(file.read_bytes()) == [True, True]


async def test_who_hands_over_no_bytes_signs_none() -> None:
    OUTBOX.clear()
    transport = await transport_for(_settings(transport="memory"))
    await transport.send(_mail())
    assert OUTBOX == [_mail()]
    OUTBOX.clear()
