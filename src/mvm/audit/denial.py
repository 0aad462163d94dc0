"""What was denied in a run, each distinct denial once, with its count and what would have allowed it.

Owns the object `mvm.denial/1` (SPEC section 2) and the merging of equal ones. Pure: the time and the
remedy are handed in (`policy.explain` knows what would have helped). Must never
lose a count, and must never grow without bound: after `MOST_DISTINCT` different denials (a port scan,
a tunnel of query names) the rest are merged per layer and reason, without host, address and port.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mvm.audit.record import Kind
from mvm.terms import Layer

if TYPE_CHECKING:
    from mvm.policy.explain import Remedy
    from mvm.terms import Protocol, Reason

MOST_DISTINCT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One distinct denial of a run.

    Attributes:
        seq: its number among the run's distinct denials, from 1, in order of first occurrence.
        time: of the first occurrence, RFC 3339 UTC.
        layer: where it was denied.
        host: the name that was asked for (`audit.record.spell_name`), or None where none is known.
        address: the address that was asked for, or None.
        port: the port that was asked for, 0 to 65535, or None.
        protocol: `tcp`, `udp`, or None.
        reason: the stable word for why.
        count: how often, at least 1.
        remedy: what would have allowed it.
    """

    seq: int
    time: str
    layer: Layer
    host: str | None
    address: str | None
    port: int | None
    protocol: Protocol | None
    reason: Reason
    count: int
    remedy: Remedy

    def to_json(self) -> dict[str, object]:
        """Give `mvm.denial/1` exactly as SPEC section 2 writes it."""
        return {
            "seq": self.seq,
            "time": self.time,
            "layer": str(self.layer),
            "host": self.host,
            "address": self.address,
            "port": self.port,
            "protocol": None if self.protocol is None else str(self.protocol),
            "reason": str(self.reason),
            "count": self.count,
            "remedy": self.remedy.to_json(),
        }

    def to_record(self, count: int) -> tuple[Kind, dict[str, object]]:
        """Give the kind and fields to record it with (`Log.append`).

        Args:
            count: how many occurrences this record speaks of.
        """
        kind = Kind.DNS_DENIED if self.layer is Layer.DNS else Kind.FLOW_DENIED
        fields = {
            name: value
            for name, value in self.to_json().items()
            if name not in ("seq", "time", "count", "remedy")
        }
        return kind, {**fields, "count": count}


class DenialLedger:
    """The denials of one run.

    `add` says whether a denial is new, which is when it is shown and recorded at once. Repeats are
    only counted; whoever records calls `take_repeats` from time to time and at the end, so that the
    counts in the log add up to those here.
    """

    __slots__ = ("_counts", "_first", "_repeats")

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], Denial] = {}
        self._counts: dict[tuple[object, ...], int] = {}
        self._repeats: dict[tuple[object, ...], int] = {}

    def add(
        self,
        *,
        time: str,
        layer: Layer,
        reason: Reason,
        remedy: Remedy,
        host: str | None = None,
        address: str | None = None,
        port: int | None = None,
        protocol: Protocol | None = None,
        count: int = 1,
    ) -> tuple[Denial, bool]:
        """Count one denied act, or several equal ones.

        Args:
            time: as in `Denial`; of equal denials the first one's time and remedy stay.
            layer: as in `Denial`. Equal are those that agree in all but time and remedy.
            reason: as in `Denial`.
            remedy: as in `Denial`.
            host: as in `Denial`.
            address: as in `Denial`.
            port: as in `Denial`.
            protocol: as in `Denial`.
            count: how many, at least 1 (the kernel's reports come with counts).

        Returns:
            The denial with its count so far, and whether it is new.
        """
        key: tuple[object, ...] = (layer, reason, host, address, port, protocol)
        if key not in self._first and len(self._first) >= MOST_DISTINCT:
            host = address = port = protocol = None
            key = (layer, reason, None, None, None, None)
        new = key not in self._first
        if new:
            self._counts[key] = count
            self._first[key] = Denial(
                seq=len(self._first) + 1,
                time=time,
                layer=layer,
                host=host,
                address=address,
                port=port,
                protocol=protocol,
                reason=reason,
                count=count,
                remedy=remedy,
            )
        else:
            self._counts[key] += count
            self._repeats[key] = self._repeats.get(key, 0) + count
        return self._current(key), new

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
        key = (denial.layer, denial.reason, denial.host, denial.address, denial.port, denial.protocol)
        self._repeats[key] = self._repeats.get(key, 0) + denial.count

    def take_repeats(self) -> tuple[tuple[Denial, int], ...]:
        """Take what has to be recorded still.

        Returns:
            Each denial that occurred again since it was new or was last taken, and how often it did.
        """
        taken = tuple((self._current(key), count) for key, count in self._repeats.items())
        self._repeats.clear()
        return taken

    @property
    def flags(self) -> tuple[str, ...]:
        """The exact flags that would have allowed what was denied, each once, in order of need."""
        flags = (denial.remedy.flag for denial in self._first.values())
        return tuple(dict.fromkeys(flag for flag in flags if flag is not None))

    def _current(self, key: tuple[object, ...]) -> Denial:
        first, count = self._first[key], self._counts[key]
        if first.count == count:
            return first
        return Denial(
            seq=first.seq,
            time=first.time,
            layer=first.layer,
            host=first.host,
            address=first.address,
            port=first.port,
            protocol=first.protocol,
            reason=first.reason,
            count=count,
            remedy=first.remedy,
        )
