"""Makes the text alternative of a mail that has only HTML."""

from __future__ import annotations

import re

from turbohtml import Token, TokenType, tokenize

__all__ = ["CUT", "MOST_READ", "html_to_text"]

MOST_READ = 5_000_000
"""Characters. A mail longer than this consists mostly of pictures as `data:`, with text after them. Mail programs show
far less than this, and reading this much takes some seconds at worst."""

CUT = "[…]"
"""The last line of a text that was cut. It is the same in every language."""

_RAW = frozenset({"style", "script", "title", "iframe", "noembed", "noframes"})
"""Tags whose content, up to the end tag, holds no tags and no text to show. The head is not among them, because both of
its tags may be left out, and its other content has no text."""

_NOSCRIPT = re.compile(r"<(/?)noscript", re.IGNORECASE)
"""The tokenizer reads the content of noscript as raw text, as a browser that runs scripts does. In a mail no script
runs."""

_PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre", "hr"})
_LINES = frozenset({"br", "div", "tr", "li", "section", "article", "header", "footer"})


def html_to_text(html: str) -> str:
    """Return what a reader would see of `html`: paragraphs, lists with dashes, and each link followed by its address.

    The time grows with the length of `html`, whatever it holds, because each character belongs to one token, and each
    token is read once. The text after MOST_READ characters is left out, and the result then ends with CUT.
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
        """The address of the open link, and the place in `_out` where its text begins."""

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
        """Return the text so far."""
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
            self._end_link()  # links do not nest: the next link ends this one, as in a browser
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
