"""What a process is told about sending mail, in its environment."""

from __future__ import annotations

from jetq_email.settings.fields import PREFIX, TRANSPORTS, Auth, Settings, Tls, check, current, parse

__all__ = ["PREFIX", "TRANSPORTS", "Auth", "Settings", "Tls", "check", "current", "parse"]
