"""One sandbox with `attempts.py` in it, spoken to from outside, and the three assertions about each act.

Owns the conversation, the count of what arrived outside, and the comparison with what was recorded. Must
never weaken an assertion for one case: a case that needs another says so in its own words (`act`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tests.escape.attempts import MARK

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from tests.support.cast import Host
    from tests.support.internet import Internet, Outside, Packet
    from tests.support.mvmctl import Mvmctl, Running

AT_ONCE_S = 1.0
"""What the workload waits at most for its answer, measured by itself."""

_SOURCE = Path(__file__).with_name("attempts.py").read_text("utf-8")
_DENIALS = ("dns.denied", "flow.denied")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the workload says of one act; `attempts` has the table of outcomes."""

    outcome: str
    duration_s: float
    errno: str | None = None
    alert: str | None = None
    data: str = ""
    size: int = 0
    addresses: tuple[str, ...] = ()
    heard: tuple[str, ...] = ()
    sender: str | None = None
    status: int | None = None
    errors: str = ""
    last_s: float | None = None
    arrived: Counter[Packet] = field(default_factory=Counter)
    """What came over the wire meanwhile, questions to the name servers left out."""
    asked: int = 0
    """How many questions to the name servers came over the wire meanwhile."""

    @property
    def raw(self) -> bytes:
        """What was received, as bytes."""
        return self.data.encode("latin-1")


class Told(NamedTuple):
    """One denial as it must be recorded. Times of None may be any."""

    layer: str
    reason: str
    host: str | None = None
    address: str | None = None
    port: int | None = None
    protocol: str | None = None
    times: int | None = 1


Start: TypeAlias = "Callable[..., Inside]"
"""The fixture `sandbox`: grants by position, other options in `options`."""


class Inside:
    """A sandbox that does what it is told, for the length of a `with` block."""

    def __init__(self, mvmctl: Mvmctl, internet: Internet, words: tuple[str, ...]) -> None:
        """Prepare to start it with these options of `mvmctl run`."""
        self._mvmctl, self._internet, self._words = mvmctl, internet, words
        self._number = 0
        self._brought: Counter[Packet] = Counter()
        self._watching: AbstractContextManager[Outside] | None = None
        self._outside: Outside | None = None
        self._running: Running | None = None
        self._result: dict[str, Any] | None = None
        self._log: list[dict[str, Any]] = []
        self.name = f"escape-{os.getpid()}-{id(self)}"

    def __enter__(self) -> Self:
        """Start it."""
        mounted = ("-v", f"{self._internet.ca_file}:/ca.pem:ro", "--name", self.name)
        words = ("run", "--json", *mounted, *self._words, "--", interpreter(), "-I", "-S", "-c", _SOURCE)
        self._watching = self._internet.watch()
        self._outside = self._watching.__enter__()
        self._running = self._mvmctl.start(*words)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, and see that nothing arrived outside that no act brought there."""
        assert self._running is not None
        assert self._watching is not None
        assert self._outside is not None
        if kind is not None:
            self._running.kill()
            self._watching.__exit__(None, None, None)
            return
        ended = self._running.finish().expect(0)
        self._watching.__exit__(None, None, None)
        assert self._outside.besides_names == self._brought
        self._result = ended.json
        shown = self._mvmctl("audit", "show", "--json", self.result["run"]).expect(0)
        self._log = [json.loads(line) for line in shown.stdout.splitlines()]

    # ---- acts

    def act(self, act: str, /, **words: object) -> Answer:
        """Have the workload try something, and say what came of it there and what arrived outside."""
        assert self._running is not None
        self._number += 1
        line = json.dumps({"act": act, "number": self._number, **words}).encode() + b"\n"
        with self._internet.watch() as outside:
            self._running.send(line)
            said = self._running.until(f'"number": {self._number}}}\n', stream="stderr", timeout_s=60)
        answer = json.loads(said[said.rindex(MARK) + 1 :].partition("\n")[0])
        del answer["number"]
        answer["size"] = answer.pop("bytes", 0)
        for plural in ("addresses", "heard"):
            answer[plural] = tuple(answer.get(plural, ()))
        self._brought += outside.besides_names
        asked = sum(outside.packets.values()) - sum(outside.besides_names.values())
        return Answer(**answer, arrived=outside.besides_names, asked=asked)

    def denied(
        self, act: str, /, *, within_s: float = AT_ONCE_S, asks: bool = False, **words: object
    ) -> Answer:
        """Have it try something of which nothing may arrive outside, and be answered within `within_s`.

        Only what `asks` may lead to a question to the host's name server: a granted name is looked up.
        """
        answer = self.act(act, **words)
        assert answer.arrived == {}, f"{act} {words}: it got out"
        assert asks or not answer.asked, f"{act} {words}: a question got out"
        assert answer.outcome != "silence", f"{act} {words}: the workload was left waiting"
        if answer.duration_s >= within_s:
            self._once_more(act, words, answer, within_s)
        return answer

    def _once_more(self, act: str, words: dict[str, object], late: Answer, within_s: float) -> None:
        """Others share this machine: what was answered late, but right, is in time in another sandbox."""
        with Inside(self._mvmctl, self._internet, self._words) as another:
            answer = another.act(act, **words)
        assert answer.duration_s < within_s, f"{act} {words}: the workload waited, {late.duration_s} s before"
        assert answer.outcome == late.outcome, f"{act} {words}: {answer} and not {late}"

    def allowed(self, act: str, /, *, at: Host, **words: object) -> Answer:
        """The twin: have it try something that arrives at the host `at`, and nowhere else."""
        answer = self.act(act, **words)
        arrived = {packet.address for packet in answer.arrived}
        assert arrived, f"{act} {words}: nothing arrived; {answer}"
        assert arrived <= set(at.addresses), f"{act} {words}: it arrived elsewhere"
        return answer

    # ---- what is known after its end

    @property
    def result(self) -> dict[str, Any]:
        """The object `mvm.result/1`."""
        assert self._result is not None, "the sandbox has not ended"
        return self._result

    def records(self, kind: str) -> list[dict[str, Any]]:
        """What the run's log says, of one kind."""
        assert self._log, "the sandbox has not ended"
        return [record for record in self._log if record["kind"] == kind]

    def expect(self, *denials: Told) -> None:
        """Compare what was denied with what must have been, in result and log: no less, no more."""
        for where, counted in (("result", self._of_result()), ("log", self._of_log())):
            wanted = Counter({_act(told): told.times or counted[_act(told)] or 1 for told in denials})
            assert counted == wanted, f"what the {where} says was denied: {dict(counted)}"

    def _of_result(self) -> Counter[Told]:
        return Counter({_told(denial): denial["count"] for denial in self.result["denials"]})

    def _of_log(self) -> Counter[Told]:
        counted: Counter[Told] = Counter()
        for kind in _DENIALS:
            for record in self.records(kind):
                counted[_told(record)] += record["count"]
        return counted


def _act(told: Told) -> Told:
    return told._replace(times=None)


def _told(words: dict[str, Any]) -> Told:
    known: dict[str, Any] = {name: words.get(name) for name in Told._fields}
    return Told(**{**known, "times": None})


def interpreter() -> str:
    """A Python that every sandbox sees: the one beside this, or the system's."""
    own = os.path.realpath(sys.executable)
    return own if own.startswith("/usr/") else shutil.which("python3", path="/usr/bin") or own
