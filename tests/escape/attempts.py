"""What a workload may try, one function an act; runs inside a sandbox with nothing but Python's own library.

Read as a program, it takes acts from stdin, a JSON object a line (`act`, `number`, and the act's words), and
says what came of each in a line on stdout that begins with `MARK`. Bytes travel as latin-1 text. Times are
measured here, where the workload waits.

    outcome     means
    ----------  ----------------------------------------------------------------------
    answered    what was asked for came, all of it
    end         the other side closed the connection
    reset       the other side reset the connection after it stood
    alert       a TLS alert came; `alert` names it
    no-name     the name does not exist, or does not resolve
    error       a system call failed; `errno` names it
    silence     nothing came in time

Must never judge an outcome: tests do.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import select
import socket
import ssl
import subprocess
import sys
import time

MARK = "\x1e"
_PATIENCE_S = 8.0
_LONG_PATIENCE_S = 50.0
_DROP_S = 0.25
_CHUNK = 1 << 16
_AUTHORITY = "/ca.pem"
_RECORD_HEADER = 5

Said = dict[str, object]
Turn = tuple[str, "int | str | None"]
"""What is sent, and what is then waited for: so many bytes, a text, the end (None), or nothing (0)."""


def main() -> None:
    """Act as stdin says, to its end."""
    for line in sys.stdin:
        words = json.loads(line)
        number, act = words.pop("number"), ACTS[words.pop("act")]
        began = time.monotonic()
        said = _try(act, words)
        said["duration_s"] = time.monotonic() - began
        os.write(1, (MARK + json.dumps({**said, "number": number}) + "\n").encode())


def _try(act: object, words: Said) -> Said:
    try:
        return act(**words)  # type: ignore[operator,no-any-return]
    except ssl.SSLError as problem:
        return {"outcome": "alert", "alert": problem.reason or str(problem)}
    except socket.gaierror as problem:
        return {"outcome": "no-name", "errno": _names_of_gai.get(problem.errno or 0, str(problem))}
    except TimeoutError:
        return {"outcome": "silence"}
    except OSError as problem:
        return {"outcome": "error", "errno": errno.errorcode.get(problem.errno or 0, str(problem))}


_names_of_gai = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}


def resolve(host: str, family: int = socket.AF_UNSPEC) -> Said:
    """Ask the C library for the addresses of a name, as every program does."""
    found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
    return {"outcome": "answered", "addresses": [str(entry[4][0]) for entry in found]}


def connect(host: str, port: int, family: int = socket.AF_UNSPEC) -> Said:
    """Open a TCP connection and close it again, having said nothing."""
    _connect(host, port, family).close()
    return {"outcome": "answered"}


def talk(
    host: str,
    port: int,
    turns: list[Turn],
    *,
    family: int = socket.AF_UNSPEC,
    finish: bool = False,
    patience_s: float = _PATIENCE_S,
) -> Said:
    """Open a TCP connection and take turns; `finish` half-closes it after the last thing said."""
    with _connect(host, port, family, patience_s=patience_s) as sock:
        outcome, heard = "answered", b""
        try:
            for at, (send, want) in enumerate(turns):
                sock.sendall(send.encode("latin-1"))
                if finish and at == len(turns) - 1:
                    sock.shutdown(socket.SHUT_WR)
                more, outcome = _hear(sock, want)
                heard += more
                if outcome != "answered":
                    break
        except (ConnectionResetError, BrokenPipeError):
            outcome = "reset"
    return {"outcome": outcome, "data": heard[:_CHUNK].decode("latin-1"), "bytes": len(heard)}


def trickle(host: str, port: int, opening: str, drops: list[str]) -> Said:
    """Open a connection for each of `drops`, say `opening`, and go on with its bytes, four a second."""
    heard = {
        _connect(host, port, socket.AF_UNSPEC): (bytearray(), iter(each.encode("latin-1"))) for each in drops
    }
    listening = set(heard)
    for sock in heard:
        sock.sendall(opening.encode("latin-1"))
    began = time.monotonic()
    while listening and time.monotonic() - began < _LONG_PATIENCE_S:
        for sock in select.select(listening, (), (), _DROP_S)[0]:
            data = b""
            with contextlib.suppress(ConnectionResetError):
                data = sock.recv(_CHUNK)
            heard[sock][0].extend(data)
            if not data:
                listening.discard(sock)
        for sock in listening:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                sock.send(bytes(itertools.islice(heard[sock][1], 1)))
    for sock in heard:
        sock.close()
    said = [data.decode("latin-1") for data, _ in heard.values()]
    return {"outcome": "silence" if listening else "end", "heard": said}


def tls(
    host: str,
    port: int = 443,
    *,
    name: str | None = None,
    header: str | None = None,
    path: str = "/",
    piece: int = 0,
    record: int = 0,
    family: int = socket.AF_UNSPEC,
) -> Said:
    """Ask for the page at `path` by TLS: `name` goes into the SNI, `header` into Host.

    The hello may be cut into records of `record` bytes, and sent in pieces of `piece` bytes.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = name is not None
    context.load_verify_locations(_AUTHORITY)
    tunnel = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with _connect(host, port, family) as sock, contextlib.suppress(ssl.SSLWantReadError):
        with contextlib.suppress(ssl.SSLWantReadError):
            tunnel.do_handshake()
        hello = _recorded(outgoing.read(), record)
        step = piece or len(hello)
        for at in range(0, len(hello), step):
            sock.sendall(hello[at : at + step])
        _until_done(tunnel.do_handshake, sock, incoming, outgoing)
        tunnel.write(
            f"GET {path} HTTP/1.1\r\nHost: {header or name or host}\r\nConnection: close\r\n\r\n".encode()
        )
        heard = b""
        try:
            while data := _until_done(lambda: tunnel.read(_CHUNK), sock, incoming, outgoing):
                heard += data
        except (ssl.SSLZeroReturnError, ConnectionResetError):
            if not heard:
                raise
    return {"outcome": "answered", "data": heard.decode("latin-1"), "bytes": len(heard)}


def _until_done(step: object, sock: socket.socket, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> bytes:
    """Carry bytes to and fro until one step of the tunnel needs no more of them."""
    while True:
        try:
            done = step()  # type: ignore[operator]
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            data = sock.recv(_CHUNK)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed within TLS") from None
            incoming.write(data)
        else:
            sock.sendall(outgoing.read())
            return done or b""


def _recorded(flight: bytes, size: int) -> bytes:
    """The same handshake bytes in records of `size` bytes each; as they are for 0."""
    if not size:
        return flight
    message = flight[_RECORD_HEADER:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(flight[:3] + len(part).to_bytes(2, "big") + part for part in parts)


def datagram(
    host: str, port: int, data: str = "hello", bound: bool = True, patience_s: float = _PATIENCE_S
) -> Said:
    """Send a datagram, over a connected socket or not, and wait for one back."""
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, number) as sock:
        sock.settimeout(patience_s)
        # Without it an ICMP error reaches no socket that isn't connected (ip(7)).
        level, option = (socket.IPPROTO_IPV6, 25) if family == socket.AF_INET6 else (socket.IPPROTO_IP, 11)
        sock.setsockopt(level, option, 1)
        if bound:
            sock.connect(address)
            sock.send(data.encode("latin-1"))
        else:
            sock.sendto(data.encode("latin-1"), address)
        heard, sender = sock.recvfrom(_CHUNK)
    return {
        "outcome": "answered",
        "data": heard.decode("latin-1"),
        "bytes": len(heard),
        "sender": str(sender[0]),
    }


def datagrams(host: str, port: int, data: list[str]) -> Said:
    """Send datagrams one after the other to one place, each when the one before was answered."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE_S)
        sock.connect((host, port))
        heard = []
        for each in data:
            sock.send(each.encode("latin-1"))
            heard.append(sock.recv(_CHUNK).decode("latin-1"))
    return {"outcome": "answered", "heard": heard}


def until_changed(text: str, of: str, words: Said) -> Said:
    """Do another act, one after the other, until what is received no longer holds `text`."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        began = time.monotonic()
        said = _try(ACTS[of], words)
        if text not in str(said.get("data")):
            return {**said, "last_s": time.monotonic() - began}
        if began > deadline:
            return {"outcome": "silence"}


def run(argv: list[str], env: dict[str, str] | None = None, stdin: str = "") -> Said:
    """Run a program: its status, and what it said."""
    ended = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return {
        "outcome": "answered",
        "status": ended.returncode,
        "data": ended.stdout[:_CHUNK],
        "errors": ended.stderr[:_CHUNK],
    }


def write(path: str, text: str) -> Said:
    """Add to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)
    return {"outcome": "answered"}


def _connect(host: str, port: int, family: int, patience_s: float = _PATIENCE_S) -> socket.socket:
    """Connect to the first address that answers. Raises OSError, that of the last one."""
    problem: OSError | None = None
    for kind, _, _, _, address in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM):
        sock = socket.socket(kind, socket.SOCK_STREAM)
        sock.settimeout(patience_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem or OSError(errno.EADDRNOTAVAIL, "no address")


def _hear(sock: socket.socket, want: int | str | None) -> tuple[bytes, str]:
    """Receive what is wanted; also says whether that came, the end, or a reset."""
    heard = b""
    while not _is_enough(heard, want):
        try:
            data = sock.recv(_CHUNK)
        except ConnectionResetError:
            return heard, "reset"
        except TimeoutError:
            return heard, "silence"
        if not data:
            return heard, "end"
        heard += data
    return heard, "answered"


def _is_enough(heard: bytes, want: int | str | None) -> bool:
    if isinstance(want, int):
        return len(heard) >= want
    return want is not None and want.encode("latin-1") in heard


ACTS = {
    act.__name__: act
    for act in (resolve, connect, talk, trickle, tls, datagram, datagrams, until_changed, run, write)
}

if __name__ == "__main__":
    main()
