"""A real worker against servers that refuse, break off, babble and fall silent: nothing is lost, nobody has a mail
twice unless nobody could know, and the next mail goes out."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from email import message_from_bytes
from typing import Any

import pytest
from msgspec import Struct

from jetq import Jetq, Worker
from jetq.model.job_context import FIELDS
from jetq_email import send_email
from jetq_email.sending import attempt as sending_module
from tests.apps.smtp_server import Odd, Said, Session, Slow, SmtpServer, in_order, serving_smtp
from tests.apps.working import fresh_app, settled, until, working

pytestmark = pytest.mark.anyio

SUBJECT, TEXT, PASSWORD = "canary-subject", "canary-text\n.\n..\n.dot\nend", "canary-password"
ALL = "a b c"


class Row(Struct, frozen=True):
    """A server that, and what becomes of a mail to a, b and c, or of those named in `to`.

    says: its replies by step, in order; the usual ones follow. outcomes: how each attempt ended. got: who has the mail,
    once for each time. dead: who is left in the dead letter.
    """

    name: str
    says: Mapping[str, tuple[Said, ...]]
    outcomes: str = "succeeded"
    got: str = ALL
    dead: str = ""
    offers: tuple[str, ...] = ()
    settings: Mapping[str, str] = {}


def echo(code: str) -> str:
    """A refusal that repeats what no log may show."""
    return f"{code} <a@example.com> b@example.com {SUBJECT} canary-text {PASSWORD}"


LOGIN = {"USER": "shop", "PASSWORD": PASSWORD}
TOKEN = {"USER": "shop", "TOKEN": PASSWORD}
AGAIN, BUSY, DEAD = "retrying succeeded", "snoozed succeeded", "dead"
TWICE = "a a b b c c"
LONG = "x" * 100_000

ROWS = [
    # before the first mail
    Row("421 in the greeting", {"greet": ("421 4.3.2 not now",)}, BUSY),
    Row("450 in the greeting", {"greet": ("450 4.3.2 not now",)}, BUSY),
    Row("554 in the greeting", {"greet": ("554 5.7.1 you are on a list",)}, AGAIN),
    Row("closes before its greeting", {"greet": (b"",)}, BUSY),
    Row("closes in the middle of its greeting", {"greet": (b"220-he",)}, BUSY),
    Row("greets with garbage", {"greet": ("HTTP/1.1 400 Bad Request",)}, AGAIN),
    Row("never greets", {"greet": (Odd.SILENT,)}, AGAIN),
    Row("greets byte by byte", {"greet": (Slow("220 here"),)}),
    Row("closes after EHLO", {"ehlo": (b"",)}, BUSY),
    Row("closes in the middle of the reply to EHLO", {"ehlo": (b"250-here\r\n250-SIZ",)}, BUSY),
    Row("knows HELO only", {"ehlo": ("502 5.5.1 what", "502 5.5.1 what")}),
    Row("refuses EHLO and HELO", {"ehlo": ("550 no",), "helo": ("550 who are you",)}, AGAIN),
    Row("offers much", {}, offers=("PIPELINING", "8BITMIME", "CHUNKING", "DSN", "SIZE 0", "X-UNHEARD OF")),
    Row("offers SIZE", {}, DEAD, got="", dead=ALL, offers=("SIZE 100",)),
    Row("has no STARTTLS", {}, "retrying retrying dead", got="", dead=ALL, settings={"TLS": "starttls"}),
    Row("breaks in the handshake", {}, "retrying retrying dead", "", ALL, ("STARTTLS",), {"TLS": "starttls"}),
    # a login
    Row("refuses a login once", {"auth": (echo("535 5.7.8"),)}, AGAIN, offers=("AUTH PLAIN",), settings=LOGIN),
    Row("refuses a token once", {"auth": (echo("535 5.7.8"),)}, AGAIN, offers=("AUTH XOAUTH2",), settings=TOKEN),
    Row("has no login just now", {"auth": (echo("454 4.7.0"),)}, BUSY, offers=("AUTH PLAIN",), settings=LOGIN),
    Row("babbles at a login", {"auth": (echo("what"),)}, AGAIN, offers=("AUTH PLAIN",), settings=LOGIN),
    Row("wants a login at MAIL", {"mail": (echo("530 5.7.0"),)}, AGAIN),
    Row("wants a login at RCPT", {"rcpt": (echo("530 5.7.0"),)}, AGAIN, got=ALL),
    # the sender
    Row("421 at MAIL", {"mail": (echo("421 4.3.0"),)}, AGAIN),
    Row("451 at MAIL", {"mail": (echo("451 4.3.0"),)}, AGAIN),
    Row("550 at MAIL", {"mail": (echo("550 5.7.1"),)}, DEAD, got="", dead=ALL),
    Row("503 at MAIL", {"mail": (echo("503 5.5.1"),)}, AGAIN),
    Row("closes at MAIL", {"mail": (b"",)}, AGAIN),
    Row("garbage at MAIL", {"mail": (echo("what"),)}, AGAIN),
    Row("354 at MAIL", {"mail": ("354 go on",)}, AGAIN),
    Row("half-closed at MAIL", {"mail": (Odd.HALF_CLOSED,)}, AGAIN),
    # recipients
    Row("421 at RCPT", {"rcpt": (None, echo("421 4.3.0"))}, AGAIN),
    Row("greylists all", {"rcpt": (echo("450 4.2.0"),) * 3}, AGAIN),
    Row("greylists one", {"rcpt": (None, echo("451 4.7.1"))}, AGAIN),
    Row("one mailbox is full", {"rcpt": (None, echo("452 4.2.2"))}, AGAIN),
    Row("too many at the second", {"rcpt": (None, echo("452 4.5.3"))}),
    Row("refuses one", {"rcpt": (None, echo("550 5.1.1"), None, echo("550 5.1.1"))}, "retrying dead", "a c", "b"),
    Row("refuses all", {"rcpt": (echo("550 5.1.1"),) * 3}, DEAD, got="", dead=ALL),
    Row("refuses an international one", {"rcpt": (echo("553 5.6.7"),) * 3}, DEAD, got="", dead=ALL),
    Row("puts off one and refuses another",
        {"rcpt": (echo("450 4.2.0"), echo("550 5.1.1"), None, None, echo("550 5.1.1"), echo("550 5.1.1"))},
        "retrying retrying dead", "a c", "b"),
    Row("forwards", {"rcpt": ("251 will forward", "252 cannot verify, will try")}),
    Row("mismatched codes in one reply", {"rcpt": ("250-yes\r\n550 5.1.1 no", None, None, "550 no")},
        "retrying dead", "b c", "a"),
    Row("two replies to one command", {"rcpt": ("250 ok\r\n550 no",)}, AGAIN),
    Row("a reply that is not UTF-8", {"rcpt": (echo("450 4.2.0 \udcff\udcfe"),)}, AGAIN),
    Row("a line of 100 kB", {"rcpt": (None, f"250 {LONG}")}, AGAIN),
    Row("a reply without an end", {"rcpt": ("250-more\r\n" * 20_000,)}, AGAIN),
    Row("silent at RCPT", {"rcpt": (Odd.SILENT,)}, AGAIN),
    Row("answers RCPT byte by byte", {"rcpt": (Slow("250 ok"), Slow("250-well\r\n250 ok"))}),
    Row("closes in the middle of a reply to RCPT", {"rcpt": (None, b"250-o")}, AGAIN),
    # the content
    Row("421 at DATA", {"begin": (echo("421 4.3.0"),)}, AGAIN),
    Row("451 at DATA", {"begin": (echo("451 4.3.0"),)}, AGAIN),
    Row("503 at DATA", {"begin": (echo("503 5.5.1"),)}, AGAIN),
    Row("554 at DATA", {"begin": (echo("554 5.5.1"),)}, DEAD, got="", dead=ALL),
    Row("250 at DATA", {"begin": ("250 ok",)}, AGAIN),
    Row("closes after its 354", {"begin": (b"354 go on\r\n",)}, AGAIN),
    Row("421 after the dot", {"data": (echo("421 4.3.0"),)}, AGAIN),
    Row("451 after the dot", {"data": (echo("451 4.3.0"),)}, AGAIN),
    Row("552 after the dot", {"data": (echo("552 5.3.4"),)}, DEAD, got="", dead=ALL),
    Row("554 after the dot", {"data": (echo("554 5.7.1"),)}, DEAD, got="", dead=ALL),
    Row("refuses one, and then the content", {"rcpt": (None, echo("550 5.1.1")), "data": (echo("451 4.3.0"),)}, AGAIN),
    Row("cannot reset", {"rcpt": (echo("450 4.2.0"),) * 3, "rset": (echo("502 5.5.1"),)}, AGAIN),
    # nobody knows whether it has the mail: at least once, under one Message-ID
    Row("closes after the dot", {"data": (b"",)}, AGAIN, TWICE),
    Row("closes in the middle of its last reply", {"data": (b"25",)}, AGAIN, TWICE),
    Row("silent after the dot", {"data": (Odd.SILENT,)}, AGAIN, TWICE),
    Row("garbage after the dot", {"data": (echo("what"),)}, AGAIN, TWICE),
    Row("half-closed after the dot", {"data": (Odd.HALF_CLOSED,)}),
]  # fmt: skip


class Keeping(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, seen: list[logging.LogRecord]) -> None:
        super().__init__()
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.append(record)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """Whatever is logged."""
    seen: list[logging.LogRecord] = []
    caplog.set_level(logging.DEBUG)
    handler = Keeping(seen)
    logging.getLogger().addHandler(handler)
    yield seen
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(sending_module, "_BUSY_WAIT", 0.1)
    sender = {"HOST": "127.0.0.1", "TLS": "none", "SENDER": "me@example.org"}
    for name, value in {**sender, "RETRY_WAIT": "0.01", "TIMEOUT": "0.5"}.items():
        monkeypatch.setenv(f"JETQ_EMAIL_{name}", value)
    return monkeypatch


@asynccontextmanager
async def mailing(nats_url: str, server: SmtpServer, variables: pytest.MonkeyPatch) -> AsyncIterator[Jetq]:
    variables.setenv("JETQ_EMAIL_PORT", str(server.port))
    app = fresh_app(nats_url)
    async with working(app, queues=["email"]):
        yield app


async def send(app: Jetq, to: str) -> str:
    recipients = [f"{name}@example.com" for name in to.split()]
    call = send_email.options(max_attempts=3).bind(recipients, SUBJECT, text=TEXT)
    return (await app.aenqueue(call)).id


def outcomes(lines: list[logging.LogRecord], job: str) -> list[str]:
    told = [getattr(line, FIELDS, {}) for line in lines]
    return [fields["outcome"] for fields in told if fields.get("job") == job and "outcome" in fields]


def names(addresses: list[str]) -> list[str]:
    return sorted(address.partition("@")[0] for address in addresses)


async def left_dead(app: Jetq, job: str) -> list[str]:
    """Who is in the dead letter."""
    broker = await app.session.broker()
    left: list[str] = []
    for entry in await broker.dead("email"):
        body: dict[str, Any] = json.loads(entry.body)
        left += body.get("recipients") or body["to"]
    return left


def texts(lines: list[logging.LogRecord]) -> str:
    format = logging.Formatter().format
    return "\n".join(f"{format(line)} {line.__dict__}" for line in lines if line.name != "asyncio")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
async def test_a_hostile_server(
    row: Row, nats_url: str, variables: pytest.MonkeyPatch, lines: list[logging.LogRecord]
) -> None:
    """Guarantee: whatever a server does, everybody has the mail once or is in the dead letter, or nobody could know;
    the next mail goes out; no log line shows an address, a subject, a content or a password."""
    for name, value in row.settings.items():
        variables.setenv(f"JETQ_EMAIL_{name}", value)
    server = SmtpServer({step: in_order(*replies) for step, replies in row.says.items()}, extensions=row.offers)
    async with serving_smtp(server), mailing(nats_url, server, variables) as app:
        job = await send(app, ALL)
        await settled(app)
        assert (outcomes(lines, job), names(server.delivered)) == (row.outcomes.split(), row.got.split())
        assert names(await left_dead(app, job)) == row.dead.split()
        ids = {message_from_bytes(content)["Message-ID"] for content in server.contents}
        assert ids == ({f"<{job}@example.org>"} if row.got else set())

        variables.setenv("JETQ_EMAIL_TLS", "none")
        server.extensions = ()
        await send(app, "next")
        await settled(app)
        assert server.delivered.count("next@example.com") == 1
    for secret in ("@example.com", "canary"):
        assert secret not in texts(lines)


async def test_a_server_that_is_away_and_comes_back(
    nats_url: str, variables: pytest.MonkeyPatch, lines: list[logging.LogRecord]
) -> None:
    async with serving_smtp(server := SmtpServer()):
        pass  # it has a port now, and nobody listens there
    variables.setenv("JETQ_EMAIL_RETRY_WAIT", "0.5")
    async with mailing(nats_url, server, variables) as app:
        job = await send(app, ALL)
        await until(lambda: outcomes(lines, job))
        async with serving_smtp(server):
            await settled(app)
    assert outcomes(lines, job)[0] == "retrying"
    assert names(server.delivered) == ALL.split()


async def mails_at_once(count: int, nats_url: str, server: SmtpServer, variables: pytest.MonkeyPatch) -> list[str]:
    async with serving_smtp(server), mailing(nats_url, server, variables) as app:
        jobs = await asyncio.gather(*(send(app, f"u{number}") for number in range(count)))
        await settled(app)
    assert Counter(server.delivered) == {f"u{number}@example.com": 1 for number in range(count)}
    return jobs


@pytest.mark.parametrize("most", [1, 3])
async def test_a_server_that_takes_few_connections(
    most: int, nats_url: str, variables: pytest.MonkeyPatch, lines: list[logging.LogRecord]
) -> None:
    for job in await mails_at_once(20, nats_url, SmtpServer(most=most), variables):
        assert outcomes(lines, job) == ["succeeded"]


@pytest.mark.parametrize("says", ["421 4.7.0 enough", b""], ids=["says-so", "hangs-up"])
@pytest.mark.parametrize("step", ["mail", "rcpt"])
async def test_a_server_that_ends_sessions_after_some_mails(
    step: str, says: Said, nats_url: str, variables: pytest.MonkeyPatch, lines: list[logging.LogRecord]
) -> None:
    """Guarantee: a session that ends before it has the content of a mail costs no attempt."""

    def after_two(session: Session) -> Said:
        return says if session.mails >= 2 else None

    variables.setenv("JETQ_EMAIL_CONNECTIONS", "2")
    for job in await mails_at_once(12, nats_url, SmtpServer({step: after_two}), variables):
        assert outcomes(lines, job) == ["succeeded"]


async def test_a_worker_that_ends_between_transactions(
    nats_url: str, variables: pytest.MonkeyPatch, lines: list[logging.LogRecord]
) -> None:
    """Guarantee: a worker that ends in order gives a mail back for those alone who may lack it."""

    def one_each(session: Session) -> Said:
        return "452 4.5.3 too many" if session.recipients else None

    variables.setenv("JETQ_EMAIL_TIMEOUT", "60")
    server = SmtpServer({"rcpt": one_each, "mail": in_order(None, Odd.SILENT)})
    async with serving_smtp(server):
        variables.setenv("JETQ_EMAIL_PORT", str(server.port))
        worker = Worker(app := fresh_app(nats_url), queues=["email"], grace=0.0)
        running = asyncio.create_task(worker.run())
        job = await send(app, ALL)
        await until(lambda: len([each for each in server.commands if each.startswith("MAIL")]) == 2)
        worker.stop()
        await running
        assert (outcomes(lines, job), names(server.delivered)) == (["released"], ["a"])
        async with working(app, queues=["email"]):
            await settled(app)
    assert (outcomes(lines, job), names(server.delivered)) == (["released", "succeeded"], ALL.split())
    assert {getattr(line, FIELDS)["attempt"] for line in lines if "attempt" in getattr(line, FIELDS, {})} == {1}


@pytest.mark.parametrize(
    "to", ["canary.example.com", "canary@exa mple.com", "a@b@example.com", "canary@-canary.com", "x, canary <y@z.com>"]
)
async def test_an_address_that_is_none_is_in_no_log(
    to: str, nats_url: str, variables: pytest.MonkeyPatch, lines: list[logging.LogRecord]
) -> None:
    async with serving_smtp(server := SmtpServer()), mailing(nats_url, server, variables) as app:
        job = (await app.aenqueue(send_email.bind([to], SUBJECT, text=TEXT))).id
        await settled(app)
    assert outcomes(lines, job) == ["dead"]
    assert "canary" not in texts(lines) and "b@example" not in texts(lines)


async def test_lines_of_dots_arrive_as_they_were_sent(nats_url: str, variables: pytest.MonkeyPatch) -> None:
    async with serving_smtp(server := SmtpServer()), mailing(nats_url, server, variables) as app:
        await send(app, "a")
        await settled(app)
    (content,) = server.contents
    lines = content.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
    assert message_from_bytes(lines).get_payload(decode=True) == TEXT.replace("\n", "\r\n").encode() + b"\r\n"
