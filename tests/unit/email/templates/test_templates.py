"""Templates: strict, escaped where they must be, confined, and styled for mail programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jetq_email.errors import Unsendable
from jetq_email.templates import names, render

_USER = {"name": "<Ann> & Co", "product": "Acme", "url": "https://x.example/?a=1&b=2"}
CONTEXTS = {
    "welcome": _USER,
    "verification": _USER | {"valid_for": "1 h", "code": "1"},
    "password_reset": _USER | {"valid_for": "1 h"},
    "password_changed": _USER | {"when": "today"},
    "notification": {"title": "<Ann> & Co", "message": "m", "url": "https://x.example/?a=1&b=2"},
}


def test_the_built_in_templates_are_the_documented_ones() -> None:
    assert names() == sorted(CONTEXTS)


@pytest.mark.parametrize("name", CONTEXTS)
def test_html_is_escaped_and_text_is_not(name: str) -> None:
    rendered = render(name, CONTEXTS[name])
    assert rendered.subject and "\n" not in rendered.subject
    assert rendered.html is not None and rendered.text is not None
    assert "&lt;Ann&gt;" in rendered.html and "<Ann>" not in rendered.html
    assert "&amp;amp;" not in rendered.html and "&amp;" not in rendered.text + rendered.subject


def test_css_is_inlined_and_media_queries_survive() -> None:
    html = render("welcome", CONTEXTS["welcome"]).html
    assert html is not None
    assert '<h1 style="' in html
    assert "@media (max-width: 600px)" in html


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_missing_variable_is_named(name: str) -> None:
    missing = "title" if name == "notification" else "product"
    context = {key: value for key, value in CONTEXTS[name].items() if key != missing}
    with pytest.raises(Unsendable, match=f"'{missing}' is undefined"):
        render(name, context)


def test_an_own_template_and_an_own_layout_come_first(tmp_path: Path) -> None:
    (tmp_path / "invoice.subject.txt").write_text("Invoice {{ number }}\n")
    (tmp_path / "invoice.html").write_text("<p>{{ number }}</p>")
    (tmp_path / "layout.html").write_text("<b>branded</b>{% block content %}{% endblock %}")
    invoice = render("invoice", {"number": "<7>"}, tmp_path)
    assert (invoice.subject, invoice.text) == ("Invoice <7>", None)
    assert "<p>&lt;7&gt;</p>" in (invoice.html or "")
    assert "branded" in (render("welcome", CONTEXTS["welcome"], tmp_path).html or "")


@pytest.mark.parametrize(
    ("page", "other", "source"),
    [
        (
            '{% from "m.jinja" import shown %}{{ shown(n) }}',
            "m.jinja",
            "{% macro shown(x) %}<p>{{ x }}</p>{% endmacro %}",
        ),
        ('{% extends "base.j2" %}', "base.j2", "<h1>{{ n }}</h1>"),
        ('{% include "part.htm" %}', "part.htm", "<h1>{{ n }}</h1>"),
        ('{% include "part.txt" %}', "part.txt", "<h1>{{ n }}</h1>"),
        ('{% include "none" %}', "none", "<h1>{{ n }}</h1>"),
    ],
    ids=["macro", "layout", "htm", "txt", "without"],
)
def test_html_is_escaped_whatever_the_file_is_called(tmp_path: Path, page: str, other: str, source: str) -> None:
    """Guarantee: what is given to a template is no HTML in a mail. The text of the same mail has it as it is."""
    (tmp_path / "a.subject.txt").write_text("s")
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "a.txt").write_text(page)
    (tmp_path / other).write_text(source)
    rendered = render("a", {"n": "<script>alert(1)</script>"}, tmp_path)
    assert "&lt;script&gt;" in (rendered.html or "") and "<script>" not in (rendered.html or "")
    assert "<script>" in (rendered.text or "")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "", "x.y", "a\x00"])
def test_a_name_cannot_leave_the_directory(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unsendable, match="not a template's name"):
        render(name, {}, tmp_path)


def test_an_unknown_template_lists_those_there_are() -> None:
    with pytest.raises(Unsendable, match="welcome"):
        render("welcom", {})


@pytest.mark.parametrize("body", ["{{ x", "{{ 1 / 0 }}", "{% include 'gone.txt' %}", "{{ 'a'.b.c }}"])
def test_a_broken_template_is_an_unsendable_mail(body: str, tmp_path: Path) -> None:
    (tmp_path / "bad.subject.txt").write_text("s")
    (tmp_path / "bad.txt").write_text(body)
    with pytest.raises(Unsendable, match="bad"):
        render("bad", {}, tmp_path)


def test_a_link_out_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    own = tmp_path / "own"
    own.mkdir()
    (own / "leak.subject.txt").write_text("s")
    (own / "leak.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(Unsendable, match=r"leak\.txt"):
        render("leak", {}, own)
