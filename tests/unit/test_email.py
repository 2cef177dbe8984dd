"""jetq_email without a server: messages, addresses, settings, templates and attachments."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from jetq import SettingsError
from jetq_email.attachments import Attachment, gather
from jetq_email.errors import Unsendable
from jetq_email.message import Email, Part, compose
from jetq_email.settings import Settings, parse
from jetq_email.templates import names, render
from jetq_email.transports.file import FileTransport

DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLAIN: dict[str, Any] = {"to": ["ann@example.com"], "subject": "Hi", "text": "Hello", "sender": "Me <me@example.org>"}


def built(parts: tuple[Part, ...] = (), **changes: Any) -> EmailMessage:
    envelope = compose(Email(**{**PLAIN, **changes}), parts, job_id="job-1", date=DATE)
    message = email.message_from_bytes(envelope.message, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_a_plain_mail() -> None:
    message = built(headers={"List-Unsubscribe": "<https://x.example>"})
    assert message["From"] == "Me <me@example.org>"
    assert message["To"] == "ann@example.com"
    assert message["Message-ID"] == "<job-1@example.org>"
    assert message["Date"].datetime == DATE
    assert message["List-Unsubscribe"] == "<https://x.example>"
    assert message.get_content().strip() == "Hello"


def test_bcc_is_in_the_envelope_only_and_nobody_is_there_twice() -> None:
    mail = Email(**{**PLAIN, "cc": ["bob@example.com"], "bcc": ["eve@example.com", "ann@example.com"]})
    envelope = compose(mail, job_id="j", date=DATE)
    assert envelope.recipients == ("ann@example.com", "bob@example.com", "eve@example.com")
    assert b"eve" not in envelope.message
    assert b"bcc" not in envelope.message.lower()


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "a\r\nBcc: eve@example.com"},
        {"to": ["ann@example.com\nBcc: eve@example.com"]},
        {"sender": "Me\r\n <me@example.org>"},
        {"reply_to": ["x@example.com\r\nX: y"]},
        {"headers": {"X-Tag": "a\nBcc: eve@example.com"}},
        {"headers": {"X-Tag\nBcc": "eve@example.com"}},
        {"headers": {"Bcc": "eve@example.com"}},
        {"subject": "a\u2028b"},
    ],
)
def test_header_injection_is_refused(changes: Mapping[str, Any]) -> None:
    with pytest.raises(Unsendable):
        built(**changes)


@pytest.mark.parametrize("address", ["", "ann", "ann@", "@example.com", "a b@example.com", "ann@exa mple.com", "a@b@c"])
def test_nonsense_is_no_address(address: str) -> None:
    with pytest.raises(Unsendable, match="to"):
        built(to=[address])


def test_international_domains_travel_as_ascii() -> None:
    envelope = compose(Email(**{**PLAIN, "to": ["Zoë <zoe@bücher.example>"]}), job_id="j", date=DATE)
    assert envelope.recipients == ("zoe@xn--bcher-kva.example",)
    assert not envelope.smtputf8


def test_text_is_made_of_html_and_attachments_are_added() -> None:
    message = built((Part("a.csv", b"a,b\n"),), text=None, html="<p>Hello <b>Ann</b></p>")
    body = message.get_body(("plain",))
    assert body is not None
    assert body.get_content().strip() == "Hello Ann"
    (attachment,) = message.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content()) == ("a.csv", "a,b\n")


def test_a_mail_without_recipient_or_body_is_refused() -> None:
    with pytest.raises(Unsendable, match="no recipients"):
        built(to=[])
    with pytest.raises(Unsendable, match="neither text nor html"):
        built(text=None)


def test_settings_name_what_is_wrong_and_hide_the_password() -> None:
    settings = parse({"JETQ_EMAIL_HOST": "mail.example", "JETQ_EMAIL_USER": "u", "JETQ_EMAIL_PASSWORD": "canary-1"})
    assert settings.smtp_port == 587
    assert "canary-1" not in repr(settings)
    with pytest.raises(SettingsError, match="JETQ_EMAIL_HOTS") as caught:
        parse({"JETQ_EMAIL_HOTS": "x"})
    assert caught.value.hint == "did you mean JETQ_EMAIL_HOST?"
    with pytest.raises(SettingsError, match="JETQ_EMAIL_PORT"):
        parse({"JETQ_EMAIL_PORT": "70000"})
    with pytest.raises(SettingsError, match="clear text"):
        parse({"JETQ_EMAIL_HOST": "m", "JETQ_EMAIL_USER": "u", "JETQ_EMAIL_PASSWORD": "p", "JETQ_EMAIL_TLS": "none"})
    with pytest.raises(SettingsError, match="no mail transport"):
        _ = parse({}).chosen_transport


CONTEXTS: dict[str, dict[str, str]] = {
    "welcome": {"name": "<Zoë> & Co", "product": "P&Q", "url": "https://x.example/?a=1&b=2"},
    "verification": {"name": "Z", "product": "P", "url": "https://x.example", "valid_for": "1 hour"},
    "password_reset": {"name": "Z", "product": "P", "url": "https://x.example", "valid_for": "1 hour"},
    "password_changed": {"name": "Z", "product": "P", "url": "https://x.example", "when": "Monday"},
    "notification": {"title": "T", "message": "M"},
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_built_in_templates_need_what_they_name(name: str) -> None:
    rendered = render(name, CONTEXTS[name])
    assert rendered.subject
    assert rendered.text
    assert rendered.html
    assert "@media" in rendered.html
    assert 'style="' in rendered.html
    missing = dict(list(CONTEXTS[name].items())[1:])
    with pytest.raises(Unsendable, match="undefined"):
        render(name, missing)


def test_html_is_escaped_and_subject_and_text_are_not() -> None:
    rendered = render("welcome", CONTEXTS["welcome"])
    assert rendered.subject == "Welcome to P&Q, <Zoë> & Co"
    assert rendered.text is not None
    assert "https://x.example/?a=1&b=2" in rendered.text
    assert rendered.html is not None
    assert "&lt;Zoë&gt; &amp; Co" in rendered.html


def test_own_templates_come_first_and_stay_in_their_directory(tmp_path: Path) -> None:
    (tmp_path / "welcome.subject.txt").write_text("Own {{ name }}")
    (tmp_path / "welcome.txt").write_text("x")
    (tmp_path.parent / "secret.subject.txt").write_text("secret")
    assert render("welcome", CONTEXTS["welcome"], tmp_path).subject == "Own <Zoë> & Co"
    assert set(CONTEXTS) <= set(names(tmp_path))
    for name in ("../secret", "/etc/passwd", "layout", "nothing"):
        with pytest.raises(Unsendable):
            render(name, {}, tmp_path)


@pytest.mark.anyio
async def test_attachments_by_path_stay_in_their_directory(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "ok.txt").write_bytes(b"fine")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    settings = Settings(attachment_root=root)
    (part,) = await gather([Attachment(path="ok.txt")], settings)
    assert (part.filename, part.content) == ("ok.txt", b"fine")
    for path in ("../secret.txt", str(tmp_path / "secret.txt"), "link.txt", ".", "missing.txt"):
        with pytest.raises(Unsendable):
            await gather([Attachment(path=path)], settings)
    with pytest.raises(Unsendable, match="off"):
        await gather([Attachment(path="ok.txt")], Settings())
    with pytest.raises(Unsendable, match="not allowed"):
        await gather([Attachment(url="http://127.0.0.1/x")], Settings())
    with pytest.raises(Unsendable, match="exceed"):
        await gather([Attachment(filename="a", content=b"12345")], Settings(attachment_limit=4))


@pytest.mark.anyio
async def test_the_outbox_has_one_file_per_job(tmp_path: Path) -> None:
    transport = FileTransport(tmp_path / "outbox")
    envelope = compose(Email(**PLAIN), job_id="order:42", date=DATE)
    for _ in range(2):
        assert (await transport.send(envelope)).delivered == ("ann@example.com",)
    (file,) = (tmp_path / "outbox").iterdir()
    assert file.name == "order+42.eml"
    assert file.read_bytes().endswith(envelope.message)
