"""What is said to a provider and what it answers, as values: no provider opens a connection itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from http.client import responses
from typing import Any, ClassVar, Protocol

import msgspec
from msgspec import Struct, field

from jetq_email.errors import Unsendable
from jetq_email.message import Envelope
from jetq_email.message.address import Mailbox
from jetq_email.message.headers import own_header
from jetq_email.outcomes import Refusal, Sent
from jetq_email.redaction import without_addresses

__all__ = [
    "Answer",
    "Provider",
    "Refused",
    "Request",
    "Response",
    "Slower",
    "Unavailable",
    "Unclear",
    "addresses",
    "answered",
    "ascii_headers",
    "check_headers",
    "idempotency_key",
    "json_request",
    "refused",
    "sent",
    "told",
    "until",
]

_LONGEST_WAIT = 86400.0
"""Seconds a provider may ask to be left alone for; more is a mistake in its answer."""

_CODE = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.-]{1,64}")
"""What providers call their errors. No mail address, and no sentence, is one."""

_LEAST_INSTANT = 1e9
"""A number from here on is an instant in seconds since 1970, where a number below is seconds from now."""


class Request(Struct, frozen=True):
    """One HTTP request, a POST."""

    url: str
    headers: Mapping[str, str]
    content: bytes


class Response(Struct, frozen=True):
    """An HTTP response. The names of its headers are in small letters."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    def json(self) -> dict[str, Any]:
        """Return the object in it; an empty one if there is none."""
        try:
            decoded = msgspec.json.decode(self.content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return decoded if isinstance(decoded, dict) else {}

    def text(self, name: str) -> str:
        """Return the text that the object in it has by that name; an empty one if there is none."""
        found = self.json().get(name)
        return found if isinstance(found, str) else ""

    def wait(self, *names: str) -> float | None:
        """Return the seconds after which to come again, as `Retry-After` says, or another header of `names`; None if
        none does."""
        for name in ("retry-after", *names):
            if (seconds := until(self.headers.get(name, ""))) is not None:
                return seconds
        return None


class Refused(Struct, frozen=True):
    """The provider took the mail for nobody. permanent: because of the mail; else because of the account, its key or
    its settings, which somebody can mend while the mail is tried again. said: in its words, which no log shows: they
    may repeat the mail's."""

    reason: str
    permanent: bool = True
    said: str = ""


class Slower(Struct, frozen=True):
    """The provider wants fewer mails. Nobody has this one. after: seconds, if it says so."""

    reason: str
    after: float | None = None


class Unavailable(Struct, frozen=True):
    """The provider failed. Nobody has the mail."""

    reason: str


class Unclear(Struct, frozen=True):
    """Nobody can tell from the answer whether the provider has taken the mail."""

    reason: str


Answer = Sent | Refused | Slower | Unavailable | Unclear


class Provider(Protocol):
    """A company that sends mails which it gets over HTTP. A struct: its fields are its settings. With one called
    `rate`, as `14/s`, it gets no more mails than that."""

    name: ClassVar[str]
    repeats: ClassVar[bool]
    """Whether a mail that is handed over twice may be sent twice: the provider has no key to tell by."""

    most: ClassVar[int]
    """How many recipients a request may name."""

    shows: ClassVar[bool]
    """Whether readers see the recipients that a request names: the provider writes To and Cc itself."""

    def build(self, envelope: Envelope) -> Request:
        """Return the request that hands `envelope` over, which is one of `in_requests`. Raises Unsendable for what this
        provider cannot send."""
        ...

    def read(self, response: Response, envelope: Envelope) -> Answer:
        """Return what `response` to that request means. Raises nothing, whatever is in it."""
        ...


# --- to a provider


def json_request(url: str, headers: Mapping[str, str], content: object) -> Request:
    """Return a request with `content` as JSON; bytes in it travel in base64."""
    return Request(
        url, {"content-type": "application/json", "accept": "application/json", **headers}, msgspec.json.encode(content)
    )


def addresses(mailboxes: Sequence[Mailbox]) -> str:
    """Return all of them in one text: `"Ann" <ann@example.com>, bob@example.com`."""
    return ", ".join(each.formatted for each in mailboxes)


def ascii_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `headers` as they travel in a mail, each on one line: for providers that take their values as they are."""
    written = {name: own_header(name, value, f"headers[{name!r}]").decode() for name, value in headers.items()}
    return {name: line.partition(":")[2].replace("\r\n", "").strip() for name, line in written.items()}


def idempotency_key(envelope: Envelope) -> str:
    """Return a key that is the same in every attempt of a job to send the same mail to the same recipients: 32
    hexadecimal digits.

    Its text is part of it, so that a dead job that was given other arguments is another mail. Files are not: one that
    is fetched from a URL may differ each time.
    """
    fields = envelope.fields
    whole = [envelope.job_id, fields.sender.formatted, fields.subject, fields.text, fields.html, *envelope.recipients]
    return blake2b(msgspec.json.encode(whole), digest_size=16).hexdigest()


def check_headers(provider: Provider, envelope: Envelope, reserved: frozenset[str]) -> None:
    """Raise Unsendable if the mail has a header of its own that `provider` keeps for itself. reserved: in small
    letters."""
    for name in envelope.fields.headers:
        if name.lower() in reserved:
            raise Unsendable(f"headers[{name!r}]: {provider.name} keeps it for itself", hint="leave it out")


# --- from a provider


def sent(envelope: Envelope, reference: str | None, but: Mapping[str, str] | None = None) -> Sent:
    """Return that the provider has taken the mail, but not for those in `but`: addresses in small letters, each with
    the reason."""
    turned_away = but or {}
    return Sent(
        tuple(each for each in envelope.recipients if each.lower() not in turned_away),
        tuple(
            Refusal(each, 550, turned_away[each.lower()]) for each in envelope.recipients if each.lower() in turned_away
        ),
        reference,
    )


def until(text: str) -> float | None:
    """Return the seconds until what `text` says: a number of them, an instant in seconds since 1970, or a date as HTTP
    and mail write it. None if it says nothing, at most a day."""
    text = text.strip()
    try:
        seconds = float(text)
        if seconds >= _LEAST_INSTANT:
            seconds -= datetime.now(UTC).timestamp()
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError, OSError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT) if math.isfinite(seconds) else None


def told(response: Response, code: object) -> str:
    """Return what may be told of an answer: its status, and the code that the provider has for it, if it is one;
    nothing that could be out of the mail."""
    if _CODE.fullmatch(str(code or "")):
        return f"{response.status} {code}"
    return f"{response.status} {responses.get(response.status, '')}".rstrip()


def refused(response: Response, code: object, words: str, *, permanent: bool) -> Refused:
    """Return that the mail is taken for nobody, for the reason that `code` and `words` give."""
    return Refused(told(response, code), permanent, without_addresses(words))


def answered(response: Response, code: object, words: str, *resets: str) -> Answer:
    """Return what the status of `response` means with every provider.

    code, words: why, for programs and for people. resets: headers of the provider's own that say when it takes mails
    again.
    """
    reason, wait = told(response, code), response.wait(*resets)
    if response.status == 429 or (response.status == 503 and "retry-after" in response.headers and wait is not None):
        return Slower(reason, wait)
    if response.status >= 500 or response.status in (408, 425):
        return Unavailable(reason)
    if response.status in (401, 402, 403, 404, 405, 407):
        return refused(response, code, words, permanent=False)  # the key, account or URL, whatever the mail is
    if response.status >= 400:
        return refused(response, code, words, permanent=True)
    return Unclear(reason)
