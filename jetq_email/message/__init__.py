"""Builds mails: checks addresses, headers and MIME parts, and composes them into an envelope for a transport."""

from __future__ import annotations

from jetq_email.message.composing import Email, Envelope, Fields, compose, composed
from jetq_email.message.mime import Part

__all__ = ["Email", "Envelope", "Fields", "Part", "compose", "composed"]
