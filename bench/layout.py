"""The wires that every subject is measured on, and starting programs at either end.

    up (10.77.0.2: serve) ── veth ── host (10.77.0.1; 10.78.0.1: gateways) ── veth ── box (10.78.0.2: a
    peer's client)

Owns the namespaces `up` and `box`; `host` is the one this process is in. Must never reach further: there is
no other link. A gateway that listens gets an address of its own from 10.78.0.0/24, so that all can stand at
once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import ssl
import subprocess
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.support import namespaces
from tests.support.children import in_child
from tests.support.rtnl import Rtnl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NAME, STRANGER = "api.test", "stranger.test"
"""The name that every gateway admits, and one that it doesn't; files of these names hold a ClientHello of
each."""
UP, HOST_UP, HOST_BOX, BOX = "10.77.0.2", "10.77.0.1", "10.78.0.1", "10.78.0.2"
DISCARD, SOURCE, ONCE, KEPT, ECHO, IPERF = 7001, 7002, 7003, 7004, 7005, 5201
CLOSED = 7099
"""A port of `up` at which nobody listens."""
TCP_PORTS = (DISCARD, SOURCE, ONCE, KEPT, IPERF)

_ENDS_UP = (b"\x02ben\x01\x01", b"\x02ben\x01\x02")
_ENDS_BOX = (b"\x02ben\x02\x01", b"\x02ben\x02\x02")
_libc = ctypes.CDLL(None, use_errno=True)


class Layout:
    """The namespaces, with the server running; `close` ends everything that was started through it."""

    def __init__(self, directory: Path, programs: Path) -> None:
        """Lay the wires and start the server.

        Args:
            directory: for files, readable by all.
            programs: where the compiled programs lie.

        Raises OSError.
        """
        self.directory, self.programs = directory, programs
        self._started: list[subprocess.Popen[bytes]] = []
        self._holders: list[int] = []
        self._last_address = 10
        _name_files(directory)
        self.up, self.box = self.hold(), self.hold()
        _wire("up", HOST_UP, self.up, UP, _ENDS_UP)
        _wire("box", HOST_BOX, self.box, BOX, _ENDS_BOX)
        for holder in (self.up, self.box, None):
            _in(holder, _settings)
        self._routes()
        for name in (NAME, STRANGER):
            (programs / name).write_bytes(client_hello(name))
        self.start([self.program("serve"), UP], at=self.up)
        self.start([self.program("datagrams"), "echo", UP, str(ECHO)], at=self.up)
        self.await_up(KEPT)

    def _routes(self) -> None:
        def lay() -> None:
            with Rtnl() as rtnl:
                rtnl.add_route("10.77.0.0/24", via=HOST_BOX, link="box")

        _in(self.box, lay)
        with Rtnl() as rtnl:
            rtnl.add_route("0.0.0.0/0", via=UP, link="up")  # leads nowhere beyond `up`; pasta asks for one

    def await_up(self, port: int) -> None:
        """Wait until somebody listens at a TCP port of the server. Raises TimeoutError."""
        _in(self.up, lambda: await_listener(UP, port))

    def program(self, name: str) -> str:
        """The path of a compiled program."""
        return str(self.programs / name)

    def hold(self) -> int:
        """A network namespace of its own with nothing but loopback; the process that holds it."""
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            try:
                namespaces.unshare(namespaces.CLONE_NEWNET)
                with Rtnl() as rtnl:
                    rtnl.link_up("lo")
                os.write(told, b"1")
                os.close(told)
                while True:
                    signal.pause()  # until `close`, or the end of pid 1, ends it
            finally:
                os._exit(1)
        self._holders.append(pid)
        os.close(told)
        stands = os.read(ready, 1)
        os.close(ready)
        if not stands:
            raise OSError("a network namespace could not be made")
        return pid

    def address(self) -> str:
        """One more address of this namespace, towards the box."""
        self._last_address += 1
        made = f"10.78.0.{self._last_address}"
        with Rtnl() as rtnl:
            rtnl.add_address("box", made, 24)
        return made

    def start(
        self,
        words: Sequence[str],
        *,
        at: int | None = None,
        output: IO[bytes] | int = subprocess.DEVNULL,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program that stays, in the namespace of process `at` or here. Raises OSError."""
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
            start_new_session=True,
            preexec_fn=None if at is None else lambda: _enter(at),  # noqa: PLW1509  no threads yet
        )
        self._started.append(process)
        return process

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """End this process too when all is ended."""
        self._started.append(process)

    def run(self, words: Sequence[str], *, at: int | None = None, limit_s: float = 60) -> str:
        """What a program printed that was run to its end there.

        Raises OSError, and subprocess.SubprocessError where it failed or took longer than `limit_s` seconds.
        """
        ended = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=True,
            preexec_fn=None if at is None else lambda: _enter(at),
        )
        return ended.stdout

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a program and whatever it has started, at once."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
        process.wait()

    def close(self) -> None:
        """End everything."""
        for process in reversed(self._started):
            self.stop(process)
        for pid in self._holders:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def client_hello(name: str) -> bytes:
    """The first flight of a real TLS client that asks for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    out = ssl.MemoryBIO()
    half = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):  # it has said its word; the answer never comes
        half.do_handshake()
    return out.read()


def await_listener(address: str, port: int, *, tries: int = 2000) -> None:
    """Wait until somebody listens at a TCP port of this namespace; nothing connects. Raises TimeoutError."""
    import select

    wanted = f"{int.from_bytes(bytes(map(int, address.split('.'))), 'little'):08X}:{port:04X}"
    for _ in range(tries):
        for line in Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] in {wanted, f"00000000:{port:04X}"} and fields[3] == "0A":
                return
        select.select([], [], [], 0.005)  # nobody is told when another process listens
    raise TimeoutError(f"nobody listens at {address}:{port}")


def _enter(pid: int) -> None:
    """Move this process into the network namespace of another. Raises OSError."""
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, namespaces.CLONE_NEWNET):
            errno = ctypes.get_errno()
            raise OSError(errno, f"setns: {os.strerror(errno)}")
    finally:
        os.close(descriptor)


def _in(pid: int | None, act: Callable[[], None]) -> None:
    """Do something in the network namespace of another process, or here."""

    def inside() -> None:
        if pid is not None:
            _enter(pid)
        act()

    in_child(inside)


def _wire(name: str, near: str, pid: int, far: str, ethernet: tuple[bytes, bytes]) -> None:
    def there() -> None:
        with Rtnl() as rtnl:
            rtnl.add_address(name, far, 24)
            rtnl.link_up(name)

    with Rtnl() as rtnl:
        rtnl.add_veth(name, peer_pid=pid, ethernet=ethernet)
        rtnl.add_address(name, near, 24)
        rtnl.link_up(name)
    _in(pid, there)


def _settings() -> None:
    """Room for many connections in a row, the same for every subject."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("10000 65535")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _name_files(directory: Path) -> None:
    """Let the host's side find the one name, and nobody ask a real name server."""
    files = {"hosts": f"127.0.0.1 localhost\n{UP} {NAME}\n", "resolv.conf": "nameserver 127.0.0.1\n"}
    for name, text in files.items():
        source = directory / name
        source.write_text(text)
        namespaces.mount(str(source), str(Path("/etc", name).resolve()), None, namespaces.MS_BIND)
