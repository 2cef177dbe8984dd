"""A mail as its author wrote it, and as the MIME message and envelope that a transport takes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime

from msgspec import Struct, field

from jetq_email.errors import Unsendable
from jetq_email.message.address import Mailbox, ReturnPath, parse_mailbox, parse_return_path
from jetq_email.message.headers import address_header, own_header, text_header
from jetq_email.message.lines import one_line, one_word
from jetq_email.message.mime import Part, body, calendar_part
from jetq_email.plaintext import html_to_text

__all__ = ["Email", "Envelope", "Fields", "Part", "compose", "composed"]

_OWN_HEADERS = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "mime-version", "return-path", "received"}
)
"""Headers that are set from the mail's fields, or that servers write."""

_LARGE = 50_000
"""Characters and bytes of a mail. A larger mail is built in a thread, because it would block the event loop for some
ten milliseconds."""

_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")


class Email(Struct, frozen=True, kw_only=True):
    """One mail as its author wrote it, with addresses as unchecked text. It has `text` or `html` or both; `calendar` is
    an invitation in iCalendar's format. tag: the kind of mail, by which providers count. topic: what the mail is about,
    if a recipient can decline that. envelope_sender: the address that bounces go to, see `ReturnPath`; None means the
    sender."""

    to: Sequence[str]
    subject: str
    text: str | None = None
    html: str | None = None
    calendar: str | None = None
    sender: str
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    reply_to: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    tag: str | None = None
    topic: str | None = None
    envelope_sender: str | None = None


class Fields(Struct, frozen=True, kw_only=True):
    """A mail in its checked parts, for a provider that makes the message itself. headers: only those that the author
    added."""

    sender: Mailbox
    to: Sequence[Mailbox]
    cc: Sequence[Mailbox]
    bcc: Sequence[Mailbox]
    reply_to: Sequence[Mailbox]
    subject: str
    text: str
    html: str | None
    calendar: str | None
    headers: Mapping[str, str]
    parts: Sequence[Part]
    date: datetime
    message_id: str
    tag: str | None
    topic: str | None

    @property
    def files(self) -> list[Part]:
        """The mail's parts, with the invitation as one of them."""
        return [*self.parts, *([] if self.calendar is None else [calendar_part(self.calendar)])]


class Envelope(Struct, frozen=True):
    """What a transport needs: the bytes, the sender, and the recipients. The recipients may be more than the headers
    name (BCC), or fewer (in a retry).

    fields: the same mail in its parts. return_path: the address that bounces go to, the sender of the envelope; sender:
    the sender of the mail. smtputf8: an address in the mail can only travel to servers with that extension.
    without_utf8: the bytes for recipients in ASCII if the server lacks the extension; None if the sender, or an address
    that gets answers, needs it. unusable: the texts in bcc that are no address, each with what is wrong. via: the route
    that may have the mail already; only this route may send it again.
    """

    job_id: str
    sender: str
    recipients: tuple[str, ...]
    message: bytes
    fields: Fields
    return_path: ReturnPath
    smtputf8: bool = False
    without_utf8: bytes | None = None
    unusable: tuple[tuple[str, Unsendable], ...] = ()
    via: str | None = None

    def left_of(self, mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
        """Return those of `mailboxes` that must still get the mail, each address once."""
        return list({each.address: each for each in mailboxes if each.address in self.recipients}.values())


async def composed(email: Email, parts: Sequence[Part], *, job_id: str, date: datetime) -> Envelope:
    """Do as `compose`, in a thread if the mail is large."""
    size = len(email.text or "") + len(email.html or "") + len(email.calendar or "")
    if size + sum(len(part.content) for part in parts) <= _LARGE:
        return compose(email, parts, job_id=job_id, date=date)
    return await asyncio.to_thread(compose, email, parts, job_id=job_id, date=date)


def compose(email: Email, parts: Iterable[Part] = (), *, job_id: str, date: datetime) -> Envelope:
    """Check and build `email`, and return its envelope, addressed to each of its recipients once.

    The same arguments give the same headers, so every attempt of a job has the same Message-ID and date. Raises
    Unsendable, naming the field, for whatever cannot be sent. It is also raised for a text in to or cc that is no
    address: that text cannot be written into the header that all recipients read, and without it the header would not
    name everybody the mail was meant for. A text in bcc that is no address does not stop the mail to the others.
    """
    sender = parse_mailbox(email.sender, "sender")
    return_path = _return_path(email, sender).of(job_id)
    to, cc, reply_to = (
        [parse_mailbox(text, place) for place, text in _places(name, texts)]
        for name, texts in (("to", email.to), ("cc", email.cc), ("reply_to", email.reply_to))
    )
    bcc, unusable = _usable(email.bcc)
    recipients = tuple(dict.fromkeys(mailbox.address for mailbox in (*to, *cc, *bcc)))
    if unusable and not recipients:
        raise unusable[0][1]
    if not recipients:
        raise Unsendable("the mail has no recipients", hint="pass at least one address in to, cc or bcc")

    if email.text is None and email.html is None:
        raise Unsendable("the mail has neither text nor html", hint="pass text=, html= or both")
    text = html_to_text(email.html or "") if email.text is None else email.text
    fields = Fields(
        sender=sender,
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=reply_to,
        subject=one_line(email.subject, "subject"),
        text=text,
        html=email.html,
        calendar=email.calendar,
        headers=email.headers,
        parts=tuple(parts),
        date=date,
        message_id=message_id(job_id, sender),
        tag=None if email.tag is None else one_word(email.tag, "tag"),
        topic=None if email.topic is None else one_word(email.topic, "topic"),
    )
    rest = _rest(fields)
    message = _addressed(fields) + rest
    without_utf8 = message if message.isascii() else _addressed(fields, only_ascii=True) + rest
    bounces_in_ascii = return_path.address.isascii()
    can_be_without = without_utf8.isascii() and all(mailbox.is_ascii for mailbox in (sender, *reply_to))
    return Envelope(
        job_id=job_id,
        sender=sender.address,
        recipients=recipients,
        message=message,
        fields=fields,
        return_path=return_path,
        smtputf8=not (message.isascii() and bounces_in_ascii and all(mailbox.is_ascii for mailbox in bcc)),
        without_utf8=without_utf8 if can_be_without and bounces_in_ascii else None,
        unusable=unusable,
    )


def _return_path(email: Email, sender: Mailbox) -> ReturnPath:
    if email.envelope_sender is None:
        return ReturnPath(sender.address)
    return parse_return_path(email.envelope_sender, "envelope_sender")


def _places(name: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each text with its place, such as `to[2]`."""
    for place, text in enumerate(texts):
        yield name if len(texts) == 1 else f"{name}[{place}]", text


def _usable(bcc: Sequence[str]) -> tuple[list[Mailbox], tuple[tuple[str, Unsendable], ...]]:
    """Return the addresses in bcc, and the texts that are no address."""
    usable: list[Mailbox] = []
    unusable: dict[str, Unsendable] = {}
    for place, text in _places("bcc", bcc):
        try:
            usable.append(parse_mailbox(text, place))
        except Unsendable as error:
            unusable[text] = error
    return usable, tuple(unusable.items())


def _addressed(fields: Fields, *, only_ascii: bool = False) -> bytes:
    """Return the headers that hold addresses. only_ascii: addresses beyond ASCII are replaced by their names."""
    named = (("From", [fields.sender]), ("To", fields.to), ("Cc", fields.cc), ("Reply-To", fields.reply_to))
    return b"".join(address_header(name, mailboxes, only_ascii=only_ascii) for name, mailboxes in named if mailboxes)


def _rest(fields: Fields) -> bytes:
    """Return the other headers, and the body."""
    return b"".join(
        [
            text_header("Subject", fields.subject),
            f"Date: {format_datetime(fields.date)}\r\n".encode(),
            f"Message-ID: {fields.message_id}\r\n".encode(),
            *_own_headers(fields.headers),
            body(fields.text, fields.html, fields.calendar, tuple(fields.parts)),
        ]
    )


def message_id(job_id: str, sender: Mailbox) -> str:
    """Return `<job id@sender domain>`.

    It is the same in all attempts and replays, so that a server that has the mail can recognize it.
    """
    return f"<{job_id.replace(':', '+')}@{sender.domain}>"  # RFC 5322 has no colon in a msg-id, a job id has no plus


def _own_headers(headers: Mapping[str, str]) -> Iterator[bytes]:
    seen: set[str] = set()
    for name, value in headers.items():
        what = f"headers[{name[:76]!r}]"
        lower = name.lower()
        if not _HEADER_NAME.fullmatch(name):
            raise Unsendable(f"{what}: not a header's name", hint="printable ASCII without spaces and colons")
        if lower in _OWN_HEADERS or lower.startswith(("content-", "resent-")) or lower in seen:
            raise Unsendable(f"{what}: not to be set here", hint="use the mail's own fields, and each header once")
        seen.add(lower)
        yield own_header(name, one_line(value, what), what)
