"""The workload of the demo: tries to reach what its arguments name, and says what came of each.

Owns one line of JSON for each attempt. Runs inside a sandbox, alone, with nothing but Python's own library.
    https://HOST[:PORT]/[#NAME]   a request by TLS; NAME is asked for in place of HOST
    udp://ADDRESS:PORT            a datagram, and an answer to it
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

_PATIENCE_S = 10.0
_AUTHORITY = "/demo/ca.pem"


def main() -> None:
    """Try each argument in turn."""
    for place in sys.argv[1:]:
        began = time.monotonic()
        try:
            answer = _ask_udp(place) if place.startswith("udp:") else _ask_tls(place)
            said = {"answer": answer}
        except OSError as problem:
            said = {"problem": _name(problem)}
        print(json.dumps({"place": place, "ms": 1000 * (time.monotonic() - began), **said}), flush=True)


def _ask_tls(place: str) -> str:
    url = urlsplit(place)
    host, port = url.hostname or "", url.port or 443
    context = ssl.create_default_context(cafile=_AUTHORITY)
    with socket.create_connection((host, port), timeout=_PATIENCE_S) as raw:
        name = url.fragment or host
        connection = http.client.HTTPSConnection(name, port)
        connection.sock = context.wrap_socket(raw, server_hostname=name)
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()


def _ask_udp(place: str) -> str:
    url = urlsplit(place)
    family = socket.AF_INET6 if ":" in (url.hostname or "") else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE_S)
        sock.connect((url.hostname, url.port))
        sock.send(b"hello")
        return sock.recv(100).decode()


def _name(problem: OSError) -> str:
    match problem:
        case socket.gaierror():
            return "no such name"
        case ConnectionRefusedError() | PermissionError():
            return "refused"
        case ssl.SSLError(reason=str(reason)):
            return "TLS alert: " + reason.lower().replace("_", " ").replace("tlsv1 alert ", "")
        case TimeoutError():
            return "no answer"
        case _:
            return type(problem).__name__


if __name__ == "__main__":
    main()
