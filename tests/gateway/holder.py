"""The process that holds a gateway for a test, and does what the test asks of it.

Owns the gateway and what its watcher was told. Must never decide what is right: tests do.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvm.audit.log import Log
from mvm.gateway.gateway import Gateway
from mvm.gateway.loop import READ, Loop
from mvm.gateway.relay import Pipes
from mvm.gateway.resolve import SystemThreads
from mvm.gateway.udp import UdpFlow
from mvm.kernel import syscalls
from mvm.policy.document import policy_digest

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from mvm.audit.denial import Denial
    from mvm.errors import AuditError
    from mvm.gateway.door import DoorSockets
    from mvm.gateway.failure import Failure
    from mvm.policy.model import Grant, Policy

_LENGTH = struct.Struct("!I")


def hold_gateway(control: socket.socket, sockets: DoorSockets, granted: Policy, state: str, run: str) -> None:
    """Be the gateway's process, and end with the test."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        take_all_descriptors()
        gc.freeze()  # what pytest has in memory stays shared with it, and is no memory of the gateway's
        if os.geteuid() != 0:
            syscalls.drop_capabilities()  # as an ordinary user's process has none
        Holder(control, sockets, granted, state, run).run()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
        raise
    finally:
        os._exit(status)


class Holder:
    """The gateway's process: its public methods are what a test may ask for."""

    def __init__(
        self, control: socket.socket, sockets: DoorSockets, granted: Policy, state: str, run: str
    ) -> None:
        self._control = control
        self.loop, self.pipes = Loop(), Pipes()
        self.log = Log.create(state, run)
        self.told: list[tuple[str, object]] = []
        self.taken: list[int] = []
        self.gateway = Gateway(
            loop=self.loop,
            sockets=sockets,
            policy=granted,
            log=self.log,
            watcher=self,
            pipes=self.pipes,
            system=SystemThreads(),
        )
        self.loop.watch(control.fileno(), READ, self._on_control)

    def run(self) -> None:
        """Serve until the test has gone."""
        self.loop.run()

    def _on_control(self, _events: int) -> None:
        try:
            what, words = receive(self._control)
        except EOFError:
            self.loop.stop()
            return
        try:
            answer, failure = getattr(self, what)(*words), None
        except Exception as raised:  # noqa: BLE001  carried to the test, which raises it
            answer, failure = None, raised
        send(self._control, (answer, failure))

    # what the gateway tells

    def denied(self, denial: Denial) -> None:
        """A distinct denial happened for the first time."""
        self.told.append(("denied", denial.to_json()))

    def failed(self, host: str, port: int, failure: Failure) -> None:
        """A granted host could not be reached."""
        self.told.append(("failed", (host, port, failure.text)))

    def unrecorded(self, error: AuditError) -> None:
        """The record can't be written."""
        self.told.append(("unrecorded", str(error)))

    # what a test asks

    def ready(self) -> bool:
        """Say that it stands."""
        return True

    def heard(self) -> list[tuple[str, object]]:
        """What the watcher was told."""
        return self.told

    def denials(self) -> list[dict[str, object]]:
        """All denials, with every refusal of the kernel's counted."""
        self.gateway.refusals.flush()
        return [denial.to_json() for denial in self.gateway.refusals.ledger.denials]

    def flows(self) -> list[dict[str, object]]:
        """What was opened, by place."""
        return self.gateway.flows()

    def failures(self) -> list[dict[str, object]]:
        """What could not be reached."""
        return self.gateway.failures

    def totals(self) -> tuple[int, int, int, int]:
        """Flows opened, flows that stand, bytes up and down."""
        up, down = self.gateway.totals
        return self.gateway.opened, len(self.gateway.book.flows), up, down

    def describe(self) -> dict[str, object]:
        """What the portal says."""
        return self.gateway.describe()

    def replace(self, wanted: Policy, by: str = "test", anew: Sequence[Grant] = ()) -> tuple[int, int]:
        """Put another policy in force."""
        return self.gateway.replace(wanted, by=by, anew=anew)

    def digest(self) -> str:
        """The digest of the policy in force."""
        return policy_digest(self.gateway.authority.policy)

    def flush(self) -> None:
        """Record what was only counted."""
        self.gateway._flush_now()  # noqa: SLF001  what its timer does within a second

    def descriptors(self) -> int:
        """How many descriptors the process has."""
        return len(_open_descriptors())

    def sockets(self) -> int:
        """How many of them are sockets."""
        return sum(what.startswith("socket:") for what in _open_descriptors().values())

    def upstream_places(self) -> list[tuple[str, int]]:
        """From where the UDP flows that stand speak to their hosts."""
        flows = [flow for flow in self.gateway.book.flows.values() if isinstance(flow, UdpFlow)]
        return [flow._upstream.getsockname()[:2] for flow in flows if flow._upstream is not None]  # noqa: SLF001

    def use_up_descriptors(self) -> None:
        """Have none left at all."""
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(_open_descriptors()) + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                self.taken.append(os.open("/dev/null", os.O_RDONLY))

    def leave_descriptors(self, count: int) -> None:
        """Have so many descriptors left; below zero not even those that are there could be had again."""
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used, most = _open_descriptors(), 3
        while count >= 0 and most - sum(fd < most for fd in used) < count:
            most += 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

    def restore_descriptors(self) -> None:
        """Have as many as there may be again."""
        while self.taken:
            os.close(self.taken.pop())
        take_all_descriptors()

    def break_record(self) -> None:
        """Have nothing recorded any more, as on a full disk."""
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, self.log._file)  # noqa: SLF001  what it writes to
        os.close(full)

    def memory(self) -> int:
        """Bytes that the process holds of its own."""
        fields = dict(
            line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
        )
        return int(fields["Private_Dirty"].split()[0]) * 1024

    def end(self) -> None:
        """Close the gateway, twice: the second time does nothing."""
        self.gateway.close()
        self.gateway.close()


def take_all_descriptors() -> None:
    """Have as many descriptors as this process may have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _open_descriptors() -> dict[int, str]:
    """What each descriptor of this process is of, without the one that the listing takes."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def send(sock: socket.socket, word: object) -> None:
    """Send one word to a process of ours."""
    data = pickle.dumps(word)
    sock.sendall(_LENGTH.pack(len(data)) + data)


def receive(sock: socket.socket) -> Any:  # noqa: ANN401  whatever was sent
    """Wait for the next word. Raises EOFError at the end."""

    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = sock.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    return pickle.loads(exactly(_LENGTH.unpack(exactly(4))[0]))  # noqa: S301  from our own child
