"""Remembers who has the mail of a campaign, beyond the job that sent it, so that sending to all again mails nobody
twice."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable

from jetq import BrokerError, Records
from jetq_email.errors import Unsendable
from jetq_email.suppression import RECORDS, address_hash

__all__ = ["check_campaign", "job_id", "note_sent", "who_has_it"]

_log = logging.getLogger("jetq.email")

_CAMPAIGN = re.compile(r"[A-Za-z0-9_-]{1,48}")
_KNOWN_FOR = 90 * 86400.0


def check_campaign(campaign: str) -> str:
    """Return `campaign` if it can be the name of a campaign. Raises Unsendable."""
    if not _CAMPAIGN.fullmatch(campaign):
        raise Unsendable(f"campaign {campaign[:48]!r}: not a name", hint="1 to 48 letters, digits, '-' and '_'")
    return campaign


def job_id(campaign: str, address: str) -> str:
    """Return the id of the job that sends the mail of `campaign` to `address`. While that job is stored, no second one
    is stored."""
    return f"{check_campaign(campaign)}-{address_hash(address)}"


async def who_has_it(campaign: str, addresses: Iterable[str]) -> frozenset[str]:
    """Return those of `addresses` that got a mail of `campaign`. Raises BrokerError."""
    records = Records(RECORDS)
    asked = list(addresses)
    found = await asyncio.gather(*(records.aget(_key(campaign, address)) for address in asked))
    return frozenset(address for address, record in zip(asked, found, strict=True) if record is not None)


async def note_sent(campaign: str, addresses: Iterable[str]) -> None:
    """Remember that `addresses` got the mail of `campaign`. Never raises: the mail is sent, and a failing job would
    send it again."""
    records = Records(RECORDS)
    try:
        await asyncio.gather(*(records.aput(_key(campaign, each), b"", ttl=_KNOWN_FOR) for each in addresses))
    except BrokerError as error:
        _log.warning(
            "a mail of campaign %s was sent, and it is not noted: a repeat may send it again: %s", campaign, error
        )


def _key(campaign: str, address: str) -> str:
    return f"sent.{check_campaign(campaign)}.{address_hash(address)}"
