"""Shows the preview of a template in a browser on this machine. The preview is made again each time it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from jetq import JetqError
from jetq_email.templates.preview import Preview

__all__ = ["PreviewServer"]

_LOOPBACK = "127.0.0.1"

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 14px sans-serif; margin: 1em; }}
td {{ padding: 0 1em 0 0; vertical-align: top; }}
iframe {{ width: 100%; height: 70vh; border: 1px solid #999; }}
pre {{ white-space: pre-wrap; border: 1px solid #999; padding: 1em; }}
.lacking {{ color: #b00; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


class PreviewServer(ThreadingHTTPServer):
    """Answers on the loopback interface: `/` has the headers, the text and the HTML, `/html` only the HTML.

    make: makes the preview, at each request. port: 0 takes a free port. Raises OSError for a port that is taken.
    """

    daemon_threads = True

    def __init__(self, make: Callable[[], Preview], port: int = 0) -> None:
        super().__init__((_LOOPBACK, port), _Handler)
        self.make = make

    @property
    def url(self) -> str:
        """The URL at which the server answers."""
        return f"http://{_LOOPBACK}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, PreviewServer)
        host = self.headers.get("Host", "").partition(":")[0]
        if host not in (_LOOPBACK, "localhost"):  # another site may have let its name lead to this machine
            self._answer(HTTPStatus.FORBIDDEN, "this preview is for this machine alone")
        elif self.path not in ("/", "/html"):
            self._answer(HTTPStatus.NOT_FOUND, "there are / and /html")
        else:
            try:
                made = self.server.make()
            except JetqError as error:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"error: {error.message}\nhint: {error.hint}")
            else:
                self._send(HTTPStatus.OK, _page(made) if self.path == "/" else made.html or "")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, because the person at the browser sees the page."""

    def _answer(self, status: HTTPStatus, text: str) -> None:
        self._send(status, _PAGE.format(title=status.phrase, body=f"<pre>{escape(text)}</pre>"))

    def _send(self, status: HTTPStatus, page: str) -> None:
        content = page.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        if self.path == "/html":  # as in a mail, no script runs
            self.send_header("Content-Security-Policy", "sandbox allow-popups")
        self.end_headers()
        self.wfile.write(content)


def _page(made: Preview) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in made.headers)
    parts = [f"<table>{rows}<tr><td>Size</td><td>{made.size} bytes</td></tr></table>"]
    if made.lacking:
        parts.append(f'<p class="lacking">Not given: {escape(", ".join(made.lacking))}</p>')
    if made.unused:
        parts.append(f"<p>Not given, and not used with this data: {escape(', '.join(made.unused))}</p>")
    if made.html is not None:
        parts.append('<iframe src="/html" title="HTML"></iframe>')
    parts.append(f"<pre>{escape(made.text)}</pre>")
    return _PAGE.format(title=escape(made.name), body="\n".join(parts))
