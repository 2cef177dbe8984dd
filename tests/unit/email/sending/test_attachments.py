"""Attachments by path and URL: off by default, confined and bounded when on."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jetq_email.errors import TransportError, Unsendable
from jetq_email.sending.attachments import Attachment, gather
from jetq_email.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("fields", [{}, {"path": "a", "url": "b"}, {"content": b"x"}])
async def test_an_attachment_has_one_source(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="attachment"):
        Attachment(**fields)


async def test_files_are_read_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"data")
    (tmp_path / "link.txt").symlink_to("in/a.txt")
    settings = Settings(attachment_root=tmp_path)
    parts = await gather([Attachment(path="in/a.txt"), Attachment(path="link.txt", filename="b.txt")], settings)
    assert [(part.filename, part.content) for part in parts] == [("a.txt", b"data"), ("b.txt", b"data")]


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/hostname", "escape", "dir/secret", ".", "missing", "pipe", "a\x00b"]
)
async def test_nothing_outside_the_root_is_read(path: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "escape").symlink_to(tmp_path / "secret")
    (root / "dir").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    with pytest.raises(Unsendable, match="attachment"):
        await gather([Attachment(path=path)], Settings(attachment_root=root))


async def test_paths_and_urls_are_off_by_default() -> None:
    with pytest.raises(Unsendable, match="JETQ_EMAIL_ATTACHMENT_ROOT"):
        await gather([Attachment(path="a")], Settings())
    with pytest.raises(Unsendable, match="JETQ_EMAIL_ATTACHMENT_HOSTS"):
        await gather([Attachment(url="http://127.0.0.1/a")], Settings())


async def test_all_attachments_share_one_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    settings = Settings(attachment_root=tmp_path, attachment_limit=9)
    with pytest.raises(Unsendable, match="exceed 9 bytes"):
        await gather([Attachment(filename="x", content=b"12345"), Attachment(path="a")], settings)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        target = {"/away": "http://localhost:1/x", "/file": "file:///etc/hostname", "/here": "/report.pdf"}.get(
            self.path
        )
        status = 302 if target else {"/gone": 404, "/busy": 503}.get(self.path, 200)
        self.send_response(status)
        if target:
            self.send_header("Location", target)
        body = b"x" * 100 if status == 200 else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_urls_of_allowed_hosts_are_fetched(host: str) -> None:
    settings = Settings(attachment_hosts=("127.0.0.1",))
    parts = await gather([Attachment(url=f"{host}/report.pdf?x=1"), Attachment(url=f"{host}/here")], settings)
    assert [(part.filename, len(part.content)) for part in parts] == [("report.pdf", 100), ("here", 100)]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/gone", Unsendable, "404"),
        ("/busy", TransportError, "503"),
        ("/away", Unsendable, "'localhost' is not allowed"),
        ("/file", Unsendable, "not allowed"),
    ],
)
async def test_urls_that_fail(host: str, path: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await gather([Attachment(url=host + path)], Settings(attachment_hosts=("127.0.0.1",)))


async def test_a_download_is_bounded(host: str) -> None:
    with pytest.raises(Unsendable, match="exceed 99 bytes"):
        await gather([Attachment(url=f"{host}/a")], Settings(attachment_hosts=("127.0.0.1",), attachment_limit=99))


async def test_only_http_is_spoken() -> None:
    for url in ("file:///etc/hostname", "ftp://127.0.0.1/a", "data:,x", "//127.0.0.1/a"):
        with pytest.raises(Unsendable, match="only http and https"):
            await gather([Attachment(url=url)], Settings(attachment_hosts=("127.0.0.1",)))
