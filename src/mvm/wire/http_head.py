"""The head of an HTTP/1 request or response (RFC 9112), read so strictly that nobody can read it otherwise.

Owns telling HTTP/1 from other protocols, and the few facts of a head that decide where a request goes and
where its body ends. Must never repair: whatever two readers are known to read differently (a bare LF, a
folded line, a space before a colon, two lengths, a list of lengths, a coding that is not exactly `chunked`,
a target that disagrees with Host) is refused, because behind such a difference a second request hides.
Must never keep or quote payload, paths or field values beyond those facts.

Known limits, on purpose: no empty line before a request, no raw bytes above 0x7E in a target, no host names
with underscores, no identical Content-Length twice. RFC 9112 lets a reader forgive these; this one forwards
bytes to readers it does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mvm.wire.outcome import Malformed

MAX_HEAD = 16384
"""Bytes that a head may take, its empty line included."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_FIELDS = re.compile(rb"(?:" + _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")
_FRAMING = re.compile(rb"\n(host|content[-_]length|transfer[-_]encoding|upgrade):([^\r]*+)", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb"++) ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_ALLOWED_BYTES = bytes({9, 10, 13, *range(0x20, 0x7F), *range(0x80, 0x100)})
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,17}")
_NAME = re.compile(rb"(?=.{1,253}\Z)(?:[a-z0-9-]{1,63}\.)*[a-z0-9-]{1,63}")
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::([1-9][0-9]{0,4}))?")
_ABSOLUTE = re.compile(rb"http://([^/?#]*)(?:[/?].*)?", re.IGNORECASE)
_HTTP_PORT = 80
_MAX_PORT = 65535

_METHOD = re.compile(_TOKEN + rb"*+")
_TEXT = re.compile(rb"[\t\x20-\x7e\x80-\xff]*+")
_LINE = re.compile(rb"[^\r\n]*+")
_USUAL = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"})
_BLANK = b"\t\n\r "
_ODD_SPACE = (
    b"\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0"  # what a server that splits text, not bytes, takes for a space
)


class NotHttp1(Malformed):
    """What is spoken is not, or does not stay, HTTP/1 requests to the host itself.

    CONNECT, the HTTP/2 preface, other versions, and bytes that are no request line at all.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """The facts of one request head.

    Attributes:
        method: as sent; letter case matters.
        host: Host without its port: a lower-case name of letters, digits, hyphens and inner dots, or an
            address in its canonical text, IPv6 in brackets.
        port: the port that Host names, 1 to 65535, or None.
        content_length: bytes of body announced, or None.
        chunked: whether the body is chunked instead.
        upgrade: the Upgrade field in lower case, or None.
        size: bytes of the head, its empty line included.
    """

    method: bytes
    host: bytes
    port: int | None
    content_length: int | None
    chunked: bool
    upgrade: bytes | None
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """The facts of one response head.

    Attributes:
        status: 100 to 599.
        upgrade: the Upgrade field in lower case, or None.
        size: bytes of the head, its empty line included.
    """

    status: int
    upgrade: bytes | None
    size: int


def looks_like_http(data: bytes) -> bool | None:
    """Tell on a port of unknown use whether a client opens with an HTTP/1 request.

    Wide on purpose: what some lenient server might take for a request counts as one, and is then refused by
    the strict reader, so that nothing slips by as "another protocol". That includes leading blank bytes,
    HTTP/0.9, and the HTTP/2 preface.

    Args:
        data: the first bytes of the client, from the beginning.

    Returns:
        True or False as soon as it is certain, None while both are possible. Above `MAX_HEAD` undecided bytes
        count as HTTP.
    """
    if data and data[0] in _BLANK:
        return True
    at = _end(_METHOD, data, 0)
    if at == len(data):
        return _undecided(data)
    usual = data[:at].upper() in _USUAL
    if data[at] not in b" \t":
        return usual and data[at] in _ODD_SPACE
    if usual and data[at + 1 : at + 5].lower().startswith((b"/", b"*", b"http")):
        return True
    stop = _end(_LINE if usual else _TEXT, data, at + 1)
    if data[stop:] in (b"", b"\r"):
        return _undecided(data)
    return data[stop] in b"\r\n" and b"HTTP/" in data[at:stop].upper()


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Where the longest run from `at` ends that the pattern matches, be it empty."""
    match = pattern.match(data, at)
    return match.end() if match else at


def _undecided(data: bytes) -> bool | None:
    """None, until there are too many bytes to go on waiting."""
    return True if len(data) > MAX_HEAD else None


def read_request_head(data: bytes) -> RequestHead | None:
    """Read the head of a request (RFC 9112 sections 3 and 5).

    Args:
        data: received bytes, from the request's first; what follows the head is left alone.

    Returns:
        The head, or None where more bytes are needed.

    Raises:
        NotHttp1: not a request of HTTP/1.0 or 1.1, or CONNECT.
        Malformed: a broken, ambiguous or overlong head, or one without exactly one usable Host.
    """
    if looks_like_http(data) is False:
        raise NotHttp1("HTTP: no request line")
    if data and data[0] in _BLANK:
        raise Malformed("HTTP: a blank before the request line")
    end = _find_end(data)
    line_end = data.find(b"\r\n", 0, MAX_HEAD)
    if line_end < 0:
        return None
    method, target, version = _read_request_line(data[:line_end])
    if end is None:
        return None
    fields = _read_fields(data[line_end + 2 : end + 2])
    host, port = _read_authority(_only(fields, b"host"))
    _check_target(method, target, host, port)
    length, chunked = _read_framing(fields)
    if chunked and version != b"1":
        raise Malformed("HTTP: Transfer-Encoding in HTTP/1.0")
    return RequestHead(
        method=method,
        host=host,
        port=port,
        content_length=length,
        chunked=chunked,
        upgrade=_read_upgrade(fields),
        size=end + 4,
    )


def read_response_head(data: bytes) -> ResponseHead | None:
    """Read the head of a response (RFC 9112 section 4), as far as the answer to an Upgrade needs.

    Args:
        data: received bytes, from the response's first; what follows the head is left alone.

    Returns:
        The head, or None where more bytes are needed.

    Raises:
        Malformed: a broken or overlong head.
    """
    if not b"HTTP/1.".startswith(data[:7]):
        raise Malformed("HTTP: no status line")
    end = _find_end(data)
    if end is None:
        return None
    line_end = data.find(b"\r\n")
    status = _STATUS_LINE.fullmatch(data, 0, line_end)
    if status is None:
        raise Malformed("HTTP: no status line")
    fields = _read_fields(data[line_end + 2 : end + 2])
    return ResponseHead(status=int(status[1]), upgrade=_read_upgrade(fields), size=end + 4)


def check_fields(block: bytes) -> None:
    """Judge the trailer fields of a chunked body (RFC 9112 section 7.1.2).

    Args:
        block: whole field lines, each with its CR LF, without the empty line.

    Raises:
        Malformed: a line is no field, or is one that says where a message goes or ends.
    """
    if _read_fields(block):
        raise Malformed("HTTP: a trailer field that must stand in the head")


def _find_end(data: bytes) -> int | None:
    """Where the empty line behind the fields begins, or None; bad bytes and too many of them are refused."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end >= 0:
        _check_bytes(data[: end + 4], whole=True)
        return end
    _check_bytes(data[:MAX_HEAD], whole=False)
    if len(data) >= MAX_HEAD:
        raise Malformed("HTTP: head longer than 16 KiB")
    return None


def _check_bytes(data: bytes, *, whole: bool) -> None:
    """No control byte but tab, and CR and LF only as a pair; a CR that ends an unfinished head may wait."""
    pairs = data.count(b"\r\n")
    returns = data.count(b"\r") - (not whole and data.endswith(b"\r"))
    if data.count(b"\n") != pairs or returns != pairs or data.translate(None, _ALLOWED_BYTES):
        raise Malformed("HTTP: a control byte, or CR and LF not as a pair")


def _read_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, target and minor version; one space between, nothing else."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Malformed("HTTP: no request line of method, target and version")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise NotHttp1("HTTP: a version other than 1.0 and 1.1")
    if method.upper() == b"CONNECT":
        raise NotHttp1("HTTP: CONNECT")
    return method, target, minor


def _read_fields(block: bytes) -> dict[bytes, list[bytes]]:
    """Check every field line; give the values of those that matter, by lower-case name."""
    if not _FIELDS.fullmatch(block):
        raise Malformed("HTTP: a line that is no field, a folded one, or a space before a colon")
    fields: dict[bytes, list[bytes]] = {}
    for name, value in _FRAMING.findall(b"\n" + block):
        fields.setdefault(name.lower(), []).append(value.strip(b"\t "))
    if b"content_length" in fields or b"transfer_encoding" in fields:
        raise Malformed("HTTP: a field that some readers take for another one")
    return fields


def _only(fields: dict[bytes, list[bytes]], name: bytes) -> bytes:
    """The value of a field that must be there exactly once."""
    values = fields.get(name, ())
    if len(values) != 1:
        raise Malformed(f"HTTP: not exactly one {name.decode()} field")
    return values[0]


def _read_authority(text: bytes) -> tuple[bytes, int | None]:
    """Host and port of a Host field or of an absolute target (RFC 9110 section 7.2); no user, no escapes."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise Malformed("HTTP: no usable Host")
    host, port = match[1].lower(), int(match[2]) if match[2] else None
    if port is not None and port > _MAX_PORT:
        raise Malformed("HTTP: no usable Host")
    if host.startswith(b"["):
        from ipaddress import IPv6Address  # rare, and every start would pay for it

        try:
            return b"[%s]" % str(IPv6Address(host[1:-1].decode())).encode(), port
        except ValueError:
            raise Malformed("HTTP: no usable Host") from None
    if not _NAME.fullmatch(host):
        raise Malformed("HTTP: no usable Host")
    return host, port


def _check_target(method: bytes, target: bytes, host: bytes, port: int | None) -> None:
    """The target's form (RFC 9112 section 3.2); where it names a host itself, that is the one of Host."""
    if b"#" in target:
        raise Malformed("HTTP: a fragment in the target")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Malformed("HTTP: a target that is no path and no http URL")
    there, there_port = _read_authority(absolute[1])
    if (there, there_port or _HTTP_PORT) != (host, port or _HTTP_PORT):
        raise Malformed("HTTP: the target names another host than Host")


def _read_framing(fields: dict[bytes, list[bytes]]) -> tuple[int | None, bool]:
    """Where the body ends (RFC 9112 section 6): a length, or chunked, or neither; never two sayings."""
    if b"transfer-encoding" in fields:
        if b"content-length" in fields:
            raise Malformed("HTTP: Content-Length beside Transfer-Encoding")
        if _only(fields, b"transfer-encoding").lower() != b"chunked":
            raise Malformed("HTTP: a Transfer-Encoding other than exactly chunked")
        return None, True
    if b"content-length" not in fields:
        return None, False
    length = _only(fields, b"content-length")
    if not _NUMBER.fullmatch(length):
        raise Malformed("HTTP: Content-Length is not one plain number")
    return int(length), False


def _read_upgrade(fields: dict[bytes, list[bytes]]) -> bytes | None:
    """The protocol that Upgrade names, in lower case; it counts whether or not Connection lists it."""
    return _only(fields, b"upgrade").lower() if b"upgrade" in fields else None
