"""Providers over HTTP, each as a server on loopback: what a mail's hand-over says, whatever befalls it."""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trustme

from jetq_email.errors import OutcomeUnknown, Throttled, TransportError, Unsendable
from jetq_email.message import Email, Envelope, compose
from jetq_email.outcomes import Sent
from jetq_email.settings import parse
from jetq_email.transports.http import HttpTransport
from jetq_email.transports.http import clients as clients_module
from tests.apps.http_server import CUT, SILENT, Asked, HttpServer, Told, serving_http
from tests.apps.mail_providers import SHAPES, variables
from tests.apps.working import until
from tests.unit.email.providers.mails import WHEN

pytestmark = pytest.mark.anyio

each = pytest.mark.parametrize("name", SHAPES)


def mail(*to: str, job_id: str = "j1") -> Envelope:
    recipients = to or ("ann@example.com", "bob@example.com")
    return compose(
        Email(to=recipients, subject="Hi", text="Hello", sender="shop@example.org"), job_id=job_id, date=WHEN
    )


def transport_to(name: str, url: str, **more: object) -> HttpTransport:
    settings = parse(variables(name, url, **{"timeout": 5, **more}))
    return HttpTransport(settings.provider(name), settings)


@asynccontextmanager
async def sending(
    name: str, *told: Told, tls: ssl.SSLContext | None = None, **more: object
) -> AsyncIterator[tuple[HttpTransport, HttpServer]]:
    """A transport to a server that tells each request the next of `told`, and the last for ever."""
    left = list(told)
    async with serving_http(lambda _: left.pop(0) if len(left) > 1 else left[0], tls) as server:
        transport = transport_to(name, server.url, **more)
        try:
            yield transport, server
        finally:
            await transport.close()


async def outcome(name: str, *told: Told, tls: ssl.SSLContext | None = None, **more: object) -> Sent | TransportError:
    async with sending(name, *told, tls=tls, **more) as (transport, _):
        try:
            return await transport.send(mail())
        except TransportError as error:
            assert "canary" not in str(error) and "ann@" not in str(error)
            return error


@each
async def test_taken(name: str) -> None:
    shape = SHAPES[name]
    async with sending(name, shape.ok) as (transport, server):
        sent = await transport.send(mail())
    assert (sent.delivered, sent.refused, bool(sent.reference)) == (mail().recipients, (), True)
    [asked] = server.asked
    assert asked.path == shape.path
    assert shape.named(asked) == ["ann@example.com", "bob@example.com"]


@each
async def test_refused_for_good(name: str) -> None:
    sent = await outcome(name, SHAPES[name].refused)
    assert isinstance(sent, Sent)
    assert (sent.delivered, [(each.recipient, each.permanent) for each in sent.refused]) == (
        (),
        [("ann@example.com", True), ("bob@example.com", True)],
    )


async def test_a_log_shows_the_code_and_not_the_words() -> None:
    """Guarantee: what a provider says may repeat the mail, and is in no log line."""
    sent = await outcome("resend", Told(422, {"name": "validation_error", "message": "no such thing as Hello"}))
    assert isinstance(sent, Sent)
    assert sent.reason == "2 of 2 recipients were refused: 554 resend: 422 validation_error twice"
    assert sent.refused[0].reply == "resend: 422 validation_error no such thing as Hello"


async def test_one_recipient_refused_and_the_other_not() -> None:
    text = "Message OK, but will not deliver to these inactive addresses: bob@example.com. Inactive recipients are"
    sent = await outcome("postmark", Told(200, {"ErrorCode": 0, "Message": text, "MessageID": "m"}))
    assert isinstance(sent, Sent)
    assert sent.delivered == ("ann@example.com",)
    assert [(each.recipient, each.permanent) for each in sent.refused] == [("bob@example.com", True)]


@each
async def test_a_key_that_is_wrong(name: str) -> None:
    """Guarantee: a wrong key kills no mail."""
    sent = await outcome(name, Told(401, {"message": "Unauthorized"}))
    assert isinstance(sent, Sent) and [each.permanent for each in sent.refused] == [False, False]


@each
@pytest.mark.parametrize(("header", "after"), [({}, None), ({"retry-after": "7"}, 7.0)])
async def test_too_many(name: str, header: dict[str, str], after: float | None) -> None:
    slower = SHAPES[name].slower
    error = await outcome(name, Told(slower.status, slower.content, {**slower.headers, **header}))
    assert isinstance(error, Throttled) and error.after == after


@each
async def test_a_provider_that_fails(name: str) -> None:
    error = await outcome(name, Told(502, b"<html>Bad gateway</html>"))
    assert type(error) is TransportError and name in error.message and "502" in error.message


@each
@pytest.mark.parametrize(
    "lost", [CUT, SILENT, Told(200, b"x", {"content-length": "9"}, after=0.0)], ids=["cut", "silent", "half"]
)
async def test_an_answer_that_is_lost_is_unknown_and_the_repeat_says_the_same(name: str, lost: Told) -> None:
    """Guarantee: the outcome is unknown, and the repeat carries the key by which a provider can tell."""
    shape = SHAPES[name]
    async with sending(name, lost, shape.ok, timeout=0.5) as (transport, server):
        with pytest.raises(OutcomeUnknown):
            await transport.send(mail())
        repeating = transport_to(name, server.url)  # which waits longer, on a busy machine
        assert (await repeating.send(mail())).delivered == mail().recipients
        await repeating.close()
    first, second = server.asked
    assert first.content == second.content
    if shape.key is not None:
        assert shape.key(first) == shape.key(second)


@each
async def test_nobody_there_is_a_mail_that_nobody_has(name: str) -> None:
    async with serving_http(lambda _: CUT) as server:
        url = server.url
    transport = transport_to(name, url)
    with pytest.raises(TransportError, match=f"no connection to {name}: ") as caught:
        await transport.send(mail())
    await transport.close()
    assert not isinstance(caught.value, OutcomeUnknown)


@each
async def test_a_redirect_is_not_followed(name: str) -> None:
    """Guarantee: a key goes to nobody but the URL of the settings."""
    async with sending(name, Told(307, b"", {"location": "/elsewhere"}), SHAPES[name].ok) as (transport, server):
        with pytest.raises(OutcomeUnknown, match="307"):
            await transport.send(mail())
    assert len(server.asked) == 1


@each
async def test_a_huge_answer_is_not_read_to_its_end(name: str) -> None:
    async with sending(name, Told(200, b"[" * 30_000_000), SHAPES[name].ok) as (transport, server):
        with pytest.raises(OutcomeUnknown):
            await transport.send(mail())
        assert (await transport.send(mail())).delivered == mail().recipients
    assert server.connections == 2  # what is left of it ended with the first one


async def test_an_answer_is_not_unpacked() -> None:
    """A small one could fill the worker's memory, so none is asked for."""
    packed = Told(200, zlib.compress(b'{"id": "e-1"}'), {"content-encoding": "deflate"})
    async with sending("resend", packed) as (transport, server):
        with pytest.raises(OutcomeUnknown):
            await transport.send(mail())
    assert server.asked[0].headers["accept-encoding"] == "identity"


# --- connections


async def test_connections_are_used_again() -> None:
    async with sending("resend", SHAPES["resend"].ok) as (transport, server):
        for number in range(20):
            await transport.send(mail(job_id=f"j{number}"))
    assert server.connections == 1


async def test_who_finds_no_connection_waits_for_one() -> None:
    """Guarantee: to wait for one of the connections that the settings allow costs no attempt, however long it is."""
    slow = msgspec.structs.replace(SHAPES["resend"].ok, after=0.3)
    async with sending("resend", slow, connections=2, timeout=1) as (transport, server):
        async with asyncio.TaskGroup() as group:  # the last of them waits 2 seconds
            sent = [group.create_task(transport.send(mail(job_id=f"j{number}"))) for number in range(16)]
    assert all(task.result().delivered for task in sent)
    assert server.peak == 2


async def test_connections_that_nobody_uses_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = msgspec.structs.replace(SHAPES["resend"].ok, after=0.2)
    async with sending("resend", slow, connections=5) as (transport, server):
        await asyncio.gather(*(transport.send(mail(job_id=f"j{number}")) for number in range(5)))
        assert len(server.serving) == 5
        monkeypatch.setattr(clients_module, "_IDLE", -1.0)
        await asyncio.gather(*(transport.send(mail(job_id=f"j{number}")) for number in range(5)))
        await until(lambda: not server.serving)


async def test_the_log_has_no_line_for_each_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await outcome("mailgun", SHAPES["mailgun"].ok)
    assert caplog.records == []


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return tmp_path / "ca.pem", context


async def test_a_certificate_of_an_unknown_authority_is_refused_in_words(
    authority: tuple[Path, ssl.SSLContext],
) -> None:
    _, context = authority
    error = await outcome("resend", SHAPES["resend"].ok, tls=context)
    assert type(error) is TransportError and "certificate verify failed" in error.message


async def test_an_authority_of_the_settings_is_trusted(authority: tuple[Path, ssl.SSLContext]) -> None:
    file, context = authority
    sent = await outcome("resend", SHAPES["resend"].ok, tls=context, ca_file=file)
    assert isinstance(sent, Sent) and sent.delivered


@pytest.mark.parametrize("key", ["canary\n", "canäry"])
async def test_a_key_that_is_no_header_is_told_of_and_not_shown(key: str) -> None:
    async with serving_http(lambda _: SHAPES["resend"].ok) as server:
        settings = parse({**variables("resend", server.url), "JETQ_EMAIL_RESEND_KEY": key})
        transport = HttpTransport(settings.provider("resend"), settings)
        with pytest.raises(TransportError, match="JETQ_EMAIL_RESEND_") as caught:
            await transport.send(mail())
        await transport.close()
    assert server.asked == []
    assert "can" not in str(caught.value).replace("can be made", "") and caught.value.__cause__ is None


# --- many recipients


async def test_who_is_too_many_for_a_request_is_in_the_next() -> None:
    to = [f"u{number}@example.com" for number in range(120)]
    async with sending("resend", SHAPES["resend"].ok) as (transport, server):
        sent = await transport.send(mail(*to))
    assert sent.delivered == tuple(to)
    assert [len(SHAPES["resend"].named(asked)) for asked in server.asked] == [50, 50, 20]
    assert len({SHAPES["resend"].key(asked) for asked in server.asked if SHAPES["resend"].key}) == 3


@pytest.mark.parametrize("fault", [CUT, Told(500), Told(429)], ids=["cut", "failed", "slower"])
async def test_who_has_the_mail_keeps_it_when_a_later_request_fails(fault: Told) -> None:
    """Guarantee: a retry is for those alone of whom nobody knows that they have the mail."""
    to = [f"u{number}@example.com" for number in range(120)]
    async with sending("resend", SHAPES["resend"].ok, fault) as (transport, server):
        sent = await transport.send(mail(*to))
        assert len(server.asked) == 2
    assert sent.delivered == tuple(to[:50])
    assert [each.recipient for each in sent.refused] == to[50:]
    assert not any(each.permanent for each in sent.refused)
    unknown = to[50:100] if fault is CUT else []
    assert [each.recipient for each in sent.refused if each.unknown] == unknown


@each
async def test_an_address_that_no_provider_takes_keeps_the_mail_from_nobody_else(name: str) -> None:
    async with sending(name, SHAPES[name].ok) as (transport, server):
        sent = await transport.send(mail("ann@example.com", "jörg@example.com", "bob@example.com"))
        with pytest.raises(Unsendable, match="SMTPUTF8"):
            await transport.send(mail("jörg@example.com"))
    assert sent.delivered == ("ann@example.com", "bob@example.com")
    assert [(each.recipient, each.permanent) for each in sent.refused] == [("jörg@example.com", True)]
    (asked,) = server.asked
    assert SHAPES[name].named(asked) == ["ann@example.com", "bob@example.com"]
    assert "jörg" not in asked.content.decode()


def test_asked_is_what_a_provider_is_asked() -> None:
    """The stubs read what providers write: whom a request names is found in it."""
    for name, shape in SHAPES.items():
        settings = parse(variables(name, "http://127.0.0.1:9"))
        request = settings.provider(name).build(mail())
        asked = Asked(shape.path, dict(request.headers), request.content)
        assert request.url.endswith(shape.path)
        assert shape.named(asked) == list(mail().recipients)
