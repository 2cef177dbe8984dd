"""Companies that send mails which they get over HTTP. Each is a struct of settings that builds requests and reads
answers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from jetq import SettingsError
from jetq_email.providers.brevo import Brevo
from jetq_email.providers.exchange import Provider
from jetq_email.providers.mailgun import Mailgun
from jetq_email.providers.postmark import Postmark
from jetq_email.providers.resend import Resend
from jetq_email.providers.sendgrid import SendGrid
from jetq_email.providers.ses import Ses

__all__ = [
    "PROVIDERS",
    "Brevo",
    "Mailgun",
    "Postmark",
    "Provider",
    "Resend",
    "SendGrid",
    "Ses",
    "check_client",
]

PROVIDERS: Mapping[str, Any] = {each.name: each for each in (Ses, SendGrid, Mailgun, Postmark, Resend, Brevo)}
"""The providers by their names in the settings."""


def check_client() -> None:
    """Raise SettingsError if the HTTP client for providers is not installed."""
    if find_spec("httpx2") is None:
        raise SettingsError(
            "a provider needs httpx2, which is not installed", hint="install the extras, jetq-nats[email,http]"
        )
