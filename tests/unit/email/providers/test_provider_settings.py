"""`JETQ_EMAIL_<PROVIDER>_*`: a provider is set up by its own variables, and says what it lacks."""

from __future__ import annotations

import sys

import pytest

from jetq import SettingsError
from jetq_email.providers import PROVIDERS, Ses
from jetq_email.secret import Secret
from jetq_email.settings import parse
from jetq_email.tasks import jetq_ready
from tests.apps.mail_providers import SHAPES, variables

each = pytest.mark.parametrize("name", PROVIDERS)


def variables_of(name: str) -> dict[str, str]:
    """Those that a provider needs, alone."""
    return {f"JETQ_EMAIL_{name}_{field}".upper(): value for field, value in SHAPES[name].settings.items()}


@each
def test_a_provider_that_alone_is_set_up_is_chosen(name: str) -> None:
    settings = parse(variables_of(name))
    assert settings.chosen_transport == name
    assert type(settings.provider(name)) is PROVIDERS[name]
    assert "canary" not in repr(settings) + str(settings)


def test_fields_are_variables() -> None:
    settings = parse({**variables_of("ses"), "JETQ_EMAIL_SES_CONFIGURATION_SET": "events"})
    assert settings.ses == Ses(
        key_id="AKIDEXAMPLE", secret_key=Secret("canary"), region="eu-central-1", configuration_set="events"
    )


@each
def test_what_is_missing_is_named(name: str) -> None:
    for variable in variables_of(name):
        given = {other: value for other, value in variables_of(name).items() if other != variable}
        with pytest.raises(SettingsError) as caught:
            parse({**given, "JETQ_EMAIL_TRANSPORT": name})
        assert variable in str(caught.value) and "canary" not in str(caught.value)


def test_a_misspelt_field_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match="did you mean JETQ_EMAIL_SES_REGION"):
        parse({**variables_of("ses"), "JETQ_EMAIL_SES_REGOIN": "x"})


def test_of_several_one_has_to_be_chosen() -> None:
    both = {**variables_of("resend"), **variables_of("brevo")}
    with pytest.raises(SettingsError, match="2 providers are set up, and none is chosen: resend, brevo"):
        _ = parse(both).chosen_transport
    assert parse({**both, "JETQ_EMAIL_TRANSPORT": "brevo"}).chosen_transport == "brevo"


@each
def test_without_what_speaks_to_it_a_worker_is_not_ready(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a worker without the extra takes no mail, and says which."""
    for variable, value in variables(name, "http://127.0.0.1:9").items():
        monkeypatch.setenv(variable, value)
    jetq_ready()
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(SettingsError, match=r"needs httpx2, which is not installed\n.*jetq-nats\[email,http\]"):
        jetq_ready()
