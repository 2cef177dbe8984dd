"""Which requests are a provider's: signatures right and wrong, missing, old, by other keys, over other bodies."""

from __future__ import annotations

import sys
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from jetq import SettingsError
from jetq_email.errors import TransportError
from jetq_email.settings import parse
from jetq_email.webhooks import Webhooks, ses
from jetq_email.webhooks.brevo import Brevo
from jetq_email.webhooks.mailgun import Mailgun
from jetq_email.webhooks.postmark import Postmark
from jetq_email.webhooks.request import Hook, Junk, Request, Unverifiable
from jetq_email.webhooks.resend import Resend
from jetq_email.webhooks.sendgrid import SendGrid
from jetq_email.webhooks.ses import Ses
from tests.apps.webhooks import (
    CERTIFICATE,
    CERTIFICATE_URL,
    PROVIDERS,
    TOPIC,
    VARIABLES,
    Signed,
    bounces,
    certificate,
    signed,
)

pytestmark = pytest.mark.anyio

NOW = time.time()
HOUR = 3600.0
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
OTHER_RSA = rsa.generate_private_key(65537, 2048)


async def fetch(url: str) -> bytes:
    assert url == CERTIFICATE_URL
    return CERTIFICATE


def hook(provider: str, fetch: Callable[[str], Awaitable[bytes]] = fetch) -> Hook:
    secrets = parse(VARIABLES).webhooks
    if provider == "ses":
        return Ses(secrets.ses_webhook_topics, fetch)
    kinds: dict[str, Any] = {
        "postmark": Postmark,
        "sendgrid": SendGrid,
        "mailgun": Mailgun,
        "resend": Resend,
        "brevo": Brevo,
    }
    made: Hook = kinds[provider].of(secrets)
    return made


async def verified(provider: str, request: Signed, now: float = NOW) -> bool:
    headers, body = request
    return await hook(provider).verify(Request(headers, body, now))


def content(provider: str) -> object:
    return bounces(provider, "ann@example.com")[0]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_the_provider_signed_is_its(provider: str) -> None:
    assert await verified(provider, signed(provider, content(provider), at=NOW))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_without_a_signature(provider: str) -> None:
    _, body = signed(provider, content(provider), at=NOW)
    unsigned = b'{"event-data": {}}' if provider == "mailgun" else body.replace(b'"Signature"', b'"Nothing"')
    assert not await verified(provider, ({}, unsigned))


@pytest.mark.parametrize(
    ("provider", "key"),
    [
        ("postmark", "postmark:other"),
        ("postmark", "other:canary:of-postmark"),
        ("postmark", ""),
        ("sendgrid", OTHER_EC),
        ("mailgun", "other"),
        ("resend", b"other"),
        ("brevo", "Bearer other"),
        ("brevo", "Bearer"),
        ("brevo", "Basic Y2FuYXJ5LW9mLWJyZXZv"),
        ("brevo", "canary-of-brevo"),
        ("ses", OTHER_RSA),
    ],
)
async def test_with_another_key(provider: str, key: object) -> None:
    assert not await verified(provider, signed(provider, content(provider), at=NOW, key=key))


@pytest.mark.parametrize("provider", ["sendgrid", "resend", "ses"])
async def test_with_another_body(provider: str) -> None:
    headers, body = signed(provider, content(provider), at=NOW)
    assert not await verified(provider, (headers, body.replace(b"ann@", b"bob@")))


@pytest.mark.parametrize(
    ("provider", "header", "value"),
    [
        ("postmark", "authorization", "Basic \xff"),
        ("postmark", "authorization", "Basic ===="),
        ("postmark", "authorization", "Bearer x"),
        ("sendgrid", "x-twilio-email-event-webhook-signature", "no base64"),
        ("sendgrid", "x-twilio-email-event-webhook-signature", b64encode(b"no DER").decode()),
        ("sendgrid", "x-twilio-email-event-webhook-timestamp", "1"),
        ("resend", "svix-timestamp", "soon"),
        ("resend", "svix-id", "other"),
        ("resend", "svix-signature", "v1"),
        ("resend", "svix-signature", "v1,\xff"),
        ("resend", "svix-signature", ""),
        ("brevo", "authorization", "Bearer \xff"),
    ],
)
async def test_with_a_header_that_is_wrong(provider: str, header: str, value: str) -> None:
    headers, body = signed(provider, content(provider), at=NOW)
    assert not await verified(provider, ({**headers, header: value}, body))


@pytest.mark.parametrize(
    ("provider", "within", "without"),
    [
        ("sendgrid", 25 * HOUR, 27 * HOUR),
        ("mailgun", 9 * HOUR, 11 * HOUR),
        ("resend", 290.0, 310.0),
        ("ses", 23 * HOUR, 25 * HOUR),
    ],
)
async def test_an_old_one_is_refused_and_so_is_one_of_the_future(provider: str, within: float, without: float) -> None:
    """Guarantee: what was signed longer ago than its provider tries again for is not taken."""
    request = signed(provider, content(provider), at=NOW)
    for now in (NOW - within, NOW + within):
        assert await verified(provider, request, now)
    for now in (NOW - without, NOW + without):
        assert not await verified(provider, request, now)


# --- what the providers publish


async def test_svix_own_example() -> None:
    """https://docs.svix.com/receiving/verifying-payloads/how"""
    resend = Resend("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = {
        "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "svix-timestamp": "1614265330",
        "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert await resend.verify(Request(headers, b'{"test": 2432232314}', 1614265330.0))
    assert not await resend.verify(Request(headers, b'{"test": 2432232315}', 1614265330.0))


async def test_sendgrid_own_example() -> None:
    """https://github.com/sendgrid/sendgrid-python/blob/main/test/unit/test_eventwebhook.py"""
    sendgrid = SendGrid(
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglS"
        "I8eNEc6wEA3F+g=="
    )
    body = (
        b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
        b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
        b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
        b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
    )
    headers = {
        "x-twilio-email-event-webhook-timestamp": "1600112502",
        "x-twilio-email-event-webhook-signature": "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEA"
        "yBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
    }
    assert await sendgrid.verify(Request(headers, body, 1600112502.0))
    assert not await sendgrid.verify(Request(headers, body.strip(), 1600112502.0))
    (event,) = sendgrid.events(body)
    assert (event.kind, event.address) == ("bounce", "hello@world.com")


# --- one by one


async def test_one_of_several_signatures_of_resend_is_enough() -> None:
    request = signed("resend", content("resend"), at=NOW, before="v1a,AAAA v1,AAAA ")
    assert await verified("resend", request)


async def test_a_v1_signature_of_resend_does_not_go_under_another_version() -> None:
    headers, body = signed("resend", content("resend"), at=NOW)
    other = headers["svix-signature"].replace("v1,", "v2,")
    assert not await verified("resend", ({**headers, "svix-signature": other}, body))


async def test_brevo_by_user_and_password() -> None:
    secrets = parse({"JETQ_EMAIL_BREVO_WEBHOOK_USER": "brevo", "JETQ_EMAIL_BREVO_WEBHOOK_PASSWORD": "x:y"}).webhooks
    brevo = Brevo.of(secrets)
    assert brevo is not None
    for given, right in (("brevo:x:y", True), ("brevo:x", False), ("brevo", False)):
        headers = {"authorization": f"basic {b64encode(given.encode()).decode()}"}
        assert await brevo.verify(Request(headers, b"{}", NOW)) is right
    assert not await brevo.verify(Request({"authorization": "Bearer "}, b"{}", NOW))


@pytest.mark.parametrize("body", [b"", b"no", b"[" * 100_000, b'{"signature": ' + b"[" * 100_000])
@pytest.mark.parametrize("provider", ["mailgun", "ses"])
async def test_a_body_in_which_no_signature_can_be_found(provider: str, body: bytes) -> None:
    with pytest.raises(Junk):
        await verified(provider, ({}, body))


@pytest.mark.parametrize("version", ["1", "2"])
async def test_both_versions_of_sns(version: str) -> None:
    for more in ({}, {"Subject": "About\nmails"}):
        assert await verified("ses", signed("ses", content("ses"), at=NOW, version=version, **more))


@pytest.mark.parametrize(
    "fields",
    [
        {"TopicArn": "arn:aws:sns:eu-west-1:999999999999:bounces"},
        {"TopicArn": ""},
        {"SignatureVersion": "3"},
        {"Timestamp": "yesterday"},
        {"Signature": "no base64"},
        {"SigningCertURL": CERTIFICATE_URL.replace("https", "http")},
        {"SigningCertURL": CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com.example")},
        {"SigningCertURL": CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com@example.com")},
        {"SigningCertURL": CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com:8443")},
        {"SigningCertURL": CERTIFICATE_URL.replace("sns.", "example.com/sns.")},
        {"SigningCertURL": CERTIFICATE_URL.replace("sns.eu-west-1", "s3.eu-west-1")},
        {"SigningCertURL": CERTIFICATE_URL.replace("/Simple", "/mine/Simple")},
        {"SigningCertURL": f"{CERTIFICATE_URL}\n"},
        {"SigningCertURL": ""},
    ],
)
async def test_messages_of_sns_that_are_not_ours(fields: dict[str, str]) -> None:
    """Guarantee: no certificate is fetched but from SNS, whatever a message says."""
    assert not await verified("ses", signed("ses", content("ses"), at=NOW, **fields))


async def test_sns_in_china_has_a_name_of_its_own() -> None:
    url = CERTIFICATE_URL.replace("eu-west-1.amazonaws.com", "cn-north-1.amazonaws.com.cn")
    asked = []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return CERTIFICATE

    headers, body = signed("ses", content("ses"), at=NOW, SigningCertURL=url)
    ses = hook("ses", fetch)
    assert [await ses.verify(Request(headers, body, NOW)) for _ in range(3)] == [True] * 3
    assert asked == [url]  # it is kept


async def test_an_expired_certificate_signs_nothing() -> None:
    from tests.apps.webhooks import _RSA

    async def fetch(url: str) -> bytes:
        return certificate(_RSA, days=-1)

    headers, body = signed("ses", content("ses"), at=NOW)
    assert not await hook("ses", fetch).verify(Request(headers, body, NOW))


@pytest.mark.parametrize("answer", [TransportError("away"), b"", b"no certificate"])
async def test_a_certificate_that_cannot_be_had_is_no_wrong_signature(answer: bytes | Exception) -> None:
    async def fetch(url: str) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return answer

    headers, body = signed("ses", content("ses"), at=NOW)
    with pytest.raises(Unverifiable):
        await hook("ses", fetch).verify(Request(headers, body, NOW))


async def test_no_more_than_some_certificates_are_kept() -> None:
    ses = hook("ses")
    assert isinstance(ses, Ses)

    async def fetch(url: str) -> bytes:
        return CERTIFICATE

    ses._fetch = fetch
    for number in range(30):
        url = CERTIFICATE_URL.replace("0123456789abcdef.pem", f"{number:016x}.pem")
        headers, body = signed("ses", content("ses"), at=NOW, SigningCertURL=url)
        assert await ses.verify(Request(headers, body, NOW))
    assert len(ses._certificates) == 8


# --- the settings


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SENDGRID_WEBHOOK_KEY", "canary", "not a public key"),
        ("SENDGRID_WEBHOOK_KEY", "MFkw", "not a public key"),
        ("RESEND_WEBHOOK_SECRET", "whsec_canary!", "signing secret"),
        ("RESEND_WEBHOOK_SECRET", "whsec_", "signing secret"),
        ("SES_WEBHOOK_TOPICS", "bounces", "not the ARN"),
        ("POSTMARK_WEBHOOK_USER", "canary", "go together"),
        ("BREVO_WEBHOOK_PASSWORD", "canary", "go together"),
    ],
)
def test_secrets_that_are_none_are_refused_at_the_start(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"JETQ_EMAIL_{name}", value)
    with pytest.raises(SettingsError, match=said) as caught:
        Webhooks()
    assert "canary" not in str(caught.value)
    assert f"JETQ_EMAIL_{name}" in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "package"), [("sendgrid", "cryptography"), ("ses", "cryptography"), ("ses", "httpx2")]
)
def test_a_package_that_is_not_installed_is_told_at_the_start(
    provider: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ses, "find_spec", lambda name: None if name == package else object())
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(SettingsError, match=f"need the package {package}"):
        hook(provider)


def test_an_elliptic_key_of_another_curve_is_none_of_sendgrid() -> None:
    from tests.apps.webhooks import _public

    with pytest.raises(SettingsError, match="not a public key"):
        SendGrid(_public(ec.generate_private_key(ec.SECP384R1())))


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("JETQ_EMAIL_MAILGUN_WEBHOOK_KEYS", "JETQ_EMAIL_MAILGUN_WEBHOOK_KEY"),
        ("JETQ_EMAIL_POSTMARK_WEBHOOK_USR", "JETQ_EMAIL_POSTMARK_WEBHOOK_USER"),
        ("JETQ_EMAIL_WEBHOOKS", "not a setting"),
    ],
)
def test_a_misspelt_setting_is_told(variable: str, near: str) -> None:
    with pytest.raises(SettingsError, match=near):
        parse({variable: "x"})


def test_the_topics_of_sns_are_several() -> None:
    assert parse(VARIABLES).webhooks.ses_webhook_topics == ("arn:aws:sns:us-east-1:123456789012:others", TOPIC)


def test_who_takes_webhooks_need_not_be_able_to_send() -> None:
    settings = parse(VARIABLES)
    assert settings.postmark is None
    assert "canary" not in repr(settings)
