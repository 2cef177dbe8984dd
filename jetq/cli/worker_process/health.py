"""Answers for a worker's health over HTTP: `GET /live`, `GET /ready`, and both in `GET /health`.

A thread of its own answers, from what the process knows of the worker, without asking the worker. So it answers also
while the event loop is blocked, and no answer waits for the broker.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from jetq.runtime.forks import not_for_children
from jetq.worker.process.health import Condition

__all__ = ["answering"]

_CLIENT_TIMEOUT = 5.0


@contextlib.contextmanager
def answering(host: str, port: int, condition: Condition) -> Iterator[int]:
    """Answer on `host` and `port` as long as the context is open, and yield the port. With port 0 any free port is
    taken.

    Raises OSError if the port cannot be used.
    """
    server = _Server(host, port, condition)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="jetq-health", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    """A client that says nothing does not keep the process from ending."""
    request_queue_size = 128

    def __init__(self, host: str, port: int, condition: Condition) -> None:
        self.condition = condition
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Answer)
        not_for_children(self.socket)

    def server_bind(self) -> None:
        # The method of HTTPServer would look its own name up in the DNS.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "jetq", int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: a client that hung up is no error."""


class _Answer(BaseHTTPRequestHandler):
    timeout = _CLIENT_TIMEOUT

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        condition = self.server.condition
        path = self.path.partition("?")[0]
        if path == "/live":
            self._text(condition.liveness_problem())
        elif path == "/ready":
            self._text(condition.liveness_problem() or condition.readiness_problem())
        elif path == "/health":
            dead, unready = condition.liveness_problem(), condition.readiness_problem()
            said = {"live": dead is None, "ready": dead is None and unready is None, "reason": dead or unready}
            self._send(_status(dead or unready), json.dumps(said) + "\n", "application/json")
        else:
            self._send(HTTPStatus.NOT_FOUND, "there are /live, /ready and /health\n")

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD\n", allow="GET, HEAD")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse

    def _text(self, problem: str | None) -> None:
        self._send(_status(problem), f"{problem or 'ok'}\n")

    def _send(self, status: HTTPStatus, text: str, kind: str = "text/plain", *, allow: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if allow:
            self.send_header("Allow", allow)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "jetq"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes come every few seconds."""


def _status(problem: str | None) -> HTTPStatus:
    return HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE
