"""`JETQ_EMAIL_*`: parsing, refusals, and the password that is never shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jetq import SettingsError
from jetq_email.settings import parse


def test_values_are_parsed_to_their_types() -> None:
    settings = parse(
        {
            "JETQ_EMAIL_HOST": "mail.example.com",
            "JETQ_EMAIL_USER": "app",
            "JETQ_EMAIL_PASSWORD": "canary",
            "JETQ_EMAIL_TIMEOUT": "2.5",
            "JETQ_EMAIL_ATTACHMENT_HOSTS": "A.example, b.example",
            "JETQ_EMAIL_OUTBOX": "/x",
            "JETQ_EMAIL_CA_FILE": "",
            "JETQ_NAMESPACE": "prod",
        }
    )
    assert (settings.smtp_port, settings.chosen_transport, settings.timeout) == (587, "smtp", 2.5)
    assert settings.attachment_hosts == ("a.example", "b.example")
    assert settings.outbox == Path("/x") and settings.ca_file is None
    assert settings.password is not None and settings.password.reveal() == "canary"
    assert "canary" not in repr(settings) + str(settings) + f"{settings.password}"


@pytest.mark.parametrize("name", ["w1.example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_names_that_a_worker_may_have(name: str) -> None:
    assert parse({"JETQ_EMAIL_EHLO": name}).ehlo == name


def test_neither_token_nor_its_command_is_shown() -> None:
    for variable in ("TOKEN", "TOKEN_COMMAND"):
        settings = parse({"JETQ_EMAIL_USER": "u", f"JETQ_EMAIL_{variable}": "canary"})
        assert settings.has_token and "canary" not in repr(settings)


@pytest.mark.parametrize(("tls", "port"), [("starttls", 587), ("implicit", 465), ("none", 25)])
def test_port_follows_tls(tls: str, port: int) -> None:
    assert parse({"JETQ_EMAIL_HOST": "h", "JETQ_EMAIL_TLS": tls}).smtp_port == port


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"JETQ_EMAIL_HOTS": "x"}, "did you mean JETQ_EMAIL_HOST"),
        ({"JETQ_EMAIL_PORT": "smtp"}, "JETQ_EMAIL_PORT"),
        ({"JETQ_EMAIL_PORT": "0"}, "JETQ_EMAIL_PORT"),
        ({"JETQ_EMAIL_RATE": "14"}, "JETQ_EMAIL_RATE"),
        ({"JETQ_EMAIL_RATE": "0/s"}, "JETQ_EMAIL_RATE"),
        ({"JETQ_EMAIL_TLS": "ssl"}, "JETQ_EMAIL_TLS"),
        ({"JETQ_EMAIL_TRANSPORT": "smtp"}, "JETQ_EMAIL_HOST"),
        ({"JETQ_EMAIL_HOST": "h", "JETQ_EMAIL_PASSWORD": "canary"}, "go together"),
        (
            {
                "JETQ_EMAIL_HOST": "h",
                "JETQ_EMAIL_USER": "u",
                "JETQ_EMAIL_PASSWORD": "canary",
                "JETQ_EMAIL_TLS": "none",
            },
            "clear text",
        ),
        ({"JETQ_EMAIL_SENDER": "nobody"}, "JETQ_EMAIL_SENDER"),
        ({"JETQ_EMAIL_ENVELOPE_SENDER": "bounces"}, "JETQ_EMAIL_ENVELOPE_SENDER"),
        ({"JETQ_EMAIL_EHLO": "worker"}, "JETQ_EMAIL_EHLO"),
        ({"JETQ_EMAIL_EHLO": "192.0.2.1]"}, "JETQ_EMAIL_EHLO"),
        ({"JETQ_EMAIL_EHLO": "w.example.com\r\nQUIT"}, "JETQ_EMAIL_EHLO"),
        ({"JETQ_EMAIL_AUTH": "digest-md5"}, "JETQ_EMAIL_AUTH"),
        ({"JETQ_EMAIL_HOST": "h", "JETQ_EMAIL_TOKEN": "canary"}, "USER and JETQ_EMAIL_TOKEN go together"),
        (
            {"JETQ_EMAIL_USER": "u", "JETQ_EMAIL_TOKEN": "canary", "JETQ_EMAIL_PASSWORD": "canary"},
            "JETQ_EMAIL_PASSWORD and JETQ_EMAIL_TOKEN exclude each other",
        ),
        (
            {"JETQ_EMAIL_USER": "u", "JETQ_EMAIL_TOKEN": "canary", "JETQ_EMAIL_AUTH": "plain"},
            "AUTH=plain does not log in by JETQ_EMAIL_TOKEN",
        ),
        (
            {"JETQ_EMAIL_USER": "u", "JETQ_EMAIL_PASSWORD": "canary", "JETQ_EMAIL_AUTH": "xoauth2"},
            "AUTH=xoauth2 does not log in by JETQ_EMAIL_PASSWORD",
        ),
        (
            {
                "JETQ_EMAIL_HOST": "h",
                "JETQ_EMAIL_USER": "u",
                "JETQ_EMAIL_TOKEN_COMMAND": "canary",
                "JETQ_EMAIL_TLS": "none",
            },
            "clear text",
        ),
        ({"JETQ_EMAIL_USER": "u", "JETQ_EMAIL_TOKEN_COMMAND": "'canary"}, "TOKEN_COMMAND is no command"),
        ({"JETQ_EMAIL_USER": "u", "JETQ_EMAIL_TOKEN_COMMAND": " "}, "TOKEN_COMMAND is no command"),
        ({"JETQ_EMAIL_TOPICS": "news of.the.day"}, "JETQ_EMAIL_TOPICS 'of.the.day': not one word"),
        ({"JETQ_EMAIL_SECRET": "canary"}, "16 characters"),
        ({"JETQ_EMAIL_SECRET": f"{'canary' * 3},"}, "16 characters"),
        ({"JETQ_EMAIL_UNSUBSCRIBE_URL": "https://shop.example/u"}, "needs JETQ_EMAIL_SECRET"),
        ({"JETQ_EMAIL_UNSUBSCRIBE_MAILTO": "leave@shop.example"}, "goes with JETQ_EMAIL_UNSUBSCRIBE_URL"),
        *(
            ({"JETQ_EMAIL_UNSUBSCRIBE_URL": url, "JETQ_EMAIL_SECRET": "canary" * 3}, "https://")
            for url in (
                "http://shop.example/u",
                "https://a:canary@shop.example/u",
                "https://s.example/?a=b",
                "u",
                "https://s.example/a b",
            )
        ),
        (
            {
                "JETQ_EMAIL_UNSUBSCRIBE_URL": "https://shop.example",
                "JETQ_EMAIL_SECRET": "canary" * 3,
                "JETQ_EMAIL_UNSUBSCRIBE_MAILTO": "nobody",
            },
            "JETQ_EMAIL_UNSUBSCRIBE_MAILTO",
        ),
    ],
)
def test_impossible_settings_are_refused_by_name(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse(environ)
    assert "canary" not in str(caught.value)


def test_topics_and_secrets_are_several() -> None:
    settings = parse(
        {
            "JETQ_EMAIL_TOPICS": " news  offers",
            "JETQ_EMAIL_SECRET": f"{'canary' * 3}, {'second' * 3}",
            "JETQ_EMAIL_UNSUBSCRIBE_URL": "http://localhost:8000/u",
        }
    )
    assert settings.topics == ("news", "offers")
    assert [secret.reveal() for secret in settings.secret] == ["canary" * 3, "second" * 3]
    assert "canary" not in repr(settings)


def test_no_transport_is_an_error_and_not_a_default() -> None:
    with pytest.raises(SettingsError, match="no mail transport is configured"):
        _ = parse({}).chosen_transport


def test_the_rate_of_the_settings_is_that_of_both_tasks() -> None:
    """Guarantee: what a worker is told to keep to, it keeps to."""
    code = (
        "from jetq_email import send_email, send_template; print(send_email.declared.rate, send_template.declared.rate)"
    )
    environment = {**os.environ, "JETQ_EMAIL_RATE": "14/s"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["14/s", "14/s"]
