"""Modules and functions stay short enough to be read in one go (STYLE, rule 10)."""

from __future__ import annotations

from tests.guard.sizes import FUNCTION_HARD, MODULE_HARD, REASONS, over_soft, sizes_of


def test_nothing_is_over_a_hard_limit() -> None:
    """No module is longer than 600 lines, no function longer than 80."""
    assert [size.describe() for size in over_soft() if size.lines > size.hard] == []


def test_every_reason_is_needed() -> None:
    """A reason stands only for something that is over its soft limit now."""
    assert set(REASONS) <= {size.name for size in over_soft()}


def test_a_length_is_that_of_the_code() -> None:
    """A docstring does not count, a blank line does."""
    text = 'def short():\n    """One.\n\n    Two.\n    """\n    a = 1\n\n    return a\n'
    module, function = sizes_of("it.py", text)
    assert (module.lines, module.hard) == (8, MODULE_HARD)
    assert (function.name, function.lines, function.hard) == ("it.py::short", 4, FUNCTION_HARD)
