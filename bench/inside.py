"""What a workload does that a load generator can't: denied attempts, flows that wait to be reset.

Owns no knowledge of mvm: the same words run in a sandbox and, as its bare twin, outside of one. Runs as a
script, by whatever Python is there, and prints one JSON list.

    inside.py name ADDRESS PORT COUNT FILE       microseconds of asking one datagram and reading the answer
    inside.py port ADDRESS PORT COUNT            … of a connection that is refused
    inside.py word ADDRESS PORT COUNT FILE       … of connecting, saying FILE's bytes, reading an answer
    inside.py hold ADDRESS PORT COUNT FILE       `ready`, then when the flows end, monotonic seconds
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import sys
import time
from pathlib import Path

_PATIENCE_S = 10.0


def name(address: str, number: int, count: int, question: bytes) -> list[float]:
    """Ask and be answered."""
    took = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(_PATIENCE_S)
        asking.connect((address, number))
        for _ in range(count):
            began = time.perf_counter()
            asking.send(question)
            asking.recv(4096)
            took.append((time.perf_counter() - began) * 1e6)
    return took


def port(address: str, number: int, count: int, _said: bytes) -> list[float]:
    """Connect and be refused."""
    took = []
    for _ in range(count):
        with socket.socket() as attempt:
            began = time.perf_counter()
            refused = attempt.connect_ex((address, number))
            took.append((time.perf_counter() - began) * 1e6)
        if not refused:
            raise SystemExit("a connection was opened that was to be refused")
    return took


def word(address: str, number: int, count: int, said: bytes) -> list[float]:
    """Connect, say something, hear something."""
    took = []
    for _ in range(count):
        with socket.socket() as attempt:
            attempt.settimeout(_PATIENCE_S)
            began = time.perf_counter()
            attempt.connect((address, number))
            attempt.sendall(said)
            if not attempt.recv(4096):
                raise SystemExit("closed without an answer")
            took.append((time.perf_counter() - began) * 1e6)
    return took


def hold(address: str, number: int, count: int, said: bytes) -> list[float]:
    """Open flows, say so, and wait for each to end."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    poll = select.epoll()
    flows = {}
    for _ in range(count):
        flow = socket.create_connection((address, number), timeout=_PATIENCE_S)
        flow.sendall(said)
        if not flow.recv(4096):
            raise SystemExit("closed without an answer")
        flows[flow.fileno()] = flow
        poll.register(flow, select.EPOLLIN)
    print("ready", flush=True)
    ended: list[float] = []
    while len(ended) < count:
        came = poll.poll(_PATIENCE_S)
        now = time.monotonic()
        if not came:
            break
        for descriptor, _ in came:
            with contextlib.suppress(ConnectionResetError):
                if flows[descriptor].recv(4096):
                    continue
            poll.unregister(descriptor)
            ended.append(now)
    return ended


def main(words: list[str]) -> None:
    """Do what the words say."""
    act, address, at, count, *file = words
    said = Path(file[0]).read_bytes() if file else b""
    acts = {"name": name, "port": port, "word": word, "hold": hold}
    print(json.dumps(acts[act](address, int(at), int(count), said)))


if __name__ == "__main__":
    main(sys.argv[1:])
