"""The link by which one recipient leaves one topic: its token, and the headers of RFC 2369 and RFC 8058 that hold it.

A token holds the topic and the hash of the address, signed. With the link one can say whether this recipient wants this
topic, and nothing else. A token does not expire, because mails are read years later.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from jetq_email.errors import Unsendable
from jetq_email.message import Email
from jetq_email.message.address import parse_mailbox
from jetq_email.secret import Secret
from jetq_email.settings import Settings
from jetq_email.suppression import address_hash, check_topic

__all__ = ["Subscription", "is_hash", "link_variables", "read_token", "token_of", "with_link"]

_VERSION = b"\x01"
_PURPOSE = b"jetq_email.unsubscribe\0"
"""Part of what is signed, so that nothing else that the same secret signs is a token."""

_HASH_SIZE = 20
_SIGNATURE_SIZE = 16
"""Octets of an HMAC-SHA256 that a token holds. Nobody can guess these 128 bits over a network."""

_HASH = re.compile(rf"[0-9a-f]{{{2 * _HASH_SIZE}}}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}")
_HEADERS = frozenset({"list-unsubscribe", "list-unsubscribe-post"})


class Subscription(Struct, frozen=True):
    """One recipient's subscription to one topic. hash: see `address_hash`."""

    topic: str
    hash: str


def is_hash(text: str) -> bool:
    """Return whether `text` has the form of what `address_hash` returns."""
    return bool(_HASH.fullmatch(text))


def token_of(subscription: Subscription, secret: Secret) -> str:
    """Return the token of `subscription`: up to 135 characters, which need no escaping in a URL."""
    body = _VERSION + bytes.fromhex(subscription.hash) + subscription.topic.encode()
    return _encoded(body + _signature(body, secret))


def read_token(token: str, secrets: Sequence[Secret]) -> Subscription | None:
    """Return the subscription that `token` holds; None if the token is incomplete, or if none of `secrets` has signed
    it."""
    if not _TOKEN.fullmatch(token):
        return None
    try:
        octets = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        return None
    if _encoded(octets) != token:  # the last character may have unused bits
        return None
    body, signature = octets[:-_SIGNATURE_SIZE], octets[-_SIGNATURE_SIZE:]
    # All secrets are tried, so that the time does not tell which of them fits.
    if not any([hmac.compare_digest(signature, _signature(body, secret)) for secret in secrets]):
        return None
    if not body.startswith(_VERSION):
        return None
    hash, topic = body[1 : 1 + _HASH_SIZE], body[1 + _HASH_SIZE :]
    return Subscription(topic.decode(), hash.hex())


def _signature(body: bytes, secret: Secret) -> bytes:
    return hmac.digest(secret.reveal().encode(errors="surrogateescape"), _PURPOSE + body, "sha256")[:_SIGNATURE_SIZE]


def _encoded(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


# --- in a mail


def with_link(email: Email, settings: Settings) -> Email:
    """Return `email` with the headers by which mail programs let its recipient leave its topic, if the mail gets a
    link.

    Raises Unsendable for a topic that does not exist, and for several recipients, who cannot share a link.
    """
    link = _link([*email.to, *email.cc, *email.bcc], email.topic, email.headers, settings)
    if link is None:
        return email
    ways = [f"<{link}>"]
    if settings.unsubscribe_mailto is not None:
        to = parse_mailbox(settings.unsubscribe_mailto, "unsubscribe_mailto").address
        ways.append(f"<mailto:{quote(to, safe='@')}?subject=unsubscribe%20{email.topic}>")
    headers = {"List-Unsubscribe": ", ".join(ways), "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    return replace(email, headers={**email.headers, **headers})


def link_variables(
    addresses: Iterable[str], topic: str | None, headers: Mapping[str, str], settings: Settings
) -> dict[str, str]:
    """Return the variable that templates get besides their context: `unsubscribe_url`, if the mail gets a link.

    Raises Unsendable as `with_link` does.
    """
    link = _link(addresses, topic, headers, settings)
    return {} if link is None else {"unsubscribe_url": link}


def _link(addresses: Iterable[str], topic: str | None, headers: Mapping[str, str], settings: Settings) -> str | None:
    """Return the link. None if the mail has no topic or no recipient, if the settings have no URL, or if the mail has
    such headers of its own."""
    if topic is None:
        return None
    check_topic(topic, settings.topics)
    if settings.unsubscribe_url is None or any(name.lower() in _HEADERS for name in headers):
        return None
    hashes = {address_hash(address) for address in addresses}
    if len(hashes) > 1:
        raise Unsendable(
            f"topic {topic!r}: the mail has {len(hashes)} recipients, and a link to unsubscribe is one recipient's",
            hint="jetq_email.send_many sends each of them a mail",
        )
    if not hashes:
        return None
    token = token_of(Subscription(topic, hashes.pop()), settings.secret[0])
    return f"{settings.unsubscribe_url.rstrip('/')}/{token}"
