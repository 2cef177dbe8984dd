"""A mail as a value, and as the MIME message and envelope that are handed to a transport."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP

from msgspec import Struct, field

from jetq_email.address import Mailbox, parse_mailbox
from jetq_email.errors import Unsendable
from jetq_email.lines import one_line
from jetq_email.plaintext import html_to_text

__all__ = ["Email", "Envelope", "Part", "compose"]

_OWN_HEADERS = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "mime-version", "return-path", "received"}
)
"""Set from the mail's fields, or written by servers."""

_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")
_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_FILENAME_LENGTH = 255


class Part(Struct, frozen=True):
    """An attachment whose bytes are at hand. `content_type` None: guessed from the file name."""

    filename: str
    content: bytes
    content_type: str | None = None


class Email(Struct, frozen=True, kw_only=True):
    """One mail as its author wrote it: addresses as text, unchecked. `text` or `html` or both."""

    to: Sequence[str]
    subject: str
    text: str | None = None
    html: str | None = None
    sender: str
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    reply_to: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class Envelope(Struct, frozen=True):
    """What a transport needs: the bytes, from whom, and to whom: more than the headers say (BCC) or less (a retry).

    smtputf8: an address in it can only travel to servers with that extension.
    """

    job_id: str
    sender: str
    recipients: tuple[str, ...]
    message: bytes
    smtputf8: bool = False


def compose(email: Email, parts: Iterable[Part] = (), *, job_id: str, date: datetime) -> Envelope:
    """`email` checked and built, addressed to all of its recipients, each once.

    The same arguments give the same headers, so every attempt of one job shows the same Message-ID and date.
    Raises Unsendable, naming the field, for whatever cannot be sent.
    """
    sender = parse_mailbox(email.sender, "sender")
    to, cc, bcc, reply_to = (
        [parse_mailbox(text, name) for text in texts]
        for name, texts in (("to", email.to), ("cc", email.cc), ("bcc", email.bcc), ("reply_to", email.reply_to))
    )
    recipients = tuple(dict.fromkeys(mailbox.address for mailbox in (*to, *cc, *bcc)))
    if not recipients:
        raise Unsendable("the mail has no recipients", hint="pass at least one address in to, cc or bcc")
    smtputf8 = not all(mailbox.is_ascii for mailbox in (sender, *to, *cc, *bcc, *reply_to))

    message = EmailMessage(policy=SMTP.clone(cte_type="7bit", utf8=smtputf8))
    _address(message, {"From": [sender], "To": to, "Cc": cc, "Reply-To": reply_to})
    message["Subject"] = one_line(email.subject, "subject")
    message["Date"] = date
    message["Message-ID"] = message_id(job_id, sender)
    _add_headers(message, email.headers)
    _add_bodies(message, email.text, email.html)
    for part in parts:
        _attach(message, part)
    return Envelope(
        job_id=job_id, sender=sender.address, recipients=recipients, message=message.as_bytes(), smtputf8=smtputf8
    )


def message_id(job_id: str, sender: Mailbox) -> str:
    """`<job id@sender domain>`: the same over attempts and replays, so that a server that has the mail can tell."""
    return f"<{job_id.replace(':', '+')}@{sender.domain}>"  # RFC 5322 has no colon in a msg-id, a job id has no plus


def _address(message: EmailMessage, fields: Mapping[str, Sequence[Mailbox]]) -> None:
    for name, mailboxes in fields.items():
        if mailboxes:
            message[name] = [mailbox.header for mailbox in mailboxes]


def _add_headers(message: EmailMessage, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        what = f"headers[{name[:76]!r}]"
        lower = name.lower()
        if not _HEADER_NAME.fullmatch(name):
            raise Unsendable(f"{what}: not a header's name", hint="printable ASCII without spaces and colons")
        if lower in _OWN_HEADERS or lower.startswith(("content-", "resent-")) or name in message:
            raise Unsendable(f"{what}: not to be set here", hint="use the mail's own fields, and each header once")
        try:
            message[name] = one_line(value, what)
        except ValueError as error:  # a structured header that does not parse
            raise Unsendable(f"{what}: {error}") from error


def _add_bodies(message: EmailMessage, text: str | None, html: str | None) -> None:
    if text is None and html is None:
        raise Unsendable("the mail has neither text nor html", hint="pass text=, html= or both")
    try:
        message.set_content(html_to_text(html or "") if text is None else text)
        if html is not None:
            message.add_alternative(html, subtype="html")
    except UnicodeEncodeError as error:
        raise Unsendable(f"the body cannot be encoded: {error.reason}") from error


def _attach(message: EmailMessage, part: Part) -> None:
    name = one_line(part.filename, "attachment's filename")
    if not name or len(name.encode()) > _FILENAME_LENGTH or "/" in name or "\\" in name:
        raise Unsendable(
            f"attachment {name[:80]!r}: not a file name", hint=f"1 to {_FILENAME_LENGTH} octets, without slashes"
        )
    maintype, _, subtype = _content_type(part, name).partition("/")
    message.add_attachment(part.content, maintype=maintype, subtype=subtype, filename=name)


def _content_type(part: Part, name: str) -> str:
    given = part.content_type
    if given is None:
        guessed, encoding = mimetypes.guess_type(name)
        # RFC 2046 5.2.1 forbids base64 on message/*, so a guessed .eml travels as plain bytes
        binary = guessed is None or encoding is not None or guessed.startswith(("message/", "multipart/"))
        return "application/octet-stream" if binary else str(guessed)
    lower = given.lower()
    if not _CONTENT_TYPE.fullmatch(lower) or lower.startswith(("message/", "multipart/")):
        raise Unsendable(
            f"attachment {name[:80]!r}: content type {given[:80]!r} cannot be attached",
            hint="a type like application/pdf, without parameters, not message/* or multipart/*",
        )
    return lower
