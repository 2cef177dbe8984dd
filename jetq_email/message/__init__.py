"""A mail as a value: its addresses, headers and MIME parts, checked, and composed into what a transport takes."""

from __future__ import annotations

from jetq_email.message.composing import Email, Envelope, Fields, compose, composed
from jetq_email.message.mime import Part

__all__ = ["Email", "Envelope", "Fields", "Part", "compose", "composed"]
