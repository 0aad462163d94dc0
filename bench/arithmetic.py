"""Medians, quartiles, verdicts: what the report says, from numbers alone.

Pure: reads no clock, file or process. Must never drop a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OTHERS_AT_MOST = 0.15
"""Processors that other programs may use, median over all samples, before the machine counts as noisy."""
SPREAD_AT_MOST = 0.25
"""Distance of the quartiles of the reference, as a part of its median, before the machine counts as noisy."""


class Summary(NamedTuple):
    """What remains of the samples of one figure of one subject."""

    low: float
    """First quartile."""
    median: float
    high: float
    """Third quartile."""
    size: int


def quantile(samples: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the samples lie, between neighbours in proportion.

    Raises ValueError where there is no sample.
    """
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summary(samples: Sequence[float]) -> Summary:
    """Median and quartiles. Raises ValueError where there is no sample."""
    return Summary(quantile(samples, 0.25), quantile(samples, 0.5), quantile(samples, 0.75), len(samples))


class Bar(NamedTuple):
    """One thing that BENCH asks for.

    Attributes:
        name: the figure.
        wanted: the bar in words.
        value: what was measured, or None where it was not.
        bound: what it is compared with, in the same unit, or None where that was not measured.
        unit: for people.
        at_most: whether smaller is better.
    """

    name: str
    wanted: str
    value: float | None
    bound: float | None
    unit: str
    at_most: bool = True

    @property
    def verdict(self) -> str:
        """`met`, `not met` or `not measured`; exactly at the bound is met."""
        if self.value is None or self.bound is None:
            return "not measured"
        met = self.value <= self.bound if self.at_most else self.value >= self.bound
        return "met" if met else "not met"


@dataclass(frozen=True, slots=True)
class Noise:
    """Whether the machine was quiet enough to conclude; `reasons` is empty where it was."""

    reasons: tuple[str, ...]

    @property
    def noisy(self) -> bool:
        """Whether nothing should be concluded."""
        return bool(self.reasons)


def noise(others: Sequence[float], reference: Mapping[str, Sequence[float]]) -> Noise:
    """Judge a whole run.

    Args:
        others: processors used by other programs during each sample.
        reference: samples of figures of the bare kernel, which only the machine can have spread.
    """
    reasons = []
    if others and (used := quantile(others, 0.5)) > OTHERS_AT_MOST:
        reasons.append(f"other programs used {used:.2f} processors (median; at most {OTHERS_AT_MOST})")
    for figure, samples in reference.items():
        if len(samples) < 3:
            continue
        low, median, high, _ = summary(samples)
        if median and (spread := (high - low) / median) > SPREAD_AT_MOST:
            reasons.append(
                f"the quartiles of the bare kernel's {figure} lie {spread:.0%} of its median apart"
                f" (at most {SPREAD_AT_MOST:.0%})"
            )
    return Noise(tuple(reasons))


def drift(samples: Sequence[float]) -> float:
    """The median of the last tenth over that of the first tenth: 1 where nothing grows.

    Raises ValueError where there are fewer than ten samples.
    """
    tenth = len(samples) // 10
    if not tenth:
        raise ValueError("fewer than ten samples")
    return quantile(samples[-tenth:], 0.5) / quantile(samples[:tenth], 0.5)
