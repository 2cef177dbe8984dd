"""Mail for jetq: the tasks `send_email` and `send_template`, a plugin of the worker and an example for yours."""

from __future__ import annotations

from jetq_email.attachments import Attachment
from jetq_email.errors import TransportError, Unsendable
from jetq_email.tasks import send_email, send_template

__all__ = ["Attachment", "TransportError", "Unsendable", "send_email", "send_template"]
