"""Hands mails to an SMTP server."""

from __future__ import annotations

from jetq_email.transports.smtp.transport import SmtpTransport

__all__ = ["SmtpTransport"]
