"""What the providers' payloads mean. Their shapes are those of the providers' documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from jetq_email.feedback.events import Event, event, instant
from jetq_email.webhooks.request import Hook, Junk
from tests.apps.webhooks import PROVIDERS, TOPIC, sns
from tests.unit.email.webhooks.test_verifying import hook

ANN, BOB = "ann@example.com", "bob@example.com"


def read(provider: str, content: Any) -> list[Event]:
    made: Hook = hook(provider)
    if provider == "mailgun":
        content = {"signature": {}, "event-data": content}
    if provider == "ses":
        content = sns(msgspec.json.encode(content).decode(), 0)
    return made.events(msgspec.json.encode(content))


def kinds(provider: str, content: Any) -> list[str]:
    return [each.kind for each in read(provider, content)]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"RecordType": "Bounce", "Type": "HardBounce"}, "bounce"),
        ({"RecordType": "Bounce", "Type": "BadEmailAddress"}, "bounce"),
        ({"RecordType": "Bounce", "Type": "SoftBounce"}, "deferred"),
        ({"RecordType": "Bounce", "Type": "Transient"}, "deferred"),
        ({"RecordType": "Bounce", "Type": "SpamNotification"}, "deferred"),
        ({"RecordType": "Bounce", "Type": "SpamComplaint"}, "complaint"),
        ({"RecordType": "Bounce", "Type": "AutoResponder"}, None),
        ({"RecordType": "Bounce", "Type": ["HardBounce"]}, None),
        ({"RecordType": "SpamComplaint", "Type": "SpamComplaint"}, "complaint"),
        ({"RecordType": "Open"}, None),
        ({"RecordType": "Tomorrow"}, None),
        ({}, None),
    ],
)
def test_postmark(content: dict[str, Any], kind: str | None) -> None:
    assert kinds("postmark", {"Email": ANN, "Recipient": BOB, **content}) == ([] if kind is None else [kind])


@pytest.mark.parametrize(
    ("reason", "suppress", "kind"),
    [
        ("HardBounce", True, "bounce"),
        ("SpamComplaint", True, "complaint"),
        ("ManualSuppression", True, "unsubscribed"),
        (None, False, None),
        ("HardBounce", False, None),
    ],
)
def test_a_changed_subscription_at_postmark(reason: str | None, suppress: bool, kind: str | None) -> None:
    content = {
        "RecordType": "SubscriptionChange",
        "Recipient": ANN,
        "SuppressSending": suppress,
        "SuppressionReason": reason,
        "ChangedAt": "2022-06-05T17:17:32Z",
    }
    assert kinds("postmark", content) == ([] if kind is None else [kind])


def test_all_that_postmark_tells() -> None:
    (told,) = read(
        "postmark",
        {
            "RecordType": "Bounce",
            "Type": "HardBounce",
            "MessageID": "2706ee8a-737c-4285-b032-ccd317af53ed",
            "Details": "smtp;550 5.1.1 <Ann@example.com> does not exist.",
            "Email": "Ann@example.com",
            "BouncedAt": "2016-04-27T16:28:50.3963933-04:00",
        },
    )
    assert told == Event(
        kind="bounce",
        address="Ann@example.com",
        provider="postmark",
        at=datetime(2016, 4, 27, 20, 28, 50, 396393, UTC),
        detail="smtp;550 5.1.1 <<address>> does not exist.",
        reference="2706ee8a-737c-4285-b032-ccd317af53ed",
    )


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"event": "bounce", "type": "bounce", "status": "5.1.1"}, "bounce"),
        ({"event": "bounce"}, "bounce"),
        ({"event": "bounce", "type": "bounce", "status": "4.2.2"}, "deferred"),
        ({"event": "bounce", "type": "blocked", "status": "5.2.2"}, "deferred"),
        ({"event": "dropped", "reason": "Bounced Address"}, "bounce"),
        ({"event": "dropped", "reason": "Invalid"}, "bounce"),
        ({"event": "dropped", "reason": "Spam Reporting Address"}, "complaint"),
        ({"event": "dropped", "reason": "Unsubscribed Address"}, "unsubscribed"),
        ({"event": "dropped", "reason": "Recipient List over Package Quota"}, None),
        ({"event": "deferred"}, "deferred"),
        ({"event": "delivered"}, "delivered"),
        ({"event": "spamreport"}, "complaint"),
        ({"event": "unsubscribe"}, "unsubscribed"),
        ({"event": "group_unsubscribe"}, None),
        ({"event": "open"}, None),
        ({"event": None}, None),
    ],
)
def test_sendgrid(content: dict[str, Any], kind: str | None) -> None:
    assert kinds("sendgrid", [{"email": ANN, **content}]) == ([] if kind is None else [kind])


def test_several_of_sendgrid() -> None:
    contents = [
        {"event": "bounce", "type": "bounce", "email": ANN, "timestamp": 1461095250, "sg_message_id": "m.1"},
        {"event": "processed", "email": ANN},
        {"event": "delivered", "email": BOB, "response": "250 OK"},
        {"event": "bounce", "email": 7},
    ]
    assert read("sendgrid", contents) == [
        Event(
            kind="bounce",
            address=ANN,
            provider="sendgrid",
            at=datetime(2016, 4, 19, 19, 47, 30, tzinfo=UTC),
            reference="m.1",
        ),
        Event(kind="delivered", address=BOB, provider="sendgrid", detail="250 OK"),
    ]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"event": "failed", "severity": "permanent", "reason": "bounce"}, "bounce"),
        ({"event": "failed", "severity": "permanent", "reason": "suppress-bounce"}, "bounce"),
        ({"event": "failed", "severity": "permanent", "reason": "suppress-complaint"}, "complaint"),
        ({"event": "failed", "severity": "permanent", "reason": "suppress-unsubscribe"}, "unsubscribed"),
        ({"event": "failed", "severity": "permanent", "reason": "old"}, "deferred"),
        ({"event": "failed", "severity": "permanent"}, "deferred"),
        ({"event": "failed", "severity": "temporary", "reason": "bounce"}, "deferred"),
        ({"event": "complained"}, "complaint"),
        ({"event": "unsubscribed"}, "unsubscribed"),
        ({"event": "unsubscribed", "mailing-list": {"address": "news@example.org"}}, None),
        ({"event": "delivered"}, "delivered"),
        ({"event": "clicked"}, None),
        ({"event": {}}, None),
    ],
)
def test_mailgun(content: dict[str, Any], kind: str | None) -> None:
    assert kinds("mailgun", {"recipient": ANN, **content}) == ([] if kind is None else [kind])


def test_all_that_mailgun_tells() -> None:
    (told,) = read(
        "mailgun",
        {
            "event": "failed",
            "severity": "permanent",
            "reason": "bounce",
            "recipient": ANN,
            "timestamp": 1534110422.389832,
            "message": {"headers": {"message-id": "20180812214658.1@example.org"}},
            "delivery-status": {"code": 550, "message": "5.1.1 The account\n5.1.1 does not exist"},
        },
    )
    assert (told.detail, told.reference) == (
        "5.1.1 The account 5.1.1 does not exist",
        "20180812214658.1@example.org",
    )
    assert told.at == datetime(2018, 8, 12, 21, 47, 2, 389832, UTC)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"type": "email.bounced", "data": {"to": [ANN], "bounce": {"type": "Permanent"}}}, "bounce"),
        ({"type": "email.bounced", "data": {"to": [ANN], "bounce": {"message": "hard"}}}, "bounce"),
        ({"type": "email.bounced", "data": {"to": [ANN], "bounce": {"type": "Transient"}}}, "deferred"),
        ({"type": "email.bounced", "data": {"to": [ANN], "bounce": {"type": "Undetermined"}}}, "deferred"),
        ({"type": "email.complained", "data": {"to": [f"Ann <{ANN}>"]}}, "complaint"),
        ({"type": "email.delivered", "data": {"to": ANN}}, "delivered"),
        ({"type": "email.delivery_delayed", "data": {"to": [ANN]}}, "deferred"),
        ({"type": "email.complained", "data": {"to": [ANN, BOB]}}, None),
        ({"type": "email.complained", "data": {"to": [ANN], "cc": [BOB]}}, None),
        ({"type": "email.complained", "data": {"to": [ANN], "headers": [{"name": "Cc", "value": BOB}]}}, None),
        ({"type": "email.complained", "data": {"to": []}}, None),
        ({"type": "email.complained", "data": None}, None),
        ({"type": "email.opened", "data": {"to": [ANN]}}, None),
        ({"type": "suppression.added", "data": {"email": ANN, "origin": "complaint"}}, "complaint"),
        ({"type": "suppression.added", "data": {"email": ANN, "origin": "bounce"}}, "bounce"),
        ({"type": "suppression.added", "data": {"email": ANN, "origin": "manual"}}, None),
    ],
)
def test_resend(content: dict[str, Any], kind: str | None) -> None:
    found = read("resend", content)
    assert [(each.kind, each.address) for each in found] == ([] if kind is None else [(kind, ANN)])


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("hard_bounce", "bounce"),
        ("invalid_email", "bounce"),
        ("soft_bounce", "deferred"),
        ("deferred", "deferred"),
        ("spam", "complaint"),
        ("complaint", "complaint"),
        ("unsubscribed", "unsubscribed"),
        ("delivered", "delivered"),
        ("blocked", None),
        ("opened", None),
        (5, None),
    ],
)
def test_brevo(what: object, kind: str | None) -> None:
    content = {"event": what, "email": ANN, "ts_epoch": 1520363423000, "message-id": "<1@relay.example>"}
    assert kinds("brevo", content) == ([] if kind is None else [kind])
    assert kinds("brevo", [content] * 2) == ([] if kind is None else [kind] * 2)
    for told in read("brevo", content):
        assert told.at == datetime(2018, 3, 6, 19, 10, 23, tzinfo=UTC)
        assert told.reference == "1@relay.example"


def _ses(what: str, **more: Any) -> dict[str, Any]:
    return {"notificationType": what, "mail": {"messageId": "0000-1", "destination": [ANN, BOB]}, **more}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            _ses(
                "Bounce",
                bounce={"bounceType": "Permanent", "bouncedRecipients": [{"emailAddress": ANN}, {"emailAddress": BOB}]},
            ),
            [("bounce", ANN), ("bounce", BOB)],
        ),
        (
            _ses("Bounce", bounce={"bounceType": "Transient", "bouncedRecipients": [{"emailAddress": ANN}]}),
            [("deferred", ANN)],
        ),
        (_ses("Bounce", bounce={"bounceType": "Permanent"}), []),
        (_ses("Complaint", complaint={"complainedRecipients": [{"emailAddress": ANN}]}), [("complaint", ANN)]),
        (_ses("Complaint", complaint={"complainedRecipients": [{"emailAddress": ANN}, {"emailAddress": BOB}]}), []),
        (
            _ses(
                "Complaint",
                complaint={"complainedRecipients": [{"emailAddress": ANN}], "complaintFeedbackType": "not-spam"},
            ),
            [],
        ),
        (_ses("Delivery", delivery={"recipients": [ANN]}), [("delivered", ANN)]),
        (
            {"eventType": "DeliveryDelay", "deliveryDelay": {"delayedRecipients": [{"emailAddress": ANN}]}},
            [("deferred", ANN)],
        ),
        ({"eventType": "Send"}, []),
        ("Successfully validated SNS topic", []),
        ([], []),
    ],
)
def test_ses(content: Any, expected: list[tuple[str, str]]) -> None:
    assert [(each.kind, each.address) for each in read("ses", content)] == expected


def test_what_sns_says_itself_is_no_event() -> None:
    ses = hook("ses")
    for text in ("Successfully validated SNS topic for Amazon SES event publishing.", "[" * 100_000):
        assert ses.events(msgspec.json.encode(sns(text, 0))) == []
    for type in ("SubscriptionConfirmation", "UnsubscribeConfirmation", "Other"):
        url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1"
        body = msgspec.json.encode(sns("text", 0, Type=type, Token="1", SubscribeURL=url))
        assert ses.events(body) == []
        assert ses.confirms(body) == (url if type == "SubscriptionConfirmation" else None)


@pytest.mark.parametrize("url", ["", "https://example.com/?Action=ConfirmSubscription", "https://sns.x.amazonaws.com/"])
def test_a_subscription_is_confirmed_at_sns_alone(url: str) -> None:
    body = msgspec.json.encode(
        sns("t", 0, Type="SubscriptionConfirmation", Token="1", SubscribeURL=url, TopicArn=TOPIC)
    )
    with pytest.raises(Junk):
        hook("ses").confirms(body)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("body", [b"", b"no", b"\xff", b"7", b'"x"', b"[1]", b"[" * 100_000, b'{"a": 1'])
def test_junk(provider: str, body: bytes) -> None:
    with pytest.raises(Junk):
        hook(provider).events(body)


@pytest.mark.parametrize(
    ("told", "address"),
    [
        (ANN, ANN),
        (f" Ann <{ANN}> ", ANN),
        ("räksmörgås@straße.de", "räksmörgås@straße.de"),
        ("ann", None),
        ("@example.com", None),
        ("ann@", None),
        ("ann\n@example.com", None),
        ("a" * 400 + "@example.com", None),
        (None, None),
        ([ANN], None),
    ],
)
def test_what_may_be_an_address(told: object, address: str | None) -> None:
    assert [each.address for each in event("bounce", told, "smtp")] == ([] if address is None else [address])


@pytest.mark.parametrize(
    "told", [None, "", "soon", [], {}, 1e300, -1e300, float("nan"), 10**400, "0001-01-01T00:00:00+14:00"]
)
def test_a_time_that_nobody_can_read_is_none(told: object) -> None:
    assert instant(told) is None


def test_a_detail_is_short_and_names_nobody() -> None:
    (told,) = event("bounce", ANN, "smtp", detail=f"<{ANN}> is unknown " + "x" * 5000, reference="r" * 5000)
    assert told.detail is not None and told.reference is not None
    assert len(told.detail) == len(told.reference) == 200
    assert "ann@" not in told.detail
