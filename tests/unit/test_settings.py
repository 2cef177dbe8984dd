"""Settings: what each source may say, which one wins, and what a wrong one is told."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest

from jetq.client.settings_sources import load_settings
from jetq.errors import SettingsError
from jetq.settings import DEFAULT_SERVER, Settings, SettingsOptions, safe_url

DURATIONS = {"ack_wait", "publish_timeout", "connect_timeout", "dead_letter_ttl"}


class World:
    """The environment and working directory of one test, and nothing of the machine's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {"XDG_CONFIG_HOME": str(directory / "config")}

    def load(self, **keywords: object) -> Settings:
        return load_settings(keywords, environment=self.environment, directory=self.directory)

    def error(self, **keywords: object) -> SettingsError:
        with pytest.raises(SettingsError) as caught:
            self.load(**keywords)
        return caught.value

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def context(self, name: str, **content: object) -> None:
        self.write(f"config/nats/context/{name}.json", json.dumps(content))
        self.environment["NATS_CONTEXT"] = name


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- the struct


def test_defaults_without_any_source(world: World) -> None:
    settings = world.load()
    assert settings == Settings()
    assert settings.servers == (DEFAULT_SERVER,)
    assert (settings.ack_wait, settings.publish_timeout, settings.connect_timeout) == (30.0, 10.0, 5.0)
    assert settings.dead_letter_ttl == timedelta(days=30).total_seconds()


def test_the_keywords_are_the_fields() -> None:
    plain = get_type_hints(Settings)
    del plain["servers"], plain["namespace"]  # parameters of Jetq() themselves
    expected = {name: float | timedelta if name in DURATIONS else kind for name, kind in plain.items()}
    assert get_type_hints(SettingsOptions) == expected


def test_secrets_are_not_shown() -> None:
    settings = Settings(servers=("nats://bob:canary@h:1",), user="bob", password="canary", token="canary")
    shown = repr(settings) + str(settings) + repr(settings.__rich_repr__())
    assert "canary" not in shown
    assert "password='***'" in shown and "nats://h:1" in shown
    assert "password=None" in repr(Settings())


@pytest.mark.parametrize(
    "url, shown",
    [
        ("nats://u:p@h:4222", "nats://h:4222"),
        ("nats://u:p@ss@h", "nats://h"),
        ("u:p@h", "h"),
        ("nats://h:4222", "nats://h:4222"),
    ],
)
def test_a_url_is_shown_without_its_credentials(url: str, shown: str) -> None:
    assert safe_url(url) == shown


# --- precedence


def test_each_source_yields_to_the_one_before_it(world: World) -> None:
    world.write("pyproject.toml", '[tool.jetq]\nservers = ["nats://pyproject"]\nack_wait = 11\n')
    seen = [world.load().servers[0]]
    world.write("jetq.toml", 'servers = "nats://toml"\n')
    seen.append(world.load().servers[0])
    world.context("prod", url="nats://context")
    seen.append(world.load().servers[0])
    world.environment["NATS_URL"] = "nats://environment"
    seen.append(world.load().servers[0])
    world.environment["JETQ_SERVERS"] = "nats://jetq"
    seen.append(world.load().servers[0])
    seen.append(world.load(servers="nats://keyword").servers[0])
    names = ["pyproject", "toml", "context", "environment", "jetq", "keyword"]
    assert seen == [f"nats://{name}:4222" for name in names]
    assert world.load().ack_wait == 11.0


def test_none_and_an_empty_variable_are_not_given(world: World) -> None:
    world.environment |= {"JETQ_REPLICAS": "3", "NATS_URL": "", "JETQ_TOKEN": ""}
    assert world.load(servers=None, replicas=None) == Settings(replicas=3)


def test_every_setting_has_a_variable(world: World) -> None:
    values = {
        "servers": "tls://a:1,b",
        "namespace": "prod",
        "tls_ca": "/ca.pem",
        "tls_cert": "/cert.pem",
        "tls_key": "/key.pem",
        "tls_first": "true",
        "inbox_prefix": "_INBOX.jetq",
        "ack_wait": "60",
        "publish_timeout": "2.5",
        "connect_timeout": "1",
        "replicas": "3",
        "dead_letter_ttl": "86400",
        "jetstream_domain": "hub",
        "ignore_discovered_servers": "1",
        "max_bytes": "1073741824",
        "dead_letter_max_bytes": "10000000",
        "result_max_bytes": "20000000",
        "state_max_bytes": "30000000",
        "record_max_bytes": "40000000",
        "workflow_max_bytes": "50000000",
        "plugins": "email, acme",
    }
    identity = {"user": "bob", "password": "pw"}, {"token": "t"}, {"creds": "/c"}, {"nkey": "/n"}
    assert {*values, *(name for way in identity for name in way)} == set(Settings.__struct_fields__)
    for way in identity:
        world.environment |= {f"JETQ_{name.upper()}": value for name, value in {**values, **way}.items()}
        settings = world.load()
        for name in way:
            assert getattr(settings, name) == way[name]
            del world.environment[f"JETQ_{name.upper()}"]
    assert settings.servers == ("tls://a:1", "nats://b:4222")
    assert (settings.replicas, settings.ack_wait, settings.tls_first) == (3, 60.0, True)
    assert (settings.jetstream_domain, settings.ignore_discovered_servers) == ("hub", True)
    assert (settings.max_bytes, settings.state_max_bytes, settings.record_max_bytes) == (1073741824, 30000000, 40000000)
    assert settings.workflow_max_bytes == 50000000
    assert settings.plugins == ("email", "acme")


def test_a_timedelta_is_a_duration(world: World) -> None:
    settings = world.load(ack_wait=timedelta(minutes=1), dead_letter_ttl=timedelta(days=1), publish_timeout=2)
    assert (settings.ack_wait, settings.dead_letter_ttl, settings.publish_timeout) == (60.0, 86400.0, 2.0)


def test_paths_may_begin_with_the_home_directory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/bob")
    assert world.load(creds="~/jetq.creds").creds == "/home/bob/jetq.creds"


# --- who jetq is


def test_credentials_move_out_of_the_url(world: World) -> None:
    settings = world.load(servers="nats://bob:p%40ss@a:1,nats://bob:p%40ss@b:2")
    assert settings.servers == ("nats://a:1", "nats://b:2")
    assert (settings.user, settings.password) == ("bob", "p@ss")
    assert world.load(servers="nats://sesame@a").token == "sesame"


def test_one_source_alone_says_who_jetq_is(world: World) -> None:
    world.environment |= {"NATS_TOKEN": "old", "JETQ_USER": "bob", "JETQ_PASSWORD": "pw"}
    settings = world.load()
    assert (settings.user, settings.password, settings.token) == ("bob", "pw", None)
    settings = world.load(creds="/c")
    assert (settings.user, settings.password, settings.token, settings.creds) == (None, None, None, "/c")


def test_user_and_password_may_come_from_two_sources(world: World) -> None:
    world.environment["JETQ_PASSWORD"] = "pw"
    settings = world.load(user="bob")
    assert (settings.user, settings.password) == ("bob", "pw")


@pytest.mark.parametrize(
    "keywords, names",
    [
        ({"token": "t", "creds": "/c"}, ["token of Jetq()", "creds of Jetq()"]),
        ({"servers": "nats://bob:pw@h", "token": "t"}, ["servers of Jetq()", "token of Jetq()"]),
        ({"servers": "nats://bob:pw@h", "password": "other"}, ["servers of Jetq()", "password of Jetq()"]),
        ({"user": "bob"}, ["user of Jetq(): a user without a password"]),
        ({"password": "pw"}, ["password of Jetq(): a password without a user"]),
        ({"tls_key": "/k"}, ["tls_key of Jetq(): a key without a certificate"]),
        ({"servers": "nats://a:p@x,nats://b:p@y"}, ["the URLs name different credentials"]),
    ],
)
def test_contradictions_are_told(world: World, keywords: dict[str, object], names: list[str]) -> None:
    message = world.error(**keywords).message
    assert not [name for name in names if name not in message], message
    assert "pw" not in message


# --- unknown names


def test_an_unknown_keyword_gets_a_suggestion(world: World) -> None:
    error = world.error(ack_weit=3)
    assert (error.message, error.hint) == ("Jetq() has no setting 'ack_weit'", "did you mean ack_wait?")


def test_an_unknown_variable_gets_a_suggestion(world: World) -> None:
    world.environment["JETQ_SERVER"] = "nats://h"
    error = world.error()
    assert error.message == "the environment variable JETQ_SERVER is none of jetq's"
    assert error.hint == "did you mean JETQ_SERVERS?"


def test_variables_of_the_mail_plugin_and_of_tests_pass(world: World) -> None:
    world.environment |= {"JETQ_EMAIL_HOST": "h", "JETQ_TEST_KILL_AT": "ack", "NATS_TIMEOUT": "3", "PATH": "/bin"}
    assert world.load() == Settings()


def test_variables_that_kubernetes_sets_for_a_service_named_jetq_pass(world: World) -> None:
    world.environment |= {
        "JETQ_SERVICE_HOST": "10.0.0.11",
        "JETQ_SERVICE_PORT": "8080",
        "JETQ_SERVICE_PORT_HTTP": "8080",
        "JETQ_PORT": "tcp://10.0.0.11:8080",
        "JETQ_PORT_8080_TCP": "tcp://10.0.0.11:8080",
        "JETQ_PORT_8080_TCP_PROTO": "tcp",
        "JETQ_PORT_8080_TCP_PORT": "8080",
        "JETQ_PORT_8080_TCP_ADDR": "10.0.0.11",
    }
    assert world.load() == Settings()
    world.environment["JETQ_PORT"] = "8080"
    assert "JETQ_PORT" in world.error().message


@pytest.mark.parametrize("name", ["ack_wait", "publish_timeout", "connect_timeout", "dead_letter_ttl"])
def test_a_duration_may_have_its_unit(world: World, name: str) -> None:
    world.environment[f"JETQ_{name.upper()}"] = "1m30s"
    assert getattr(world.load(), name) == 90.0
    world.environment = {}
    world.write("jetq.toml", f'{name} = "90s"')
    assert getattr(world.load(), name) == 90.0
    world.write("jetq.toml", f"{name} = 90")
    assert getattr(world.load(), name) == 90.0


def test_an_unknown_key_gets_a_suggestion(world: World) -> None:
    world.write("pyproject.toml", "[tool.jetq]\nreplica = 3\n")
    error = world.error()
    assert error.message == "[tool.jetq] of pyproject.toml has a key 'replica' that is no setting of jetq"
    assert error.hint == "did you mean replicas?"
    world.write("pyproject.toml", "[tool.other]\nreplica = 3\n")
    world.write("jetq.toml", "zzz = 3\n")
    error = world.error()
    assert error.message == "jetq.toml has a key 'zzz' that is no setting of jetq"
    assert error.hint is not None and "ack_wait, connect_timeout" in error.hint


# --- wrong values


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("ack_wait", 0.5, "ack_wait of Jetq(): expected float >= 1.0, got 0.5"),
        ("ack_wait", "soon", "ack_wait of Jetq(): expected a duration like 90s, 10m or 1h30m, got 'soon'"),
        ("ack_wait", "-3s", "ack_wait of Jetq(): expected a duration like 90s, 10m or 1h30m, got '-3s'"),
        ("ack_wait", "2h", "ack_wait of Jetq(): expected float <= 3600.0, got '2h'"),
        ("ack_wait", True, "ack_wait of Jetq(): expected float, got True"),
        ("publish_timeout", timedelta(seconds=-1), "publish_timeout of Jetq(): expected a duration of 0 seconds"),
        ("publish_timeout", float("nan"), "publish_timeout of Jetq(): "),
        ("replicas", 7, "replicas of Jetq(): expected int <= 5, got 7"),
        ("namespace", "A.b", "namespace of Jetq(): namespace 'A.b' is not allowed"),
        ("inbox_prefix", "a.*", "inbox_prefix of Jetq(): expected subject tokens without wildcards"),
        ("jetstream_domain", "$JS.hub.API", "jetstream_domain of Jetq(): expected the name of a JetStream domain"),
        ("jetstream_domain", "API", "jetstream_domain of Jetq(): expected the name of a JetStream domain"),
        ("max_bytes", 1000, "max_bytes of Jetq(): expected int >= 1048576"),
        ("servers", [], "servers of Jetq(): expected at least one URL"),
        ("servers", 4222, "servers of Jetq(): expected URLs, got int"),
        ("servers", "http://h", "servers of Jetq(): http://h: jetq connects over nats:// or tls://, not http://"),
        ("servers", "ws://h", "servers of Jetq(): ws://h: jetq connects over nats:// or tls://, not ws://"),
        ("servers", "nats://h:99999", "servers of Jetq(): 'nats://h:99999' is no URL of a NATS server"),
        ("servers", "nats://h:0", "servers of Jetq(): 'nats://h:0' is no URL of a NATS server"),
        ("servers", "nats://", "servers of Jetq(): 'nats://' is no URL of a NATS server"),
        ("servers", "nats://u:secret@h/x", "servers of Jetq(): 'nats://h/x' is no URL of a NATS server"),
        ("servers", "nats://[::1", "servers of Jetq(): 'nats://[::1' is no URL of a NATS server"),
    ],
)
def test_a_wrong_value_is_told_with_its_source(world: World, name: str, value: object, message: str) -> None:
    assert world.error(**{name: value}).message.startswith(message)


def test_a_wrong_variable_and_a_wrong_key_name_themselves(world: World) -> None:
    world.environment["JETQ_CONNECT_TIMEOUT"] = "5 parsecs"
    assert world.error().message == (
        "JETQ_CONNECT_TIMEOUT: expected a duration like 90s, 10m or 1h30m, got '5 parsecs'"
    )
    world.environment = {}
    world.write("jetq.toml", 'ack_wait = "x"')
    assert world.error().message.startswith("ack_wait in jetq.toml: expected a duration like 90s")
    world.write("jetq.toml", "ack_wait = = 3")
    assert "jetq.toml" in world.error().message
    world.write("jetq.toml", "")
    world.write("pyproject.toml", "[tool]\njetq = 3")
    assert world.error().message == "pyproject.toml: tool.jetq is not a table"


def test_a_wrong_secret_is_not_shown(world: World) -> None:
    assert "271828" not in str(world.error(password=271828, user="bob"))


@pytest.mark.parametrize(
    "written, url",
    [
        ("localhost", "nats://localhost:4222"),
        ("h:4333", "nats://h:4333"),
        ("nats://[::1]:4333", "nats://[::1]:4333"),
        ("tls://h/", "tls://h:4222"),
    ],
)
def test_a_server_may_be_written_short(world: World, written: str, url: str) -> None:
    assert world.load(servers=[written]).servers == (url,)


def test_when_clear_text_is_refused() -> None:
    assert not Settings().wants_tls
    assert Settings(servers=("tls://h:1",)).wants_tls
    assert Settings(tls_ca="/ca.pem").wants_tls
    assert Settings(tls_first=True).wants_tls


# --- contexts of the `nats` command


def test_a_context_is_used_when_named(world: World) -> None:
    world.context("prod", description="x", url="nats://a,nats://b", user="bob", password="pw", ca="/ca", tls_first=True)
    settings = world.load()
    assert settings.servers == ("nats://a:4222", "nats://b:4222")
    assert (settings.user, settings.password, settings.tls_ca, settings.tls_first) == ("bob", "pw", "/ca", True)


def test_a_selected_context_is_not_used_unasked(world: World) -> None:
    world.context("prod", url="nats://production")
    world.write("config/nats/context.txt", "prod")
    del world.environment["NATS_CONTEXT"]
    assert world.load().servers == (DEFAULT_SERVER,)


def test_a_context_with_several_credentials_is_read_as_the_nats_command_does(world: World) -> None:
    world.context("prod", token="t", creds="/c", nkey="/n", user="", password="")
    settings = world.load()
    assert (settings.creds, settings.token, settings.nkey) == ("/c", None, None)


def test_references_in_a_context_are_followed(world: World) -> None:
    path = world.write("secret", "s3cret\n")
    world.environment["MY_USER"] = "bob"
    world.context("prod", user="env://MY_USER", password=f"file://{path}", ca=f"file://{path}")
    settings = world.load()
    assert (settings.user, settings.password, settings.tls_ca) == ("bob", "s3cret", str(path))


@pytest.mark.parametrize(
    "content, message",
    [
        ({"jetstream_api_prefix": "x"}, "the NATS context 'prod' sets jetstream_api_prefix, which jetq does not know"),
        ({"jetstream_domain": "a.b"}, "jetstream_domain of the NATS context 'prod': expected the name of a JetStream"),
        ({"nsc": "nsc://o/a/u"}, "the NATS context 'prod' sets nsc, which"),
        (
            {"password": "op://vault/item"},
            "password of the NATS context 'prod' refers to op:, which jetq cannot follow",
        ),
        ({"token": "env://NOT_SET"}, "token of the NATS context 'prod' refers to env:, which jetq cannot follow"),
        ({"url": 3}, "url of the NATS context 'prod': expected URLs, got int"),
        ({"user": "bob"}, "user of the NATS context 'prod': a user without a password"),
    ],
)
def test_a_context_jetq_cannot_honour_is_refused(world: World, content: dict[str, object], message: str) -> None:
    world.context("prod", **content)
    assert world.error().message.startswith(message)


def test_a_missing_or_broken_context_is_told(world: World) -> None:
    world.environment["NATS_CONTEXT"] = "nope"
    error = world.error()
    assert error.message.startswith("NATS_CONTEXT: there is no context 'nope'")
    assert error.hint == "see `nats context ls`"
    world.environment["NATS_CONTEXT"] = "../nope"
    assert world.error().message == "NATS_CONTEXT: '../nope' is not a context's name"
    world.context("prod")
    world.write("config/nats/context/prod.json", "[1]")
    assert "is not a NATS context" in world.error().message
    world.write("config/nats/context/prod.json", "{")
    assert world.error().message.startswith("NATS_CONTEXT: cannot read")


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().ack_wait = 3.0  # type: ignore[misc]
    assert msgspec.structs.replace(Settings(), ack_wait=3.0).ack_wait == 3.0
