"""How many mails one worker sends in a second: `python -m benchmarks.mail`.

A worker process with 100 slots and as many connections hands mails to a provider or a mail server in another process,
which says yes to all. Counted is there, from the first mail to the last; the CPU time is the worker's, of the mails
alone. Every case ends by checking its ledger: each recipient got one mail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_seconds, environment
from benchmarks.report import describe
from jetq import Jetq
from jetq.server import LocalServer
from jetq_email import send_email, send_template

SLOTS = 100
TARGET = 500
"""Mails a second that each case must reach."""

TEXT = "Dear customer,\n\nyour order is on its way. It will be with you on Thursday.\n\nYours, the shop\n"
HTML = f"<html><body>{''.join(f'<p>{line}</p>' for line in TEXT.splitlines() if line)}</body></html>"
CONTEXT = {"name": "Ann", "product": "Shop", "url": "https://shop.example"}

Make = Callable[[str], Any]
CASES: tuple[tuple[str, str, Mapping[str, str], Make], ...] = (
    ("Postmark, text and HTML", "http", {"POSTMARK_TOKEN": "t", "POSTMARK_URL": "URL"}, lambda to: written(to)),
    (
        "Amazon SES, text and HTML",
        "http",
        {"SES_KEY_ID": "k", "SES_SECRET_KEY": "s", "SES_REGION": "eu-central-1", "SES_URL": "URL"},
        lambda to: written(to),
    ),
    ("Postmark, a template", "http", {"POSTMARK_TOKEN": "t", "POSTMARK_URL": "URL"}, lambda to: templated(to)),
    ("SMTP, text and HTML", "smtp", {"HOST": "127.0.0.1", "PORT": "PORT", "TLS": "none"}, lambda to: written(to)),
    ("SMTP, a template", "smtp", {"HOST": "127.0.0.1", "PORT": "PORT", "TLS": "none"}, lambda to: templated(to)),
)
"""What is measured: its name, who takes the mails, the worker's settings, and a mail."""


def written(to: str) -> Any:
    return send_email.bind(to, "Your order", text=TEXT, html=HTML)


def templated(to: str) -> Any:
    return send_template.bind("welcome", to, CONTEXT)


@contextmanager
def taking(kind: str) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The port of who takes mails, and what ends it and tells what it took."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.mail_servers", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None

    def end() -> dict[str, Any]:
        told: dict[str, Any] = json.loads(server.communicate()[0])
        return told

    try:
        yield server.stdout.readline().strip(), end
    finally:
        server.kill()
        server.wait()


@contextmanager
def worker(url: str, settings: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that sends mails."""
    named = {"SENDER": "shop@example.org", "CONNECTIONS": str(SLOTS), **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", "jetq", "worker", "-q", "email", "--plugin", "email", "-c", str(SLOTS)],
        env=os.environ | {"JETQ_SERVERS": url} | {f"JETQ_EMAIL_{name}": value for name, value in named.items()},
        stdout=subprocess.DEVNULL,
        stderr=log.open("w"),
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


async def left(app: Jetq) -> int:
    """Jobs that are not done."""
    broker = await app.session.broker()
    return sum(info.ready + info.running + info.scheduled for info in await broker.queues())


async def emptied(app: Jetq, process: subprocess.Popen[bytes]) -> None:
    """Until no job is left."""
    while await left(app):
        assert process.poll() is None, "the worker has ended"
        await asyncio.sleep(0.1)


async def measured(
    app: Jetq, url: str, log: Path, kind: str, settings: Mapping[str, str], make: Make, count: int
) -> tuple[float, float]:
    """Mails a second, and milliseconds of the worker's CPU time for each."""
    with taking(kind) as (port, end):
        places = {"URL": f"http://127.0.0.1:{port}", "PORT": port}
        with worker(url, {name: places.get(value, value) for name, value in settings.items()}, log) as process:
            await app.adelay_many([make("u0@example.com")])
            await emptied(app, process)  # it is up, and has made what it makes once
            before = cpu_seconds(process.pid)
            await app.adelay_many(make(f"u{number}@example.com") for number in range(1, count + 1))
            await emptied(app, process)
            spent = cpu_seconds(process.pid) - before
        ledger = end()
    assert ledger["taken"] == ledger["distinct"] == count + 1, f"the ledger does not add up: {ledger}"
    return count / ledger["seconds"], spent / count * 1000


async def measure(url: str, directory: Path, rounds: int, count: int) -> bool:
    """All cases, as often as there are rounds; whether each reached the target."""
    app = Jetq(url)
    await (await app.session.broker()).setup("email")
    figures: list[list[tuple[float, float]]] = [[] for _ in CASES]
    for _ in range(rounds):
        for (_, kind, settings, make), found in zip(CASES, figures, strict=True):
            found.append(await measured(app, url, directory / "worker.log", kind, settings, make, count))
    await app.session.aclose()
    app.session.close()
    print("| mails through | mails/s | low - high | ms of CPU a mail |\n|---|---:|---:|---:|")
    for (name, *_), found in zip(CASES, figures, strict=True):
        rates, spent = zip(*found, strict=True)
        print(
            f"| {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f} - {max(rates):,.0f} | {min(spent):.2f} |"
        )
    print()
    print(describe(environment(uvloop=False)))
    return all(statistics.median(rate for rate, _ in found) >= TARGET for found in figures)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mail", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, LocalServer(Path(directory) / "nats", port=0) as server:
        reached = asyncio.run(measure(server.url, Path(directory), options.rounds, options.count))
    print(f"\ntarget, {TARGET} mails/s: {'met' if reached else 'missed'}")


if __name__ == "__main__":
    main()
