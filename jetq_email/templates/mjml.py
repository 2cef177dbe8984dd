"""Makes HTML of templates in MJML before Jinja fills them in: once for each template, and no variable can become
MJML."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b

import jinja2

from jetq import SettingsError
from jetq_email.errors import Unsendable

__all__ = ["to_html"]

_BEGIN = frozenset({"variable_begin", "block_begin", "raw_begin"})
_END = frozenset({"variable_end", "block_end", "raw_end"})
_COMMENT = frozenset({"comment_begin", "comment", "comment_end"})


def to_html(file: str, source: str, include: Callable[[str], str]) -> str:
    """Return the MJML `source` of `file` as HTML, with Jinja's tags in their places.

    include: reads the files that `mj-include` names. Raises Unsendable if `source` is not MJML, and for a tag that
    would be lost in the HTML; SettingsError without the extra for MJML.
    """
    try:
        from mjml import mjml2html
    except ImportError:
        raise SettingsError(
            f"the template {file!r} needs the package mjml-python", hint="pip install 'jetq-nats[email,mjml]'"
        ) from None
    masked = _Masked(source)
    missing: list[str] = []

    def included(path: str) -> str:
        try:
            return masked.mask(include(path))
        except jinja2.TemplateNotFound:
            missing.append(path)
            raise

    # around the document only Jinja's tags may be, such as {% set %} and {% import %}; MJML takes nothing there
    before, begin, rest = masked.mask(source).partition("<mjml")
    inner, end, after = rest.rpartition("</mjml>")
    try:
        html = mjml2html(begin + inner + end, include_loader=included)
    except ValueError as error:
        if missing:
            raise Unsendable(f"template {file!r} needs {missing[0]!r}, which is not there") from None
        raise Unsendable(f"template {file!r} is not MJML: {error}") from None
    return masked.unmask(before + html + after, file)


class _Masked:
    """Jinja's tags as words that mean nothing in MJML. Unmasked, a `<`, `&` or quote in a tag would end the MJML around
    it."""

    def __init__(self, source: str) -> None:
        self._word = "jinja" + blake2b(source.encode(), digest_size=8).hexdigest()  # `source` cannot hold this word
        self._tags: dict[str, str] = {}

    def mask(self, source: str) -> str:
        """Return `source` with a word in place of each tag, and without Jinja's comments."""
        return "".join(self._pieces(source))

    def unmask(self, html: str, file: str) -> str:
        """Return `html` with the tags in place of their words. Raises Unsendable for a word that is lost."""
        for word, tag in self._tags.items():
            if word not in html:
                raise Unsendable(
                    f"template {file!r}: {tag} stands where MJML keeps no text",
                    hint="such as a picture's width; it goes into texts, colours, addresses and between components",
                )
            html = html.replace(word, tag)
        return html

    def _pieces(self, source: str) -> Iterator[str]:
        tag: list[str] | None = None
        for _, kind, value in jinja2.Environment().lex(source):
            if kind in _BEGIN:
                tag = []
            if kind not in _COMMENT and tag is None:
                yield value
            elif tag is not None:
                tag.append(value)
            if kind in _END and tag is not None:
                word = f"{self._word}n{len(self._tags)}n"
                self._tags[word] = "".join(tag)
                yield word
                tag = None
