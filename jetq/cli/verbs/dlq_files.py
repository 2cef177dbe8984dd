"""`jetq dlq export` and `jetq dlq import`: write dead letters to a file of JSON lines, and store them again."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import click
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.cli.app_option import ask_broker, choose_app, for_app
from jetq.cli.dead_letter_options import for_letters
from jetq.cli.dead_letter_rows import count
from jetq.cli.exit import FAILED, Failed, verbose_option
from jetq.client.app import Jetq
from jetq.errors import BadPayload, PayloadTooLarge
from jetq.model.dead_letter import DeadEntry
from jetq.model.names import check_queue
from jetq.operations.dead_letter_files import BadLine, read_line, write_line
from jetq.operations.dead_letters import DeadFilter, each_dead

__all__ = ["export", "import_"]

_LONGEST_LINE = 256 * 1024 * 1024
"""Bytes. The largest message that NATS can be set to take is 64 MiB, and JSON may write one byte as six."""


@click.command()
@for_letters()
@click.option(
    "-o", "--output", metavar="FILE", default="-", help="Write to this new file. By default, or with -, print them."
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@for_app
@verbose_option
def export(which: DeadFilter, output: str, force: bool, app_path: str | None) -> None:
    """Write dead letters as JSON lines, with everything that is kept of them. They stay where they are.

    Their arguments are in there as they are stored, secrets too, so only its owner may read the file.
    """
    app = choose_app(app_path)
    if output == "-":
        ask_broker(app, lambda broker: _write(broker, which, sys.stdout.buffer))
        return
    with _new_file(Path(output), force=force) as file:
        written = ask_broker(app, lambda broker: _write(broker, which, file))
    click.echo(f"exported {count(written, 'dead letter')} to {output}")


async def _write(broker: Broker, which: DeadFilter, file: IO[bytes]) -> int:
    written = 0
    async for entry in each_dead(broker, which):
        file.write(write_line(entry) + b"\n")
        written += 1
    file.flush()
    return written


@contextmanager
def _new_file(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Yield a file that appears at `path` only when it is complete, so that nobody purges letters after half an
    export."""
    if path.exists() and not force:
        raise Failed(f"{path} is there already", hint="another name, or --force")
    made = None
    try:
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # with mode 0600
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror or error}", code=FAILED) from None
    finally:
        if made is not None:
            with suppress(FileNotFoundError):
                os.unlink(made)


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option("-q", "--queue", help="Import into this queue. By default each letter into its own queue.")
@for_app
@verbose_option
def import_(file: str, queue: str | None, app_path: str | None) -> None:
    """Put the dead letters of FILE, or of - for what comes in, back among those of their queue.

    Every line is checked before the first is stored. A letter that stands there already is passed over, so an import
    that was cut short can be repeated.
    """
    app = choose_app(app_path)
    target = None if queue is None else check_queue(queue)
    with _seekable(file) as lines:
        for number, line in _lines(lines):
            _read(app, file, number, line, target)
        lines.seek(0)
        stored, existing = ask_broker(app, lambda broker: _put(broker, app, file, lines, target))
    click.echo(f"imported {count(stored, 'dead letter')}" + (f"; {existing} already there" if existing else ""))


async def _put(broker: Broker, app: Jetq, name: str, lines: IO[bytes], queue: str | None) -> tuple[int, int]:
    stored = existing = 0
    complete = False
    try:
        for number, line in _lines(lines):
            try:
                if await broker.import_dead(_read(app, name, number, line, queue)):
                    stored += 1
                else:
                    existing += 1
            except PayloadTooLarge as error:
                raise Failed(
                    f"{name}, line {number}: {error.message}", hint="raise max_payload of the server"
                ) from None
        complete = True
    finally:
        if not complete:  # the letters so far are stored
            click.echo(f"imported {count(stored, 'dead letter')} before that; a repeat passes over them", err=True)
    return stored, existing


def _read(app: Jetq, name: str, number: int, line: bytes, queue: str | None) -> DeadEntry:
    """Return the letter on a line, moved to `queue` if that is given. Raises Failed, naming the line."""
    try:
        entry = read_line(line)
        return entry if queue is None else _moved(app, entry, queue)
    except (BadLine, BadPayload) as error:
        raise Failed(f"{name}, line {number}: {error}; nothing was imported") from None


def _moved(app: Jetq, entry: DeadEntry, queue: str) -> DeadEntry:
    """Return the letter as a letter of `queue`, to which a sealed payload is bound anew. Raises BadPayload."""
    letter = entry.letter
    if letter.queue == queue:
        return entry
    body = app.open_arguments(letter.task, letter.queue, entry.body)
    body = app.seal_arguments(letter.task, queue, body)
    return replace(entry, letter=replace(letter, queue=queue), body=body)


@contextmanager
def _seekable(name: str) -> Iterator[IO[bytes]]:
    """Yield a file that can be read twice: the named file, or a copy of standard input."""
    try:
        with sys.stdin.buffer if name == "-" else open(name, "rb") as source:
            if source.seekable():
                yield source
                return
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(source, copy)
                copy.seek(0)
                yield copy
    except OSError as error:
        raise Failed(f"cannot read {name}: {error.strerror or error}") from None


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not empty, with their numbers."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if line.strip():
            yield number, line
