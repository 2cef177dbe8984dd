"""`jetq email preview`: shows the mail that a template makes."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from jetq import JetqError
from jetq_email.settings import current
from jetq_email.templates.preview import Preview, lacks, preview
from jetq_email.templates.preview_server import PreviewServer

__all__ = ["preview_command"]


@click.command("preview")
@click.argument("template")
@click.option(
    "--data",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    allow_from_autoenv=False,
    help="The template's variables, as a JSON object.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    allow_from_autoenv=False,
    help="Where to write the HTML. By default TEMPLATE.preview.html.",
)
@click.option(
    "--serve", is_flag=True, allow_from_autoenv=False, help="Show the mail in a browser, rendered anew at each reload."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    allow_from_autoenv=False,
    help="The port of --serve; 0 for a free one.",
)
def preview_command(template: str, data: Path | None, out: Path | None, serve: bool, port: int) -> None:
    """Show the mail that TEMPLATE makes: headers, text, size and HTML, and which variables it lacks.

    TEMPLATE is one of JETQ_EMAIL_TEMPLATE_DIRECTORY, or a built-in one. The exit code is 2 if a variable is lacking.
    """
    make = partial(_made, template, data)
    if serve:
        _serve(make, port)
    else:
        _show(make(), out or Path(f"{template}.preview.html"))


def _made(template: str, data: Path | None) -> Preview:
    settings = current()
    return preview(template, _read(data), settings.template_directory, settings.sender)


def _read(data: Path | None) -> dict[str, Any]:
    if data is None:
        return {}
    try:
        values = json.loads(data.read_bytes())
    except OSError as error:
        raise JetqError(f"the file {data} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise JetqError(f"the file {data} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise JetqError(f"the file {data} is no JSON object", hint='such as {"name": "Ann"}')
    return values


def _show(made: Preview, out: Path) -> None:
    for name, value in made.headers:
        click.echo(f"{name}: {value}")
    click.echo(f"\n{made.text.rstrip()}\n\n{'-' * 72}")
    click.echo(f"{made.size} bytes")
    if made.html is not None:
        try:
            out.write_text(made.html, "utf-8")
        except OSError as error:
            raise JetqError(f"the file {out} cannot be written: {error.strerror}", hint="name another: --out") from None
        click.echo(f"HTML in {out}")
    if made.unused:
        click.echo(f"not given, and not used with this data: {', '.join(made.unused)}")
    if made.lacking:
        raise lacks(made.name, made.lacking)


def _serve(make: partial[Preview], port: int) -> None:
    try:
        server = PreviewServer(make, port)
    except OSError as error:
        raise JetqError(f"port {port} cannot be had: {error.strerror}", hint="name another, or none: --port") from None
    with server, contextlib.suppress(KeyboardInterrupt):
        click.echo(f"preview on {server.url}, made anew at each reload; Ctrl-C ends it")
        server.serve_forever()
