"""Writes the body of a mail as bytes: its texts, the images in them, and the attachments.

The same parts give the same bytes, boundaries included, so that every attempt of a job hands over the same mail.
"""

from __future__ import annotations

import mimetypes
import re
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from urllib.parse import quote

from msgspec import Struct

from jetq_email.errors import Unsendable
from jetq_email.message.headers import folded
from jetq_email.message.lines import one_line

__all__ = ["Part", "body", "calendar_part", "content_type_of"]

_WIDTH = 78
"""Columns of a line of text that is written unchanged (RFC 5322 2.1.1)."""

_FILENAME_LENGTH = 255
_LONGEST_QUOTED = 60
"""Characters of a file name that is written on one line. A longer name is written in parts (RFC 2231)."""

_LONGEST_PIECE = 50
_CHARSET = "utf-8''"

_TOKEN = r"[!#$%&'*+.^_`{|}~A-Za-z0-9-]+"
_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})((?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|\"[ !#-\[\]-~]*\"))*)\s*")
_PARAMETER = re.compile(rf"({_TOKEN})=(?:({_TOKEN})|\"([^\"]*)\")")
_CONTENT_ID = re.compile(r"[!#$%&'*+./=?^_`{|}~A-Za-z0-9-]+(?:@[A-Za-z0-9.-]+)?")
_METHOD = re.compile(r"^METHOD:([A-Za-z-]+)\s*$", re.MULTILINE)


class Part(Struct, frozen=True):
    """A file with its bytes. content_type: None means that it is guessed from the file name.

    content_id: the name by which the HTML shows the file, as in `<img src="cid:logo">`; None means that it is an
    attachment.
    """

    filename: str
    content: bytes
    content_type: str | None = None
    content_id: str | None = None


def body(text: str, html: str | None = None, calendar: str | None = None, parts: Sequence[Part] = ()) -> bytes:
    """Return the MIME headers and the body of a mail. `calendar` is an invitation in iCalendar's format, with a METHOD.

    Raises Unsendable for a text or file that cannot be encoded or attached.
    """
    texts = [_text(text, "text/plain")]
    inline = [_file(part) for part in parts if part.content_id is not None]
    if html is not None:
        shown = _text(html, "text/html")
        texts.append(_multipart("related", [shown, *inline], type="text/html") if inline else shown)
    elif inline:
        raise Unsendable("an attachment has a content_id, and there is no html to show it in")
    if calendar is not None:
        texts.append(_text(calendar, "text/calendar", method=_method(calendar)))
    whole = _multipart("alternative", texts) if len(texts) > 1 else texts[0]
    attached = [_file(part) for part in parts if part.content_id is None]
    return b"MIME-Version: 1.0\r\n" + (_multipart("mixed", [whole, *attached]) if attached else whole)


def content_type_of(part: Part) -> str:
    """Return the content type of `part` with its parameters, as given or as guessed from its name. Raises
    Unsendable."""
    content_type, parameters = _type_of(part, part.filename)
    return "; ".join([content_type, *(f'{key}="{value}"' for key, value in parameters.items())])


def calendar_part(calendar: str) -> Part:
    """Return the invitation as a file, for a provider that takes only text and HTML. Raises Unsendable."""
    return Part("invite.ics", calendar.encode(), f"text/calendar; charset=utf-8; method={_method(calendar)}")


def _multipart(subtype: str, parts: Sequence[bytes], **parameters: str) -> bytes:
    # The boundary is a hash of the parts, so that no part can hold it, whoever has written the part.
    boundary = "=_" + blake2b(b"".join(parts), digest_size=15).hexdigest()
    head = _content_type(f"multipart/{subtype}", {**parameters, "boundary": boundary})
    between = f"--{boundary}\r\n".encode()
    return b"".join((head, b"\r\n", *(between + part + b"\r\n" for part in parts), f"--{boundary}--\r\n".encode()))


def _text(text: str, content_type: str, **parameters: str) -> bytes:
    try:
        lines = text.encode().splitlines() or [b""]
    except UnicodeEncodeError as error:
        raise Unsendable(f"the body cannot be encoded: {error.reason}") from error
    encoding, content = _shortest(lines)
    head = _content_type(content_type, {"charset": "utf-8", **parameters})
    return b"".join((head, f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode(), content))


def _shortest(lines: Sequence[bytes]) -> tuple[str, bytes]:
    """Return the encoding of a text, and its `lines` in that encoding. Lines that every server takes stay unchanged,
    others get the shorter of the two encodings. The standard library does the same in ten times the time."""
    if max(map(len, lines)) <= _WIDTH and all(line.isascii() for line in lines):
        return "7bit", b"".join(line + b"\r\n" for line in lines)
    whole = b"\r\n".join(lines) + b"\r\n"
    quoted = b2a_qp(whole)
    if len(quoted) <= (len(whole) + 2) // 3 * 4:
        return "quoted-printable", quoted
    return "base64", encodebytes(whole).replace(b"\n", b"\r\n")


def _method(calendar: str) -> str:
    found = _METHOD.search(calendar.replace("\r\n", "\n"))
    if found is None:
        raise Unsendable("calendar: it has no METHOD", hint="an invitation says METHOD:REQUEST, a cancellation CANCEL")
    return found[1].upper()


# --- files


def _file(part: Part) -> bytes:
    name = one_line(part.filename, "attachment's filename")
    if not name or len(name.encode()) > _FILENAME_LENGTH or "/" in name or "\\" in name:
        raise Unsendable(
            f"attachment {name[:80]!r}: not a file name", hint=f"1 to {_FILENAME_LENGTH} octets, without slashes"
        )
    content_type, parameters = _type_of(part, name)
    if content_type == "message/rfc822":
        encoding, content = "7bit", _as_lines(part, name)
    else:
        encoding, content = "base64", encodebytes(part.content).replace(b"\n", b"\r\n")
    disposition = "attachment" if part.content_id is None else "inline"
    head = [
        _content_type(content_type, parameters),
        f"Content-Transfer-Encoding: {encoding}\r\n".encode(),
        folded("Content-Disposition", [f"{disposition};", *_filename(name)]),
    ]
    if part.content_id is not None:
        head.append(f"Content-ID: <{_content_id(part.content_id, name)}>\r\n".encode())
    return b"".join((*head, b"\r\n", content))


def _type_of(part: Part, name: str) -> tuple[str, dict[str, str]]:
    given = part.content_type
    if given is None:
        guessed, encoding = mimetypes.guess_type(name)
        # RFC 2046 5.2.1 forbids base64 on message/*, so a guessed .eml travels as plain bytes
        binary = guessed is None or encoding is not None or guessed.startswith(("message/", "multipart/"))
        return "application/octet-stream" if binary else str(guessed), {}
    match = _TYPE.fullmatch(given)
    content_type = match[1].lower() if match else ""
    if match is None or (
        content_type.partition("/")[0] in ("multipart", "message") and content_type != "message/rfc822"
    ):
        raise Unsendable(
            f"attachment {name[:80]!r}: content type {given[:80]!r} cannot be attached",
            hint="a type like application/pdf, or text/csv; charset=utf-8; of message/* rfc822 alone, not multipart/*",
        )
    found = _PARAMETER.findall(match[2])
    return content_type, {key.lower(): bare or quoted for key, bare, quoted in found}


def _as_lines(part: Part, name: str) -> bytes:
    """Return an attached mail, which may not be encoded (RFC 2046 5.2.1)."""
    content = part.content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if not content.isascii() or max(map(len, content.split(b"\r\n"))) > 998 or b"\r" in content.replace(b"\r\n", b""):
        raise Unsendable(
            f"attachment {name[:80]!r}: a mail with octets beyond ASCII, or lines over 998, is no message/rfc822",
            hint="leave out its content_type: then it travels as a file",
        )
    return content


def _content_id(given: str, name: str) -> str:
    if not _CONTENT_ID.fullmatch(given) or len(given) > 200:
        raise Unsendable(f"attachment {name[:80]!r}: not a content_id", hint='a word, as logo for src="cid:logo"')
    return given


# --- headers of parts


def _content_type(content_type: str, parameters: Mapping[str, str]) -> bytes:
    last = len(parameters) - 1
    pieces = [f'{key}="{value}"' + (";" if at < last else "") for at, (key, value) in enumerate(parameters.items())]
    return folded("Content-Type", [content_type + (";" if pieces else ""), *pieces])


def _filename(name: str) -> list[str]:
    """Return the parameter that holds a file's name.

    A name that is not plain ASCII, or looks encoded, is percent-encoded (RFC 2231).
    """
    is_plain = name.isascii() and name.isprintable() and name == name.strip() and "=?" not in name
    is_plain = is_plain and name[0] not in '<"'  # the standard library's reader would strip a pair of these
    if is_plain and len(name) <= _LONGEST_QUOTED:
        return ['filename="' + name.replace('"', r"\"") + '"']
    pieces = [""]
    for character in name:
        encoded = quote(character, safe="")
        if len(pieces[-1]) + len(encoded) > _LONGEST_PIECE:
            pieces.append("")
        pieces[-1] += encoded
    if len(pieces) == 1:
        return [f"filename*={_CHARSET}{pieces[0]}"]
    pieces[0] = _CHARSET + pieces[0]
    words = [f"filename*{at}*={piece}" for at, piece in enumerate(pieces)]
    return [*(f"{word};" for word in words[:-1]), words[-1]]
