"""The supervisor's side of a sandbox made of namespaces: starting it, and hearing from it.

Owns the two channels and the keeper's process. Everything that needs rights outside of the sandbox is
done here before: writing the id maps, entering cgroups, mapping the owners of a workspace (as root).
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from typing import TYPE_CHECKING

from mvm.backends.interface import Event, Exited, Gone, NotStarted, Sockets, Started
from mvm.backends.namespace import channel, keeper
from mvm.errors import BackendUnavailable
from mvm.kernel import landlock, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mvm.kernel.cgroups import Cgroup
    from mvm.plan.identity import Identity
    from mvm.plan.plan import Command, Plan
    from mvm.terms import Demand

_KEEPER_SECONDS = 5.0
_BY_RLIMIT = {resource.RLIMIT_AS: "memory", resource.RLIMIT_NPROC: "pids"}

_ISOLATION = "shared kernel; namespaces, no capabilities, seccomp"


class NamespaceBackend:
    """Isolation by this machine's kernel alone; needs nothing but Python."""

    name = "namespace"

    def isolation(self) -> str:
        """Say what it claims: Landlock only where this kernel has it."""
        return f"{_ISOLATION}, Landlock" if landlock.abi() else f"{_ISOLATION}; without Landlock"

    def missing(self) -> Mapping[Demand, str]:
        """Every demand is met by the door; what a machine withholds is found when starting."""
        return {}

    def start(
        self, plan: Plan, open_door: Callable[[], Sequence[socket.socket]], clear: Callable[[], bool]
    ) -> NamespaceMachine:
        """Begin to make the sandbox of a plan.

        Raises:
            BackendUnavailable: the machine withholds something; nothing is left behind.
        """
        to_keeper, keepers = channel.pair()
        to_init, inits = channel.pair()
        kept = {keepers.fileno(), inits.fileno()}
        syscalls.library()  # loaded here once, not in each child
        pid = os.fork()
        if pid == 0:
            keeper.live(
                keepers,
                inits,
                plan=plan,
                open_door=open_door,
                clear=clear,
                kept=kept,
            )
        keepers.close()
        inits.close()
        # From here on the keeper clears away whatever is made, should this process be killed.
        machine = NamespaceMachine(pid, to_keeper, to_init)
        try:
            machine.admit(plan)
        except BaseException:
            machine.close()
            raise
        return machine


class NamespaceMachine:
    """One started sandbox (`backends.interface.Machine`).

    Args:
        pid: the keeper's.
        to_keeper, to_init: the channels.
    """

    def __init__(self, pid: int, to_keeper: socket.socket, to_init: socket.socket) -> None:
        self._pid, self._to_keeper, self._to_init = pid, to_keeper, to_init
        self._cgroup: Cgroup | None = None
        self._gone = False
        self._door: tuple[socket.socket, ...] = ()
        self.limits: tuple[str, ...] = ()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that `receive` reads."""
        return self._to_keeper.fileno(), self._to_init.fileno()

    def admit(self, plan: Plan) -> None:
        """Give the new namespaces their ids, and let keeper and init go on.

        Raises:
            BackendUnavailable: something was withheld; the text says what.
        """
        self._cgroup, rlimits = _limit(plan)
        self.limits = _say_limits(self._cgroup, rlimits)
        self._expect(self._to_keeper, channel.READY)
        write_maps(self._pid, plan.identity)
        owned = _map_owners(plan)
        try:
            channel.send(self._to_keeper, channel.GO)
            channel.send(self._to_init, channel.GO, text=channel.write_limits(rlimits), descriptors=owned)
        finally:
            for descriptor in owned:
                os.close(descriptor)

    def establish(self) -> None:
        """Wait for the door and for init.

        Raises:
            BackendUnavailable: something was withheld; the text says what.
        """
        count, init, _text, descriptors = self._expect(self._to_keeper, channel.DOOR)
        self._door = tuple(socket.socket(fileno=descriptor) for descriptor in descriptors)
        if len(self._door) < count:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # the kernel keeps what finds no room
        if self._cgroup is not None:
            self._cgroup.add(init)
        self._expect(self._to_init, channel.READY)
        self._to_keeper.setblocking(False)
        self._to_init.setblocking(False)

    def take_door(self) -> tuple[socket.socket, ...]:
        """Take what the door's opener gave."""
        door, self._door = self._door, ()
        return door

    def _expect(self, sock: socket.socket, wanted: int) -> tuple[int, int, bytes, list[int]]:
        message = channel.receive(sock)
        if message is None:
            text = self._last_words()
        elif message[0] == wanted:
            return message[1:]
        else:
            text = message[3].decode(errors="replace")
        msg = f"the sandbox could not be made: {text}"
        raise BackendUnavailable(
            msg, hint="mvmctl doctor says what this machine withholds and how to change it"
        )

    def _last_words(self) -> str:
        """Say what the other process had to say, where one ended in silence."""
        for sock in (self._to_keeper, self._to_init):
            sock.settimeout(1.0)
            try:
                while (message := channel.receive(sock)) is not None:
                    if message[0] == channel.FAILED:
                        return message[3].decode(errors="replace")
            except OSError:
                continue
        return "one of its processes ended without a word"

    def spawn(self, number: int, command: Command, streams: Sequence[int]) -> None:
        """Start a command."""
        self._send(
            self._to_init, channel.SPAWN, number, text=channel.write_command(command), descriptors=streams
        )

    def signal(self, number: int, signum: int, *, group: bool) -> None:
        """Send a signal to a command, or to its process group."""
        self._send(self._to_init, channel.SIGNAL, number, value=-signum if group else signum)

    def make_sockets(self, count: int) -> None:
        """Ask for TCP sockets inside the door."""
        self._send(self._to_keeper, channel.MAKE_SOCKETS, count)

    def _send(
        self,
        sock: socket.socket,
        kind: int,
        number: int,
        *,
        value: int = 0,
        text: bytes = b"",
        descriptors: Sequence[int] = (),
    ) -> None:
        try:
            channel.send(sock, kind, number, value=value, text=text, descriptors=descriptors)
        except (BrokenPipeError, ConnectionError):
            return  # it is going: `receive` tells

    def receive(self) -> list[Event]:
        """Take what has happened since."""
        events: list[Event] = []
        for sock in (self._to_init, self._to_keeper):
            while not self._gone:
                try:
                    message = channel.receive(sock)
                except BlockingIOError:
                    break
                if message is None:
                    self._gone = True
                    events.append(Gone("its first process ended"))
                    break
                event = _event(message)
                if event is not None:
                    events.append(event)
        return events

    def close(self) -> None:
        """End everything that runs in it now."""
        if self._pid:
            self._gone = True
            for sock in (self._to_init, self._to_keeper):
                sock.close()
            for sock in self._door:
                sock.close()
            # The keeper sees its channel close, ends init with all in it, removes the files, and goes.
            _wait(self._pid)
            self._pid = 0
            if self._cgroup is not None:
                self._cgroup.remove()


def _event(message: tuple[int, int, int, bytes, list[int]]) -> Event | None:
    kind, number, value, text, descriptors = message
    match kind:
        case channel.STARTED:
            return Started(number, descriptors[0] if descriptors else None)
        case channel.EXITED:
            return Exited(number, value)
        case channel.NOT_STARTED:
            return NotStarted(number, value, text.decode(errors="replace"))
        case channel.SOCKETS:
            return Sockets(tuple(descriptors))
        case _:
            for descriptor in descriptors:
                os.close(descriptor)
            return None


def _wait(pid: int) -> None:
    """Wait for the keeper to end by itself; one that is stuck is killed."""
    import select

    try:
        handle = os.pidfd_open(pid)
    except OSError:
        os.waitpid(pid, 0)  # it has ended, or there is no descriptor left to wait with
        return
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    try:
        if not poll.poll(_KEEPER_SECONDS * 1000):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    os.waitpid(pid, 0)


def write_maps(pid: int, identity: Identity) -> None:
    """Write the id maps of a process's new user namespace (user_namespaces(7)).

    Raises:
        BackendUnavailable: the kernel refused.
    """
    files = [("uid_map", identity.outer_uid_map), ("gid_map", identity.outer_gid_map)]
    if not identity.may_set_groups:
        files.insert(0, ("setgroups", "deny"))
    for name, text in files:
        try:
            file = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(file, text.encode())
            finally:
                os.close(file)
        except OSError as error:
            msg = f"the user namespace got no ids ({name}: {error.strerror})"
            raise BackendUnavailable(msg, hint="mvmctl doctor says what this machine withholds") from error


def _limit(plan: Plan) -> tuple[Cgroup | None, list[tuple[int, int]]]:
    """Make the cgroup that holds the limits, and say which rlimits hold what it can't."""
    asked = plan.limits.asked()
    if not asked:
        return None, []
    from mvm.kernel import cgroups

    cgroup = cgroups.create(f"mvm-{plan.run}", plan.limits)
    held = () if cgroup is None else cgroup.achieved
    rlimits = cgroups.rlimits(plan.limits, held)
    unheld = set(asked) - {*held, *(_BY_RLIMIT[kind] for kind, _ in rlimits)}
    if unheld:
        if cgroup is not None:
            cgroup.remove()
        msg = f"nothing on this machine lets this user limit {', '.join(sorted(unheld))}"
        raise BackendUnavailable(
            msg, hint="leave that limit out, or have what mvmctl doctor names beside `limits`"
        )
    return cgroup, rlimits


def _say_limits(cgroup: Cgroup | None, rlimits: list[tuple[int, int]]) -> tuple[str, ...]:
    held = [] if cgroup is None else [f"{name}:{cgroup.version}" for name in cgroup.achieved]
    return (*held, *(f"{_BY_RLIMIT[kind]}:rlimit" for kind, _ in rlimits))


def _map_owners(plan: Plan) -> list[int]:
    """As root: trees of the workspace and volumes whose owner is the workload, seen from inside.

    The workload's user is another than root, so what belongs to the directory's owner is made to look
    as the workload's own (mount_setattr(2), idmapped mounts).
    """
    if os.geteuid() != 0 or plan.identity.outside_uid == 0:
        return []
    from mvm.backends.namespace.owners import mapped_trees

    return mapped_trees(plan)
