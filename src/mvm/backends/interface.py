"""What every backend is to the rest: a plan goes in, a started machine comes out, which reports events.

Owns the shapes. Backends are strangers to each other and to the gateway: the door is opened by a
function that they are handed and call inside the namespace they made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from mvm.plan.plan import Command, Plan
    from mvm.terms import Demand

    class Machine(Protocol):
        """One started sandbox, seen from outside. Nothing of it blocks but `close`."""

        limits: tuple[str, ...]
        """Which limits are held, each with how: `memory:cgroup-v1`, `pids:rlimit`."""

        def establish(self) -> None:
            """Wait until it stands, its door open.

            Raises:
                BackendUnavailable: the machine withholds something; `close` is still to be called.
            """

        def take_door(self) -> tuple[socket.socket, ...]:
            """Take what the door's opener gave, in its order; it is the caller's from now on."""

        @property
        def descriptors(self) -> tuple[int, ...]:
            """Those that `receive` reads: readable when an event may have come."""

        def spawn(self, number: int, command: Command, streams: Sequence[int]) -> None:
            """Start a command; `streams` become its descriptors 0, 1, 2 and stay the caller's."""

        def signal(self, number: int, signum: int, *, group: bool) -> None:
            """Send a signal to a command, or to its process group."""

        def make_sockets(self, count: int) -> None:
            """Ask for TCP sockets inside the door; a `Sockets` event brings them."""

        def receive(self) -> list[Event]:
            """Take what has happened since."""

        def close(self) -> None:
            """End everything that runs in it now, and leave nothing behind. Safe to call twice."""

    class Backend(Protocol):
        """One way of isolating a workload."""

        name: str

        def isolation(self) -> str:
            """Say what it claims, in words."""

        def missing(self) -> Mapping[Demand, str]:
            """Name the demands that it can't enforce on this machine, with the reason."""

        def start(
            self, plan: Plan, open_door: Callable[[], Sequence[socket.socket]], clear: Callable[[], bool]
        ) -> Machine:
            """Begin to make the sandbox of a plan; nothing of the workload's runs yet.

            It goes on by itself while the caller prepares its own side; `Machine.establish` waits for it.

            Args:
                plan: what to make.
                open_door: makes and verifies the door in the current network namespace; raises OSError.
                clear: called in a process that outlives this one, when the sandbox has ended by whatever way:
                    removes its files. False where whose they are still seems to live.

            Raises:
                BackendUnavailable: the machine withholds something; nothing is left behind.
            """


class Started(NamedTuple):
    """A command runs; `terminal` is the controlling side of its terminal, which the receiver owns."""

    number: int
    terminal: int | None


class Exited(NamedTuple):
    """A command has ended: its status as a shell gives it, 128 + n for signal n."""

    number: int
    status: int


class NotStarted(NamedTuple):
    """A command could not be started: an errno, and what was tried."""

    number: int
    errno: int
    tried: str


class Sockets(NamedTuple):
    """TCP sockets made inside the door, not connected yet; the receiver owns them."""

    descriptors: tuple[int, ...]


class Gone(NamedTuple):
    """The machine has ended, with all that ran in it."""

    why: str


Event = Started | Exited | NotStarted | Sockets | Gone
