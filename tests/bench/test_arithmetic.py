"""What the bench concludes from numbers: medians, verdicts, and whether the machine let it conclude."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.arithmetic import (
    OTHERS_AT_MOST,
    SPREAD_AT_MOST,
    Bar,
    Summary,
    drift,
    noise,
    quantile,
    summary,
)

NUMBERS = st.lists(st.floats(0, 1e9), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("samples", "low", "median", "high"),
    [
        ([7], 7, 7, 7),
        ([4, 2], 2.5, 3, 3.5),
        ([3, 1, 2], 1.5, 2, 2.5),
        ([50, 10, 30, 20, 40], 20, 30, 40),
        ([1, 1, 1, 1, 1000], 1, 1, 1),
    ],
)
def test_the_summary_is_median_and_quartiles(
    samples: list[float], low: float, median: float, high: float
) -> None:
    """The order of the samples does not matter, and one wild sample moves nothing."""
    assert summary(samples) == Summary(low, median, high, len(samples))


def test_nothing_is_concluded_from_nothing() -> None:
    """Without a sample there is no median, and no drift below ten."""
    with pytest.raises(ValueError, match="no samples"):
        summary([])
    with pytest.raises(ValueError, match="ten"):
        drift([1.0] * 9)


@given(NUMBERS, st.floats(0, 1))
def test_a_quantile_lies_among_the_samples(samples: list[float], part: float) -> None:
    """It is never outside of them, and grows with its part."""
    found = quantile(samples, part)
    assert min(samples) <= found <= max(samples)
    assert quantile(samples, 0) == min(samples)
    assert quantile(samples, 1) == max(samples)


@pytest.mark.parametrize(
    ("value", "bound", "at_most", "verdict"),
    [
        (8.0, 8.0, True, "met"),
        (8.1, 8.0, True, "not met"),
        (2700.0, 2642.0, False, "met"),
        (2600.0, 2642.0, False, "not met"),
        (-3.0, 1.0, True, "met"),
        (0.0, 0.0, True, "met"),
        (None, 8.0, True, "not measured"),
        (8.0, None, False, "not measured"),
    ],
)
def test_a_bar_is_met_at_its_bound_and_not_beyond(
    value: float | None, bound: float | None, at_most: bool, verdict: str
) -> None:
    """Which side is beyond depends on the bar; what was not measured is never met."""
    assert Bar("figure", "wanted", value, bound, "MB", at_most).verdict == verdict


@pytest.mark.parametrize(
    ("others", "steady", "reasons"),
    [
        ([0.0, 0.1, 0.1, 1.9], [100.0, 101.0, 99.0], 0),
        ([OTHERS_AT_MOST], [100.0, 100.0, 100.0], 0),
        ([0.1, 0.5, 0.9], [100.0, 101.0, 99.0], 1),
        ([0.0], [60.0, 100.0, 140.0], 1),
        ([1.0], [60.0, 100.0, 140.0], 2),
        ([0.0], [1.0, 100.0], 0),
        ([], [], 0),
    ],
)
def test_a_machine_is_noisy_when_others_work_or_the_bare_kernel_wavers(
    others: list[float], steady: list[float], reasons: int
) -> None:
    """Each cause is a reason of its own; a single burst, or too few samples to tell, is none."""
    found = noise(others, {"up 8": steady})
    assert len(found.reasons) == reasons
    assert found.noisy == bool(reasons)


def test_the_reason_names_the_figure_that_wavered() -> None:
    """Whoever reads the report sees which figure of the kernel's own is not to be trusted."""
    spread = 1 + 2.5 * SPREAD_AT_MOST
    (reason,) = noise([0.0], {"down 8": [1 / spread, 1.0, spread], "up 8": [5.0, 5.0, 5.0]}).reasons
    assert "down 8" in reason


def test_drift_compares_the_last_tenth_with_the_first() -> None:
    """What grows shows, and what only wavers in between does not."""
    assert drift([2.0] * 10 + [9.0] * 80 + [2.0] * 10) == 1
    assert drift([2.0] * 10 + [2.5] * 80 + [3.0] * 10) == 1.5
