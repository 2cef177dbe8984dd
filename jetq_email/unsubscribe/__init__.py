"""How a recipient leaves a topic: the link in a mail, and the page that the link opens."""

from __future__ import annotations

from jetq_email.unsubscribe.page import Unsubscribe, note_choice

__all__ = ["Unsubscribe", "note_choice"]
