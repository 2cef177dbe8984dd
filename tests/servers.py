"""A nats-server that tests may stop, kill, pause and start again on the same port and store, and a cluster of three."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Protocol

from jetq.server import end, launch

__all__ = ["ELECTED_WITHIN", "NatsCluster", "NatsLeaf", "NatsServer", "NatsServerFactory"]

_FORMS_WITHIN = 30.0


class NatsServer:
    """A real nats-server in `directory`. Port and store stay the same over `stop`, `kill` and `start`."""

    def __init__(
        self, directory: Path, *, config: str = "", jetstream: bool = True, port: int = 0, domain: str = ""
    ) -> None:
        self.directory = directory
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._config = directory / "nats-server.conf"
        named = f", domain: {domain}" if domain else ""
        store = f"jetstream {{ store_dir: {json.dumps(str(directory / 'store'))}{named} }}\n" if jetstream else ""
        directory.mkdir(parents=True, exist_ok=True)
        self._config.write_text(store + config, encoding="utf-8")
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log(self) -> str:
        """What the server wrote since its last start."""
        return (self.directory / "nats-server.log").read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it again; returns once it takes connections."""
        if self._process is None:
            self._process, self.port = launch(self._config, self.directory, port=self.port)

    def configure(self, config: str) -> None:
        """Give it another configuration, which counts from its next start or `reload` on."""
        store = self._config.read_text("utf-8").splitlines()[0]
        self._config.write_text(f"{store}\n{config}\n", encoding="utf-8")

    def limit_payload(self, most: str) -> None:
        """Have its configuration say how much one message may carry; the rest of that stays. Counts as `configure`."""
        lines = [line for line in self._config.read_text("utf-8").splitlines() if not line.startswith("max_payload")]
        self._config.write_text("\n".join([*lines, f"max_payload: {most}", ""]), encoding="utf-8")

    def reload(self) -> None:
        """Have it read its configuration again while it runs."""
        self._running().send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """An orderly shutdown."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            end(self._process)
            self._process = None

    def kill(self) -> None:
        """SIGKILL: what was not written is gone."""
        process = self._running()
        process.kill()
        process.wait()
        end(process)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP, and stopped: it does nothing any more, and its connections stay open."""
        self._running().send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)  # one of its threads may be at work for a moment

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped or killed since."""
        return self._process is not None

    @property
    def monitoring(self) -> str:
        """The URL of its monitoring."""
        ports = json.loads(next(self.directory.glob(f"*_{self.pid}.ports")).read_bytes())
        return str(ports["monitoring"][0])

    def monitor(self, path: str) -> Any:
        """What the monitoring of a server that has one (`http: ...` in its configuration) answers; None for no
        answer within a second, or one that says no."""
        try:
            with urllib.request.urlopen(self.monitoring + path, timeout=1.0) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return None
        except OSError:
            return None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "this server was stopped"
        return self._process


ELECTED_WITHIN = 40.0
"""Seconds. One election takes 4 to 10 s (nats-server 2.15.1: a vote is called for after 4 to 9 s of silence), and one
that is not decided is held again."""


class NatsCluster:
    """Three nats-servers that know one another. Clients are told of no other than those they name, so that a test can
    put a proxy before each."""

    def __init__(self, directory: Path, *, config: str = "") -> None:
        routes = [f"127.0.0.1:{port}" for port in _free_ports(3)]
        all_routes = ", ".join(f"nats-route://{route}" for route in routes)
        self.nodes = [
            NatsServer(
                directory / f"node-{place}",
                config=f'server_name: node-{place}\nhttp: "127.0.0.1:-1"\n'
                f'cluster {{ name: c, listen: "{route}", no_advertise: true, routes: [{all_routes}] }}\n{config}',
            )
            for place, route in enumerate(routes)
        ]
        self.wait()

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def wait(self) -> None:
        """Return once every running node says that all its streams are current."""
        deadline = time.monotonic() + _FORMS_WITHIN
        for node in self.nodes:
            while node.running and (node.monitor("/healthz") or {}).get("status") != "ok":
                assert time.monotonic() < deadline, f"no cluster within {_FORMS_WITHIN:g} s:\n{node.log[-2000:]}"
                time.sleep(0.05)

    def leader(self, stream: str) -> NatsServer | None:
        """The node that leads `stream`, as far as the nodes know."""
        for node in self.nodes:
            answer = node.monitor("/jsz?streams=true&accounts=true") if node.running else None
            for account in (answer or {}).get("account_details", []):
                for detail in account.get("stream_detail", []):
                    name = (detail.get("cluster") or {}).get("leader", "")
                    if detail["name"] == stream and name:
                        return self.nodes[int(name.removeprefix("node-"))]
        return None

    def stop(self) -> None:
        """An orderly shutdown of all."""
        for node in self.nodes:
            node.stop()


class NatsLeaf:
    """A hub and a leaf node of it in one account, each with a JetStream domain of its own. hub, leaf: their names, ""
    for a domain without one; a leaf that is None has no JetStream."""

    def __init__(self, directory: Path, *, hub: str = "hub", leaf: str | None = "leaf") -> None:
        (port,) = _free_ports(1)
        self.hub = NatsServer(
            directory / "hub", domain=hub, config=f'server_name: hub\nleafnodes {{ listen: "127.0.0.1:{port}" }}\n'
        )
        self.leaf = NatsServer(
            directory / "leaf",
            domain=leaf or "",
            jetstream=leaf is not None,
            config='server_name: leaf\nhttp: "127.0.0.1:-1"\n'
            f'leafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{port}" }}] }}\n',
        )
        deadline = time.monotonic() + _FORMS_WITHIN
        while (self.leaf.monitor("/leafz") or {}).get("leafnodes") != 1:
            assert time.monotonic() < deadline, f"no leaf within {_FORMS_WITHIN:g} s:\n{self.leaf.log[-2000:]}"
            time.sleep(0.05)

    def stop(self) -> None:
        """An orderly shutdown of both."""
        self.leaf.stop()
        self.hub.stop()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class NatsServerFactory(Protocol):
    """The fixture `nats_server`: starts a server, with lines of configuration, without JetStream, or on a port."""

    def __call__(self, config: str = "", *, jetstream: bool = True, port: int = 0) -> NatsServer: ...
