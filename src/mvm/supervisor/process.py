"""What the sandboxes of one supervising process share: the loop, pipes, resolving threads, signals.

Owns the loop's life. It ends when the last sandbox has, unless it was told to stay.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

from mvm.errors import used_up
from mvm.gateway.loop import READ, Loop
from mvm.gateway.relay import Pipes
from mvm.gateway.resolve import SystemThreads
from mvm.kernel import cores
from mvm.supervisor.story import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from mvm.supervisor.prepare import Prepared


class Supervisor:
    """One supervising process; a context manager.

    Attributes:
        loop: its only one.
        pipes, system: what gateways share.
        stays: whether it goes on without a sandbox.
    """

    def __init__(self, *, stays: bool = False) -> None:
        _raise_descriptor_limit()
        cores.leave_none(for_good=False)  # memory holds what sandboxes send
        self.loop, self.pipes, self.system = Loop(), Pipes(), SystemThreads()
        self.stays = stays
        self._sandboxes: list[Sandbox] = []
        self._signals: dict[int, Callable[[int], None]] = {}
        self._wake: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Give the supervisor itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every sandbox and close the loop."""
        self.stop_all()
        self.pipes.close()
        if self._wake is not None:
            signal.set_wakeup_fd(-1)
            for descriptor in self._wake:
                os.close(descriptor)
        self.loop.close()

    def add(self, prepared: Prepared, environ: Mapping[str, str]) -> Sandbox:
        """Begin a sandbox, whose image is let go when it has ended, or can't begin.

        Raises:
            UsageError, AuditError, BackendUnavailable: as `Sandbox.begin`.
        """
        sandbox = Sandbox(self, prepared, environ)
        try:
            sandbox.begin()
        except OSError as error:
            if (refusal := used_up(error)) is None:
                raise
            raise refusal from error
        self._sandboxes.append(sandbox)
        return sandbox

    def left(self, sandbox: Sandbox) -> None:
        """A sandbox has ended."""
        if sandbox in self._sandboxes:
            self._sandboxes.remove(sandbox)
        if not self._sandboxes and not self.stays:
            self.loop.stop()

    def stop_all(self) -> None:
        """End every sandbox now."""
        for sandbox in tuple(self._sandboxes):
            sandbox.stop(0)

    def on_signal(self, signum: int, call: Callable[[int], None]) -> None:
        """Have the loop call `call(signum)` when a signal comes."""
        if self._wake is None:
            self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
            self.loop.watch(self._wake[0], READ, self._on_wake)
        self._signals[signum] = call
        signal.signal(signum, lambda *_: None)

    def _on_wake(self, _events: int) -> None:
        assert self._wake is not None, "woken without a pipe"
        for signum in os.read(self._wake[0], 256):
            if signum in self._signals:
                self._signals[signum](signum)


def _raise_descriptor_limit() -> None:
    """Let the gateway hold as many flows as it may: each takes two descriptors (setrlimit(2)).

    Commands inherit it, as those of containers do.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
