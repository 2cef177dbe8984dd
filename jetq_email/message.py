"""A mail as a value, and as the MIME message and envelope that are handed to a transport."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime

from msgspec import Struct, field

from jetq_email.address import Mailbox, parse_mailbox
from jetq_email.errors import Unsendable
from jetq_email.headers import address_header, own_header, text_header
from jetq_email.lines import one_line, one_word
from jetq_email.mime import Part, body, calendar_part
from jetq_email.plaintext import html_to_text

__all__ = ["Email", "Envelope", "Fields", "Part", "compose"]

_OWN_HEADERS = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "mime-version", "return-path", "received"}
)
"""Set from the mail's fields, or written by servers."""

_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")


class Email(Struct, frozen=True, kw_only=True):
    """One mail as its author wrote it: addresses as text, unchecked. `text` or `html` or both; `calendar` is an
    invitation, in iCalendar's format. tag: what kind of mail it is, which providers count by.
    topic: what it is about, if a recipient can decline that."""

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


class Fields(Struct, frozen=True, kw_only=True):
    """A mail in its parts, checked, for a provider that makes the message itself. headers: own ones alone."""

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
        """Its parts, and the invitation as one of them."""
        return [*self.parts, *([] if self.calendar is None else [calendar_part(self.calendar)])]


class Envelope(Struct, frozen=True):
    """What a transport needs: the bytes, from whom, and to whom: more than the headers say (BCC) or less (a retry).

    fields: the same mail in its parts. smtputf8: an address in it can only travel to servers with that extension.
    """

    job_id: str
    sender: str
    recipients: tuple[str, ...]
    message: bytes
    fields: Fields
    smtputf8: bool = False

    def left_of(self, mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
        """Those of `mailboxes` that are to get it now, each address once."""
        return list({each.address: each for each in mailboxes if each.address in self.recipients}.values())


def compose(email: Email, parts: Iterable[Part] = (), *, job_id: str, date: datetime) -> Envelope:
    """`email` checked and built, addressed to all of its recipients, each once.

    The same arguments give the same headers, so every attempt of one job shows the same Message-ID and date.
    Raises Unsendable, naming the field, for whatever cannot be sent.
    """
    sender = parse_mailbox(email.sender, "sender")
    to, cc, bcc, reply_to = (
        [parse_mailbox(text, name if len(texts) == 1 else f"{name}[{place}]") for place, text in enumerate(texts)]
        for name, texts in (("to", email.to), ("cc", email.cc), ("bcc", email.bcc), ("reply_to", email.reply_to))
    )
    recipients = tuple(dict.fromkeys(mailbox.address for mailbox in (*to, *cc, *bcc)))
    if not recipients:
        raise Unsendable("the mail has no recipients", hint="pass at least one address in to, cc or bcc")
    smtputf8 = not all(mailbox.is_ascii for mailbox in (sender, *to, *cc, *bcc, *reply_to))

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
    message = [
        *(
            address_header(name, mailboxes)
            for name, mailboxes in (("From", [sender]), ("To", to), ("Cc", cc), ("Reply-To", reply_to))
            if mailboxes
        ),
        text_header("Subject", fields.subject),
        f"Date: {format_datetime(date)}\r\n".encode(),
        f"Message-ID: {fields.message_id}\r\n".encode(),
        *_own_headers(email.headers),
        body(text, email.html, email.calendar, fields.parts),
    ]
    return Envelope(
        job_id=job_id,
        sender=sender.address,
        recipients=recipients,
        message=b"".join(message),
        fields=fields,
        smtputf8=smtputf8,
    )


def message_id(job_id: str, sender: Mailbox) -> str:
    """`<job id@sender domain>`: the same over attempts and replays, so that a server that has the mail can tell."""
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
