"""Takes what providers report about mails over HTTP: an ASGI application to mount in another one, or to serve alone."""

from __future__ import annotations

from jetq_email.webhooks.application import Webhooks

__all__ = ["Webhooks"]
