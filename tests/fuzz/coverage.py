"""Which steps from line to line of the product an input takes.

Owns the tracing of one call. Must never trace what is not the product's: that would only cost time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mvm

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_SOURCE = str(Path(mvm.__file__).parent)

Step = tuple[int, int, int]
"""A function, the line before and the line: the functions by the identity of their code."""


def steps_of(call: Callable[[bytes], object], data: bytes) -> set[Step]:
    """The steps that the product takes while `call` reads `data`; raises what it raises."""
    seen: set[Step] = set()

    def on_call(frame: FrameType, _event: str, _arg: Any) -> Any:  # noqa: ANN401  (sys.settrace's own type)
        code = frame.f_code
        if not code.co_filename.startswith(_SOURCE):
            return None
        place, before = id(code), 0

        def on_line(frame: FrameType, event: str, _arg: Any) -> Any:  # noqa: ANN401
            nonlocal before
            if event == "line":
                seen.add((place, before, frame.f_lineno))
                before = frame.f_lineno
            return on_line

        return on_line

    sys.settrace(on_call)
    try:
        call(data)
    finally:
        sys.settrace(None)
    return seen
