"""One sandbox by itself, and the same kind among hundreds: what the others cost it, and what they cost.

Owns the sandboxes that it counts; all are of one process, the helper of the Python library. Must never leave
the others idle by accident: each has a command that stands.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import mvm
from bench import layout as places
from bench.memory import helper, network
from bench.processor import Watch, cpu_seconds, pss_bytes, with_descendants
from bench.product import INSIDE
from mvm.errors import MvmError

if TYPE_CHECKING:
    from bench.book import Book
    from bench.layout import Layout

ONE = "1 sandbox"


def measure(layout: Layout, book: Book, *, rounds: int, seconds: float, count: int) -> None:
    """Connections of one sandbox: before the others come, among them, and after they have gone."""
    with _sandbox(layout) as first:
        first.popen(["true"]).wait()
        for _ in range(rounds):
            _sample(first, book, ONE, seconds)
        with contextlib.ExitStack() as standing:
            reached = _fill(layout, standing, book, count - 1) + 1
            name = f"{reached:,} sandboxes"
            for _ in range(rounds):
                _sample(first, book, name, seconds)
            holder = helper()
            book.add("crowd, gateway memory", name, pss_bytes([holder]))
            book.add("crowd, memory each", name, pss_bytes(with_descendants(holder)) / reached)
        for _ in range(rounds):
            _sample(first, book, ONE, seconds)


def _sandbox(layout: Layout) -> mvm.Sandbox:
    return mvm.Sandbox(network=network(), volumes=[f"{layout.programs}:{INSIDE}:ro"])


def _fill(layout: Layout, standing: contextlib.ExitStack, book: Book, count: int) -> int:
    """Start so many, or as many as this user may have; returns how many stand."""
    for number in range(count):
        try:
            box = standing.enter_context(_sandbox(layout))
            standing.enter_context(box.popen(["sleep", "infinity"]))
        except MvmError as problem:
            book.remarks[f"{number + 1} sandboxes at once and not {count + 1}: {problem}"] += 1
            return number
    return count


def _sample(box: mvm.Sandbox, book: Book, name: str, seconds: float) -> None:
    words = [f"{INSIDE}/load", "conn", _address(box), str(places.ONCE), "-p", f"{INSIDE}/{places.NAME}"]
    holder = helper()
    before = cpu_seconds([holder], with_ended=False)
    with Watch() as watch:
        found = json.loads(box.run([*words, "-c", "16", "-t", str(seconds)], check=True).stdout)
    book.others.append(watch.others)
    book.add("crowd, conn/s", name, found["per_s"])
    book.add(
        "crowd, cpu/conn", name, (cpu_seconds([holder], with_ended=False) - before) / found["done"] * 1e6
    )


def _address(box: mvm.Sandbox) -> str:
    """What stands for the server's name in it."""
    return box.run(["getent", "ahostsv4", places.NAME], check=True).stdout.split()[0].decode()
