"""Talks inside a sandbox: puts a mark into everything that can be sent, to hosts that are granted and others.

Owns nothing outside of its working directory, where it writes down what it sent (`sent.bin`) and which of its
words came back (`told.json`). Must never print a mark. Python's own library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import sys
from pathlib import Path

MARKS = json.loads(Path("marks.json").read_text("utf-8"))
API, ECHO, REFUSED, BAD, OTHER = (
    f"{name}.example.test" for name in ("api", "echo", "refused", "bad", "other")
)
SENT: list[str] = []
ARRIVED: list[str] = []


def say_so(word: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def mark(kind: str) -> str:
    """Take a mark, and write down that it was used."""
    SENT.append(MARKS[kind])
    return str(MARKS[kind])


def request(host: str, *, path: str, body: str, more: str = "", method: str = "POST") -> bytes:
    """A request with marks in all of its parts but the name."""
    cookie = f"Cookie: s={mark('cookie')}\r\nReferer: /x#{mark('fragment')}\r\n{more}"
    head = (
        f"{method} /{mark(path)}?q={mark('query')} HTTP/1.1\r\nHost: {host}\r\n"
        f"X-Header: {mark('header')}\r\n{cookie}"
        f"Authorization: Bearer {os.environ['SCAN_KEY']}\r\nConnection: close\r\n"
    )
    content = f"{mark(body)} {os.environ['PLAIN']} {Path('secret.txt').read_text('utf-8')}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode()


def talk(
    host: str, port: int, data: bytes, *, context: ssl.SSLContext | None = None, name: str = ""
) -> bytes:
    """Send something and read until the end, or nothing where it does not come to that."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5) as plain:
        plain.settimeout(5)
        with context.wrap_socket(plain, server_hostname=name or host) if context else plain as sock:
            sock.sendall(data)
            if port not in {80, 443}:
                sock.shutdown(socket.SHUT_WR) if context is None else None
                return sock.recv(len(data))
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
            return answer
    return b""


def over_udp(host: str, port: int, data: bytes) -> bytes:
    """Send a datagram and read the answer."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.connect((host, port))
        sock.send(data)
        return sock.recv(65536)
    return b""


def arrived(what: str, answer: bytes, part: bytes) -> None:
    """Write down that an answer came, as it should."""
    if part in answer:
        ARRIVED.append(what)


def granted(context: ssl.SSLContext) -> None:
    """What comes through: HTTP, TLS, a plain protocol and datagrams."""
    trailer = f"X-Trailing: {mark('trailer')}\r\n"
    arrived("http", talk(API, 80, request(API, path="path", body="body", more=trailer)), b" 200 ")
    arrived(
        "https", talk(API, 443, request(API, path="tls-path", body="tls-body"), context=context), b" 200 "
    )
    arrived("tcp", talk(ECHO, 7, mark("tcp").encode()), MARKS["tcp"].encode())
    arrived("tls", talk(ECHO, 8443, mark("answer").encode(), context=context), MARKS["answer"].encode())
    arrived("udp", over_udp(ECHO, 7, mark("udp").encode()), MARKS["udp"].encode())
    talk(
        API,
        80,
        f"GET http://{mark('userinfo')}:{mark('userinfo')}@{API}/ HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(),
    )


def denied(context: ssl.SSLContext) -> None:
    """What is not: by name, by port, by what is spoken, by form."""
    talk(API, 80, request(OTHER, path="denied-path", body="body"))
    context.check_hostname = False
    context.set_alpn_protocols([mark("alpn")])
    talk(API, 443, request(API, path="denied-path", body="body"), context=context, name=OTHER)
    context.check_hostname = True
    talk(API, 443, f"plain {mark('not-tls')}\r\n\r\n".encode())
    words = f"{mark('method')} {mark('malformed')}\x00 HTTP/{mark('version')}"
    talk(API, 80, f"{words}\r\n{mark('malformed')}\r\n\r\n".encode())
    talk(API, 80, f"GET / HTTP/1.1\r\nHost: {API}/{mark('malformed')}\r\n\r\n".encode())
    talk(API, 80, f"GET / HTTP/1.1\r\nHost: {mark('userinfo')}@{API}\r\n\r\n".encode())
    talk(API, 80, f"GET / HTTP/1.1\r\n{mark('header')}\r\nHost: {API}\r\n\r\n".encode())
    talk("203.0.113.99", 4444, mark("denied-tcp").encode())
    over_udp("203.0.113.99", 4444, mark("denied-udp").encode())
    talk(OTHER, 443, mark("denied-tcp").encode())


def failing(context: ssl.SSLContext) -> None:
    """What the network withholds: a host that refuses, and one that resets in the middle."""
    talk(REFUSED, 80, request(REFUSED, path="refused", body="failed"))
    talk(REFUSED, 443, request(REFUSED, path="refused", body="failed"), context=context)
    talk(BAD, 1004, mark("reset").encode())


def main() -> None:
    """Say all of it once, and write down what was said."""
    say_so("ready")
    SENT.extend([sys.stdin.readline().strip(), sys.argv[1], os.environ["SCAN_KEY"], os.environ["PLAIN"]])
    SENT.append(Path("secret.txt").read_text("utf-8"))
    context = ssl.create_default_context(cafile="/ca.pem")
    for say in (granted, denied, failing):
        say(context)
    told = {"arrived": sorted(ARRIVED)}
    with contextlib.suppress(OSError):
        Path("told.json").write_text(json.dumps(told), "utf-8")
        Path("sent.bin").write_text("\n".join(SENT), "utf-8")
    if os.environ.get("HOLD"):
        say_so("holding")
        while talk(API, 80, request(API, path="path", body="body")):
            talk(ECHO, 7, mark("tcp").encode())


if __name__ == "__main__":
    main()
