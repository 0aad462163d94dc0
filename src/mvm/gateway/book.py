"""What the record is told of flows and of names, and the sums of it.

Owns the run's running figures and the one place where writing the record may fail: from then on nothing
is opened (`write` raises before any effect), and the watcher is told once.

    begin   it has a number                                    nothing is recorded yet
    opened  the decision, before anything is dialled           flow.opened
    closed  what it carried, and why it ended                  flow.closed, if it was opened
"""

from __future__ import annotations

from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.record import Kind
from mvm.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    from mvm.audit.log import Log
    from mvm.gateway.failure import Failure
    from mvm.policy.decide import Allowed, Usage
    from mvm.terms import Reason

    class Flow(Protocol):
        """What one flow tells the record."""

        allowed: Allowed
        number: int
        began: float
        recorded: bool
        address: str | None

        @property
        def carried(self) -> tuple[int, int]:
            """Bytes from and to the workload."""

        def revoke(self, reason: Reason) -> None:
            """The grant no longer stands: reset it now, and record that."""

        def end(self, end: End) -> None:
            """Reset it now."""

    class Teller(Protocol):
        """Who hears of what goes wrong."""

        def failed(self, host: str, port: int, failure: Failure) -> None:
            """A granted host could not be reached."""

        def unrecorded(self, error: AuditError) -> None:
            """The record can't be written; nothing is opened any more."""


_MOST_PLACES = 4096


class End(NamedTuple):
    """How a flow ended: cleanly, or by whose doing.

    Attributes:
        cause: None, or `policy`, `transport`, `guest`, `sandbox`.
        word: the reason of a denial, or the error of the network.
    """

    cause: str | None = None
    word: str | None = None


CLEAN = End()
BY_GUEST = End("guest")
BY_SANDBOX = End("sandbox")
UNRECORDED = End("sandbox", "unrecorded")


class Book:
    """The flows of one sandbox as its record has them.

    Args:
        log: the run's record.
        teller: who hears of failures.
        soon: makes a call after what is ready now (`Loop.soon`).

    Attributes:
        flows: those that have begun and not ended, by number.
        opened: how many were opened.
        totals: bytes from and to the workload, of those that have ended.
        broken: why nothing can be recorded any more, or None.
    """

    def __init__(self, log: Log, teller: Teller, soon: Callable[[Callable[[], None]], None]) -> None:
        self._log, self._teller, self._soon = log, teller, soon
        self._numbers = count(1)
        self._places: dict[tuple[str | None, int, str], list[int]] = {}
        self._failures: dict[tuple[str | None, int, str], int] = {}
        self._answers: dict[str, int] = {}
        self._noted: list[tuple[str, dict[str, object]]] = []
        self.flows: dict[int, Flow] = {}
        self.opened = 0
        self.totals = [0, 0]
        self.broken: AuditError | None = None

    # ---- the record

    def write(self, kind: str, **fields: object) -> None:
        """Record what is about to happen.

        Raises:
            AuditError: it can't be recorded, so it must not happen.
        """
        if self.broken is not None:
            raise self.broken
        self._append([*self._noted, (kind, fields)])

    def _append(self, entries: list[tuple[str, dict[str, object]]]) -> None:
        self._noted = []
        try:
            self._log.append_all(entries)
        except AuditError as error:
            self.broken = error
            self._teller.unrecorded(error)
            raise

    def note(self, kind: str, **fields: object) -> None:
        """Record what has happened, in one write with what else has in this turn of the loop.

        It is written before anything that is recorded later. The watcher hears of it if that fails.
        """
        if not self._noted:
            self._soon(self._settle)
        self._noted.append((kind, fields))

    def _settle(self) -> None:
        if self._noted and self.broken is None:
            try:
                self._append(self._noted)
            except AuditError:
                return  # it was told; the run ends with it

    def flush(self) -> None:
        """Record what was only counted, and what was noted."""
        answers, self._answers = self._answers, dict.fromkeys(self._answers, 0)
        for host, repeats in answers.items():
            if repeats:
                self.note(Kind.DNS_ANSWERED, host=host, count=repeats)
        self._settle()

    # ---- names

    def answered(self, host: str, addresses: Sequence[str]) -> bool:
        """Record that a name's addresses are given out: at once the first time, later ones counted.

        Returns:
            Whether they may be.
        """
        if host in self._answers:
            self._answers[host] += 1
            return self.broken is None
        try:
            self.write(Kind.DNS_ANSWERED, host=host, addresses=addresses, count=1)
        except AuditError:
            return False
        self._answers[host] = 0
        return True

    # ---- flows

    def begin(self, flow: Flow) -> None:
        """Give a flow its number."""
        flow.number = next(self._numbers)
        self.flows[flow.number] = flow

    def open(self, flow: Flow, addresses: Sequence[str], speaks: str | None) -> bool:
        """Record the decision to open a flow, before its effect.

        Returns:
            Whether it may be opened.
        """
        allowed = flow.allowed
        try:
            self.write(
                Kind.FLOW_OPENED,
                flow=flow.number,
                host=str(allowed.host),
                port=allowed.port,
                protocol=allowed.grant.protocol,
                speaks=speaks,
                addresses=tuple(addresses),
            )
        except AuditError:
            return False
        flow.recorded = True
        self.opened += 1
        self._sum(self._places, allowed)[0] += 1
        return True

    def close(self, flow: Flow, end: End) -> None:
        """Record the end of a flow, if it was opened."""
        if self.flows.pop(flow.number, None) is None or not flow.recorded:
            return
        allowed, (up, down) = flow.allowed, flow.carried
        self.totals[0] += up
        self.totals[1] += down
        place = self._sum(self._places, allowed)
        place[1] += up
        place[2] += down
        self.note(
            Kind.FLOW_CLOSED,
            flow=flow.number,
            host=str(allowed.host),
            port=allowed.port,
            protocol=allowed.grant.protocol,
            address=flow.address,
            up=up,
            down=down,
            duration_s=round(monotonic() - flow.began, 6),
            cause=end.cause,
            reason=end.word if end.cause == "policy" else None,
            error=end.word if end.cause != "policy" else None,
        )

    def fail(self, allowed: Allowed, failure: Failure) -> End:
        """Count and tell that a granted host could not be reached."""
        host, port = str(allowed.host), allowed.port
        key: tuple[str | None, int, str] = (host, port, failure.text)
        if key not in self._failures and len(self._failures) >= _MOST_PLACES:
            key = (None, 0, failure.text)
        self._failures[key] = self._failures.get(key, 0) + 1
        self._teller.failed(host, port, failure)
        return End("transport", failure.word)

    def flows_of(self, usages: Iterable[Usage]) -> list[Flow]:
        """The open flows that count on one of these."""
        wanted = {id(usage) for usage in usages}
        return [flow for flow in self.flows.values() if id(flow.allowed.usage) in wanted] if wanted else []

    def revoke(self, flows: Iterable[Flow], reason: Reason) -> None:
        """Reset flows whose grant no longer stands: all of them first, then the record of it."""
        for flow in flows:
            flow.revoke(reason)
        self._settle()

    # ---- sums

    def _sum(self, places: dict[tuple[str | None, int, str], list[int]], allowed: Allowed) -> list[int]:
        key: tuple[str | None, int, str] = (str(allowed.host), allowed.port, str(allowed.grant.protocol))
        if key not in places and len(places) >= _MOST_PLACES:
            key = (None, 0, key[2])
        return places.setdefault(key, [0, 0, 0])

    def sums(self) -> list[dict[str, object]]:
        """Flows and bytes by place, those that are open too; beyond 4096 places the rest is one."""
        places = {key: list(place) for key, place in self._places.items()}
        for flow in self.flows.values():
            if flow.recorded:
                place, (up, down) = self._sum(places, flow.allowed), flow.carried
                place[1] += up
                place[2] += down
        return [
            {"host": host, "port": port, "protocol": protocol, "flows": flows, "up": up, "down": down}
            for (host, port, protocol), (flows, up, down) in places.items()
        ]

    def failures(self) -> list[dict[str, object]]:
        """What could not be reached, and how often."""
        return [
            {"host": host, "port": port, "error": text, "count": times}
            for (host, port, text), times in self._failures.items()
        ]
