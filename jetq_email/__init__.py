"""Mail for jetq: the tasks `send_email` and `send_template`, a plugin of the worker, and an example for your own
plugin."""

from __future__ import annotations

from jetq_email.errors import TransportError, Unsendable
from jetq_email.providers import Brevo, Mailgun, Postmark, Resend, SendGrid, Ses
from jetq_email.routing.routes import Route, Router, Smtp
from jetq_email.secret import Secret
from jetq_email.sending.attachments import Attachment
from jetq_email.tasks import send_email, send_template
from jetq_email.tasks.many import asend_many, send_many

__all__ = [
    "Attachment",
    "Brevo",
    "Mailgun",
    "Postmark",
    "Resend",
    "Route",
    "Router",
    "Secret",
    "SendGrid",
    "Ses",
    "Smtp",
    "TransportError",
    "Unsendable",
    "asend_many",
    "send_email",
    "send_many",
    "send_template",
]
