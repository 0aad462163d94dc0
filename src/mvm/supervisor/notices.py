"""What a person is told on stderr while a command runs, and at its end.

Owns the words. Each distinct denial is said once, as it happens, with the flag that would allow it; a
failure of the network is said in other words, so that neither is taken for the other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.supervisor.listeners import Listener
from mvm.terms import Outcome

if TYPE_CHECKING:
    from mvm.audit.denial import Denial
    from mvm.gateway.failure import Failure

_MOST_SHOWN = 50
_YELLOW, _PLAIN = "\x1b[33m", "\x1b[0m"


class Notices(Listener):
    """Says it on a descriptor.

    Args:
        descriptor: usually 2.
        colour: whether to use any.
        of: the running sandbox whose policy can be changed, or None for the flags of its next start.
        raw: whether lines must end in CR LF, since the terminal is in raw mode.
        of_tool: whether it is started for a tool, whose hosts stand in its document and not in flags.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        colour: bool,
        of: str | None = None,
        raw: bool = False,
        of_tool: bool = False,
    ) -> None:
        self._descriptor, self._colour, self._of, self.raw = descriptor, colour, of, raw
        self._of_tool = of_tool
        self._shown = 0
        self._failures: set[tuple[str, int, str]] = set()

    def say(self, text: str) -> None:
        """Say one line."""
        start, end = (_YELLOW, _PLAIN) if self._colour else ("", "")
        line = f"{start}mvmctl: {text}{end}{chr(13) if self.raw else ''}\n"
        try:
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError:
            return  # nobody reads it any more

    def denied(self, denial: Denial) -> None:
        """A distinct denial happened for the first time."""
        self.say_denied(denial.to_json())

    def say_denied(self, denial: dict[str, object]) -> None:
        """Say one denial (`mvm.denial/1`), unless there were too many."""
        self._shown += 1
        if self._shown > _MOST_SHOWN:
            return
        self.say(f"denied by policy: {describe(denial, of=self._of, of_tool=self._of_tool)}")
        if self._shown == _MOST_SHOWN:
            self.say("further denials are counted, not shown")

    def failed(self, host: str, port: int, failure: Failure) -> None:
        """A granted host could not be reached."""
        self.say_failed(host, port, failure.text)

    def say_failed(self, host: str, port: int, error: str) -> None:
        """Say how a granted host could not be reached, once."""
        key = (host, port, error)
        if key not in self._failures and len(self._failures) < _MOST_SHOWN:
            self._failures.add(key)
            self.say(f"could not reach {_place(host, port)}: {error} (the network, not the policy)")

    def summary(self, result: dict[str, object]) -> None:
        """Say at the end what was denied, with the flags that would have allowed it, and what ended it."""
        if result.get("outcome") == Outcome.TIMEOUT:
            self.say(f"its time was up after {result['duration_s']} s: everything in it was ended")
        denials = result.get("denials")
        if not isinstance(denials, list) or not denials:
            return
        total = sum(denial["count"] for denial in denials)
        flags = list(dict.fromkeys(d["remedy"]["flag"] for d in denials if d["remedy"]["flag"] is not None))
        what = "1 attempt was" if total == 1 else f"{total} attempts were"
        self.say(f"{what} denied by policy, in run {result['run']}")
        if flags and not self._of_tool:
            self.say(f"to allow them: {' '.join(flags)}")


def describe(denial: dict[str, object], *, of: str | None = None, of_tool: bool = False) -> str:
    """Say one denial (`mvm.denial/1`) in a line: what, why, and the remedy.

    Args:
        denial: what was denied.
        of: the sandbox whose live policy would be changed, or None for the flag of its next start.
        of_tool: whether its policy is that of a tool, which no flag changes.
    """
    host, port = denial["host"] or denial["address"], denial["port"]
    layer, remedy = denial["layer"], denial["remedy"]
    assert isinstance(remedy, dict), "a denial has a remedy"
    what = f"{layer} {_place(str(host), port) if host is not None else '(unknown destination)'}"
    advice = f"; allow with {how_to_allow(remedy['flag'], of)}" if remedy["flag"] else f"; {remedy['text']}"
    if of_tool and remedy["flag"]:
        advice = "; the tool has it not among its hosts: they stand in the capability file"
    return f"{what} [{denial['reason']}]{advice}"


def how_to_allow(flag: str, name: str | None) -> str:
    """Give the flag of a remedy, or the command that does the same to a running sandbox."""
    return flag if name is None else flag.replace("--network-allow", f"mvmctl network allow {name}", 1)


def _place(host: str, port: object) -> str:
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
