"""A sandbox, its commands and its policy, as the caller's thread sees them: every call blocks.

Owns `Sandbox`. Must never hold a byte of a flow: that is the helper's.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from mvm.errors import AuditError, CommandFailed, PolicyDenied, SandboxTimeout, TransportError, UsageError
from mvm.sandbox.helper import HELPER
from mvm.sandbox.process import Popen
from mvm.sandbox.result import failures, result_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from mvm.policy.browser import BrowserProfile
    from mvm.policy.model import Policy
    from mvm.policy.presets import Discovery
    from mvm.sandbox.result import Result
    from mvm.supervisor.client import Client
    from mvm.supervisor.request import Request


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
        profile: stricter rules that it is held to (`mvm.browser_profile`), or None; it lives 30 minutes then,
            unless its policy says otherwise.
        receipt: a file that is not there yet, for the signed receipt of the run; or None.

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
        profile: BrowserProfile | None = None,
        receipt: str | os.PathLike[str] | None = None,
    ) -> None:
        from mvm.supervisor.request import Request
        from mvm.terms import Limits, Seconds

        timeout = _more_than_0("timeout", timeout)
        policy = _policy_of(network)
        if profile is not None:
            from mvm.policy.browser import bounded

            policy = bounded(policy)
        request = Request(
            policy=policy,
            name=name,
            workspace=None if workspace is None else os.fspath(workspace),
            volumes=tuple(volumes),
            environ=tuple(_variables(env)),
            workdir=workdir,
            limits=Limits(
                _whole("memory", memory, "bytes", at_least=1 << 20),
                _more_than_0("cpus", cpus),
                _whole("pids", pids, "processes"),
            ),
            timeout=None if timeout is None else Seconds(timeout),
            backend=backend,
            profile=profile,
            receipt=None if receipt is None else os.fspath(receipt),
        )
        self._prepare(request)

    def _prepare(self, request: Request, environ: Mapping[str, str] | None = None) -> None:
        self._request = request
        self._environ = environ
        self._began = 0.0
        self._started: dict[str, Any] | None = None
        self._result: dict[str, Any] | None = None

    @classmethod
    def of(cls, request: Request, environ: Mapping[str, str]) -> Self:
        """Make one of a request that is put together already.

        Args:
            request: what is asked.
            environ: stands for the caller's environment.
        """
        made = cls.__new__(cls)
        made._prepare(request, dict(environ))  # noqa: SLF001  another way to be made
        return made

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it, with all that runs in it."""
        self.close()

    def start(self) -> None:
        """Start it; nothing of yours runs yet. One that runs already stays as it is.

        Raises:
            as the constructor, and UsageError where it was closed: each is used once.
        """
        if self._result is not None:
            raise self._closed()
        if self._started is None:
            # Says where it is found, whatever becomes of the variables.
            environ = dict(os.environ if self._environ is None else self._environ)
            self._began = time.monotonic()
            self._started = HELPER.start(self._request.to_json(), environ)
            self._environ = environ  # says where it is found, whatever becomes of the variables

    def close(self) -> dict[str, Any] | None:
        """End it, with all that runs in it; safe to call twice.

        Returns:
            `mvm.result/1`; empty where it had ended before, None where it was never started.

        Raises:
            AuditError: its receipt, which was asked for, could not be written.
        """
        if self._started is not None and self._result is None:
            try:
                with self._client() as client:
                    self._result = client.stop(0)
            except (UsageError, SandboxTimeout):
                self._result = {}  # it had ended before
            lost: Any = self._result.get("error")
            if lost is not None and self._request.receipt is not None:
                raise AuditError(str(lost["message"]), hint=str(lost["hint"]))
        return self._result

    def _closed(self) -> UsageError:
        return UsageError("the sandbox was closed", hint="make another one: each is used once")

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
        """Speak to it, and to no other one: its name is free for others once it has ended."""
        from mvm.supervisor.client import Client

        if self._result is not None:
            raise self._closed()
        try:
            return Client(self.name, self._environ or {}, run=self.run_id)
        except UsageError as gone:
            limits = [each for each in (self._request.timeout, self._request.policy.ttl) if each is not None]
            if limits and time.monotonic() - self._began >= min(limits):
                raise SandboxTimeout(f"the sandbox has ended: its {min(limits):g} s are over") from gone
            raise

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
            SandboxTimeout: the time ran out, its own or the sandbox's; the command was killed.
            PolicyDenied: `deny` is `fail`, and something was denied.
            TransportError: `check`, and it failed after a granted host could not be reached.
            CommandFailed: `check`, and it failed.
            UsageError: it can't be started, or the sandbox has ended.
        """
        if deny not in {"report", "fail"}:
            msg = f"{deny!r} says nothing of what a denial is"
            raise UsageError(msg, hint='write deny="report" or deny="fail"')
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
        result = result_of(returncode, stdout, stderr, before, after)
        if deny == "fail" and result.denials:
            first = result.denials[0]
            msg = f"denied: {first['host'] or first['address']} [{first['reason']}]"
            raise PolicyDenied(msg, hint=str(first["remedy"]["text"]), denials=result.denials)
        if check and returncode:
            msg = f"{argv[0]} ended with status {returncode}"
            if result.cause == "transport":
                last = failures(before, after)[-1]
                raise TransportError(f"{msg}: {last['host']}:{last['port']}: {last['error']}")
            raise CommandFailed(msg, returncode=returncode, stdout=stdout, stderr=stderr)
        return result

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        stderr: int | None = None,
    ) -> Popen:
        """Start one command, with a pipe at each of its streams.

        Args:
            argv: the command, at least one word.
            env: variables to be set for it alone.
            workdir: where it starts, absolute.
            stderr: a descriptor of yours that gets what it writes to stderr, or None for a pipe.

        Raises:
            UsageError: it can't be started, or the sandbox has ended.
        """
        if not argv or isinstance(argv, str):
            msg = "a command is a list of at least one word"
            raise UsageError(msg, hint='write ["python3", "-c", "print(1)"]')
        message = {
            "do": "exec",
            "argv": list(argv),
            "environ": _variables(env),
            "workdir": workdir,
        }
        return Popen(self._client(), message, stderr=stderr)

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


def _variables(env: Mapping[str, str] | None) -> list[str]:
    for name in env or {}:
        if not name or "=" in name:
            msg = f"{name!r} names no variable"
            raise UsageError(msg, hint='write env={"NAME": "value"}')
    return [f"{name}={value}" for name, value in (env or {}).items()]


def _more_than_0(word: str, number: float | None) -> float | None:
    if number is not None and not 0 < number < float("inf"):
        msg = f"{word}={number!r} is not above 0"
        raise UsageError(msg, hint=f"leave {word} out for no limit")
    return number


def _whole(word: str, number: object, what: str, *, at_least: int = 1) -> int | None:
    if number is None:
        return None
    if not isinstance(number, int) or number < at_least:
        msg = f"{word}={number!r} is no whole number of {what}, at least {at_least}"
        raise UsageError(msg, hint=f"leave {word} out for no limit")
    return number


def _policy_of(network: object) -> Policy:
    from mvm.policy.model import Policy

    if isinstance(network, Policy):
        return network
    from mvm.declare.network import policy_of_network

    return policy_of_network(network, discover)


def discover() -> tuple[Discovery, ...]:
    """Ask this machine's package tools what they use; about a second."""
    from pathlib import Path

    from mvm.registries import discover as registries

    return registries.discover(os.environ, Path.cwd())
