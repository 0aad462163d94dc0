"""The program that calls a declared function inside of its sandbox.

    python callee.py call FILE MODULE NAME    arguments come by stdin, the result goes to stdout, as JSON
    python callee.py run FILE MODULE NAME     no arguments; its streams and its exit status are the program's

Owns the inner side of `sandbox.function`. Needs nothing that the declaring module does not need itself. What
a function prints while it is called goes to stderr, so that stdout is the result alone. Must never be trusted
by the outer side: whatever runs here may write any result.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


def main(what: str, file: str, module: str, name: str) -> int:
    """Do as the words say; the exit status is returned."""
    if what == "run":
        value = _finished(_local(file, module, name)())
        return value if isinstance(value, int) else 0
    told = os.dup(1)
    os.dup2(2, 1)
    args, named = json.loads(sys.stdin.buffer.read())
    try:
        answer = json.dumps(
            {"result": _finished(_local(file, module, name)(*args, **named))}, allow_nan=False
        )
    except Exception as error:  # noqa: BLE001  all that the function may raise is carried over
        frames = traceback.format_exception(error.with_traceback(_own_frames(error)))
        said = {"kind": type(error).__name__, "text": str(error), "traceback": "".join(frames)}
        answer = json.dumps({"raised": said})
    sys.stdout.flush()
    with os.fdopen(told, "wb") as out:
        out.write(answer.encode())
    return 0


def _local(file: str, module: str, name: str) -> Callable[..., object]:
    """Load the module and give its function, which from here on runs where it is called."""
    import mvm.sandbox.function

    mvm.sandbox.function.inside = True
    parts = module.split(".")
    root = os.path.dirname(file)
    for _ in parts[:-1]:
        root = os.path.dirname(root)
    sys.path.insert(0, root)
    if len(parts) > 1:
        loaded = importlib.import_module(module)
    else:
        spec = importlib.util.spec_from_file_location(module, file)
        if spec is None or spec.loader is None:
            msg = f"{file} is no module"
            raise ImportError(msg)
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[module] = loaded
        spec.loader.exec_module(loaded)
    function: Callable[..., object] = getattr(loaded, name)
    return function


def _own_frames(error: Exception) -> TracebackType | None:
    """Leave out the frames by which the function was called."""
    trace, ours = error.__traceback__, os.path.dirname(os.path.abspath(__file__))
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(f"{ours}/"):
        trace = trace.tb_next
    return trace


def _finished(value: object) -> object:
    """Wait for what a function of `async def` gives."""
    import inspect

    if not inspect.iscoroutine(value):
        return value
    import asyncio

    return asyncio.run(value)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
