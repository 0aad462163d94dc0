"""What was denied in a run, each distinct denial once, with its count and what would have allowed it.

Owns the object `mvm.denial/1` (SPEC section 2) and the merging of equal ones. Pure: the time and the
remedy are handed in (`policy.explain` knows what would have helped). Must never
lose a count, and must never grow without bound: after `MOST_DISTINCT` different denials (a port scan,
a tunnel of query names) the rest are merged per layer and reason, without host, address and port.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.record import Kind
from mvm.terms import Layer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.policy.explain import Remedy
    from mvm.terms import Reason

MOST_DISTINCT = 4096


class Act(NamedTuple):
    """What was denied, as far as it is known: equal acts are one denial.

    Attributes:
        layer: where it was denied.
        reason: the stable word for why.
        host: the name that was asked for, spelled for a record (`audit.record.spell_name`), or None.
        address: the address that was asked for, or None.
        port: the port that was asked for, or None.
        protocol: `tcp`, `udp`, `icmp`, `ip-NUMBER`, or None.
    """

    layer: Layer
    reason: Reason
    host: str | None = None
    address: str | None = None
    port: int | None = None
    protocol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One distinct denial of a run.

    Attributes:
        seq: its number among the run's distinct denials, from 1, in order of first occurrence.
        time: of the first occurrence, RFC 3339 UTC.
        act: what was denied.
        count: how often, at least 1.
        remedy: what would have allowed it.
    """

    seq: int
    time: str
    act: Act
    count: int
    remedy: Remedy

    def to_json(self) -> dict[str, object]:
        """Give `mvm.denial/1` exactly as SPEC section 2 writes it."""
        act = self.act
        return {
            "seq": self.seq,
            "time": self.time,
            "layer": str(act.layer),
            "host": act.host,
            "address": act.address,
            "port": act.port,
            "protocol": None if act.protocol is None else str(act.protocol),
            "reason": str(act.reason),
            "count": self.count,
            "remedy": self.remedy.to_json(),
        }

    def to_record(self, count: int) -> tuple[Kind, dict[str, object]]:
        """Give the kind and fields to record it with (`Log.append`).

        Args:
            count: how many occurrences this record speaks of.
        """
        kind = Kind.DNS_DENIED if self.act.layer is Layer.DNS else Kind.FLOW_DENIED
        return kind, {**self.act._asdict(), "count": count}


class DenialLedger:
    """The denials of one run.

    `add` says whether a denial is new, which is when it is shown and recorded at once. Repeats are
    only counted; whoever records calls `take_repeats` from time to time and at the end, so that the
    counts in the log add up to those here.
    """

    __slots__ = ("_counts", "_first", "_repeats")

    def __init__(self) -> None:
        self._first: dict[Act, Denial] = {}
        self._counts: dict[Act, int] = {}
        self._repeats: dict[Act, int] = {}

    def add(self, act: Act, count: int, describe: Callable[[], tuple[str, Remedy]]) -> tuple[Denial, bool]:
        """Count one denied act, or several equal ones.

        Args:
            act: what was denied.
            count: how many, at least 1 (the kernel's reports come with counts).
            describe: gives the time and the remedy; called the first time only, as that costs.

        Returns:
            The denial with its count so far, and whether it is new.
        """
        if act not in self._first and len(self._first) >= MOST_DISTINCT:
            act = Act(act.layer, act.reason)
        is_new = act not in self._first
        if is_new:
            time, remedy = describe()
            seq = len(self._first) + 1
            self._counts[act] = count
            self._first[act] = Denial(seq=seq, time=time, act=act, count=count, remedy=remedy)
        else:
            self._counts[act] += count
            self._repeats[act] = self._repeats.get(act, 0) + count
        return self._current(act), is_new

    @property
    def denials(self) -> tuple[Denial, ...]:
        """All distinct denials with their counts, in order of first occurrence."""
        return tuple(map(self._current, self._first))

    @property
    def total(self) -> int:
        """How many acts were denied."""
        return sum(self._counts.values())

    def count_again(self, denial: Denial) -> None:
        """Have a new denial handed out by `take_repeats`, because it is not recorded now.

        Args:
            denial: what `add` has just said is new; whoever records has recorded too much already.
        """
        self._repeats[denial.act] = self._repeats.get(denial.act, 0) + denial.count

    def take_repeats(self) -> tuple[tuple[Denial, int], ...]:
        """Take what has to be recorded still.

        Returns:
            Each denial that occurred again since it was new or was last taken, and how often it did.
        """
        taken = tuple((self._current(act), count) for act, count in self._repeats.items())
        self._repeats.clear()
        return taken

    @property
    def flags(self) -> tuple[str, ...]:
        """The exact flags that would have allowed what was denied, each once, in order of need."""
        flags = (denial.remedy.flag for denial in self._first.values())
        return tuple(dict.fromkeys(flag for flag in flags if flag is not None))

    def _current(self, act: Act) -> Denial:
        first = self._first[act]
        return first if first.count == self._counts[act] else replace(first, count=self._counts[act])
