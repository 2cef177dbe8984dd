"""Mails from templates: `<name>.subject.txt`, and `<name>.html` or `<name>.txt` or both.

In place of `<name>.html` there may be `<name>.mjml`, from which the HTML is made. Variables in HTML are escaped, also
in all files that the HTML extends, includes or imports, whatever their names. Variables in subject and text are not
escaped. A missing variable is an error, never an empty gap in a mail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from jetq_email.errors import Unsendable
from jetq_email.templates.mjml import to_html

try:
    import css_inline
    import jinja2
    import jinja2.meta
except ImportError as error:
    raise ImportError(
        f"jetq_email needs {error.name}, which is not installed: install the extra, jetq-nats[email]", name=error.name
    ) from error

__all__ = ["Rendered", "names", "page", "render", "variables"]

_KINDS = ("subject.txt", "txt", "html")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_inliner = css_inline.CSSInliner(
    keep_style_tags=True,  # without both, media queries and :hover are dropped (css-inline 0.24)
    keep_at_rules=True,
    load_remote_stylesheets=False,
)


class Rendered(Struct, frozen=True):
    """A template's subject and bodies, with variables filled in and CSS inlined."""

    subject: str
    text: str | None
    html: str | None


def render(
    name: str,
    context: Mapping[str, Any],
    directory: Path | None = None,
    *,
    undefined: type[jinja2.Undefined] | None = None,
) -> Rendered:
    """Return the template `name`, filled in from `context`. The template is searched in `directory`, then among the
    built-in ones.

    undefined: the class used for missing variables; None makes them an error. Raises Unsendable that names the missing
    template or variable, or says what is wrong with the template.
    """
    if not _NAME.fullmatch(name):
        raise Unsendable(f"template {name[:80]!r}: not a template's name", hint="letters, digits, '_' and '-'")
    plain, marked_up = (_environment(directory, is_html=is_html) for is_html in (False, True))
    if undefined is not None:
        plain, marked_up = (each.overlay(undefined=undefined) for each in (plain, marked_up))
    subject = _part(plain, name, "subject.txt", context)
    text = _part(plain, name, "txt", context)
    html = _part(marked_up, name, "html", context)
    if subject is None or (text is None and html is None):
        known = ", ".join(names(directory))
        missing = f"{name}.subject.txt" if subject is None else f"{name}.html, {name}.mjml or {name}.txt"
        raise Unsendable(f"template {name!r}: there is no {missing}", hint=f"templates: {known}")
    return Rendered(" ".join(subject.split()), text, None if html is None else _inliner.inline(html))


def page(name: str, context: Mapping[str, Any], directory: Path | None = None) -> str:
    """Return the file `<name>.html`, filled in, for a browser. Raises Unsendable as `render` does."""
    made = _part(_environment(directory, is_html=True), name, "html", context)
    if made is None:
        raise Unsendable(f"page {name!r}: there is no {name}.html")
    return made


def names(directory: Path | None = None) -> list[str]:
    """Return the names of all templates."""
    files = _environment(directory).list_templates(filter_func=lambda file: file.endswith(".subject.txt"))
    return sorted({file.removesuffix(".subject.txt") for file in files if "/" not in file})


def variables(name: str, directory: Path | None = None) -> set[str]:
    """Return the variables that the template `name` and the files that it uses may read, whether or not any context
    makes them do so. `render` must be able to read the template."""
    environment = _environment(directory, is_html=True)
    assert environment.loader is not None
    found: set[str] = set()
    files = [f"{name}.{kind}" for kind in _KINDS]
    seen: set[str] = set()
    while files:
        file = files.pop()
        if file in seen:
            continue
        seen.add(file)
        try:
            source, _, _ = environment.loader.get_source(environment, file)
        except jinja2.TemplateNotFound:
            continue
        parsed = environment.parse(source)
        found |= jinja2.meta.find_undeclared_variables(parsed)
        files += filter(None, jinja2.meta.find_referenced_templates(parsed))  # None: a variable names the file
    return found


class _ConfinedLoader(jinja2.FileSystemLoader):
    """Follows no link out of its directory. jinja2 refuses `..`, but follows links."""

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        source, filename, uptodate = super().get_source(environment, template)
        if not any(Path(filename).resolve().is_relative_to(Path(root).resolve()) for root in self.searchpath):
            raise jinja2.TemplateNotFound(template)
        return source, filename, uptodate


class _MjmlLoader(_ConfinedLoader):
    """Makes `NAME.html` of a `NAME.mjml`. Files that the MJML includes are part of it: a change in them is seen."""

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        name, _, kind = template.rpartition(".")
        if kind != "html":
            raise jinja2.TemplateNotFound(template)
        read = super().get_source
        file = f"{name}.mjml"
        try:
            source, filename, uptodate = read(environment, file)
        except jinja2.TemplateNotFound:
            raise jinja2.TemplateNotFound(template) from None
        try:
            environment.parse(source)  # errors here name a line of the author's file
        except jinja2.TemplateSyntaxError as error:
            raise Unsendable(f"template {file!r}, line {error.lineno}: {error.message}") from None
        fresh = [uptodate]

        def include(path: str) -> str:
            part, _, uptodate = read(environment, path)
            fresh.append(uptodate)
            return part

        return to_html(file, source, include), filename, lambda: all(check() for check in fresh)


@lru_cache(maxsize=8)
def _environment(directory: Path | None, *, is_html: bool = False) -> jinja2.Environment:
    loaders: list[jinja2.BaseLoader] = []
    if directory is not None:
        loaders += [_ConfinedLoader(directory), _MjmlLoader(directory)]
    loaders.append(jinja2.PackageLoader("jetq_email", "templates/builtin"))
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        undefined=jinja2.StrictUndefined,
        autoescape=is_html,  # not by the name of a file: a macro in m.jinja is part of the HTML too
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _part(environment: jinja2.Environment, name: str, kind: str, context: Mapping[str, Any]) -> str | None:
    file = f"{name}.{kind}"
    try:
        template = environment.get_template(file)
    except jinja2.TemplateNotFound as error:
        if error.name == file:
            return None
        raise Unsendable(f"template {file!r} needs {error.name!r}, which is not there") from None
    except jinja2.TemplateSyntaxError as error:
        raise Unsendable(f"template {file!r}, line {error.lineno}: {error.message}") from None
    try:
        return template.render(context)
    except jinja2.UndefinedError as error:
        raise Unsendable(f"template {file!r}: {error.message}", hint="pass it in the context") from None
    except jinja2.TemplateError as error:
        raise Unsendable(f"template {file!r}: {error.message}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise Unsendable(f"template {file!r} failed: {type(error).__name__}") from error
