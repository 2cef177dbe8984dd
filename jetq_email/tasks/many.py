"""Sends one mail to each of many recipients, each as a job of its own: `send_many` and `asend_many`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from jetq import ArgumentError, Call, Jetq, Job
from jetq_email.sending.attachments import Attachment
from jetq_email.sending.campaigns import check_campaign, job_id
from jetq_email.tasks.mails import Addresses, Context, send_email, send_template

__all__ = ["Mail", "Recipient", "asend_many", "send_many"]

Recipient = str | tuple[str, Mapping[str, Any]]
"""An address, or an address with variables that the template gets for it alone."""

_LARGEST = 64 * 1024


class Mail(TypedDict, total=False):
    """What all mails of a `send_many` have in common: either `subject` with `text`, `html` or both, or `template` with
    the `context` that all share. campaign: see `send_many`. app: the app that stores the jobs, if not the default app.
    The other fields are the arguments of `send_email`."""

    subject: str
    text: str | None
    html: str | None
    template: str
    context: Context
    sender: str | None
    reply_to: Addresses | None
    headers: dict[str, str] | None
    attachments: list[Attachment] | None
    calendar: str | None
    tag: str | None
    topic: str | None
    campaign: str | None
    app: Jetq | None


def send_many(recipients: Iterable[Recipient], **mail: Unpack[Mail]) -> list[Job[None]]:
    """Send each of `recipients` a mail of their own, by a job of its own, and return the handles in order.

    `send_many(people, template="news", topic="news", campaign="2026-11")`. With a campaign, a recipient who has a mail
    of it gets no other for 90 days. So a call that failed, or may have failed, can be repeated unchanged.

    Raises ArgumentError for arguments that make no mail, and for attachments with more than 64 KiB of content, because
    they would be stored once for each recipient; Unsendable for a name that no campaign can have; EnqueueError as
    `delay_many` does.
    """
    app = mail.pop("app", None)
    calls = _calls(recipients, mail)
    return send_email.delay_many(calls) if app is None else app.delay_many(calls)


async def asend_many(recipients: Iterable[Recipient], **mail: Unpack[Mail]) -> list[Job[None]]:
    """Do as `send_many`, for async code."""
    app = mail.pop("app", None)
    calls = _calls(recipients, mail)
    return await (send_email.adelay_many(calls) if app is None else app.adelay_many(calls))


def _calls(recipients: Iterable[Recipient], mail: Mail) -> Iterator[Call[None]]:
    """Return an iterator that makes each call when it is stored. A mistake in what all mails have in common is raised
    before."""
    if isinstance(recipients, str):
        raise ArgumentError("send_many takes several recipients, and was given one", hint="send_many([address], ...)")
    _check(mail)
    return (_call(recipient, mail) for recipient in recipients)


def _check(mail: Mail) -> None:
    unknown = sorted(mail.keys() - Mail.__optional_keys__)
    if unknown:
        raise ArgumentError(
            f"send_many has no {unknown[0]}=",
            hint=f"each mail has one recipient; it has {', '.join(Mail.__annotations__)}",
        )
    if ("subject" in mail) == ("template" in mail):
        raise ArgumentError(
            "send_many makes mails of a subject and texts, or of a template",
            hint="send_many(recipients, subject=..., text=...) or send_many(recipients, template=..., context=...)",
        )
    needless = {"text", "html"} if "template" in mail else {"context"}
    for name in sorted(needless & mail.keys()):
        other = "a template" if "template" in mail else "a subject"
        raise ArgumentError(f"send_many: {name}= does not go with {other}")
    if "subject" in mail and mail.get("text") is None and mail.get("html") is None:
        raise ArgumentError("send_many: the mails have neither text nor html", hint="pass text=, html= or both")
    campaign = mail.get("campaign")
    if campaign is not None:
        check_campaign(campaign)
    _check_attachments(mail.get("attachments") or ())


def _check_attachments(attachments: Sequence[Attachment]) -> None:
    size = sum(len(attachment.content or b"") for attachment in attachments)
    if size > _LARGEST:
        raise ArgumentError(
            f"send_many: the content of the attachments, {size:,} bytes, would be stored for each recipient",
            hint=f"more than {_LARGEST:,} bytes go by path= or url=, from where the worker fetches them",
        )


def _call(recipient: Recipient, mail: Mail) -> Call[None]:
    nothing: Mapping[str, Any] = {}
    address, own = (recipient, nothing) if isinstance(recipient, str) else recipient
    fields: dict[str, Any] = {**mail, "to": address}
    if "template" in mail:
        task: Any = send_template
        fields["context"] = {**mail.get("context", {}), **own}
    elif own:
        raise ArgumentError("send_many: a recipient has a context of its own, and there is no template to take it")
    else:
        task = send_email
    campaign = mail.get("campaign")
    if campaign is not None:
        task = task.options(id=job_id(campaign, address))
    call: Call[None] = task.bind(**fields)
    return call
