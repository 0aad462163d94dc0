"""The samples of one run, what was left out and why, and what the machine did meanwhile.

Owns the numbers and nothing else. Must never hold a sample that a subject got wrong: such a one is a remark.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from bench.arithmetic import Summary, noise, quantile, summary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bench.arithmetic import Noise

REFERENCE = "direct"
"""The subject that is only kernel: no gateway between client and server."""
_STEADY = ("up 8", "down 8", "conn/s")


class Book:
    """Samples by figure and subject."""

    def __init__(self) -> None:
        """Start empty."""
        self.samples: dict[str, dict[str, list[float]]] = defaultdict(dict)
        self.order: list[str] = []
        self.left_out: dict[str, str] = {}
        self.remarks: Counter[str] = Counter()
        self.others: list[float] = []
        self.facts: dict[str, str] = {}
        self.calls: dict[str, dict[str, float]] = {}

    def add(self, figure: str, subject: str, *values: float) -> None:
        """Keep samples."""
        self.samples[figure].setdefault(subject, []).extend(values)

    def subjects(self, figures: Iterable[str]) -> list[str]:
        """Those that have a sample of any of the figures, in `order`, then as they came."""
        found = dict.fromkeys(name for figure in figures for name in self.samples.get(figure, {}))
        return [name for name in self.order if name in found] + [
            name for name in found if name not in self.order
        ]

    def summary(self, figure: str, subject: str) -> Summary | None:
        """What remains of one figure of one subject; None without samples."""
        samples = self.samples.get(figure, {}).get(subject)
        return summary(samples) if samples else None

    def median(self, figure: str, subject: str) -> float | None:
        """The middle of one figure of one subject; None without samples."""
        found = self.summary(figure, subject)
        return None if found is None else found.median

    def noise(self) -> Noise:
        """Whether anything may be concluded."""
        steady = {figure: self.samples.get(figure, {}).get(REFERENCE, []) for figure in _STEADY}
        return noise(self.others, steady)

    @property
    def others_median(self) -> float:
        """Processors that other programs used, in the middle of all samples."""
        return quantile(self.others, 0.5) if self.others else 0.0

    def write(self, path: Path) -> None:
        """Keep everything as JSON."""
        whole = {
            "samples": self.samples,
            "order": self.order,
            "left_out": self.left_out,
            "remarks": self.remarks,
            "others": self.others,
            "facts": self.facts,
            "calls": self.calls,
        }
        path.write_text(json.dumps(whole, indent=1), "utf-8")

    @classmethod
    def read(cls, path: Path) -> Book:
        """The book that `write` kept."""
        whole = json.loads(path.read_text("utf-8"))
        made = cls()
        made.samples.update(whole["samples"])
        made.left_out, made.others, made.facts = whole["left_out"], whole["others"], whole["facts"]
        made.order, made.calls = whole["order"], whole["calls"]
        made.remarks.update(whole["remarks"])
        return made
