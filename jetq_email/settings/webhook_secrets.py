"""The secrets that verify the requests of each provider: `JETQ_EMAIL_MAILGUN_WEBHOOK_KEY` and others."""

from __future__ import annotations

from msgspec import Struct

from jetq_email.secret import Secret

__all__ = ["WebhookSecrets"]


class WebhookSecrets(Struct, frozen=True, kw_only=True):
    """The secrets that verify webhooks. A process that takes webhooks needs no other settings of a provider, and need
    not be able to send.

    postmark_webhook_user, postmark_webhook_password: as in the URL given to Postmark.
    sendgrid_webhook_key: the public key that SendGrid shows.
    mailgun_webhook_key: the HTTP webhook signing key of the account.
    resend_webhook_secret: the signing secret of the webhook, `whsec_...`.
    brevo_webhook_token: the token of its bearer authentication; or brevo_webhook_user and brevo_webhook_password, as
        in the URL given to Brevo.
    ses_webhook_topics: the ARNs of the SNS topics that SES publishes to, with commas between them.
    """

    postmark_webhook_user: str | None = None
    postmark_webhook_password: Secret | None = None
    sendgrid_webhook_key: str | None = None
    mailgun_webhook_key: Secret | None = None
    resend_webhook_secret: Secret | None = None
    brevo_webhook_token: Secret | None = None
    brevo_webhook_user: str | None = None
    brevo_webhook_password: Secret | None = None
    ses_webhook_topics: tuple[str, ...] = ()
