"""Amazon SES: what it is asked, and what its answers mean."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import msgspec
import pytest

from jetq_email.outcomes import Sent
from jetq_email.providers.exchange import Answer, Refused, Response, Slower, Unavailable, Unclear
from jetq_email.providers.ses import Ses
from jetq_email.secret import Secret
from tests.unit.email.providers.mails import full, only, plain

SES = Ses(key_id="AKIDEXAMPLE", secret_key=Secret("canary"), region="eu-central-1")


def content(envelope: Any, ses: Ses = SES) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(ses.build(envelope).content)
    return made


def read(status: int, kind: str, text: str = "", **fields: str) -> Answer:
    answer = msgspec.json.encode({"message": text, **fields})
    return SES.read(Response(status, {"x-amzn-errortype": kind} if kind else {}, answer), full())


def test_the_request_has_the_bytes_of_the_mail_and_everybody_who_gets_it() -> None:
    request = SES.build(full())
    assert request.url == "https://email.eu-central-1.amazonaws.com/v2/email/outbound-emails"
    assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert (
        "/eu-central-1/ses/aws4_request, SignedHeaders=accept;content-type;host;x-amz-date,"
        in (request.headers["authorization"])
    )
    assert "canary" not in repr(request)
    made = content(full())
    assert b64decode(made["Content"]["Raw"]["Data"]) == full().message
    assert made["Destination"] == {
        "ToAddresses": ["ada@example.com", "bob@example.com", "cleo@example.com", "dan@example.com"]
    }
    assert made["EmailTags"] == [{"Name": "tag", "Value": "receipts"}]
    assert "FromEmailAddress" not in made  # it would take the name of the sender away
    assert b"dan@example.com" not in full().message


def test_settings_that_are_given_are_said() -> None:
    ses = Ses(
        key_id="A",
        secret_key=Secret("s"),
        region="r",
        session_token=Secret("lent"),
        configuration_set="events",
        url="http://127.0.0.1:4566",
    )
    request = ses.build(plain())
    assert request.url == "http://127.0.0.1:4566/v2/email/outbound-emails"
    assert (request.headers["host"], request.headers["x-amz-security-token"]) == ("127.0.0.1:4566", "lent")
    assert content(plain(), ses)["ConfigurationSetName"] == "events"
    assert "EmailTags" not in content(plain(), ses)


def test_a_later_attempt_names_only_who_lacks_the_mail_and_shows_the_same() -> None:
    made = content(only(full(), "dan@example.com"))
    assert made["Destination"] == {"ToAddresses": ["dan@example.com"]}
    assert b64decode(made["Content"]["Raw"]["Data"]) == full().message


def test_taken() -> None:
    answer = SES.read(Response(200, {}, b'{"MessageId":"0100-1"}'), full())
    assert answer == Sent(full().recipients, (), "0100-1")


@pytest.mark.parametrize(
    ("status", "error", "text", "kind", "permanent"),
    [
        (400, "MessageRejected", "Email address is not verified. Failed: ada@example.com", Refused, False),
        (400, "MessageRejected", "it contains a virus", Refused, True),
        (400, "BadRequestException", "bad", Refused, True),
        (400, "LimitExceededException", "", Refused, False),
        (400, "SendingPausedException", "", Refused, False),
        (400, "AccountSuspendedException", "", Refused, False),
        (400, "MailFromDomainNotVerifiedException", "", Refused, False),
        (403, "SignatureDoesNotMatch", "", Refused, False),
        (400, "InvalidSignatureException", "", Refused, False),
        (404, "NotFoundException", "no such set", Refused, False),
        (429, "TooManyRequestsException", "", Slower, None),
        (400, "ThrottlingException", "", Slower, None),
        (454, "", "Throttling failure: Maximum sending rate exceeded.", Slower, None),
        (500, "InternalFailure", "", Unavailable, None),
        (503, "ServiceUnavailable", "", Unavailable, None),
        (200, "", "", Unclear, None),
    ],
)
def test_other_answers(status: int, error: str, text: str, kind: type, permanent: bool | None) -> None:
    answer = read(status, error, text)
    assert type(answer) is kind
    assert getattr(answer, "permanent", None) is permanent
    assert "ada@" not in repr(answer)


def test_a_quota_of_the_day_is_waited_for_long() -> None:
    answer = read(429, "TooManyRequestsException", "Daily message quota exceeded.")
    assert isinstance(answer, Slower) and answer.after == 900


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"x-amzn-errortype": "SendingPausedException:http://internal.amazon.com/coral/"}, {}),
        ({}, {"__type": "com.amazonaws.ses#SendingPausedException"}),
        ({}, {"__type": "SendingPausedException"}),
    ],
)
def test_the_type_of_an_error_is_found_wherever_it_stands(headers: dict[str, str], fields: dict[str, str]) -> None:
    answer = SES.read(Response(400, headers, msgspec.json.encode({"Message": "paused", **fields})), full())
    assert answer == Refused("400 SendingPausedException", False, "paused")
