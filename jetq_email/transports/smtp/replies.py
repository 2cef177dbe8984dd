"""The parts of an SMTP server's reply that a log may show: its codes. Its words repeat addresses, subjects and
content."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiosmtplib import SMTPResponseException

__all__ = ["codes_of", "enhanced"]

_ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?!\S)")
"""The enhanced code with which a reply may begin (RFC 2034 4)."""

_MEANINGS: Mapping[str, str] = {
    "1.1": "no such mailbox",
    "1.2": "no such domain",
    "1.3": "not an address",
    "1.10": "the domain takes no mail",
    "2.1": "the mailbox is disabled",
    "2.2": "the mailbox is full",
    "2.3": "larger than the mailbox takes",
    "3.1": "the server's disk is full",
    "3.4": "larger than the server takes",
    "4.2": "the connection was lost",
    "5.3": "too many recipients",
    "6.7": "the server takes no international addresses",
    "7.1": "forbidden by the server's policy",
    "7.20": "no valid DKIM signature",
    "7.23": "SPF failed",
    "7.25": "no reverse DNS of the sending host",
    "7.26": "neither DKIM nor SPF passed",
}
"""Meanings of enhanced codes by their subject and detail, from IANA's registry for RFC 5248."""


def enhanced(reply: str) -> str:
    """Return the enhanced code of a reply, `5.1.1 (no such mailbox)`; an empty text if the reply has none."""
    found = _ENHANCED.match(reply)
    if found is None:
        return ""
    meaning = _MEANINGS.get(found[1].partition(".")[2])
    return f"{found[1]} ({meaning})" if meaning else found[1]


def codes_of(error: SMTPResponseException) -> str:
    """Return both codes of a reply, as far as the reply has them."""
    if error.code < 0:  # aiosmtplib uses such codes for this
        return "something that is no SMTP"
    return f"{error.code} {enhanced(error.message)}".rstrip()
