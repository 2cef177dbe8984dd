"""Tables, times and bytes as text, and log lines."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from jetq import Jetq
from jetq.cli.logs import ConsoleFormatter, JsonFormatter
from jetq.cli.output import age, arguments, echo_errors, echo_fields, echo_table, printable
from jetq.model.failure import AttemptError
from jetq.operations.job_view import JobView


def test_columns_are_as_wide_as_they_need_and_numbers_flush_right(capsys: pytest.CaptureFixture[str]) -> None:
    echo_table(("QUEUE", "READY"), [("default", 5), ("email", 12345)], right=[1])
    assert capsys.readouterr().out == "QUEUE    READY\ndefault      5\nemail    12345\n"


def test_a_table_has_the_width_of_its_terminal_and_is_not_cut_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("a", "x" * 300), ("b", "y" * 73)]
    echo_table(("JOB", "ERROR"), rows)
    assert capsys.readouterr().out.splitlines() == ["JOB  ERROR", f"a    {'x' * 300}", f"b    {'y' * 73}"]
    monkeypatch.setenv("COLUMNS", "78")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    echo_table(("JOB", "ERROR"), rows)
    assert capsys.readouterr().out.splitlines() == ["JOB  ERROR", f"a    {'x' * 72}…", f"b    {'y' * 73}"]


def test_a_cell_cannot_break_its_row_or_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    echo_table(("A", "B"), [("x\ny", "\x1b[2Jz")])
    assert capsys.readouterr().out == "A    B\nx y   [2Jz\n"
    assert printable("a\x1b]0;title\x07\nb") == "a ]0;title \nb"


def test_fields_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    echo_fields([("job", "1"), ("worker", ""), ("due", None), ("attempt", 0)])
    assert capsys.readouterr().out == "job      1\nattempt  0\n"


def test_errors_say_how_many_were_cut(capsys: pytest.CaptureFixture[str]) -> None:
    echo_errors([AttemptError(attempt=12, type="ValueError", message="a\nb", at=0.0)], 3)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "  (3 older ones were cut)"
    assert second.endswith("attempt 12  ValueError: a b")


@pytest.mark.parametrize(("seconds", "text"), [(-1.0, "0s"), (59.0, "59s"), (61.0, "1m"), (7200.0, "2h"), (2e5, "2d")])
def test_age_is_in_the_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_arguments_that_are_no_json_are_shown_as_base64() -> None:
    app, job = Jetq(), JobView("1", "dead", "t", "q", 1)
    assert arguments(app, job, b'{"x": 1}') == {"x": 1}
    assert arguments(app, job, b"\xff\x00") == {"base64": "/wA="}
    for levels in (600, 5000):  # within and beyond what the stack of some Pythons holds
        assert arguments(app, job, b"[" * levels) == {"bytes": levels}
        assert arguments(app, job, b"[" * levels + b"]" * levels) == {"bytes": 2 * levels}
    assert arguments(app, job, b"{'user': 'bob', 'password': 'c4n4ry'}") == {"bytes": 37}


def record(message: str, *args: object, failing: bool = False) -> logging.LogRecord:
    info = None
    if failing:
        try:
            raise ValueError("no good")
        except ValueError:
            info = sys.exc_info()
    return logging.LogRecord("jetq.worker", logging.WARNING, __file__, 1, message, args, info)


def test_json_log_is_one_object_a_line() -> None:
    text = JsonFormatter().format(record("job %s\nfailed", "a1", failing=True))
    assert "\n" not in text
    line = json.loads(text)
    assert line["message"] == "job a1\nfailed"
    assert (line["level"], line["logger"]) == ("warning", "jetq.worker")
    assert line["time"].endswith("Z")
    assert "ValueError: no good" in line["exception"]


def test_console_log_is_coloured_on_a_terminal_only() -> None:
    plain = ConsoleFormatter(colour=False).format(record("ready"))
    assert plain.endswith(" WARNING jetq.worker: ready")
    assert "\x1b[33mWARNING\x1b[0m" in ConsoleFormatter(colour=True).format(record("ready"))
