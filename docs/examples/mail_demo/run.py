"""A thousand mails from `send_email.delay` to a real SMTP server, through a real nats-server and a `jetq worker`.

The server takes few connections, ends sessions, and puts some recipients off for a while, who are tried again. One is
refused for ever, ends in the dead letters, is looked at, mended and replayed. The server's own ledger must account for
every mail, or this exits with 1.

    python docs/examples/mail_demo/run.py [--mails 1000] [--directory DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sink import CONNECTIONS, MAILS, Sink

from jetq import Jetq
from jetq.server import LocalServer
from jetq_email import send_email

GONE = "gone@example.com"
PATIENCE = 90.0


def main() -> int:
    """Run the demo; the process's exit code."""
    parser = argparse.ArgumentParser(description="A thousand mails through jetq, some refused, none lost.")
    parser.add_argument("--mails", type=int, default=1000, help="how many mails to send (1000)")
    parser.add_argument("--directory", type=Path, help="where mails and logs are put (a new one in the temp directory)")
    options = parser.parse_args()
    directory: Path = options.directory or Path(tempfile.mkdtemp(prefix="jetq-demo-"))

    everybody = [f"user{n:04}@example.com" for n in range(1, options.mails)] + [GONE]
    strangers = set(everybody[:-1:10])
    with (
        LocalServer(directory / "nats", port=0) as server,
        Sink(directory / "mails", strangers=strangers, gone={GONE}) as sink,
    ):
        demo = Demo(directory, server.url, sink, everybody)
        try:
            demo.run()
        finally:
            demo.stop_worker()
    return demo.report(strangers)


class Demo:
    """The steps of the demo, and what it measured."""

    def __init__(self, directory: Path, url: str, sink: Sink, everybody: list[str]) -> None:
        self.directory = directory
        self.sink = sink
        self.everybody = everybody
        self.environment = os.environ | {
            "JETQ_SERVERS": url,
            "JETQ_EMAIL_HOST": "127.0.0.1",
            "JETQ_EMAIL_PORT": str(sink.port),
            "JETQ_EMAIL_TLS": "none",
            "JETQ_EMAIL_SENDER": "Demo <demo@example.org>",
            "JETQ_EMAIL_RETRY_WAIT": "2",  # this server's greylisting is short; the default is 60, for real ones
        }
        self.app = Jetq(url)
        self.log = (directory / "worker.log").open("w")
        self.worker: subprocess.Popen[bytes] | None = None
        self.enqueued_in = self.delivered_in = 0.0

    def run(self) -> None:
        print(f"nats-server at {self.environment['JETQ_SERVERS']}, SMTP server at 127.0.0.1:{self.sink.port}\n")
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "jetq", "worker", "--plugin", "email", "-q", "email"],
            env=self.environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.enqueue()
        count = len(self.everybody)
        self.wait("delivered", count - 1, lambda: self.sink.mails)
        self.delivered_in = time.monotonic() - self.began
        self.look_and_replay()
        self.wait("delivered", count, lambda: self.sink.mails)

    def enqueue(self) -> None:
        """The application's part: one `.delay` per mail, each returning when the job is stored."""
        self.began = time.monotonic()
        bar = Bar("enqueued", len(self.everybody))
        for n, address in enumerate(self.everybody, start=1):
            send_email.delay(address, f"Mail number {n}", text="Hello!\n", html="<p>Hello!</p>")
            bar.show(n)
        bar.end()
        self.enqueued_in = time.monotonic() - self.began

    def look_and_replay(self) -> None:
        """The operator's part: the one dead letter, its cause mended, and the replay."""
        deadline = time.monotonic() + PATIENCE
        while not (letters := json.loads(self.jetq("dlq", "list", "-q", "email", "--json"))):
            if time.monotonic() > deadline:
                raise SystemExit("error: the refused mail did not arrive in the dead letters")
            time.sleep(0.2)
        id = letters[0]["id"]
        print("\n$ jetq dlq list -q email\n" + self.jetq("dlq", "list", "-q", "email"))
        print(f"$ jetq dlq show {id}\n" + self.jetq("dlq", "show", id, "-q", "email"))
        self.sink.mend(GONE)
        print(
            f"(the mailbox {GONE} exists now)\n$ jetq dlq replay {id}\n" + self.jetq("dlq", "replay", id, "-q", "email")
        )

    def jetq(self, *words: str) -> str:
        """What `jetq WORDS` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "jetq", *words],
            env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"error: jetq {' '.join(words)} failed:\n{done.stderr}")
        return done.stdout

    def wait(self, what: str, count: int, seen: Callable[[], int]) -> None:
        """Show progress until `count` is reached."""
        bar = Bar(what, count)
        deadline = time.monotonic() + PATIENCE
        while (so_far := seen()) < count and time.monotonic() < deadline:
            assert self.worker is not None
            if self.worker.poll() is not None:
                raise SystemExit(f"error: the worker has ended; see {self.log.name}")
            bar.show(so_far)
            time.sleep(0.05)
        bar.show(seen())
        bar.end()

    def stop_worker(self) -> None:
        """An orderly end, as a deploy asks for it."""
        if self.worker is not None and self.worker.poll() is None:
            self.worker.send_signal(signal.SIGTERM)
            self.worker.wait(timeout=40)
        self.app.session.close()
        self.log.close()

    def report(self, strangers: set[str]) -> int:
        """Print the summary; 0 if the ledger accounts for every mail."""
        sink, count = self.sink, len(self.everybody)
        wrong = faults(self.everybody, strangers, sink)
        rows = [
            ("enqueued", f"{count:,} mails in {self.enqueued_in:.1f} s: {count / self.enqueued_in:,.0f}/s"),
            ("delivered", f"{sink.mails:,}, all but the dead one within {self.delivered_in:.1f} s"),
            (
                "connections",
                f"{sink.most_at_once} at once; {sink.turned_away} more were turned away (421), at no mail's cost",
            ),
            ("sessions", f"{sink.sessions:,}, of which the server ended {sink.ended} after {MAILS} mails (421)"),
            ("retried", f"{len(sink.put_off):,} that were put off for a while (450)"),
            ("dead", f"{len(sink.refused):,} that was refused for good (550): {', '.join(sink.refused)}"),
            ("replayed", f"{sum(sink.delivered[address] for address in sink.refused):,}, and delivered"),
            ("mails", f"{sink.directory}/*.eml"),
            ("worker's log", self.log.name),
        ]
        print("\n" + "\n".join(f"{name:14}{text}" for name, text in rows))
        if wrong:
            print("\nThe SMTP server's ledger does not add up:\n" + "\n".join(f"  {line}" for line in wrong[:20]))
            return 1
        if self.worker is None or self.worker.returncode != 0:
            print(f"\nThe worker did not end in order; see {self.log.name}")
            return 1
        print("\nThe SMTP server's own ledger has every mail, each once.")
        return 0


def faults(everybody: list[str], strangers: set[str], sink: Sink) -> list[str]:
    """What is wrong in the sink's ledger: empty if each recipient got one mail, after the refusals that were meant."""
    wrong = [f"{address}: {sink.delivered[address]} mails" for address in everybody if sink.delivered[address] != 1]
    wrong += [f"{address}: nobody was to write there" for address in sink.delivered if address not in set(everybody)]
    wrong += [f"{address}: never put off" for address in sorted(strangers) if not sink.put_off[address]]
    wrong += [f"{address}: put off, and no stranger" for address in sorted(set(sink.put_off) - strangers)]
    if len(everybody) > CONNECTIONS * MAILS and not sink.ended:
        wrong.append("the server ended no session")
    if set(sink.refused) != {GONE}:
        wrong.append(f"refused for good: {', '.join(sorted(sink.refused)) or 'nobody'}")
    files = len(list(sink.directory.glob("*.eml")))
    if files != sink.mails:
        wrong.append(f"{files} .eml files for {sink.mails} mails")
    return wrong


class Bar:
    """A progress bar on a terminal; a line at the end elsewhere."""

    WIDTH = 40

    def __init__(self, what: str, count: int) -> None:
        self._what = what
        self._count = count
        self._shown = 0
        self._live = sys.stdout.isatty()

    def show(self, so_far: int) -> None:
        """Draw it, at most once per hundredth."""
        self._so_far = so_far
        step = so_far * 100 // self._count
        if self._live and (step != self._shown or so_far == self._count):
            self._shown = step
            self._draw("\r")

    def end(self) -> None:
        """Finish the line."""
        self._draw("\r" if self._live else "")
        print()

    def _draw(self, start: str) -> None:
        full = self._so_far * self.WIDTH // self._count
        bar = "#" * full + "." * (self.WIDTH - full)
        print(f"{start}{self._what:10} [{bar}] {self._so_far:>6,} of {self._count:,}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
