"""Amazon SES, version 2: https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from msgspec import Struct

from jetq_email.message import Envelope
from jetq_email.providers.exchange import (
    Answer,
    Request,
    Response,
    Slower,
    answered,
    json_request,
    refused,
    sent,
    told,
)
from jetq_email.providers.recipients import check_addresses
from jetq_email.providers.sigv4 import Credentials, signed
from jetq_email.rates import RateText
from jetq_email.secret import Secret

__all__ = ["Ses"]

_PATH = "/v2/email/outbound-emails"

_TOO_FAST = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded"})

_DAILY = "daily message quota exceeded"
_DAILY_WAIT = 900.0
"""Seconds. The quota counts the last 24 hours, so a part of it becomes free all the time."""

_OF_THE_ACCOUNT = frozenset(
    {
        "AccountSuspendedException",
        "ConfigurationSetDoesNotExistException",
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "LimitExceededException",
        "MailFromDomainNotVerifiedException",
        "SendingPausedException",
        "UnrecognizedClientException",
    }
)
"""Types of errors about the key, the identity or the account, and not about the mail, whatever their status."""

_NOT_VERIFIED = "not verified"
"""Words of a `MessageRejected` about the sender, and in the sandbox about a recipient. Somebody can verify these."""


class Ses(Struct, frozen=True, kw_only=True):
    """Sends mails through Amazon SES, which gets the same bytes as an SMTP server. SES has no key to recognize a repeat
    by, so each mail is sent at least once. SES sets Message-ID and Date anew.

    key_id, secret_key: an access key with `ses:SendEmail` and `ses:SendRawEmail`. session_token: that of a temporary
        access key. Keys are read from no other place: no AWS_* variable, no file, no metadata service.
    region: such as `eu-central-1`. url: another endpoint than the region's.
    configuration_set: the account's configuration set that the events of these mails belong to.

    A mail's tag is the value of the message tag `tag`. The From header is that of the mail, with its name, because an
    address in the request would replace the header.
    """

    name: ClassVar[str] = "ses"
    repeats: ClassVar[bool] = True
    most: ClassVar[int] = 50
    shows: ClassVar[bool] = False

    key_id: str
    secret_key: Secret
    region: str
    session_token: Secret | None = None
    configuration_set: str | None = None
    url: str | None = None
    rate: RateText | None = None

    def build(self, envelope: Envelope) -> Request:
        """See `Provider.build`."""
        check_addresses(self, envelope)
        content: dict[str, Any] = {
            "Destination": {"ToAddresses": envelope.recipients},
            "Content": {"Raw": {"Data": envelope.message}},
        }
        if self.configuration_set is not None:
            content["ConfigurationSetName"] = self.configuration_set
        if envelope.fields.tag is not None:
            content["EmailTags"] = [{"Name": "tag", "Value": envelope.fields.tag}]
        unsigned = json_request(f"{self.url or f'https://email.{self.region}.amazonaws.com'}{_PATH}", {}, content)
        credentials = Credentials(self.key_id, self.secret_key, self.session_token, self.region, "ses")
        headers = signed(credentials, unsigned.url, unsigned.headers, unsigned.content, datetime.now(UTC))
        return Request(unsigned.url, headers, unsigned.content)

    def read(self, response: Response, envelope: Envelope) -> Answer:
        """See `Provider.read`."""
        if response.status == 200 and (reference := response.text("MessageId")):
            return sent(envelope, reference)
        kind, text = _kind(response), response.text("message") or response.text("Message")
        if _DAILY in text.lower():
            return Slower(told(response, "DailyQuotaExceeded"), _DAILY_WAIT)
        if kind in _TOO_FAST or "maximum sending rate exceeded" in text.lower():
            return Slower(told(response, kind), response.wait())
        if kind in _OF_THE_ACCOUNT or (kind == "MessageRejected" and _NOT_VERIFIED in text.lower()):
            return refused(response, kind, text, permanent=False)
        return answered(response, kind, text)


def _kind(response: Response) -> str:
    """Return the type of an error. It is in a header as `Name:http://...`, or in the answer as `prefix#Name`."""
    found = response.headers.get("x-amzn-errortype") or response.text("__type")
    return found.partition(":")[0].rpartition("#")[2]
