"""What a gateway and an idle sandbox hold in memory.

Owns the sandboxes that it counts; they are of one process, the helper of the Python library. Must never
count what the load generator or this bench holds.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import mvm
from bench import layout as places
from bench.processor import pss_bytes, rss_bytes, with_descendants

if TYPE_CHECKING:
    from bench.book import Book


def helper() -> int:
    """The process in which the library holds the gateways of all sandboxes. Raises LookupError."""
    for pid in with_descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if b"mvm.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
    raise LookupError("the library has no helper process")


def network() -> object:
    """One granted name: the smallest policy that has a gateway with something to do."""
    return mvm.network(
        mode="bridge",
        egress=mvm.egress([mvm.host_port(places.NAME, places.ONCE, private=True)]),
        dns=mvm.dns_static({places.NAME: places.UP}),
    )


def measure(book: Book, *, further: int) -> None:
    """One sandbox, then `further` ones beside it."""
    with contextlib.ExitStack() as standing:
        first = standing.enter_context(mvm.Sandbox(network=network()))
        first.popen(["true"]).wait()
        holder = helper()
        one, held, whole = pss_bytes([holder]), rss_bytes(holder), pss_bytes(with_descendants(holder))
        for _ in range(further):
            standing.enter_context(mvm.Sandbox(network=network())).popen(["true"]).wait()
        book.add("memory, library", "mvm", one)
        # Forks share pages with the helper, so its own part of them shrinks: growth is counted in full.
        book.add("memory, each further", "mvm", (rss_bytes(holder) - held) / further)
        inside = [pid for pid in with_descendants(holder) if pid != holder]
        more = pss_bytes([holder, *inside]) - whole
        book.add("memory, idle sandbox", "mvm", more / further)
        book.add("processes, idle sandbox", "mvm", len(inside) / (further + 1))
