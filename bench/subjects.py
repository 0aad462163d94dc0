"""Whatever stands between client and server, each behind the same few words, so that all are measured alike.

Owns starting and ending the peers, and how their clients reach them. A peer that is missing or does not start
is `LeftOut` with the reason. Must never measure, and never give a peer a lighter job than the others: each
admits one name and refuses the rest, save those that only carry (kernel NAT, slirp4netns, pasta).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import layout as places
from bench.processor import cpu_seconds, pss_bytes, with_descendants
from tests.support import namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.layout import Layout

_CONFIGURATIONS = Path(__file__).parent / "peers"
_TRIES = 1000
_TUN = Path("/dev/net/tun")


class LeftOut(Exception):
    """A subject that can't be measured here; the text says why."""


class Subject:
    """The bare kernel, and what all others add to.

    Attributes:
        name: as in the report.
        gateway: the process that is the gateway, or None.
        counts_children: whether what the gateway has started is the gateway too.
    """

    name = "direct"
    gateway: int | None = None
    counts_children = False

    def __init__(self, layout: Layout) -> None:
        """Nothing runs yet."""
        self.layout = layout
        self.address = places.UP

    def start(self) -> None:
        """Make it ready. Raises LeftOut."""

    def close(self) -> None:
        """End what `start` began."""

    def cpu_seconds(self) -> float:
        """What the gateway has used so far."""
        return cpu_seconds(self.processes(), with_ended=self.counts_children)

    def pss_bytes(self) -> int:
        """The gateway's memory."""
        return pss_bytes(self.processes())

    def processes(self) -> list[int]:
        """The gateway's."""
        if self.gateway is None:
            return []
        return with_descendants(self.gateway) if self.counts_children else [self.gateway]

    def run(self, words: Sequence[str], *, limit_s: float = 60) -> str:
        """What a client program prints that runs where this subject's clients are.

        Raises OSError and subprocess.SubprocessError.
        """
        return self.layout.run(words, limit_s=limit_s)

    def bench(self, program: str) -> str:
        """The path of a compiled program, or of a file beside them, as clients see it."""
        return self.layout.program(program)

    def how(self, port: int) -> list[str]:
        """Words of `load` that lead to a port of the server."""
        return [self.address, str(port)]

    def load(self, mode: str, port: int, *options: str) -> dict[str, Any]:
        """One run of the load generator: its figures. Raises OSError and subprocess.SubprocessError."""
        address, at, *more = self.how(port)
        words = [self.bench("load"), mode, address, at, *more, "-p", self.bench(places.NAME), *options]
        found: dict[str, Any] = json.loads(self.run(words))
        return found


class Nat(Subject):
    """The kernel's own network address translation."""

    name = "kernel NAT"

    def start(self) -> None:
        """Have everything that leaves towards `up` masqueraded."""
        nft = shutil.which("nft") or "/usr/sbin/nft"
        chain = 'chain out {\ntype nat hook postrouting priority 100\noifname "up" masquerade\n}'
        rules = f"table ip bench {{\n{chain}\n}}\n"
        try:
            with namespaces.inherited_capabilities():
                subprocess.run([nft, "-f", "-"], input=rules, text=True, check=True, capture_output=True)
        except FileNotFoundError:
            raise LeftOut("nft is not installed (Debian: nftables)") from None
        except subprocess.CalledProcessError as problem:
            raise LeftOut(f"nft: {problem.stderr.strip().splitlines()[0]}") from None

    def run(self, words: Sequence[str], *, limit_s: float = 60) -> str:
        """In the box."""
        return self.layout.run(words, at=self.layout.box, limit_s=limit_s)


class Peer(Subject):
    """A gateway of others, which listens at an address of its own."""

    counts_children = True
    program = ""
    configuration = ""
    port = 0
    """Where it listens; 0 for at the ports of the server."""
    proxy = ""
    """What the client speaks: `connect`, `socks5`, or nothing."""

    def start(self) -> None:
        """Configure and start it, and wait until it listens."""
        path = _found(self.program)
        self.address = self.layout.address()
        self._directory = self.layout.directory / re.sub(r"\W+", "-", self.name)
        self._directory.mkdir(mode=0o777)
        self._directory.chmod(0o777)  # some of them become another user first
        words = [path, *self.words(self._configured())]
        with (self._directory / "output").open("wb") as output:
            self._process = self.layout.start(words, output=output)
        try:
            places.await_listener(self.address, self.port or places.ONCE, tries=_TRIES)
        except TimeoutError:
            self.close()
            raise LeftOut(f"{Path(path).name} does not listen: {self._last_words()}") from None
        self.gateway = self._process.pid

    def words(self, configuration: str) -> list[str]:
        """What follows the program's name."""
        raise NotImplementedError

    def _configured(self) -> str:
        if not self.configuration:
            return ""
        shutil.copytree(_CONFIGURATIONS, self._directory / "peers")
        target = self._directory / "peers" / self.configuration
        text = target.read_text().replace("@RUN@", str(self._directory))
        target.write_text(re.sub(r"10\.78\.0\.1(?!\d|/)", self.address, text))
        return str(target)

    def _last_words(self) -> str:
        said = [path.read_text(errors="replace") for path in self._directory.glob("*") if path.is_file()]
        lines = [line for text in said for line in text.splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it says nothing"

    def close(self) -> None:
        """End it with all it has started."""
        self.layout.stop(self._process)

    def run(self, words: Sequence[str], *, limit_s: float = 60) -> str:
        """In the box."""
        return self.layout.run(words, at=self.layout.box, limit_s=limit_s)

    def how(self, port: int) -> list[str]:
        """To the peer, which is told the name."""
        if not self.proxy:
            return [self.address, str(port)]
        return [self.address, str(self.port), "-x", self.proxy, "-T", f"{places.NAME}:{port}"]


class Haproxy(Peer):
    """Copies through its own memory; looks at the SNI."""

    name, program, configuration = "HAProxy", "haproxy", "haproxy.cfg"

    def words(self, configuration: str) -> list[str]:
        """In the foreground."""
        return ["-f", configuration, "-db"]


class HaproxySplice(Haproxy):
    """The same with splice(2)."""

    name, configuration = "HAProxy, splice", "haproxy-splice.cfg"


class Nginx(Peer):
    """Its stream module with ssl_preread."""

    name, program, configuration = "nginx stream", "nginx", "nginx.conf"

    def words(self, configuration: str) -> list[str]:
        """In the foreground."""
        return ["-c", configuration, "-e", str(self._directory / "errors"), "-g", "daemon off;"]


class Squid(Peer):
    """CONNECT, one name allowed."""

    name, program, configuration, port, proxy = "Squid CONNECT", "squid", "squid.conf", 3128, "connect"

    def words(self, configuration: str) -> list[str]:
        """In the foreground, one process."""
        return ["-N", "-f", configuration]


class Tinyproxy(Peer):
    """CONNECT, one name allowed."""

    name, program, configuration, port, proxy = "tinyproxy", "tinyproxy", "tinyproxy.conf", 8888, "connect"

    def words(self, configuration: str) -> list[str]:
        """In the foreground."""
        return ["-d", "-c", configuration]


class Dante(Peer):
    """SOCKS 5, one name allowed."""

    name, program, configuration, port, proxy = "dante", "danted", "danted.conf", 1081, "socks5"

    def words(self, configuration: str) -> list[str]:
        """In the foreground; 1 process of each kind."""
        return ["-f", configuration]


class Mitmproxy(Peer):
    """CONNECT, the granted name passed through as it is."""

    name, program, port, proxy = "mitmproxy", "mitmdump", 8889, "connect"

    def words(self, _: str) -> list[str]:
        """Without a certificate authority's work: it hands the granted name's bytes on."""
        state = ["--set", f"confdir={self._directory}", "--set", "flow_detail=0", "-q"]
        return ["--listen-host", self.address, "-p", str(self.port), "--ignore-hosts", r"api\.test", *state]


class Slirp(Subject):
    """A user-space network stack below a TAP device; admits every name."""

    name = "slirp4netns"

    def start(self) -> None:
        """Put a TAP device into a namespace and wait for its word."""
        path = _found("slirp4netns")
        if not os.access(_TUN, os.R_OK | os.W_OK):
            raise LeftOut(f"{_TUN} is not open to this user here")
        self._at = self.layout.hold()
        ready, told = os.pipe()
        words = [path, "--configure", "--mtu=65520", f"--ready-fd={told}", str(self._at), "tap0"]
        with namespaces.inherited_capabilities():
            self._process = _start_with(self.layout, words, told)
        os.close(told)
        said = os.read(ready, 1)
        os.close(ready)
        if not said:
            raise LeftOut("slirp4netns ended at once")
        self.gateway = self._process.pid

    def close(self) -> None:
        """End it."""
        self.layout.stop(self._process)

    def run(self, words: Sequence[str], *, limit_s: float = 60) -> str:
        """In its own namespace."""
        return self.layout.run(words, at=self._at, limit_s=limit_s)


class Pasta(Slirp):
    """A user-space network stack below a TAP device; admits every name."""

    name = "pasta"

    def start(self) -> None:
        """Have it make a namespace with a TAP device, which a sleeper holds; it refuses to be root."""
        if os.geteuid() == 0 and not _open_to_all(_TUN):
            raise LeftOut("pasta refuses to be root, and its device is open to root alone here")
        quiet = [word for flag in ("-t", "-u", "-T", "-U") for word in (flag, "none")]
        words = [
            _found("pasta"),
            "-f",
            "--config-net",
            "-4",
            "-i",
            "up",
            "-I",
            "tap0",
            *quiet,
            "sleep",
            "infinity",
        ]
        if os.geteuid() == 0:
            words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *words]
        said = self.layout.directory / "pasta"
        with said.open("wb") as output:
            self._process = self.layout.start(words, output=output)
        for _ in range(_TRIES):
            for pid in with_descendants(self._process.pid)[1:]:
                with contextlib.suppress(OSError):
                    if "tap0" in Path(f"/proc/{pid}/net/route").read_text():
                        self._at, self.gateway = pid, self._process.pid
                        return
            if self._process.poll() is not None:
                break
            select.select([], [], [], 0.005)  # it says nothing when it is ready
        self.close()
        lines = said.read_text(errors="replace").splitlines()
        raise LeftOut(f"pasta does not come up: {lines[-1] if lines else 'it says nothing'}")


def _open_to_all(device: Path) -> bool:
    return device.exists() and device.stat().st_mode & 0o006 == 0o006


def _start_with(layout: Layout, words: Sequence[str], descriptor: int) -> subprocess.Popen[bytes]:
    os.set_inheritable(descriptor, True)
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[descriptor],
        start_new_session=True,
    )
    layout.adopt(process)
    return process


def _found(program: str) -> str:
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise LeftOut(f"{program} is not installed (--install brings it)")
    return path


PEERS: tuple[Callable[[Layout], Subject], ...] = (
    HaproxySplice,
    Haproxy,
    Nginx,
    Squid,
    Tinyproxy,
    Dante,
    Mitmproxy,
    Slirp,
    Pasta,
)
"""In the order of the report."""
