"""Templates in MJML: Jinja's tags come through, what would be lost is an error, and values are never MJML."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq import SettingsError
from jetq_email.errors import Unsendable
from jetq_email.templates import mjml, render, rendering
from jetq_email.templates.mjml import to_html
from tests.unit.properties.examples import examples

PAGE = Path(__file__).parents[4] / "docs/how-to/send-mail.md"


def document(inner: str) -> str:
    return f"<mjml><mj-body>{inner}</mj-body></mjml>"


def column(inner: str) -> str:
    return document(f"<mj-section><mj-column>{inner}</mj-column></mj-section>")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "a.subject.txt").write_text("Your order")
    return tmp_path


def shown(directory: Path, source: str, **context: object) -> str:
    (directory / "a.mjml").write_text(source)
    html = render("a", context, directory).html
    assert html is not None
    return html


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (column("<mj-text>Hi {{ name }}, {{ n }} &amp; more</mj-text>"), ["Hi Ann &amp; Bob, 3 &amp; more"]),
        (column('<mj-text>{% if n < 5 and name > "A" %}few{% else %}many{% endif %}</mj-text>'), [">few<"]),
        (column('<mj-text>{{ none|default("<b>", true) }}{{ "}}" }}</mj-text>'), ["&lt;b&gt;}}"]),
        (column("<mj-text>{# a < b {{ #}x{% raw %}{{ raw }}{% endraw %}</mj-text>"), ["x{{ raw }}"]),
        (column('<mj-button href="{{ url }}">{{ name }}</mj-button>'), ['href="https://x.example/?a=1&amp;b=&quot;"']),
        (column('<mj-image src="{{ url }}" alt="{{ name }}" />'), ['alt="Ann &amp; Bob"', 'src="https://x.example/']),
        (column('<mj-text color="{% if n > 2 %}red{% else %}blue{% endif %}">x</mj-text>'), ["color:red"]),
        (column("{% for i in items %}<mj-text>{{ i }}</mj-text>{% endfor %}"), [">one</div>", ">&lt;two&gt;</div>"]),
        (
            column("<mj-raw>{% for i in items %}</mj-raw><mj-text>{{ i }}</mj-text><mj-raw>{% endfor %}</mj-raw>"),
            [">one</div>", ">&lt;two&gt;</div>"],
        ),
        (
            column("<mj-table>{% for i in items %}<tr><td>{{ i }}</td></tr>{% endfor %}</mj-table>"),
            [">one</td></tr><tr>", ">&lt;two&gt;</td></tr>"],
        ),
        (
            document(
                "{% for i in items %}"
                "<mj-section><mj-column><mj-text>{{ i }}</mj-text></mj-column></mj-section>"
                "{% endfor %}"
            ),
            [">one</div>", ">&lt;two&gt;</div>"],
        ),
        ("{% set greeting = 'Hi' %}\n" + column("<mj-text>{{ greeting }}</mj-text>") + "{# end #}", [">Hi<"]),
        (
            "<mjml><mj-head><mj-title>{{ name }}</mj-title><mj-preview>{{ n }} or {{ 4 }}</mj-preview></mj-head>"
            "<mj-body></mj-body></mjml>",
            ["<title>Ann &amp; Bob</title>"],
        ),
    ],
    ids=[
        "text", "condition", "quotes", "comment", "button", "image", "colour", "for", "for-raw", "table", "for-section",
        "around", "head",
    ],
)  # fmt: skip
def test_jinja_goes_where_mjml_takes_text(source: str, expected: list[str], directory: Path) -> None:
    context = {
        "name": "Ann & Bob",
        "n": 3,
        "url": 'https://x.example/?a=1&b="',
        "items": ["one", "<two>"],
        "none": None,
    }
    html = shown(directory, source, **context)
    for part in expected:
        assert part in html
    assert "jinja" not in html and "<mj-" not in html


def test_the_page_shows_one_that_works(directory: Path) -> None:
    (source,) = re.findall(r"<mjml>.*?</mjml>", PAGE.read_text("utf-8"), re.DOTALL)
    items = [{"color": "#123456", "title": "Dune"}, {"color": "red", "title": "<Emma>"}]
    html = shown(directory, source, name="Ann", items=items, url="https://shop.example/7")
    for part in ("Hello Ann, your books are on the way.", "color:#123456", "&lt;Emma&gt;", "https://shop.example/7"):
        assert part in html


values = st.text("<>/&\"'{}%#mj-rawtext=; \n", max_size=60)


@given(values)
@examples(100)
def test_no_value_is_mjml_html_or_jinja(value: str) -> None:
    """Guarantee: what is given to a template in MJML stands in the mail as text, whatever it is."""
    source = column('<mj-text>[{{ v }}]</mj-text><mj-button href="https://x.example/{{ v }}">{{ v }}</mj-button>')
    template = rendering._environment(None, is_html=True).from_string(to_html("a.mjml", source, str))
    plain = template.render(v="")
    html = template.render(v=value)
    assert html.count("<") == plain.count("<") and html.count('"') == plain.count('"')


def test_it_is_made_into_html_once_until_it_or_what_it_includes_changes(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def noted(*args: object) -> str:
        made.append(str(args[0]))
        return to_html(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(rendering, "to_html", noted)
    (directory / "a.mjml").write_text(document('<mj-include path="foot.mjml" />'))
    foot = directory / "foot.mjml"
    foot.write_text("<mj-section><mj-column><mj-text>from {{ name if name < 'z' }}</mj-text></mj-column></mj-section>")
    for name in ("Ann", "Bob"):
        assert f"from {name}" in (render("a", {"name": name}, directory).html or "")
    assert made == ["a.mjml"]
    foot.write_text("<mj-section><mj-column><mj-text>by {{ name }}</mj-text></mj-column></mj-section>")
    os.utime(foot, (1, 1))
    assert "by Cy" in (render("a", {"name": "Cy"}, directory).html or "")
    assert made == ["a.mjml"] * 2


def test_an_own_one_comes_before_the_built_in_and_after_html(directory: Path) -> None:
    (directory / "welcome.mjml").write_text(column("<mj-text>own {{ name }}</mj-text>"))
    context = {"name": "Ann", "product": "P", "url": "u"}
    assert "own Ann" in (render("welcome", context, directory).html or "")
    (directory / "a.mjml").write_text(column("<mj-text>mjml</mj-text>"))
    (directory / "a.html").write_text("finished")
    assert render("a", {}, directory).html == "<html><head></head><body>finished</body></html>"


def test_a_layout_in_mjml_is_one_for_html(directory: Path) -> None:
    (directory / "frame.mjml").write_text(column("<mj-text>{% block content %}{% endblock %}</mj-text>"))
    (directory / "a.html").write_text('{% extends "frame.html" %}{% block content %}Hi {{ name }}{% endblock %}')
    html = render("a", {"name": "<Ann>"}, directory).html or ""
    assert ">Hi &lt;Ann&gt;</div>" in html


def test_no_text_is_made_of_it(directory: Path) -> None:
    (directory / "a.mjml").write_text(column("<mj-text>x</mj-text>"))
    assert render("a", {}, directory).text is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("<p>no</p>", "'a.mjml' is not MJML"),
        ("", "'a.mjml' is not MJML"),
        (column("<mj-text>a"), "'a.mjml' is not MJML"),
        (document('<mj-include path="gone.mjml" />'), "'a.mjml' needs 'gone.mjml', which is not there"),
        (document('<mj-include path="../secret" />'), "'a.mjml' needs '../secret', which is not there"),
        (document("\n{% fo x %}"), r"'a.mjml', line 2: .*unknown tag 'fo'"),
        (document("\n{{ x"), r"'a.mjml', line 2: "),
        (column('<mj-image width="{{ x }}" src="x" />'), "'a.mjml': {{ x }} stands where MJML keeps no text"),
        (column("<mj-text>{{ x }}</mj-text>"), "'x' is undefined"),
    ],
)
def test_what_is_wrong_is_said_of_the_file_that_was_written(source: str, message: str, directory: Path) -> None:
    with pytest.raises(Unsendable, match=message):
        shown(directory, source)


def test_an_unknown_template_may_be_written_in_it(directory: Path) -> None:
    with pytest.raises(Unsendable, match=r"there is no a\.html, a\.mjml or a\.txt"):
        render("a", {}, directory)


def test_without_the_extra_the_error_names_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mjml", None)
    with pytest.raises(SettingsError, match=r"'a\.mjml' needs the package mjml-python") as caught:
        shown(directory, column("<mj-text>x</mj-text>"))
    assert caught.value.hint is not None and "jetq-nats[email,mjml]" in caught.value.hint
    assert mjml.__name__ == "jetq_email.templates.mjml"
