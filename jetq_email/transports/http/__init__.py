"""Hands mails to a provider over HTTP."""

from __future__ import annotations

from jetq_email.transports.http.transport import HttpTransport

__all__ = ["HttpTransport"]
