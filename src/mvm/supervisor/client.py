"""Speaking to a running sandbox from another process: the caller's side of the control socket.

Owns the conversation, blocking. What the words mean stands in `supervisor.control`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm import errors
from mvm.supervisor import frames, registry

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from mvm.policy.model import Grant, Policy
    from mvm.supervisor.frames import Message

_BY_EXIT_CODE = {
    64: errors.UsageError,
    69: errors.BackendUnavailable,
    74: errors.AuditError,
    75: errors.TransportError,
}


class Client:
    """One conversation; a context manager.

    Args:
        name: of the sandbox.
        environ: the caller's environment, for the runtime directory.
        timeout: seconds to wait for each answer, or None for ever.
        run: the run that is meant, where another one may have the name by now, or None.

    Raises:
        UsageError: no such sandbox is running.
    """

    def __init__(
        self,
        name: str,
        environ: Mapping[str, str],
        *,
        timeout: float | None = 10.0,
        run: str | None = None,
    ) -> None:
        self._name, self._run = name, run
        self._sock: socket.socket = registry.connect(name, environ)
        self._sock.settimeout(timeout)
        self._inbox = frames.Inbox(self._sock)
        self._waiting: list[Message] = []

    def __enter__(self) -> Self:
        """Give the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the conversation."""
        self.close()

    def close(self) -> None:
        """End the conversation; a command that was begun in it ends too."""
        self._inbox.close()
        self._sock.close()

    def fileno(self) -> int:
        """The descriptor that is readable when something was said."""
        return self._sock.fileno()

    def say(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Ask something.

        Raises:
            UsageError: the sandbox has ended.
        """
        if self._run is not None:
            message = {**message, "run": self._run}
        try:
            frames.send(self._sock, message, descriptors)
        except OSError as error:
            raise self._ended() from error

    def hear(self) -> Message:
        """Wait for the next answer.

        Raises:
            UsageError: the sandbox has ended, or does not answer in time.
            MvmError: it said that something is wrong.
        """
        while not self._waiting:
            try:
                messages = self._inbox.read()
            except TimeoutError as error:
                msg = f"the sandbox {self._name!r} does not answer"
                raise errors.UsageError(
                    msg, hint="is its mvmctl stopped? mvmctl ls shows its process"
                ) from error
            except (OSError, ValueError) as error:
                raise self._ended() from error
            if messages is None:
                raise self._ended()
            self._waiting += messages
        message = self._waiting.pop(0)
        if "error" in message:
            if isinstance(found := message.get("findings"), list):
                raise errors.PolicyRefused([errors.Finding(*words) for words in found])
            kind = _BY_EXIT_CODE.get(int(str(message.get("exit", 64))), errors.UsageError)
            raise kind(str(message["error"]), hint=str(message.get("hint", "")))
        return message

    def ask(self, message: Message, descriptors: Sequence[int] = ()) -> Message:
        """Ask and wait for the answer.

        Raises:
            UsageError, MvmError: as `hear`.
        """
        self.say(message, descriptors)
        return self.hear()

    @property
    def has_more(self) -> bool:
        """Whether something was said that `hear` gives without waiting."""
        return bool(self._waiting)

    @property
    def has_descriptor(self) -> bool:
        """Whether a descriptor has come that nobody took."""
        return bool(self._inbox.descriptors)

    def take_descriptor(self) -> int:
        """Take the descriptor that came with the last answer; it is the caller's."""
        return self._inbox.descriptors.pop(0)

    def _ended(self) -> errors.UsageError:
        return errors.UsageError(f"the sandbox {self._name!r} has ended", hint="mvmctl ls -a lists it")

    # ---- conversations

    def describe(self) -> dict[str, object]:
        """Ask what it is and may reach."""
        answer = self.ask({"do": "describe"})["sandbox"]
        assert isinstance(answer, dict), "the supervisor is of this version"
        return answer

    def policy(self) -> tuple[Policy, str]:
        """Ask for the standing policy and its digest; grants have their sources."""
        answer = self.describe()
        described = answer["policy"]
        assert isinstance(described, dict), "the supervisor is of this version"
        return policy_of_description(answer), str(described["digest"])

    def set_policy(
        self, policy: Policy, *, expect: str | None, by: str, anew: Sequence[Grant] = ()
    ) -> Message:
        """Put another policy in force.

        Args:
            policy: all of it.
            expect: the digest of the one that it replaces, or None for whichever stands.
            by: who does, one word, for the record.
            anew: grants of it whose time and budget begin again even where they stand already.

        Returns:
            `{digest, added, removed}`, or `{conflict: digest}` where another policy stands.
        """
        from mvm.policy.document import policy_to_json

        numbers = [number for number, grant in enumerate(policy.grants) if grant in anew]
        document = policy_to_json(policy)
        sources = [grant.source for grant in policy.grants]
        message = {"do": "set", "policy": document, "sources": sources, "expect": expect, "by": by}
        return self.ask({**message, "preset": str(policy.preset), "anew": numbers})

    def stop(self, grace: float) -> dict[str, object]:
        """End it: SIGTERM to its first command, and all at once `grace` seconds later. Returns its result."""
        self._sock.settimeout(grace + 10)
        self.say({"do": "stop", "grace": grace})
        return self.result()

    def result(self) -> dict[str, object]:
        """Wait for its end."""
        while "ended" not in (message := self.hear()):
            continue
        result = message["ended"]
        assert isinstance(result, dict), "the supervisor is of this version"
        return result

    def watch(self) -> Iterator[Message]:
        """Be told every denial and failure as it happens, `{ended: result}` last."""
        self._sock.settimeout(None)
        self.ask({"do": "watch"})
        while True:
            message = self.hear()
            yield message
            if "ended" in message:
                return


def policy_of_description(answer: Message) -> Policy:
    """Read the standing policy out of what `Client.describe` gave; grants have their sources."""
    from mvm.supervisor.request import policy_from_json, with_sources

    policy, described = policy_from_json(answer["document"]), answer["policy"]
    assert isinstance(described, dict), "the supervisor is of this version"
    sources = [str(grant["source"]) for grant in described["grants"]]
    return with_sources(policy, dict(zip(policy.grants, sources, strict=True)))


def not_started_text(message: Message) -> tuple[str, int]:
    """Say why a command was not started, and the status a shell gives for that (126, 127)."""
    from mvm.supervisor.listeners import why_unstarted

    return why_unstarted(str(message["not_started"]), int(str(message["errno"])))
