"""The tasks that send mails, with given texts or from a template."""

from __future__ import annotations

from typing import Any

from jetq import Reject, SettingsError, task
from jetq_email.errors import Unsendable
from jetq_email.message import Email
from jetq_email.sending.attachments import Attachment
from jetq_email.sending.attempt import send
from jetq_email.settings import Settings, current
from jetq_email.tasks.attempts import RetryWait, task_options
from jetq_email.templates import render
from jetq_email.unsubscribe.links import link_variables

__all__ = ["Addresses", "Context", "send_email", "send_template"]

Addresses = str | list[str]
Context = dict[str, Any]


@task(name="jetq_email.send_email", queue="email", **task_options(), wait=RetryWait(), ends_kept=3600)
async def send_email(
    to: Addresses,
    subject: str,
    text: str | None = None,
    html: str | None = None,
    sender: str | None = None,
    cc: Addresses | None = None,
    bcc: Addresses | None = None,
    reply_to: Addresses | None = None,
    headers: dict[str, str] | None = None,
    attachments: list[Attachment] | None = None,
    recipients: list[str] | None = None,
    calendar: str | None = None,
    tag: str | None = None,
    topic: str | None = None,
    envelope_sender: str | None = None,
    campaign: str | None = None,
    via: str | None = None,
) -> None:
    """Send one mail.

    to, cc, bcc, reply_to: an address or several, `ann@example.com` or `Ann <ann@example.com>`. sender: the From
    address, `JETQ_EMAIL_SENDER` if not given. text, html: either or both; text is made of html if it is missing.
    headers: further headers, such as `Auto-Submitted`. calendar: an invitation in iCalendar's format, which mail
    programs show as an invitation. tag: the kind of mail, by which a provider counts. topic: what the mail is about, if
    a recipient can decline that: a mail with a topic has one recipient, and a link to unsubscribe if the settings name
    a URL for such links. campaign: a recipient who got a mail of that campaign gets no other; see `send_many`.
    envelope_sender: the address that bounces go to by SMTP, if not the sender; `JETQ_EMAIL_ENVELOPE_SENDER` if not
    given. `<>` means that nobody gets bounces; `{id}` and `{recipient}` in it tell whose mail it was.
    recipients, via: set by the task itself: the addresses of to, cc and bcc that still lack the mail, and the one route
    that may have the mail already.

    A mail that can never be sent is dead at once, with the reason. So is a mail with a text in to or cc that is no
    address, because all recipients would read that text. A recipient refused for now (4xx) is tried again alone. A
    recipient refused for good (5xx), and a text in bcc that is no address, stay in the dead letter, so that a replay
    sends to nobody who has the mail. Recipients on the list of those who get no mail, or no mail of the topic, are left
    out.
    """
    settings = current()
    email = Email(
        to=_several(to),
        subject=subject,
        text=text,
        html=html,
        calendar=calendar,
        tag=tag,
        topic=topic,
        envelope_sender=envelope_sender or settings.envelope_sender,
        sender=_sender(sender, settings),
        cc=_several(cc),
        bcc=_several(bcc),
        reply_to=_several(reply_to),
        headers=headers or {},
    )
    await send(email, attachments or [], settings, recipients=recipients, via=via, campaign=campaign)


@task(name="jetq_email.send_template", queue="email", **task_options(), wait=RetryWait(), ends_kept=3600)
async def send_template(
    template: str,
    to: Addresses,
    context: Context | None = None,
    sender: str | None = None,
    cc: Addresses | None = None,
    bcc: Addresses | None = None,
    reply_to: Addresses | None = None,
    headers: dict[str, str] | None = None,
    attachments: list[Attachment] | None = None,
    recipients: list[str] | None = None,
    calendar: str | None = None,
    tag: str | None = None,
    topic: str | None = None,
    envelope_sender: str | None = None,
    campaign: str | None = None,
    via: str | None = None,
) -> None:
    """Send one mail made from the template `template` with the variables in `context`.

    Templates are searched in `JETQ_EMAIL_TEMPLATE_DIRECTORY` and then among the built-in ones: welcome, verification,
    password_reset, password_changed, notification. They can use `unsubscribe_url` if the mail has a link to
    unsubscribe. The other arguments are those of `send_email`.
    """
    settings = current()
    try:
        known = link_variables([*_several(to), *_several(cc), *_several(bcc)], topic, headers or {}, settings)
        rendered = render(template, {**known, **(context or {})}, settings.template_directory)
    except Unsendable as error:
        raise Reject(str(error)) from error
    email = Email(
        to=_several(to),
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        calendar=calendar,
        tag=tag,
        topic=topic,
        envelope_sender=envelope_sender or settings.envelope_sender,
        sender=_sender(sender, settings),
        cc=_several(cc),
        bcc=_several(bcc),
        reply_to=_several(reply_to),
        headers=headers or {},
    )
    await send(email, attachments or [], settings, recipients=recipients, via=via, campaign=campaign)


def _sender(sender: str | None, settings: Settings) -> str:
    chosen = sender or settings.sender
    if chosen is None:
        raise SettingsError("the mail names no sender", hint="pass sender=, or set JETQ_EMAIL_SENDER for the worker")
    return chosen


def _several(addresses: Addresses | None) -> list[str]:
    if addresses is None:
        return []
    return [addresses] if isinstance(addresses, str) else addresses
