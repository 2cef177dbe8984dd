"""Companies that send mails which they get over HTTP: each a struct of settings, with what is said and answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jetq_email.providers.exchange import Provider
from jetq_email.providers.postmark import Postmark

__all__ = ["PROVIDERS", "Provider", "ProviderName"]

ProviderName = Literal["postmark"]

PROVIDERS: Mapping[str, Any] = {"postmark": Postmark}
"""By the name that is in the settings."""
