"""What providers report of mails, taken in over HTTP: an ASGI application to mount in any other, or to serve alone."""

from __future__ import annotations

from jetq_email.webhooks.application import Webhooks

__all__ = ["Webhooks"]
