"""The settings for sending mail, which a process gets from its environment."""

from __future__ import annotations

from jetq_email.settings.checks import check
from jetq_email.settings.environment import current, parse
from jetq_email.settings.fields import PREFIX, TRANSPORTS, Auth, Settings, Tls

__all__ = ["PREFIX", "TRANSPORTS", "Auth", "Settings", "Tls", "check", "current", "parse"]
