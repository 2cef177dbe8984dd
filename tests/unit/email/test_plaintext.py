"""The text made of HTML: what is shown, in its order, of any input, in time that grows as the input."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from turbohtml import tokenize

from jetq_email import plaintext
from jetq_email.message import Email, Envelope, Part, compose, composed, composing
from jetq_email.plaintext import CUT, MOST_READ, html_to_text

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_SHOWN = ("b", "p", "div", "a href='https://x.example/'", "table><tr><td", "ul><li", "noscript", "textarea", "h1", "A")
_HIDDEN = ("style", "script", "title", "template", "iframe", "TEMPLATE", "Style")

words = st.integers(0, 10**9).map(lambda number: f"w{number}")
secrets = words.map("hidden{}".format)


def _within(tag: str, inner: str) -> str:
    """`inner` between `tag` and the end of it; of several, as `ul><li`, the first is ended."""
    return f"<{tag}>{inner}</{re.split('[> ]', tag)[0]}>"


hidden = st.one_of(
    st.builds(_within, st.sampled_from(_HIDDEN), secrets),
    secrets.map("<!-- <p>{}</p> -->".format),
    secrets.map("<!{}>".format),
    secrets.map("<template><a href=https://{0}/><img alt={0}></template>".format),
    secrets.map("<input value='<p>{}</p>'>".format),
    secrets.map("<template><p>{0}<template>{0}</template>{0}</template>".format),
)


def _around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    tags = st.sampled_from(_SHOWN[:7] + _SHOWN[8:])
    return st.builds(_within, tags, st.lists(inner, max_size=4).map(" ".join))


documents = st.lists(
    st.recursive(st.one_of(words, hidden, st.builds(_within, st.just("textarea"), words)), _around, max_leaves=30),
    max_size=4,
).map(" <br> ".join)


@given(documents)
def test_all_that_is_shown_is_there_in_its_order_and_nothing_else(html: str) -> None:
    """Guarantee: the text of a mail has each visible text of its HTML, and none that is hidden."""
    expected = re.findall(r"(?<!hidden)\bw\d+", html)
    text = html_to_text(html)
    assert re.findall(r"w\d+", text) == expected
    assert "hidden" not in text


_PIECES = st.sampled_from(
    "< <! <!-- --> <![ <![CDATA[ ]]> <? </ & &# &#x &amp &not; <a <p> </p> <a/href= ' \" > = <script </script> <title>"
    " <template> </template> <textarea> <noscript> </noscript> <plaintext> <li> <td> \x00 \ud800 \u00e9".split(" ")
)


@given(st.one_of(st.text(), st.lists(st.one_of(_PIECES, st.text(max_size=5))).map("".join)))
def test_no_input_is_an_error(html: str) -> None:
    text = html_to_text(html)
    assert text.endswith("\n") and "\n\n\n" not in text and len(text) < 2 * len(html) + 10


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<ul><li>a<ul><li>b</ul><li>c</ul>d", "- a\n\n- b\n\n- c\n\nd\n"),
        ("<ol><li>one</li><li>two</li></ol>", "- one\n- two\n"),
        ("<a href=https://x.example/><img src=i alt='Our shop'></a>", "Our shop (https://x.example/)\n"),
        ("<a href=https://x.example/>https://x.example/</a> <a href=#top>up</a>", "https://x.example/ up\n"),
        ("<a href=https://x.example/>1 <a href=https://y.example/>2", "1 (https://x.example/)2 (https://y.example/)\n"),
        ("1 &lt; 2 &amp &copy; &#8364;&#x20ac; &nosuch; a&b", "1 < 2 & © €€ &nosuch; a&b\n"),
        ("a<!-- <p>no --><!-->b<!--->c<?x?>d", "abcd\n"),
        ("<title>a</title>b</title>c<template>d</title>e</template>f", "bcf\n"),
        ("<p title='a > b' class=x>y", "y\n"),
        ("<style><!-- </p> </style>x<script>'</b>'</script>y", "xy\n"),
        ("1 < 2 and 3 <4", "1 < 2 and 3 <4\n"),
        ("", "\n"),
    ],
)  # fmt: skip
def test_html_as_it_comes(html: str, text: str) -> None:
    assert html_to_text(html) == text


def test_what_is_too_long_is_cut_and_the_text_says_so() -> None:
    exact = "x" * MOST_READ
    assert html_to_text(exact) == f"{exact}\n"
    assert html_to_text(f"{exact}<p>more") == f"{exact}\n\n{CUT}\n"
    text = html_to_text(f"<p>Hi</p><img alt='' src='data:{exact}'>more")  # in the middle of a tag
    assert text == f"Hi\n\n{CUT}\n"


HOSTILE = (
    "<", "<!", "<!--", "<![", "<![CDATA[", "<?", "</", "&", "&#", "&not", "\x00", "<a ", "<a b=1 ", "<a href='",
    "<a b='&", "<a>", "<a></a>", "<a href=https://x.example/>y", "</a>", "<b>", "</p>", "<p>x", "<li>", "<td>", "<br> ",
    "<img alt=x>", "<template>", "</template>", "<title>", "<script></", "<script><!--<script", "<noscript>",
    "<style><!--", "\n", " \n",
)  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_twice_the_input_is_twice_the_work(piece: str) -> None:
    """Guarantee: no HTML takes longer to read than in proportion to its length."""
    few, many = (_steps(piece * count) for count in (500, 1000))
    assert many <= 2 * few + 50


@pytest.mark.parametrize("piece", HOSTILE)
def test_each_character_is_in_one_token(piece: str) -> None:
    html = piece * 1000
    read = sum(len(token.data or token.tag or "") for token in tokenize(html))
    assert read <= len(html)


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_long_input_is_read_within_the_time_of_a_test(piece: str) -> None:
    """Of a tenth of this length Python 3.11's own parser read four of these in more than six seconds each, in a time
    that grew as the square, and one it did not read at all."""
    html_to_text(piece * (MOST_READ // 10 // len(piece)))


def _steps(html: str) -> int:
    """The lines of the module that are run to read `html`, and the pieces that it joins."""
    count = 0

    def lines(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != plaintext.__file__:
            return None
        if event == "line":
            count += 1
        elif event == "return" and frame.f_code.co_name == "_end_link":
            start, out = frame.f_locals.get("start"), frame.f_locals["self"]._out
            count += 0 if start is None else len(out) - start
        return lines

    before = sys.gettrace()
    sys.settrace(lines)
    try:
        html_to_text(html)
    finally:
        sys.settrace(before)
    return count


# --- off the event loop


def _email(html: str) -> Email:
    return Email(to=["ann@example.com"], subject="s", sender="app@example.org", html=html)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("email", "parts", "aside"),
    [
        (_email("<p>Hello"), [], False),
        (_email("<p>Hello" * 10_000), [], True),
        (_email("<p>Hello"), [Part("a", b"x" * 60_000)], True),
    ],
    ids=["small", "html", "attached"],
)
async def test_a_large_mail_is_built_beside_the_event_loop(
    email: Email, parts: Sequence[Part], aside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noted(*args: Any, **named: Any) -> Envelope:
        threads.append(threading.get_ident())
        return compose(*args, **named)

    monkeypatch.setattr(composing, "compose", noted)
    envelope = await composed(email, parts, job_id="j", date=WHEN)
    assert (threads[0] != threading.get_ident()) is aside
    assert envelope == compose(email, parts, job_id="j", date=WHEN)
