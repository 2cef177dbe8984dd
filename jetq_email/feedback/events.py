"""Events: what became of mails after they were handed over, as providers and mail servers report it, and what
follows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from jetq_email.redaction import without_addresses
from jetq_email.settings import current
from jetq_email.suppression import Reason, Suppression

__all__ = ["Event", "Kind", "event", "instant", "take"]

_log = logging.getLogger("jetq.email")

Kind = Literal["bounce", "deferred", "complaint", "unsubscribed", "delivered"]

_LONGEST_ADDRESS = 320
"""Characters. RFC 3696 3 with its erratum allows 254, but servers report longer addresses."""

_LONGEST_REFERENCE = 200

_SUPPRESSES: Mapping[Kind, Reason] = {"bounce": "bounce", "complaint": "complaint", "unsubscribed": "unsubscribed"}


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a mail to one address.

    kind: `bounce` if the address takes no mail at all, `deferred` if it did not take this mail or not yet, `complaint`
    if its owner called a mail spam. provider: the provider that reports the event, or `smtp`. at: when it happened,
    aware UTC; None if that is not reported. detail: what the server said, without addresses. reference: the provider's
    own id of the mail.
    """

    kind: Kind
    address: str
    provider: str
    at: datetime | None = None
    detail: str | None = None
    reference: str | None = None


def event(
    kind: Kind | None,
    address: object,
    provider: str,
    *,
    at: datetime | None = None,
    detail: object = None,
    reference: object = None,
) -> list[Event]:
    """Return a list of one event out of values that a provider or server sent, which may be of any type. Without a kind
    and an address the list is empty."""
    known = _address(address)
    if kind is None or known is None:
        return []
    said = without_addresses(detail) if isinstance(detail, str) else ""
    named = str(reference)[:_LONGEST_REFERENCE] if isinstance(reference, str | int) else ""
    return [
        Event(
            kind=kind,
            address=known,
            provider=provider,
            at=at,
            detail=said or None,
            reference=named.strip("<> ") or None,
        )
    ]


def instant(told: object, unit: float = 1.0) -> datetime | None:
    """Return the time that a provider reports: an ISO 8601 text, or a number of `unit` seconds since 1970. None if
    `told` is neither."""
    try:
        if isinstance(told, str):
            read = datetime.fromisoformat(told)
            return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
        if isinstance(told, int | float):
            return datetime.fromtimestamp(told * unit, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


async def take(events: Iterable[Event]) -> None:
    """Put recipients who bounced, complained or unsubscribed on the list of those who get no mail. Ignore other
    events."""
    suppression, keep = Suppression(), current().addresses == "clear"
    counts: Counter[str] = Counter()
    for each in events:
        reason = _SUPPRESSES.get(each.kind)
        if reason is None:
            counts[f"{each.kind} left alone"] += 1
        elif await suppression.add(each.address, reason, each.provider, detail=each.detail, keep_address=keep):
            counts[f"{each.kind} put on the list"] += 1
        else:
            counts[f"{each.kind} of who was on it"] += 1
    _log.info("what became of mails: %s", ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


def _address(told: object) -> str | None:
    """Return the bare address in `Ann <ann@example.com>`, or in a text that is only an address; None if there is
    none."""
    if not isinstance(told, str):
        return None
    text = told.strip()
    if text.endswith(">"):
        text = text[:-1].rpartition("<")[2].strip()
    local, _, domain = text.rpartition("@")
    return text if local and domain and text.isprintable() and len(text) <= _LONGEST_ADDRESS else None
