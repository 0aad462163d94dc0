"""The story of one sandbox in the process that holds its gateway.

    begin    take the name, open the record, start the machine; while it makes itself, get ready;
             hang the gateway into its door, open the ports
    spawn    a command, then another
    finish   close the gateway, recording its last denials; end the machine, seal the record, say the result

Owns the order. Each step is undone if a later one fails; nothing runs inside before the gateway stands
and the record says what was granted.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from mvm.audit.log import Log
from mvm.audit.record import Kind
from mvm.audit.state import state_directory
from mvm.backends.interface import Exited, Gone, NotStarted, Sockets, Started
from mvm.errors import AuditError, MvmError
from mvm.gateway import door
from mvm.gateway.loop import READ
from mvm.gateway.names import POOLS
from mvm.supervisor import registry
from mvm.supervisor.control import Control
from mvm.supervisor.handed import check_streams
from mvm.supervisor.listeners import why_unstarted
from mvm.supervisor.opening import record_start
from mvm.terms import Outcome

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from mvm.audit.denial import Denial
    from mvm.audit.keys import SigningKey
    from mvm.backends.interface import Event, Machine
    from mvm.gateway.failure import Failure
    from mvm.gateway.gateway import Gateway
    from mvm.plan.plan import Command
    from mvm.supervisor.forwards import Forwards
    from mvm.supervisor.kept import Kept
    from mvm.supervisor.listeners import Job, Listener
    from mvm.supervisor.prepare import Prepared
    from mvm.supervisor.process import Supervisor
    from mvm.supervisor.receipt import Place

_EXIT_INTERRUPTED = 130


class Sandbox:
    """One sandbox, from `begin` to `finish`.

    Args:
        supervisor: the process's loop and what its sandboxes share.
        prepared: what was asked and decided, by whom it is carried out, and what it is made of.
        environ: the caller's environment, for the places of state.

    Attributes:
        listeners: who is told; more may come while it runs.
        result: `mvm.result/1` once it has ended.
        error: why it had to end, where the record failed.
        unreceipted: why there is no receipt, where one was asked for and all else is well.
    """

    def __init__(self, supervisor: Supervisor, prepared: Prepared, environ: Mapping[str, str]) -> None:
        self.supervisor, self.request, self.plan = supervisor, prepared.request, prepared.plan
        self._backend, self._image, self._environ = prepared.backend, prepared.image, environ
        self.listeners: list[Listener] = []
        self.result: dict[str, object] | None = None
        self.error: AuditError | None = None
        self.unreceipted: AuditError | None = None
        self._jobs: dict[int, Job] = {}
        self._numbers = 0
        self._state = state_directory(environ)
        self._place: registry.Place | None = None
        self._log: Log | None = None
        self._machine: Machine | None = None
        self._gateway: Gateway | None = None
        self._control: Control | None = None
        self._forwards: Forwards | None = None
        self._began = time.monotonic()
        self._kept: Kept | None = None
        self._overlay: int | None = None
        self._receipt: Place | None = None
        self._main: int | None = None
        self._status: int | None = None
        self._outcome: Outcome | None = None

    # ---- begin

    def begin(self) -> None:
        """Make the sandbox, up to where commands can be started.

        Raises:
            UsageError: the name is taken, or an inbound port is.
            AuditError: it can't be recorded.
            BackendUnavailable: the machine withholds something.
        """
        try:
            self._begin()
        except BaseException as error:
            self._undo(error)
            raise

    def _begin(self) -> None:
        plan = self.plan
        self._take_what_lasts()
        self._log = Log.create(self._state, plan.run)
        # First of all that leaves a trace: from here on somebody clears up, should this process be killed.
        machine = self._machine = self._backend.start(plan, self._open_door, self._clear_name)
        self._place = registry.take(plan.name, self._environ)
        # The machine makes itself on another processor meanwhile; what it is forked from stays small.
        from mvm.audit.keys import require_key
        from mvm.gateway.gateway import Gateway

        require_key(self._state)
        machine.establish()
        record_start(self._log, plan, self.request, machine.limits)
        for descriptor in machine.descriptors:
            self.supervisor.loop.watch(descriptor, READ, self._on_machine)
        self._gateway = Gateway(
            loop=self.supervisor.loop,
            sockets=door.DoorSockets(*machine.take_door()),
            policy=plan.policy,
            log=self._log,
            watcher=self,
            pipes=self.supervisor.pipes,
            system=self.supervisor.system,
        )
        if plan.policy.forwards:
            from mvm.supervisor.forwards import Forwards

            self._forwards = Forwards(self.supervisor, plan.policy.forwards, machine)
        self._control = Control(self, self._place.listener)
        for seconds in (plan.timeout, plan.policy.ttl):
            if seconds is not None:
                self.supervisor.loop.after(seconds, self._time_is_up)

    def _take_what_lasts(self) -> None:
        """Take what outlives the sandbox: the receipt's place, a workspace, an overlay."""
        plan, request = self.plan, self.request
        if request.receipt is not None:
            from mvm.supervisor.receipt import hold

            self._receipt = hold(request.receipt)
        if plan.profile is not None:
            from mvm.supervisor.profile import take_workspace

            self._kept = take_workspace(self._state, plan.profile)
        if request.overlay is not None:
            from mvm.supervisor.overlay import take_overlay

            image = plan.digest or f"dir:{plan.view.root.source if plan.view.root else ''}"
            self._overlay = take_overlay(self._state, request.overlay, image, plan.identity)

    def _clear_name(self) -> bool:
        return registry.clear(self.plan.name, self._environ)

    def _open_door(self) -> Sequence[socket.socket]:
        """Runs inside the namespace: make the door, and read the kernel back."""
        sockets = door.open_door(door.Layout.LOCAL, POOLS, unrestricted=self.plan.policy.unrestricted)
        wrong = door.verify(door.Layout.LOCAL)
        if wrong is not None:
            raise OSError(0, wrong)
        return sockets

    # ---- commands

    def spawn(self, command: Command, streams: Sequence[int], job: Job, *, is_main: bool = False) -> int:
        """Start a command; what becomes of it, `job` is told.

        Args:
            command: what.
            streams: its descriptors 0, 1, 2, which stay the caller's; none where it has a terminal.
            job: who is told.
            is_main: whether the sandbox ends with it.

        Returns:
            Its number, for `signal`.

        Raises:
            UsageError: a stream leads further than the bytes in it.
        """
        assert self._machine is not None, "spawned before begin"
        check_streams(streams)
        self._numbers += 1
        self._jobs[self._numbers] = job
        if is_main:
            self._main = self._numbers
        self._machine.spawn(self._numbers, command, streams)
        return self._numbers

    def signal(self, number: int, signum: int, *, group: bool) -> None:
        """Send a signal to a command, or to its process group; one that has ended gets none."""
        if self._machine is not None and number in self._jobs:
            self._machine.signal(number, signum, group=group)

    def _on_machine(self, _events: int) -> None:
        machine = self._machine
        if machine is not None:
            for event in machine.receive():
                self._on_event(event)

    def _on_event(self, event: Event) -> None:
        match event:
            case Started(number, terminal):
                self._jobs[number].started(terminal)
            case NotStarted(number, code, tried):
                self._jobs.pop(number).failed(code, tried)
                if number == self._main:
                    self.finish(Outcome.FAILED, status=why_unstarted(tried, code)[1])
            case Exited(number, status):
                job = self._jobs.pop(number, None)
                if job is not None:
                    job.ended(status)
                if number == self._main:
                    self.finish(Outcome.FAILED if status else Outcome.COMPLETED, status=status)
            case Sockets(descriptors):
                if self._forwards is not None:
                    self._forwards.supply(descriptors)
            case Gone():
                self.finish(Outcome.KILLED)

    # ---- what the gateway tells

    def denied(self, denial: Denial) -> None:
        """A distinct denial happened for the first time."""
        for listener in tuple(self.listeners):
            listener.denied(denial)
        if self.request.stop_on_denial:
            self.supervisor.loop.soon(lambda: self.finish(Outcome.FAILED))

    def failed(self, host: str, port: int, failure: Failure) -> None:
        """A granted host could not be reached."""
        for listener in tuple(self.listeners):
            listener.failed(host, port, failure)

    def unrecorded(self, error: AuditError) -> None:
        """The record can't be written: nothing more is opened, and the run ends."""
        self.error = error
        self.supervisor.loop.soon(lambda: self.finish(Outcome.KILLED))

    # ---- finish

    def _time_is_up(self) -> None:
        self.finish(Outcome.TIMEOUT)

    def stop(self, grace: float) -> None:
        """Ask the first command to end (SIGTERM), and end everything after so many seconds."""
        if self._main is None or self._main not in self._jobs or grace <= 0:
            self.finish(Outcome.KILLED)
            return
        self._outcome = Outcome.KILLED
        self.signal(self._main, 15, group=False)
        self.supervisor.loop.after(grace, lambda: self.finish(Outcome.KILLED))

    @property
    def gateway(self) -> Gateway:
        """Its gateway, while it runs."""
        assert self._gateway is not None, "asked before begin"
        return self._gateway

    def finish(self, outcome: Outcome, *, status: int | None = None) -> None:
        """End it; the first call decides how it ended, later ones do nothing."""
        if self.result is not None:
            return
        outcome = self._outcome or outcome
        self.result = result = {}
        duration = round(time.monotonic() - self._began, 6)
        self._leave_doors()  # first of all: the flows may hold the last descriptors
        from mvm.supervisor.result import EXIT_KILLED, make_result

        self.result = result = make_result(self, outcome, status, duration)
        self._seal(result)
        self._let_receipt_go()
        for job in self._jobs.values():
            job.ended(EXIT_KILLED)
        self._jobs = {}
        for listener in tuple(self.listeners):
            listener.ended(result)
        if self._control is not None:
            self._control.close(result)
        self.supervisor.left(self)

    def _leave_doors(self) -> None:
        """End what runs inside, then the gateway: what was refused to the last is still counted."""
        if self._control is not None:
            self._control.stop_listening()
        elif self._place is not None:
            self._place.listener.close()
        if self._forwards is not None:
            self._forwards.close()
        if self._machine is not None:
            for descriptor in self._machine.descriptors:
                self.supervisor.loop.unwatch(descriptor)
            self._machine.close()
        if self._place is not None:
            registry.clear(self.plan.name, self._environ)
        if self._gateway is not None:
            self._gateway.close()
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        if self._overlay is not None:
            os.close(self._overlay)
            self._overlay = None
        self._image.close()

    def _seal(self, result: dict[str, object]) -> None:
        log, gateway, key = self._log, self._gateway, None
        assert log is not None, "sealed before begin"
        assert gateway is not None, "sealed before begin"
        cause, status = result["cause"], result["exit_code"]
        try:
            if self.error is None:
                log.append(
                    Kind.RUN_ENDED,
                    outcome=result["outcome"],
                    cause=cause,
                    exit_code=status,
                    duration_s=result["duration_s"],
                    flows=gateway.opened,
                    denials=gateway.refusals.ledger.total,
                    up=gateway.totals[0],
                    down=gateway.totals[1],
                )
                key = self._signing_key()
                log.seal(key)
        except AuditError as error:
            self.error = error
        finally:
            log.close()
        if self._receipt is not None and key is not None and self.error is None:
            self._give_receipt(self._receipt, log.path, key, result)

    def _signing_key(self) -> SigningKey:
        from mvm.audit.keys import signing_key

        return signing_key(self._state)

    def _give_receipt(self, place: Place, log: str, key: SigningKey, result: dict[str, object]) -> None:
        try:
            place.write(log, key, result)
            result["receipt"] = place.path
        except AuditError as error:
            self.unreceipted = error
            result["error"] = {"message": error.message, "hint": error.hint}

    def _let_receipt_go(self) -> None:
        if self._receipt is not None:
            self._receipt.close()
            self._receipt = None

    def _undo(self, why: BaseException) -> None:
        """Give back what `begin` took before it failed, and end the record with that."""
        self._let_receipt_go()
        self._leave_doors()
        if self._control is not None:
            self._control.close({})
        if self._log is not None:
            self._end_unbegun(self._log, why)

    def _end_unbegun(self, log: Log, why: BaseException) -> None:
        """End the record of what did not begin: none where nothing was recorded; a bug leaves it unsealed."""
        try:
            if not log.records:
                log.discard()
            elif isinstance(why, MvmError | KeyboardInterrupt):
                log.append(
                    Kind.RUN_ENDED,
                    outcome=Outcome.REFUSED if isinstance(why, MvmError) else Outcome.KILLED,
                    exit_code=why.exit_code if isinstance(why, MvmError) else _EXIT_INTERRUPTED,
                    duration_s=round(time.monotonic() - self._began, 6),
                )
                log.seal(self._signing_key())
        except AuditError:
            return  # `why` is told; what can't be sealed is unsealed
        finally:
            log.close()
