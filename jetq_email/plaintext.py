"""The text alternative of a mail that has only HTML."""

from __future__ import annotations

import re

from turbohtml import Token, TokenType, tokenize

__all__ = ["CUT", "MOST_READ", "html_to_text"]

MOST_READ = 5_000_000
"""Characters. Of a mail this long most is pictures that stand in it as `data:`, with text after them. Who shows mails
shows far less of them, and reading so much takes some seconds at worst."""

CUT = "[…]"
"""The last line of a text that was cut, in any language."""

_RAW = frozenset({"style", "script", "title", "iframe", "noembed", "noframes"})
"""In these tags are none, up to the end tag, and nothing that is shown. Not the head, of which both tags may be left
out: what else stands in it has no text."""

_NOSCRIPT = re.compile(r"<(/?)noscript", re.IGNORECASE)
"""The tokenizer takes what is in it for raw text, as a browser does that runs scripts. In a mail none runs."""

_PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre", "hr"})
_LINES = frozenset({"br", "div", "tr", "li", "section", "article", "header", "footer"})


def html_to_text(html: str) -> str:
    """Return what a reader would see of `html`: paragraphs, lists with dashes, and each link followed by its address.

    The time it takes grows as the length of `html`, whatever that is, because each character is part of one token, and
    each token is looked at once. What stands after MOST_READ characters is left out, and CUT says so.
    """
    reader = _Reader()
    for token in tokenize(_NOSCRIPT.sub(r"<\1span", html[:MOST_READ])):
        reader.read(token)
    text = reader.text()
    return text if len(html) <= MOST_READ else f"{text}\n{CUT}\n".lstrip()


class _Reader:
    def __init__(self) -> None:
        self._out: list[str] = []
        self._raw = False
        self._templates = 0
        self._link: tuple[str, int] | None = None
        """The address of the link that is open, and where in `_out` its text begins."""

    def read(self, token: Token) -> None:
        """Take the next token."""
        if token.type is TokenType.TEXT:
            if not self._raw and not self._templates:
                self._out.append(re.sub(r"\s+", " ", token.data or ""))
        elif token.type is TokenType.START_TAG:
            self._start(token.tag or "", token)
        elif token.type is TokenType.END_TAG:
            self._end(token.tag or "")

    def text(self) -> str:
        """Return what was shown."""
        self._end_link()
        lines = (re.sub(r"[ \t]+", " ", line).strip() for line in "".join(self._out).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"

    def _start(self, tag: str, token: Token) -> None:
        self._raw = tag in _RAW
        if tag == "template":
            self._templates += 1
        elif self._templates:
            return
        elif tag == "a":
            self._end_link()  # a link has no link in it: the next one ends it, as in a browser
            self._link = (token.attr("href") or "", len(self._out))
        elif tag == "img":
            self._out.append(token.attr("alt") or "")
        elif tag in ("td", "th"):
            self._out.append(" ")
        else:
            self._break(tag)
            if tag == "li":
                self._out.append("- ")

    def _end(self, tag: str) -> None:
        self._raw = False
        if tag == "template":
            self._templates = max(0, self._templates - 1)
        elif self._templates:
            return
        elif tag == "a":
            self._end_link()
        elif tag != "li":  # the next item begins a line, and the end of the list a paragraph
            self._break(tag)

    def _end_link(self) -> None:
        if self._link is None:
            return
        href, start = self._link
        self._link = None
        shown = "".join(self._out[start:]).strip()
        if href.startswith(("http:", "https:")) and href != shown:
            self._out.append(f" ({href})")

    def _break(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._out.append("\n\n")
        elif tag in _LINES:
            self._out.append("\n")
