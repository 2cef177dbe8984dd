"""Attachments as a job carries them: their bytes, or a path or URL from which the worker may fetch them.

Anybody who may enqueue can write a job's arguments, but must not get at the worker's files and network. So paths are
confined to one directory, URLs are confined to named hosts, and both are refused unless the worker's settings allow
them.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from jetq_email.errors import TransportError, Unsendable
from jetq_email.message.mime import Part
from jetq_email.settings import Settings

__all__ = ["Attachment", "gather"]

_CHUNK = 65536
_REDIRECTS = 3


class Attachment(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One attachment: exactly one of `content`, `path` and `url`.

    content: its bytes, which travel in the job (base64 in JSON), up to the broker's payload limit.
    path: a file on the worker's machine, relative to `JETQ_EMAIL_ATTACHMENT_ROOT`.
    url: http or https, on one of `JETQ_EMAIL_ATTACHMENT_HOSTS`, fetched by the worker when the mail is sent.
    filename: what the reader sees; needed with `content`, otherwise the last part of the path or URL.
    content_type: such as `application/pdf`, or `text/csv; charset=utf-8`; guessed from the file name if not given.
    content_id: the name by which the HTML shows it, `<img src="cid:logo">` for "logo"; it is no attachment then.

    Raises ValueError unless exactly one of `content`, `path` and `url` is given.
    """

    filename: str | None = None
    content: bytes | None = None
    path: str | None = None
    url: str | None = None
    content_type: str | None = None
    content_id: str | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.content, self.path, self.url)) != 1:
            raise ValueError("an attachment has exactly one of content, path and url")
        if self.content is not None and not self.filename:
            raise ValueError("an attachment with content needs a filename")


async def gather(attachments: Sequence[Attachment], settings: Settings) -> list[Part]:
    """Return the attachments with their bytes, which have at most `settings.attachment_limit` bytes together.

    Raises Unsendable for an attachment that is not allowed, missing or too large, and TransportError for a host that
    fails this time.
    """
    parts: list[Part] = []
    room = settings.attachment_limit
    for attachment in attachments:
        part = await _fetch(attachment, settings, room)
        room -= len(part.content)
        if room < 0:
            raise _too_large(part.filename, settings)
        parts.append(part)
    return parts


async def _fetch(attachment: Attachment, settings: Settings, room: int) -> Part:
    if attachment.content is not None:
        filename, content = attachment.filename or "", attachment.content
    elif attachment.path is not None:
        filename = attachment.filename or PurePosixPath(attachment.path).name
        content = await asyncio.to_thread(_read_file, attachment.path, settings, room)
    else:
        url = attachment.url or ""
        filename = attachment.filename or PurePosixPath(unquote(urlsplit(url).path)).name or "attachment"
        content = await asyncio.to_thread(_download, url, settings, room)
    return Part(filename, content, attachment.content_type, attachment.content_id)


def _too_large(name: str, settings: Settings) -> Unsendable:
    return Unsendable(
        f"attachment {name!r}: the attachments exceed {settings.attachment_limit} bytes",
        hint="JETQ_EMAIL_ATTACHMENT_LIMIT of the worker sets the limit",
    )


# --- files


def _read_file(path: str, settings: Settings, room: int) -> bytes:
    root = settings.attachment_root
    if root is None:
        raise Unsendable(
            f"attachment {path!r}: attaching files by path is off",
            hint="set JETQ_EMAIL_ATTACHMENT_ROOT of the worker to the directory they may come from",
        )
    try:
        descriptor = _open_inside(root, path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Unsendable(f"attachment {path!r}: {reason}") from None
    with open(descriptor, "rb") as file:
        content = file.read(room + 1)
    if len(content) > room:
        raise _too_large(path, settings)
    return content


def _open_inside(root: Path, path: str) -> int:
    """Open a regular file below `root`, also through links. Raises ValueError for any other file, and for a file
    elsewhere.

    The path is first resolved, and then walked again without following links. A link that was put there meanwhile is an
    error.
    """
    real_root = root.resolve(strict=True)
    real = (real_root / path).resolve(strict=True)
    if not real.is_relative_to(real_root) or real == real_root:
        raise ValueError("it is not inside the attachment directory")
    *directories, name = real.relative_to(real_root).parts
    here = os.open(real_root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for directory in directories:
            inner = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        # O_NONBLOCK: opening a named pipe must not wait for a writer
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is not a regular file")
    return descriptor


# --- URLs


def _shown(url: str) -> str:
    """Return `url` without user, password and query, which may hold what gives access to a download."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check_url(url: str, settings: Settings) -> None:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise Unsendable(f"attachment {_shown(url)!r}: a URL with a user or password cannot be attached")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unsendable(f"attachment {_shown(url)!r}: only http and https URLs can be attached")
    if parts.hostname not in settings.attachment_hosts:
        raise Unsendable(
            f"attachment {_shown(url)!r}: the host {parts.hostname!r} is not allowed",
            hint="JETQ_EMAIL_ATTACHMENT_HOSTS of the worker lists the hosts attachments may come from",
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, and each only to a URL that an attachment may have."""

    max_redirections = _REDIRECTS

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        _check_url(newurl, self._settings)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _opener(settings: Settings) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()  # build_opener would also accept file, ftp and data
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(settings),
    ):
        opener.add_handler(handler)
    return opener


def _download(url: str, settings: Settings, room: int) -> bytes:
    _check_url(url, settings)
    deadline = time.monotonic() + settings.timeout
    try:
        with _opener(settings).open(url, timeout=settings.timeout) as response:
            return _read_response(url, response, settings, room, deadline)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (408, 425, 429) or error.code >= 500:
                raise TransportError(f"attachment {_shown(url)!r}: the host answered {error.code}") from None
            raise Unsendable(f"attachment {_shown(url)!r}: the host answered {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransportError(f"attachment {_shown(url)!r}: {str(error) or type(error).__name__}") from error


def _read_response(
    url: str, response: http.client.HTTPResponse, settings: Settings, room: int, deadline: float
) -> bytes:
    content = bytearray()
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > room:
            raise _too_large(url, settings)
        if time.monotonic() > deadline:
            raise TransportError(f"attachment {_shown(url)!r}: not complete after {settings.timeout:g} s")
    return bytes(content)
