"""What a workload does, and what it sees: run inside a door, by plain sockets.

Owns acts that return what came of them as plain values. Must never use the product's readers: what it says is
judged by others than itself.
"""

from __future__ import annotations

import contextlib
import errno
import json
import selectors
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAIT_S = 10.0
A, AAAA, HTTPS = 1, 28, 65
_NAME_SERVER = ("9.9.9.9", 53)
_EDE, _OPT = 15, 41


class Seen(NamedTuple):
    """What became of an attempt, and how long that took."""

    what: str
    seconds: float


class Reply(NamedTuple):
    """A name server's reply: code, extended error code or None, addresses."""

    code: int
    ede: int | None
    addresses: tuple[str, ...]


def connect(host: str, port: int, family: int = socket.AF_UNSPEC) -> socket.socket:
    """Connect to the first address of a host in a family."""
    kind, _, _, _, place = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0]
    sock = socket.socket(kind, socket.SOCK_STREAM)
    sock.settimeout(WAIT_S)
    try:
        sock.connect(place)
    except OSError:
        sock.close()
        raise
    return sock


def speak_tls(sock: socket.socket, ca_file: Path, name: str | None) -> ssl.SSLSocket:
    """Shake hands over a connection, naming a host, or none, in the hello."""
    context = ssl.create_default_context(cafile=str(ca_file))
    context.check_hostname = name is not None
    return context.wrap_socket(sock, server_hostname=name)


def ask_http(sock: socket.socket, host: str, path: str = "/", more: str = "") -> str:
    """One request on a connection; its status line and body, joined by a space."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
    return read_http(sock)


def read_http(sock: socket.socket) -> str:
    """Read one answer with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    size = int(fields[b"content-length"])
    while len(body) < size:
        body += _more(sock)
    return f"{head.splitlines()[0].decode()} {body.decode().strip()}"


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 16)
    if not data:
        raise ConnectionError("the answer was cut")
    return data


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end."""
    data = b""
    while more := sock.recv(1 << 16):
        data += more
    return data


def get_https(host: str, port: int, ca_file: Path, family: int = socket.AF_UNSPEC, name: str = "") -> str:
    """GET / over TLS."""
    with connect(host, port, family) as plain, speak_tls(plain, ca_file, name or host) as sock:
        return ask_http(sock, host)


def get_http(host: str, port: int = 80, family: int = socket.AF_UNSPEC, header: str = "") -> str:
    """GET / in the clear."""
    with connect(host, port, family) as sock:
        return ask_http(sock, header or host)


def hear(host: str, port: int) -> bytes:
    """Hear what a server says first on a new connection."""
    with connect(host, port) as sock:
        return sock.recv(100)


def ask_line(host: str, port: int) -> bytes:
    """Say a line on a new connection, and hear one back."""
    with connect(host, port) as sock:
        sock.sendall(b"hello\n")
        return sock.recv(100)


def ask_udp(host: str, port: int, data: bytes, family: int = socket.AF_UNSPEC) -> bytes:
    """Send a datagram from a connected socket and wait for one back."""
    kind, _, _, _, place = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)[0]
    with socket.socket(kind, socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(place)
        sock.send(data)
        return sock.recv(1 << 16)


def attempt(act: Callable[[], object]) -> Seen:
    """What a client sees of an attempt: `ok`, `refused`, `reset`, `alert N`, `port unreachable`, …."""
    began = time.monotonic()
    try:
        what = f"ok {act()!r}"
    except ssl.SSLError as error:
        # OpenSSL numbers the alerts it was sent from 1000 on.
        number = (getattr(error, "_errno", None), error.reason)
        what = f"alert {_ALERTS.get(str(error.reason), number)}"
    except ConnectionRefusedError:
        what = "refused"
    except ConnectionResetError:
        what = "reset"
    except socket.gaierror as error:
        what = "no such name" if error.errno == socket.EAI_NONAME else str(error)
    except TimeoutError:
        what = "hung"
    except OSError as error:
        what = errno.errorcode.get(error.errno or 0, str(error))
    return Seen(what, time.monotonic() - began)


_ALERTS = {"TLSV1_ALERT_ACCESS_DENIED": "49"}


def ask_name(name: str, kind: int = A, *, server: tuple[str, int] = _NAME_SERVER, tcp: bool = False) -> Reply:
    """Ask any name server for a name, with EDNS."""
    query = name_query(name, kind)
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(server)
        if not tcp:
            sock.send(query)
            return read_reply(sock.recv(4096))
        sock.sendall(len(query).to_bytes(2, "big") + query)
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            data += _more(sock)
        return read_reply(data[2:])


def name_query(name: str, kind: int, number: int = 0x1234) -> bytes:
    """One question, as a stub resolver asks it."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", kind, 1)
    return (
        struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 1)
        + question
        + b"\0"
        + struct.pack("!HHIH", 41, 1232, 0, 0)
    )


def read_reply(data: bytes) -> Reply:
    """Read what a reply says, as far as the tests ask."""
    _number, flags, _questions, answers, _authorities, additional = struct.unpack_from("!HHHHHH", data)
    at = data.index(b"\0", 12) + 5
    addresses, ede = [], None
    for _ in range(answers + additional):
        at += 2 if data[at] >= 0xC0 else 1
        kind, _klass, _ttl, size = struct.unpack_from("!HHIH", data, at)
        at += 10
        body = data[at : at + size]
        at += size
        if kind in {A, AAAA}:
            addresses.append(socket.inet_ntop(socket.AF_INET if kind == A else socket.AF_INET6, body))
        elif kind == _OPT and body:
            option, _length, code = struct.unpack_from("!HHH", body)
            ede = code if option == _EDE else None
    return Reply(flags & 0xF, ede, tuple(addresses))


def address_of(name: str, kind: int = A) -> str:
    """The address that stands for a granted name."""
    return ask_name(name, kind).addresses[0]


def read_portal() -> dict[str, Any]:
    """What the policy's own page says."""
    text = get_http("policy.mvm.internal")
    found: dict[str, Any] = json.loads(text.partition(" OK ")[2])
    return found


def was_reset(sock: socket.socket) -> bool:
    """Wait for the end of a connection; whether it was RST."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(1 << 16):
            pass
        return False
    return True


def open_many(host: str, port: int, count: int) -> list[socket.socket]:
    """Begin many connections at once, without waiting for any."""
    kind, _, _, _, place = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0]
    socks = []
    for _ in range(count):
        sock = socket.socket(kind, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex(place)
        socks.append(sock)
    return socks


def converse(socks: list[socket.socket]) -> list[bytes]:
    """Say a word of its own on each, all at once, and hear what each is answered."""
    heard = [b""] * len(socks)
    with selectors.DefaultSelector() as selector:
        for at, sock in enumerate(socks):
            selector.register(sock, selectors.EVENT_WRITE, at)
        end = time.monotonic() + 30
        while selector.get_map() and time.monotonic() < end:
            for key, events in selector.select(1):
                at = key.data
                try:
                    if events & selectors.EVENT_WRITE:
                        socks[at].send(b"%d\n" % at)
                        selector.modify(key.fileobj, selectors.EVENT_READ, at)
                    else:
                        heard[at] += socks[at].recv(100)
                except ConnectionResetError:
                    heard[at] = b"reset\n"
                if heard[at].endswith(b"\n"):
                    selector.unregister(key.fileobj)
    return heard
