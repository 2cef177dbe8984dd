"""Signs mails for the domain that they come from (DKIM, RFC 6376): chooses what is signed, and writes the signature.

Header and body are signed in the form `relaxed`, so that servers on the way may fold lines anew.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from hashlib import sha256

from msgspec import Struct

from jetq_email.message.headers import folded

__all__ = ["Key", "Signer", "relaxed_body", "relaxed_header"]

_ONCE_MORE = ("from", "to", "cc", "subject", "date", "reply-to", "content-type")
"""Fields that are signed once more often than the mail has them, so that nobody can add another one, which readers
would show (RFC 6376 8.15)."""

_SIGNED = (
    "message-id", "in-reply-to", "references", "sender", "mime-version", "content-transfer-encoding", "auto-submitted",
    "list-unsubscribe", "list-unsubscribe-post", "list-id", "list-help", "list-owner", "list-archive", "list-post",
    "list-subscribe",
)  # fmt: skip
"""Fields that are signed if the mail has them (RFC 6376 5.4.1; for `List-Unsubscribe-Post` RFC 8058 4)."""

_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_BLANKS = re.compile(rb"[ \t]+")

_CHUNK = 64
"""Columns of a signature's text on one line."""


class Key(Struct, frozen=True):
    """One key that signs. algorithm: its name in the tag `a`. sign: returns the signature of octets.

    selector: the name below the domain under which the public key is published: `selector._domainkey.domain`.
    """

    selector: str
    algorithm: str
    sign: Callable[[bytes], bytes]


class Signer(Struct, frozen=True):
    """Signs mails for `domain` with each of `keys`. A receiver uses the signature that it understands."""

    domain: str
    keys: tuple[Key, ...]

    def sign(self, message: bytes) -> bytes:
        """Return `message`, with lines that end in CRLF, below one header `DKIM-Signature` for each key.

        The time of a signature is the mail's own date, so that all attempts of a job are alike. The work grows with the
        length of `message`.
        """
        head, _, body = message.partition(b"\r\n\r\n")
        fields = _FIELD_END.split(head)
        names, signed = _chosen(fields)
        body_hash = b64encode(sha256(relaxed_body(body)).digest()).decode()
        tags = [f"d={self.domain};", *_time(fields), *_listed(names), f"bh={body_hash};"]
        return b"".join((*(_signature(key, tags, signed) for key in self.keys), message))


def relaxed_header(field: bytes) -> bytes:
    """Return a header field, given without its line end, in the form that is signed (RFC 6376 3.4.2)."""
    name, _, value = field.partition(b":")
    text = _BLANKS.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.rstrip(b" \t").lower() + b":" + text


def relaxed_body(body: bytes) -> bytes:
    """Return a body in the form that is signed (RFC 6376 3.4.4)."""
    text = _BLANKS.sub(b" ", body).replace(b" \r\n", b"\r\n").removesuffix(b" ")
    end = len(text)
    while text.endswith(b"\r\n", 0, end):
        end -= 2
    return text[:end] + b"\r\n" if end else b""


def _chosen(fields: Sequence[bytes]) -> tuple[list[str], bytes]:
    """Return the names to list in the signature, and the fields that the mail has of them, as they are signed. If a
    name occurs more than once, its last field comes first."""
    left: dict[str, list[bytes]] = {}
    for field in fields:
        left.setdefault(field.partition(b":")[0].rstrip(b" \t").lower().decode("latin-1"), []).append(field)
    names: list[str] = []
    chosen: list[bytes] = []
    for name in (*_ONCE_MORE, *_SIGNED):
        there = left.get(name, [])
        names += [name] * (len(there) + (name in _ONCE_MORE))
        chosen += reversed(there)
    return names, b"".join(relaxed_header(field) + b"\r\n" for field in chosen)


def _listed(names: Sequence[str]) -> list[str]:
    """Return the tag `h` as words. A line may end between two words."""
    return [f"{'h=' if at == 0 else ''}{name}{':' if at < len(names) - 1 else ';'}" for at, name in enumerate(names)]


def _time(fields: Sequence[bytes]) -> list[str]:
    dates = [field for field in fields if field[:5].lower() == b"date:"]
    return [f"t={parsedate_to_datetime(dates[0][5:].decode()).timestamp():.0f};"] if dates else []


def _signature(key: Key, tags: Sequence[str], signed: bytes) -> bytes:
    words = ["v=1;", f"a={key.algorithm};", "c=relaxed/relaxed;", f"s={key.selector};", *tags]
    # The signature covers this header too, with an empty tag `b` (RFC 6376 3.7).
    own = folded("DKIM-Signature", [*words, "b="]).removesuffix(b"\r\n")
    made = b64encode(key.sign(signed + relaxed_header(own))).decode()
    first, *others = (made[at : at + _CHUNK] for at in range(0, len(made), _CHUNK))
    return folded("DKIM-Signature", [*words, f"b={first}", *others])
