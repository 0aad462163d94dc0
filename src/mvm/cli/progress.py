"""How long work is told: a line that grows on a terminal, one plain line elsewhere.

Owns what goes to stderr before a sandbox starts. Must never print more than one line for one piece of work
where nobody watches.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mvm.cli.printing import err, printable

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTH = 24
_MB = 1_000_000


def told(title: str, size: int) -> Callable[[int], None]:
    """Tell of a piece of work that begins.

    Args:
        title: what is done.
        size: how many bytes it has.

    Returns:
        What is to be called with the number of bytes done, never a smaller one than before.
    """
    line = f"mvmctl: {printable(title)} ({size / _MB:.1f} MB)"
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        err(line)
        return lambda _done: None
    shown = -1

    def grow(done: int) -> None:
        nonlocal shown
        share = min(1.0, done / size) if size else 1.0
        if int(share * 100) == shown:
            return
        shown = int(share * 100)
        full = int(share * _WIDTH)
        end = "\n" if shown == 100 else ""
        sys.stderr.write(f"\r{line} [{'#' * full}{'.' * (_WIDTH - full)}] {shown:3} %{end}")
        sys.stderr.flush()

    grow(0)
    return grow
