"""One caller's conversation with a running sandbox: what can be asked, and what is answered.

    describe            the sandbox, its policy, its denials and flows so far
    set                 another policy, if the present one has the expected digest
    decide              a decision about to take effect by `set`, or a refusal, into the record
    exec signal         a command with the caller's streams; its end is told on the same connection, and
                        what was denied meanwhile that had been denied before
    stop watch          end it; be told every denial and failure, and its result

A message may name the run it means: another sandbox of the same name does not answer it.
Owns the words. A conversation that ends takes its commands with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING

from mvm.errors import MvmError, PolicyRefused
from mvm.gateway.loop import READ, WRITE
from mvm.supervisor.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mvm.audit.denial import Denial
    from mvm.gateway.failure import Failure
    from mvm.policy.browser import BrowserProfile
    from mvm.policy.decide import Usage
    from mvm.policy.model import Policy
    from mvm.supervisor.frames import Message
    from mvm.supervisor.story import Sandbox

_STREAMS = 3
_MOST_UNSENT = 1 << 26
_MOST_NUMBER, _MOST_SIGNAL, _MOST_SIDE = (1 << 31) - 1, 64, (1 << 16) - 1
_MOST_GRACE = 1 << 32


class Connection(Listener):
    """One caller.

    Args:
        sandbox: what is spoken about.
        sock: the connection.
        gone: called with it when it has closed.
    """

    def __init__(self, sandbox: Sandbox, sock: socket.socket, gone: Callable[[Connection], None]) -> None:
        from mvm.supervisor.frames import Inbox

        self._sandbox, self._sock, self._gone = sandbox, sock, gone
        self._inbox = Inbox(sock)
        self._unsent = b""
        self._descriptors: list[int] = []
        self._commands: set[int] = set()
        self._waits = False
        self._loop = sandbox.supervisor.loop
        sock.setblocking(False)
        self._loop.watch(sock.fileno(), READ, self._on_events)

    def _on_events(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & ~WRITE and self._sock.fileno() >= 0:
            self._read()

    def _read(self) -> None:
        try:
            messages = self._inbox.read()
        except BlockingIOError:
            return
        except (OSError, ValueError):
            messages = None
        if messages is None:
            self.close()
            return
        for message in messages:
            try:
                self._answer(message)
            except MvmError as error:
                found = error.findings if isinstance(error, PolicyRefused) else ()
                said = {"error": error.message, "hint": error.hint, "exit": error.exit_code}
                self.send({**said, "findings": found} if found else said)
            except (KeyError, TypeError, ValueError) as error:
                self.send({"error": f"not understood: {error!r}", "hint": "", "exit": 64})

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Tell the caller something; descriptors become theirs, and are closed here."""
        from mvm.supervisor.frames import encode

        if self._sock.fileno() < 0:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        self._unsent += encode(message)
        self._descriptors += descriptors
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                given = struct.pack(f"{len(self._descriptors)}i", *self._descriptors)
                control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)] if given else []
                sent = self._sock.sendmsg([self._unsent[: 1 << 20]], control, socket.MSG_NOSIGNAL)
                self._unsent = self._unsent[sent:]
                self._close_descriptors()
        except BlockingIOError:
            if len(self._unsent) > _MOST_UNSENT:
                self.close()  # a caller that never reads
                return
        except OSError:
            self.close()
            return
        events = READ | (WRITE if self._unsent else 0)
        self._loop.change(self._sock.fileno(), events, self._on_events)

    def _close_descriptors(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def close(self) -> None:
        """End the conversation, and the commands that were begun in it."""
        if self._sock.fileno() < 0:
            return
        for number in self._commands:
            self._sandbox.signal(number, signal.SIGKILL, group=True)
        if self._waits:
            with contextlib.suppress(ValueError):
                self._sandbox.listeners.remove(self)
        self._inbox.close()
        self._close_descriptors()
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        self._gone(self)

    def farewell(self, result: Message) -> None:
        """The sandbox has ended: say so, waiting a moment for a slow reader, and close."""
        self.send({"ended": result})
        if self._sock.fileno() >= 0 and self._unsent:
            self._sock.settimeout(1.0)
            with contextlib.suppress(OSError):
                self._sock.sendall(self._unsent)
        self._commands.clear()
        self.close()

    # ---- what can be asked

    def _answer(self, message: Message) -> None:
        if message.get("run", self._sandbox.plan.run) != self._sandbox.plan.run:
            name = self._sandbox.plan.name
            self.send({"error": f"the sandbox {name!r} is another one by now", "hint": "", "exit": 64})
            return
        match message["do"]:
            case "describe":
                self.send({"sandbox": describe(self._sandbox)})
            case "set":
                self._set(message)
            case "decide":
                self._decide(message)
            case "exec":
                self._exec(message)
            case "signal":
                number, signum = (
                    _within(message["number"], _MOST_NUMBER),
                    _within(message["signal"], _MOST_SIGNAL),
                )
                self._sandbox.signal(number, signum, group=bool(message.get("group")))
            case "stop":
                grace = _grace(message.get("grace", 0))
                self._waits = True
                self._sandbox.stop(grace)
            case "watch":
                self._waits = True
                self._sandbox.listeners.append(self)
                self.send({"watching": self._sandbox.plan.name})
            case _:
                self.send(
                    {"error": f"{message['do']!r} is nothing that can be asked", "hint": "", "exit": 64}
                )

    def _set(self, message: Message) -> None:
        from mvm.policy.document import policy_digest
        from mvm.supervisor.request import policy_from_json, with_sources

        gateway = self._sandbox.gateway
        standing = gateway.authority.policy
        expected = message.get("expect")
        if expected is not None and expected != policy_digest(standing):
            self.send({"conflict": policy_digest(standing)})
            return
        by = str(message.get("by", "control"))
        wanted = policy_from_json(message["policy"], source=f"network {by}")
        if (profile := self._sandbox.plan.profile) is not None:
            wanted = _held(profile, wanted, standing, message)
        if wanted.forwards != standing.forwards:
            self.send(
                {
                    "error": "inbound ports of a running sandbox can't be changed",
                    "hint": "start another one",
                    "exit": 64,
                }
            )
            return
        said, numbers = _texts(message.get("sources", [])), message.get("anew", [])
        if not isinstance(numbers, list):
            msg = "not a list of numbers"
            raise TypeError(msg)
        # Grants that stay keep their source, and with it their time and their budget.
        known = {with_sources_of(grant): grant.source for grant in standing.grants}
        sources: dict[object, str] = {
            grant: source for grant, source in zip(wanted.grants, said, strict=False) if source
        }
        sources |= {g: known[with_sources_of(g)] for g in wanted.grants if with_sources_of(g) in known}
        wanted = with_sources(wanted, sources)
        anew = [grant for number, grant in enumerate(wanted.grants) if number in numbers]
        added, removed = gateway.replace(wanted, by=by, anew=anew)
        self.send({"digest": policy_digest(wanted), "added": added, "removed": removed})

    def _decide(self, message: Message) -> None:
        """Record a decision; the caller acts on it only after the answer."""
        from mvm.audit.record import Kind

        fields = message["decision"]
        if not isinstance(fields, dict):
            msg = "a decision is an object"
            raise TypeError(msg)
        self._sandbox.gateway.book.write(Kind.GRANT_DECIDED, **fields)
        self.send({"recorded": self._sandbox.plan.run})

    def _exec(self, message: Message) -> None:
        from mvm.images.environment import parse_env
        from mvm.plan.plan import Command
        from mvm.supervisor.listeners import Job

        plan = self._sandbox.plan
        environ = dict(plan.view.environ)
        for text in _texts(message.get("environ", [])):
            environ.update(parse_env(text, environ={}))
        terminal = message.get("terminal")
        size = None
        if isinstance(terminal, list):
            rows, columns = terminal
            size = (_within(rows, _MOST_SIDE), _within(columns, _MOST_SIDE))
        workdir = str(message.get("workdir") or plan.workdir)
        command = Command(tuple(_texts(message["argv"])), environ, workdir, size)
        streams = [] if size is not None else self._take_streams()
        number = 0
        refusals = self._sandbox.gateway.refusals
        before = {denial.seq: denial.count for denial in refusals.ledger.denials}

        def started(controlling: int | None) -> None:
            self.send({"started": number}, () if controlling is None else (controlling,))

        def ended(status: int) -> None:
            self._commands.discard(number)
            refusals.flush()
            again = [d.to_json() for d in refusals.ledger.denials if d.count > before.get(d.seq, d.count)]
            self.send({"exited": status, "denied_again": again})

        def failed(code: int, tried: str) -> None:
            self._commands.discard(number)
            self.send({"not_started": tried, "errno": code})

        try:
            number = self._sandbox.spawn(command, streams, Job(started=started, ended=ended, failed=failed))
        finally:
            for descriptor in streams:
                os.close(descriptor)
        self._commands.add(number)

    def _take_streams(self) -> list[int]:
        given = self._inbox.descriptors
        if len(given) < _STREAMS:
            msg = "three streams go with a command"
            raise ValueError(msg)
        self._inbox.descriptors = given[_STREAMS:]
        return given[:_STREAMS]

    # ---- what it hears as a listener of the sandbox

    def denied(self, denial: Denial) -> None:
        """A distinct denial happened for the first time."""
        self.send({"denial": denial.to_json()})

    def failed(self, host: str, port: int, failure: Failure) -> None:
        """A granted host could not be reached."""
        self.send({"failure": {"host": host, "port": port, "error": failure.text}})

    def ended(self, result: Message) -> None:
        """`farewell` says it, when everything is closed."""


def with_sources_of(grant: object) -> object:
    """Give a grant without its source, to compare what it opens."""
    from dataclasses import replace

    return replace(grant, source="")  # type: ignore[type-var]


def _within(value: object, most: int) -> int:
    """A whole number up to a bound. Raises TypeError, ValueError."""
    if type(value) is not int:
        msg = "not a whole number"
        raise TypeError(msg)
    if not 0 <= value <= most:
        msg = f"not a number from 0 to {most}"
        raise ValueError(msg)
    return value


def _grace(value: object) -> float:
    """Seconds, as a timer can have them. Raises TypeError, ValueError."""
    if not isinstance(value, int | float):
        msg = "not a number of seconds"
        raise TypeError(msg)
    if not 0 <= value <= _MOST_GRACE:
        msg = f"not a number from 0 to {_MOST_GRACE}"
        raise ValueError(msg)
    return float(value)


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        msg = "not a list of texts"
        raise TypeError(msg)
    return value


def _held(profile: BrowserProfile, wanted: Policy, standing: Policy, message: Message) -> Policy:
    """Give the policy that is wanted with the life time that stands, unless the profile forbids it."""
    from dataclasses import replace

    from mvm.policy.browser import judge_terms, refuse
    from mvm.terms import Preset

    made = wanted if wanted.ttl is not None else replace(wanted, ttl=standing.ttl)
    preset = Preset(str(message.get("preset", wanted.preset)))  # its document has the hosts alone
    refuse(tuple(judge_terms(profile, preset, made.ttl)))
    return made


def describe(sandbox: Sandbox) -> Message:
    """Say what a running sandbox is and may reach."""
    from mvm.policy.document import policy_to_json
    from mvm.policy.parse import format_forward
    from mvm.supervisor.result import describe_policy

    gateway, plan = sandbox.gateway, sandbox.plan
    policy = gateway.authority.policy
    return {
        "run": plan.run,
        "name": plan.name,
        "pid": os.getpid(),
        "backend": plan.backend,
        "isolation": plan.isolation,
        "image": plan.image,
        "profile": None if plan.profile is None else plan.profile.to_json(),
        "command": list(sandbox.request.argv),
        "policy": describe_policy(policy, plan),
        "document": policy_to_json(policy),
        "standing": [_standing(usage) for _grant, usage in gateway.authority.grants],
        "ports": [format_forward(forward) for forward in policy.forwards],
        "denials": [denial.to_json() for denial in gateway.refusals.ledger.denials],
        "flows": gateway.flows(),
        "failures": gateway.failures,
    }


def _standing(usage: Usage) -> dict[str, object]:
    """Say what is left of a grant's time, and what was carried under it."""
    ends = None if usage.expires is None else usage.since + usage.expires
    left = None if ends is None else max(0.0, ends - monotonic())
    return {"left_s": left, "up": usage.up.carried, "down": usage.down.carried}
