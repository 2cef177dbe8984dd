"""`jetq email preview`: all that a template lacks at once, and the mail that it makes, also in a browser."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from jetq import JetqError
from jetq.cli.root import cli
from jetq_email.errors import Unsendable
from jetq_email.templates.preview import Preview, preview
from jetq_email.templates.preview_server import PreviewServer


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.subject.txt").write_text("Order {{ number }}")
    (tmp_path / "a.html").write_text("<p>Hello {{ user.name }}</p>{% if vip %}{{ discount }}{% endif %}")
    monkeypatch.setenv("JETQ_EMAIL_TEMPLATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("JETQ_EMAIL_SENDER", "Shop <shop@example.org>")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(directory: Path, **context: object) -> Preview:
    return preview("a", context, directory, None)


def test_all_that_a_template_lacks_is_named_at_once(directory: Path) -> None:
    shown = made(directory)
    assert shown.lacking == ("number", "user.name", "vip")
    assert shown.unused == ("discount",)
    assert dict(shown.headers)["Subject"] == "Order [number]"
    assert shown.text == "Hello [user.name]\n"


def test_with_all_of_it_the_mail_is_the_one_that_is_sent(directory: Path) -> None:
    shown = made(directory, number=7, user={"name": "<Ann>"}, vip=True, discount="5 %")
    assert (shown.lacking, shown.unused) == ((), ())
    assert dict(shown.headers)["From"] == "sender@example.com"
    assert "<p>Hello &lt;Ann&gt;</p>5 %" in (shown.html or "")
    assert shown.text == "Hello <Ann>\n\n5 %\n"
    assert shown.size > len(shown.html or "") + len(shown.text)


@pytest.mark.parametrize(
    ("used", "lacking"),
    [
        ("{{ x }}", ("x",)),
        ("{{ x.y.z }} {{ x['y'] }}", ("x.y.z", "x.y")),
        ("{{ given.y }}", (".y",)),
        ("{% for each in x %}{{ each.z }}{% endfor %}", ("x",)),
        ("{% if x %}{% endif %}{% if not y %}{% endif %}", ("x", "y")),
        ("{% if x == 1 or y > 2 or 3 in z %}{% endif %}", ("x", "y", "z")),
        ("{{ x + 1 }} {{ 2 * y }} {{ -z }}", ("x", "y", "z")),
        ("{{ x|length }} {{ y|int }} {{ z|round(2) }} {{ '%.2f'|format(w) }}", ("x", "y", "z", "w")),
        ("{{ x|join(', ') }} {{ y|upper }} {{ z()|string }}", ("x", "y", "z")),
        ("{{ x|default('none') }} {{ x is defined }}", ()),
        ("{% set x = 1 %}{{ x }}{% macro m(y) %}{{ y }}{% endmacro %}{{ m(2) }}", ()),
        ("{% include 'part.html' %}", ("inner",)),
    ],
)
def test_what_lacks_is_noted_however_it_is_used(used: str, lacking: tuple[str, ...], directory: Path) -> None:
    (directory / "part.html").write_text("{{ inner }}")
    (directory / "a.html").write_text(used)
    assert made(directory, number=1, given={}).lacking == lacking


def test_what_other_data_leads_to_is_named_from_all_files(directory: Path) -> None:
    (directory / "base.html").write_text("{% block content %}{% endblock %}{{ year|default(2026) }}")
    (directory / "part.html").write_text("{{ code }}")
    (directory / "a.html").write_text(
        '{% extends "base.html" %}{% block content %}{% if vip %}{% include "part.html" %}{% endif %}{% endblock %}'
    )
    assert made(directory, number=1, vip=False).unused == ("code", "year")


def test_a_template_that_fails_for_what_it_lacks_is_told_that(directory: Path) -> None:
    (directory / "a.html").write_text("{{ x }}{{ 1 / y|int }}")
    with pytest.raises(Unsendable, match="template 'a' lacks number, x, y"):
        made(directory)
    (directory / "a.html").write_text("{{ 1 / 0 }}")
    with pytest.raises(Unsendable, match="ZeroDivisionError"):
        made(directory, number=1)


# --- the command


def run(*words: str) -> tuple[str, BaseException | None]:
    result = CliRunner().invoke(cli, ["email", "preview", *words])
    return result.output, result.exception


def test_it_shows_headers_text_and_size_and_writes_the_html(directory: Path) -> None:
    (directory / "d.json").write_text(json.dumps({"number": 7, "user": {"name": "Jörg"}, "vip": False}))
    shown, error = run("a", "--data", "d.json")
    assert error is None
    for line in ("From: Shop <shop@example.org>", "Subject: Order 7", "Hello Jörg", "HTML in a.preview.html"):
        assert line in shown.splitlines()
    assert "not given, and not used with this data: discount" in shown.splitlines()
    assert " bytes\n" in shown
    assert "<p>Hello Jörg</p>" in (directory / "a.preview.html").read_text("utf-8")
    assert run("a", "--data", "d.json", "--out", "b.html")[1] is None
    assert (directory / "b.html").read_text("utf-8") == (directory / "a.preview.html").read_text("utf-8")


def test_what_lacks_is_the_error_after_all_is_shown(directory: Path) -> None:
    shown, error = run("a")
    assert "Hello [user.name]" in shown
    assert isinstance(error, JetqError)
    assert error.message == "template 'a' lacks number, user.name, vip"
    assert error.hint is not None and "--data" in error.hint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, r"the file d\.json cannot be read: No such file"),
        ("{", r"the file d\.json is not JSON"),
        ("[1]", r"the file d\.json is no JSON object"),
        ("[" * 100_000, r"the file d\.json is not JSON"),
        (b"\xff", r"the file d\.json is not JSON"),
    ],
)
def test_data_that_is_none_is_told(data: str | bytes | None, message: str, directory: Path) -> None:
    if data is not None:
        (directory / "d.json").write_bytes(data if isinstance(data, bytes) else data.encode())
    _, error = run("a", "--data", "d.json")
    assert isinstance(error, JetqError)
    with pytest.raises(JetqError, match=message):
        raise error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], "template 'nope': there is no nope.subject.txt"),
        (["../a"], "not a template's name"),
        (["welcome", "--out", "gone/x.html"], r"the file gone/x\.html cannot be written: No such file"),
    ],
)
def test_what_cannot_be_shown_is_told(words: list[str], message: str, directory: Path) -> None:
    _, error = run(*words)
    assert isinstance(error, JetqError)
    with pytest.raises(JetqError, match=message):
        raise error


def test_a_port_that_is_taken_is_told(directory: Path) -> None:
    with PreviewServer(lambda: made(directory)) as other:
        _, error = run("a", "--serve", "--port", str(other.server_port))
    assert isinstance(error, JetqError)
    assert error.message == f"port {other.server_port} cannot be had: Address already in use"


# --- the browser


@contextmanager
def serving(directory: Path, **context: object) -> Iterator[str]:
    with PreviewServer(lambda: made(directory, **context)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def get(url: str, **headers: str) -> tuple[int, str, str]:
    """The code, the page and its policy."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as response:
            return response.status, response.read().decode(), response.headers.get("Content-Security-Policy", "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), ""


def test_a_page_is_made_anew_each_time_it_is_loaded(directory: Path) -> None:
    with serving(directory, number="<7>", user={"name": "Ann"}) as url:
        code, page, _ = get(url)
        assert code == 200
        for part in (
            "Order &lt;7&gt;",
            "Not given: vip",
            "not used with this data: discount",
            'src="/html"',
            "Hello Ann",
        ):
            assert part in page
        (directory / "a.html").write_text("<p>Bye {{ user.name }}<script>x()</script></p>")
        code, html, policy = get(f"{url}html")
        assert (code, policy) == (200, "sandbox allow-popups")
        assert "Bye Ann" in html and "<script>" in html
        assert "Bye Ann" in get(url)[1]


def test_an_error_is_on_the_page_until_it_is_mended(directory: Path) -> None:
    with serving(directory, number=1) as url:
        (directory / "a.html").write_text("<b>{{ 1 / 0 }}</b>")
        code, page, _ = get(url)
        assert code == 500 and "ZeroDivisionError" in page
        (directory / "a.html").write_text("fine")
        assert get(url)[0] == 200
        assert get(f"{url}other")[0] == 404


def test_a_page_elsewhere_cannot_read_it(directory: Path) -> None:
    with serving(directory) as url:
        code, page, _ = get(url, Host="evil.example:80")
        assert code == 403 and "Order" not in page
        assert url.startswith("http://127.0.0.1:")
