"""Values as text for a terminal: tables, times, errors, and a job's bytes."""

from __future__ import annotations

import base64
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from jetq.client.app import Jetq
from jetq.encoding.json_text import is_too_deep
from jetq.errors import BadPayload
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.failure import AttemptError
from jetq.model.redaction import is_secret_name, redacted, redactor, secret_texts
from jetq.model.result import ResultRecord
from jetq.operations.job_view import JobView

__all__ = [
    "Placed",
    "age",
    "arguments",
    "echo_errors",
    "echo_fields",
    "echo_json",
    "echo_table",
    "errors_json",
    "moment",
    "printable",
    "redacted_entry",
    "redacted_errors",
    "result",
]

Placed = JobView | DeadLetter
"""A value that names the task and the queue of a job."""

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


def echo_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Print a table whose columns are as wide as their longest cell.

    right: the columns that are aligned to the right. The last column is not padded. On a terminal a line that is too
    wide ends in `…`; elsewhere, as in a pipe, nothing is cut.
    """
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    table = [list(header), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        click.echo(line if room is None or len(line) <= room else f"{line[: room - 1]}…")


def echo_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print one `name  value` per line, without the fields that have no value."""
    kept = [(name, value) for name, value in fields if value not in (None, "")]
    width = max(len(name) for name, _ in kept)
    for name, value in kept:
        click.echo(f"{name.ljust(width)}  {value}")


def echo_errors(errors: Sequence[AttemptError], dropped: int) -> None:
    """Print how each attempt failed, oldest first."""
    if dropped:
        click.echo(f"  ({dropped} older ones were cut)")
    for error in errors:
        click.echo(
            f"  {moment(error.at)}  attempt {error.attempt}  {_one_line(error.type)}: {_one_line(error.message)}"
        )


def echo_json(value: Any) -> None:
    """Print `value` as one line of JSON. `value` may hold datetimes and Structs."""
    click.echo(msgspec.json.encode(value).decode())


def errors_json(errors: Sequence[AttemptError]) -> list[dict[str, Any]]:
    """Return the attempts' errors with every field, also those that have their default value."""
    return [{field: getattr(error, field) for field in error.__struct_fields__} for error in errors]


def arguments(app: Jetq, job: Placed, body: bytes) -> Any:
    """Return a job's arguments without secrets: what is secret by its name, or by the annotations of its task in `app`.

    The arguments are JSON values. Bytes that are no JSON become `{"base64": ...}`. They become `{"bytes": count}` if
    the name of a secret is among them, or if they are nested too deeply to be read. Bytes that `app` cannot open become
    `{"sealed": why}`.
    """
    try:
        body = app.open_arguments(job.task, job.queue, body)
        return (
            {"bytes": len(body)} if is_too_deep(body) else redacted(msgspec.json.decode(body), _annotations(app, job))
        )
    except BadPayload as error:
        return {"sealed": error.message}
    except RecursionError:  # the calls here are nested deeply already
        return {"bytes": len(body)}
    except ValueError:
        if is_secret_name(body.decode("latin-1")):
            return {"bytes": len(body)}
        return {"base64": base64.b64encode(body).decode()}


def result(app: Jetq, record: ResultRecord) -> Any:
    """Return a job's result without what is secret, in the forms of `arguments`."""
    task = app.tasks.get(record.task)
    kind = Any if task is None else task.signature.result_kind
    try:
        value = app.open_result(record.id, record.task, record)
        return redacted({"result": msgspec.json.decode(value)}, {"result": kind})["result"]
    except BadPayload as error:
        return {"sealed": error.message}
    except (ValueError, RecursionError):  # nested too deeply to be read here
        return {"bytes": len(bytes(record.value))}


def redacted_entry(app: Jetq, entry: DeadEntry) -> DeadEntry:
    """Return `entry` without the secret arguments in its texts. A worker that did not know the secrets may have written
    them."""
    letter = entry.letter
    hide = _hiding(app, letter, entry.body)
    message, traceback = hide(letter.failure.message), hide(letter.failure.traceback)
    args = msgspec.json.encode(letter.failure.args).decode()
    failure = replace(
        letter.failure, message=message, traceback=traceback, args=letter.failure.args if hide(args) == args else None
    )
    errors = redacted_errors(app, letter, entry.body, letter.errors)
    headers = redacted({name: hide(value) for name, value in letter.headers.items()})
    return replace(entry, letter=replace(letter, failure=failure, errors=errors, headers=headers))


def redacted_errors(app: Jetq, job: Placed, body: bytes, errors: Sequence[AttemptError]) -> tuple[AttemptError, ...]:
    """Return `errors` without the texts of the secret arguments in `body`."""
    hide = _hiding(app, job, body)
    return tuple(replace(error, message=hide(error.message)) for error in errors)


def _hiding(app: Jetq, job: Placed, body: bytes) -> Callable[[str], str]:
    try:
        values = msgspec.json.decode(app.open_arguments(job.task, job.queue, body))
    except (ValueError, RecursionError, BadPayload):  # no worker could read these arguments either
        return str
    return redactor(secret_texts(values, _annotations(app, job)))


def _annotations(app: Jetq, job: Placed) -> Mapping[str, Any]:
    task = app.tasks.get(job.task)
    return {} if task is None else task.signature.annotations


def moment(at: float | None) -> str:
    """Return a unix time as local date and time; an empty text for None."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def age(seconds: float) -> str:
    """Return a duration in its largest unit: 5s, 12m, 3h, 2d."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0.0):.0f}s"


def printable(text: str) -> str:
    """Return `text`, which comes from a job, without characters that could move a terminal's cursor or clear its
    screen.

    Line ends stay.
    """
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def _one_line(cell: object) -> str:
    return printable(str(cell)).replace("\n", " ")
