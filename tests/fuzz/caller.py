"""The conversation on the control socket of a running sandbox, each message as a caller may send it.

Owns what stands around the conversation: a gateway that is real, and a sandbox that starts nothing. Must
never decide what may be asked: whatever is, it is answered, or the conversation ends.
"""

from __future__ import annotations

import contextlib
import json
import math
import socket
import tempfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mvm.backends.namespace.channel import write_command
from mvm.supervisor.conversation import Connection
from mvm.supervisor.frames import Inbox
from tests.fuzz.gatehouse import Gatehouse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.plan.plan import Command

_RUN = "01JC0000000000000000000000"


class _Sandbox:
    """What a conversation asks of a sandbox; commands are numbered, and never end."""

    def __init__(self, house: Gatehouse) -> None:
        self.gateway = house.gateway
        self.supervisor = SimpleNamespace(loop=house._loop)  # noqa: SLF001
        self.plan = SimpleNamespace(
            run=_RUN, name="sample", backend="namespace", isolation="namespaces", image={}, profile=None,
            workdir="/", view=SimpleNamespace(environ={}), requested=(), achieved=(),
        )  # fmt: skip
        self.request = SimpleNamespace(argv=("true",))
        self.listeners: list[object] = []

    def spawn(self, command: Command, streams: Sequence[int], _job: object) -> int:
        """Take a command, and what a machine would read of it."""
        assert write_command(command)
        assert all(isinstance(word, str) for word in command.argv)
        assert (command.terminal is None) == (len(streams) == 3)
        assert command.terminal is None or all(0 <= side < 1 << 16 for side in command.terminal)
        return 1

    def signal(self, number: int, signum: int, *, group: bool = False) -> None:
        """Pass a signal on."""
        assert 0 <= number < 1 << 31
        assert 0 <= signum <= 64
        assert isinstance(group, bool)

    def stop(self, grace: float) -> None:
        """End it after so many seconds."""
        assert math.isfinite(grace)


def conversation(data: bytes) -> object:
    """One message, whatever JSON it is: every answer is an object, and nothing falls."""
    with tempfile.TemporaryDirectory(prefix="mvm-fuzz-") as directory:
        house = Gatehouse(f"{directory}/state")  # the clocks of the gateway are its own until it is closed
        try:
            return _heard(house, data)
        finally:
            house.close()


def _heard(house: Gatehouse, data: bytes) -> object:
    sandbox: Any = _Sandbox(house)
    gone: list[object] = []
    ours, theirs = socket.socketpair()
    with ours:
        Connection(sandbox, theirs, gone.append)
        ours.settimeout(0)
        said: list[list[str]] = []
        ours.sendall(len(data).to_bytes(4, "big") + data)
        house.settle()
        with contextlib.suppress(BlockingIOError):
            said = [] if gone else [sorted(answer) for answer in Inbox(ours).read() or ()]
        ours.shutdown(socket.SHUT_RDWR)
        house.settle()
    assert gone, "it outlives its caller"
    assert house.gateway.book.broken is None
    return said


def messages() -> list[bytes]:
    """One of each that can be asked."""
    policy = {"network": {"mode": "bridge", "dns": "system", "allow": [{"host": "a.example", "port": 443}]}}
    asked: tuple[dict[str, object], ...] = (
        {"do": "describe", "run": _RUN},
        {"do": "set", "policy": policy, "by": "test", "sources": ["a"], "anew": [0], "expect": None},
        {"do": "decide", "decision": {"decision": "denied", "tool": "a", "code": "unknown-tool"}},
        {"do": "exec", "argv": ["true"], "environ": ["A=b"], "workdir": "/", "terminal": [24, 80]},
        {"do": "signal", "number": 1, "signal": 15, "group": True},
        {"do": "stop", "grace": 1.5},
        {"do": "watch"},
        {"do": "nothing"},
    )
    return [json.dumps(each).encode() for each in asked]
