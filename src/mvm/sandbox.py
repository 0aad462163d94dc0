r"""The Python API: a sandbox as a context manager, commands in it, and its policy while it runs.

    with mvm.Sandbox(network=mvm.network(mode="none")) as box:
        result = box.run(["python3", "-c", "print(6 * 7)"])
        assert (result.returncode, result.stdout) == (0, b"42\n")

Owns the names users write. The gateway lives in a helper process that the first sandbox starts and all
sandboxes of this process share: the caller's threads never hold up a byte, and if the caller dies,
everything in its sandboxes does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from mvm.errors import (
    AuditError,
    BackendUnavailable,
    CommandFailed,
    MvmError,
    PolicyDenied,
    PolicyRefused,
    SandboxTimeout,
    TransportError,
    UsageError,
)

if TYPE_CHECKING:
    import io
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from typing import Self

    from mvm.policy.model import Policy
    from mvm.supervisor.client import Client

__all__ = [
    "AsyncSandbox",
    "AuditError",
    "BackendUnavailable",
    "CommandFailed",
    "MvmError",
    "PolicyDenied",
    "PolicyRefused",
    "Popen",
    "Result",
    "Sandbox",
    "SandboxTimeout",
    "TransportError",
]

_READ_BYTES = 1 << 16
_KILL, _TERM = 9, 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one command.

    Attributes:
        returncode: its status as a shell gives it: 128 + n where signal n ended it.
        stdout, stderr: what it wrote, bytes.
        denials: what was denied in the sandbox while it ran, objects of schema `mvm.denial/1`.
        flows: what was reached while it ran, one object a host, port and protocol.
        cause: `policy`, `transport` or `guest` where it failed, else None.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    denials: tuple[dict[str, Any], ...]
    flows: tuple[dict[str, Any], ...]
    cause: str | None


class _Helper:
    """The one helper process of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._owner = 0

    def start(self, request: dict[str, object]) -> dict[str, Any]:
        """Have a sandbox started.

        Raises:
            BackendUnavailable, UsageError, AuditError: as the helper says.
        """
        from mvm.supervisor.frames import Inbox, send

        with self._lock:
            channel = self._connected()
            inbox = Inbox(channel)
            try:
                send(channel, {"do": "start", "request": request})
                while not (messages := inbox.read()):
                    if messages is None:
                        self._forget()
                        msg = "the helper process of mvm has ended"
                        raise BackendUnavailable(msg, hint="its last words are on stderr")
            except OSError as error:
                self._forget()
                msg = f"the helper process of mvm is gone: {error.strerror}"
                raise BackendUnavailable(msg, hint="start the sandbox again") from error
        answer: dict[str, Any] = messages[0]
        if "error" in answer:
            _raise(answer)
        return answer

    def _connected(self) -> socket.socket:
        import socket

        if self._channel is None or self._owner != os.getpid():  # a fork has a helper of its own
            ours, theirs = socket.socketpair()
            with theirs:
                words = [sys.executable, "-m", "mvm.supervisor", str(theirs.fileno())]
                source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
                environ = {**os.environ, "PYTHONPATH": _joined(source, os.environ.get("PYTHONPATH"))}
                self._process = subprocess.Popen(
                    words,
                    pass_fds=[theirs.fileno()],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._channel, self._owner = ours, os.getpid()
        return self._channel

    def _forget(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._process.wait()
        self._channel = None


def _joined(first: str, rest: str | None) -> str:
    return first if not rest else f"{first}{os.pathsep}{rest}"


def _raise(answer: Mapping[str, Any]) -> NoReturn:
    kinds: dict[int, type[MvmError]] = {64: UsageError, 69: BackendUnavailable, 74: AuditError}
    raise kinds.get(int(answer["exit"]), MvmError)(str(answer["error"]), hint=str(answer["hint"]))


_helper = _Helper()


class Sandbox:
    """A sandbox; use it as a context manager.

    Args:
        network: what it may reach: the value of `mvm.network(...)`, or a `policy.model.Policy`.
            Nothing stands for a policy, so it must be given.
        name: its name, or None for one of its own.
        workspace: a directory of yours that is writable inside, at its own place, or None.
        volumes: `SRC:DST[:ro|rw]`, each.
        env: variables to be set inside.
        workdir: where commands start, absolute, or None for the workspace, the caller's directory or home.
        memory: bytes it may use, or None. cpus: processors, or None. pids: processes and threads, or None.
        timeout: seconds until the sandbox as a whole is ended, or None.
        backend: `auto` or a backend's name.

    Raises:
        PolicyRefused: the policy is not acceptable.
        BackendUnavailable: this machine can't enforce it.
        AuditError: it can't be recorded.
        UsageError: another argument is wrong.
    """

    def __init__(
        self,
        *,
        network: object,
        name: str | None = None,
        workspace: str | os.PathLike[str] | None = None,
        volumes: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        memory: int | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        timeout: float | None = None,
        backend: str = "auto",
    ) -> None:
        from mvm.supervisor.request import Request
        from mvm.terms import Limits, Seconds

        self._request = Request(
            policy=_policy_of(network),
            name=name,
            workspace=None if workspace is None else os.fspath(workspace),
            volumes=tuple(volumes),
            environ=tuple(f"{key}={value}" for key, value in (env or {}).items()),
            workdir=workdir,
            limits=Limits(memory, cpus, pids),
            timeout=None if timeout is None else Seconds(timeout),
            backend=backend,
        )
        self._started: dict[str, Any] | None = None
        self._result: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it, with all that runs in it."""
        self.close()

    def start(self) -> None:
        """Start it; nothing of yours runs yet.

        Raises:
            as the constructor.
        """
        if self._started is None:
            self._started = _helper.start(self._request.to_json())

    def close(self) -> dict[str, Any] | None:
        """End it, with all that runs in it; safe to call twice.

        Returns:
            `mvm.result/1`, or None where it was never started.
        """
        if self._started is not None and self._result is None:
            try:
                with self._client() as client:
                    self._result = client.stop(0)
            except UsageError:
                self._result = {}  # it had ended before
        return self._result

    @property
    def name(self) -> str:
        """Its name, for `mvmctl`."""
        return str(self._running()["name"])

    @property
    def run_id(self) -> str:
        """The id that everything recorded of it carries."""
        return str(self._running()["run"])

    def _running(self) -> dict[str, Any]:
        if self._started is None:
            msg = "the sandbox is not started"
            raise UsageError(msg, hint="use it in a `with` statement, or call start()")
        return self._started

    def _client(self) -> Client:
        from mvm.supervisor.client import Client

        return Client(self.name, os.environ)

    def describe(self) -> dict[str, Any]:
        """Say what it is, what it may reach, and what was reached and denied so far."""
        with self._client() as client:
            return client.describe()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        timeout: float | None = None,
        check: bool = False,
        deny: str = "report",
    ) -> Result:
        """Run one command to its end.

        Args:
            argv: the command, at least one word.
            stdin: what it reads.
            env: variables to be set for it alone.
            workdir: where it starts, absolute.
            timeout: seconds until it is killed, or None.
            check: whether a status other than 0 is an error.
            deny: `report`, or `fail` to have any denial be an error.

        Raises:
            SandboxTimeout: the time ran out; the command was killed.
            PolicyDenied: `deny` is `fail`, and something was denied.
            TransportError: `check`, and it failed after a granted host could not be reached.
            CommandFailed: `check`, and it failed.
            UsageError: it can't be started, or the sandbox has ended.
        """
        before = self.describe()
        process = self.popen(argv, env=env, workdir=workdir)
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout)
        except SandboxTimeout:
            process.kill()
            process.wait()
            raise
        finally:
            process.close()
        returncode = process.wait()
        after = self.describe()
        result = _result_of(returncode, stdout, stderr, before, after)
        if deny == "fail" and result.denials:
            first = result.denials[0]
            msg = f"denied: {first['host'] or first['address']} [{first['reason']}]"
            raise PolicyDenied(msg, hint=str(first["remedy"]["text"]), denials=result.denials)
        if check and returncode:
            msg = f"{argv[0]} ended with status {returncode}"
            if result.cause == "transport":
                raise TransportError(f"{msg}: {after['failures'][-1]['error']}")
            raise CommandFailed(msg, returncode=returncode, stdout=stdout, stderr=stderr)
        return result

    def popen(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, workdir: str | None = None
    ) -> Popen:
        """Start one command, with a pipe at each of its streams.

        Args:
            argv: the command, at least one word.
            env: variables to be set for it alone.
            workdir: where it starts, absolute.

        Raises:
            UsageError: it can't be started, or the sandbox has ended.
        """
        if not argv or isinstance(argv, str):
            msg = "a command is a list of at least one word"
            raise UsageError(msg, hint='write ["python3", "-c", "print(1)"]')
        message = {
            "do": "exec",
            "argv": list(argv),
            "environ": [f"{key}={value}" for key, value in (env or {}).items()],
            "workdir": workdir,
        }
        return Popen(self._client(), message)

    def set_network(self, network: object, *, expect: str | None = None) -> str:
        """Put another policy in force, all of it; flows of grants that are gone are reset within 100 ms.

        Args:
            network: as the constructor's.
            expect: the digest of the policy that it replaces, or None for whichever stands.

        Returns:
            The new digest.

        Raises:
            PolicyRefused: the policy is not acceptable.
            UsageError: another policy than `expect` stands.
            AuditError: the change can't be recorded, and is not made.
        """
        with self._client() as client:
            answer = client.set_policy(_policy_of(network), expect=expect, by="api")
        if "conflict" in answer:
            msg = f"the policy is not the expected one any more: it is {answer['conflict']}"
            raise UsageError(msg, hint="read it again, and set it with its present digest")
        return str(answer["digest"])

    @property
    def network_digest(self) -> str:
        """The digest of the policy that stands."""
        return str(self.describe()["policy"]["digest"])


def _policy_of(network: object) -> Policy:
    from mvm.policy.model import Policy

    if isinstance(network, Policy):
        return network
    from mvm.declare import policy_of_network

    return policy_of_network(network)


def _result_of(
    returncode: int, stdout: bytes, stderr: bytes, before: dict[str, Any], after: dict[str, Any]
) -> Result:
    """Say what was denied and reached between two descriptions."""
    denials = _grown(
        before["denials"],
        after["denials"],
        ("layer", "reason", "host", "address", "port", "protocol"),
        "count",
    )
    flows = _grown(before["flows"], after["flows"], ("host", "port", "protocol"), "flows")
    failures = _grown(before["failures"], after["failures"], ("host", "port", "error"), "count")
    cause = None
    if returncode:
        cause = "policy" if denials else "transport" if failures else "guest"
    return Result(
        returncode=returncode, stdout=stdout, stderr=stderr, denials=denials, flows=flows, cause=cause
    )


def _grown(
    before: list[dict[str, Any]], after: list[dict[str, Any]], key: Sequence[str], count: str
) -> tuple[dict[str, Any], ...]:
    counts = {tuple(entry[name] for name in key): entry[count] for entry in before}
    grown = []
    for entry in after:
        more = entry[count] - counts.get(tuple(entry[name] for name in key), 0)
        if more > 0:
            grown.append({**entry, count: more})
    return tuple(grown)


class Popen:
    """One command that runs in a sandbox, as `subprocess.Popen` is one outside.

    Attributes:
        stdin, stdout, stderr: its streams, binary, unbuffered.
        returncode: its status once it has ended, else None.
    """

    def __init__(self, client: Client, message: dict[str, Any]) -> None:
        self._client = client
        self.returncode: int | None = None
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = pipes
        self.stdin: io.FileIO = os.fdopen(ours_in, "wb", buffering=0)
        self.stdout: io.FileIO = os.fdopen(ours_out, "rb", buffering=0)
        self.stderr: io.FileIO = os.fdopen(ours_err, "rb", buffering=0)
        try:
            answer = client.ask(message, [theirs_in, theirs_out, theirs_err])
            if "not_started" in answer:
                from mvm.supervisor.client import not_started_text

                text, _ = not_started_text(answer)
                raise UsageError(f"{text} (in the sandbox)", hint="is it installed, and on PATH there?")
        except BaseException:
            self.close()
            raise
        finally:
            for descriptor in (theirs_in, theirs_out, theirs_err):
                os.close(descriptor)
        self._number = answer["started"]

    def poll(self) -> int | None:
        """Its status, or None while it runs."""
        import select

        if self.returncode is None and select.select([self._client], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            SandboxTimeout: the time ran out first; it runs on.
        """
        import select

        if self.returncode is None:
            if not select.select([self._client], [], [], timeout)[0]:
                msg = f"the command still runs after {timeout} s"
                raise SandboxTimeout(msg)
            try:
                answer = self._client.hear()
            except UsageError:
                answer = {}  # the sandbox has ended, and the command with it
            status = answer.get("exited", 128 + _KILL)
            assert isinstance(status, int), "the supervisor is of this version"
            self.returncode = status
        return self.returncode

    def communicate(self, stdin: bytes = b"", *, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Feed it, read all that it writes, and wait for its end.

        Raises:
            SandboxTimeout: the time ran out first; it runs on.
        """
        import selectors
        import time

        deadline = None if timeout is None else time.monotonic() + timeout
        said: dict[Any, list[bytes]] = {self.stdout: [], self.stderr: []}
        left = memoryview(stdin)
        with selectors.DefaultSelector() as selector:
            for stream in said:
                selector.register(stream, selectors.EVENT_READ)
            if stdin:
                os.set_blocking(self.stdin.fileno(), False)
                selector.register(self.stdin, selectors.EVENT_WRITE)
            else:
                self.stdin.close()
            while selector.get_map():
                patience = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = selector.select(patience)
                if not ready and deadline is not None and time.monotonic() >= deadline:
                    msg = f"the command still runs after {timeout} s"
                    raise SandboxTimeout(msg)
                for key, _ in ready:
                    if key.fileobj is self.stdin:
                        left = self._feed(left, selector.unregister)
                        continue
                    data = os.read(key.fd, _READ_BYTES)
                    said[key.fileobj].append(data)
                    if not data:
                        selector.unregister(key.fileobj)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return b"".join(said[self.stdout]), b"".join(said[self.stderr])

    def _feed(self, left: memoryview, done: Callable[[Any], object]) -> memoryview:
        try:
            left = left[os.write(self.stdin.fileno(), left[:_READ_BYTES]) :]
        except BrokenPipeError:
            left = left[:0]
        if not left:
            done(self.stdin)
            self.stdin.close()
        return left

    def send_signal(self, signum: int) -> None:
        """Send it a signal."""
        self._client.say({"do": "signal", "number": self._number, "signal": int(signum)})

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(_TERM)

    def kill(self) -> None:
        """End it, and its process group."""
        self._client.say({"do": "signal", "number": self._number, "signal": _KILL, "group": True})

    def close(self) -> None:
        """Close its streams and let go of it; if it runs still, it ends."""
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()
        self._client.close()

    def __enter__(self) -> Self:
        """Give the process itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        self.close()


class AsyncSandbox:
    """A sandbox for asyncio: the same words, awaited. Arguments are those of `Sandbox`."""

    def __init__(self, **words: Any) -> None:  # noqa: ANN401  handed on as they are
        self._sandbox = Sandbox(**words)
        self._threads: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        """Start it."""
        await self._call(self._sandbox.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it, with all that runs in it."""
        await self.close()

    async def _call(self, function: Callable[..., Any], *args: Any, **words: Any) -> Any:  # noqa: ANN401
        """Call what blocks in a thread of this sandbox's own: many may wait at once."""
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        from functools import partial

        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="mvm-sandbox")
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, partial(function, *args, **words)
        )

    async def run(self, argv: Sequence[str], **words: Any) -> Result:  # noqa: ANN401
        """Run one command to its end; arguments and errors are those of `Sandbox.run`."""
        result: Result = await self._call(self._sandbox.run, argv, **words)
        return result

    async def popen(self, argv: Sequence[str], **words: Any) -> Popen:  # noqa: ANN401
        """Start one command; arguments and errors are those of `Sandbox.popen`."""
        process: Popen = await self._call(self._sandbox.popen, argv, **words)
        return process

    async def set_network(self, network: object, *, expect: str | None = None) -> str:
        """Put another policy in force; as `Sandbox.set_network`."""
        digest: str = await self._call(self._sandbox.set_network, network, expect=expect)
        return digest

    async def describe(self) -> dict[str, Any]:
        """Say what it is, what it may reach, and what was reached and denied so far."""
        described: dict[str, Any] = await self._call(self._sandbox.describe)
        return described

    async def close(self) -> dict[str, Any] | None:
        """End it; as `Sandbox.close`."""
        result: dict[str, Any] | None = await self._call(self._sandbox.close)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None
        return result
