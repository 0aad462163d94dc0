"""The bars of BENCH, each applied to the medians of one run.

Owns the table. Must never know how anything was measured. A bar with nothing to compare is `not measured`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.arithmetic import Bar
from bench.grants import FEW, MANY
from bench.starts import ALONE, BWRAP, HELP, PYTHON, RUN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.book import Book

_NOT_PEERS = frozenset({"direct", "kernel NAT", "mvm", "mvm, unrecorded"})
_FASTEST_TO_CONNECT = ("HAProxy, splice", "HAProxy", "nginx stream")
_MEGABYTE, _KILOBYTE = 1e6, 1e3


def bars(book: Book) -> list[Bar]:
    """Every bar, in the order of BENCH."""
    return [
        *_flow(book),
        *_connections(book),
        *_memory(book),
        *_answers(book),
        *_grants(book),
        *_starts(book),
    ]


def _of_peers(book: Book, figure: str) -> list[float]:
    names = [name for name in book.samples.get(figure, {}) if name not in _NOT_PEERS]
    return [median for name in names if (median := book.median(figure, name)) is not None]


def _times(part: float, values: Iterable[float | None], *, at_most: bool) -> float | None:
    """A part of the best of them; None where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return part * (min(known) if at_most else max(known))


def _flow(book: Book) -> Iterator[Bar]:
    for figure in ("up 1", "up 8", "down 1", "down 8"):
        bound = _times(1.2, _of_peers(book, figure), at_most=False)
        value = book.median(figure, "mvm")
        yield Bar(
            f"throughput, {figure}", "≥ 1.2 × the best user-space peer", value, bound, "MB/s", at_most=False
        )
    for figure in ("iperf3 up", "iperf3 down"):
        bound = _times(0.95, [book.median(figure, "kernel NAT")], at_most=False)
        value = book.median(figure, "mvm")
        yield Bar(f"{figure}, 8 streams", "≥ 0.95 × kernel NAT", value, bound, "Gbit/s", at_most=False)
    for figure in ("cpu up", "cpu down"):
        bound = _times(0.6, _of_peers(book, figure), at_most=True)
        value = book.median(figure, "mvm")
        yield Bar(f"gateway {figure}", "≤ 0.6 × the best peer", value, bound, "s/GB")


def _connections(book: Book) -> Iterator[Bar]:
    best = [book.median("conn/s", name) for name in _FASTEST_TO_CONNECT]
    yield Bar(
        "connections, 16 at once",
        "≥ 1.0 × HAProxy and nginx",
        book.median("conn/s", "mvm"),
        _times(1.0, best, at_most=False),
        "/s",
        at_most=False,
    )
    for figure in ("new p50", "new p99", "kept p50", "kept p99"):
        yield Bar(
            f"{figure.split()[0]} connection, {figure.split()[1]}",
            "≤ 1.05 × the best peer",
            book.median(figure, "mvm"),
            _times(1.05, _of_peers(book, figure), at_most=True),
            "µs",
        )
    bare = [book.median("conn/s", "mvm, unrecorded")]
    yield Bar(
        "the record's cost",
        "≥ 0.95 × connections/s without it",
        book.median("conn/s", "mvm"),
        _times(0.95, bare, at_most=False),
        "/s",
        at_most=False,
    )


def _memory(book: Book) -> Iterator[Bar]:
    for figure, wanted, most, unit, scale in (
        ("memory", "≤ 8 MB PSS", 8.0, "MB", _MEGABYTE),
        ("memory, each further", "≤ 100 KB", 100.0, "KB", _KILOBYTE),
    ):
        value = book.median(figure, "mvm")
        yield Bar(f"gateway {figure}", wanted, None if value is None else value / scale, most, unit)


def _answers(book: Book) -> Iterator[Bar]:
    for shape, what in (("name", "a name"), ("port", "a port"), ("word", "a wrong SNI")):
        figure = f"denied {shape} p99"
        told, bare = book.median(figure, "mvm"), book.median(figure, "direct")
        beyond = None if told is None or bare is None else (told - bare) / 1e3
        yield Bar(f"denial of {what}, p99", "≤ 1 ms beyond a bare round trip", beyond, 1.0, "ms")
    yield Bar(
        "revocation to reset, p99, 1,000 flows", "≤ 100 ms", book.median("revoked p99", "mvm"), 100.0, "ms"
    )


def _grants(book: Book) -> Iterator[Bar]:
    for figure, what in (("decide ns", "a decision"), ("resolve ns", "an answer of the resolver")):
        bound = _times(1.2, [book.median(figure, f"{FEW} grants")], at_most=True)
        yield Bar(
            f"{what} at {MANY:,} grants",
            f"≤ 1.2 × at {FEW}",
            book.median(figure, f"{MANY} grants"),
            bound,
            "ns",
        )


def _starts(book: Book) -> Iterator[Bar]:
    def start(name: str) -> float | None:
        return book.median("start ms", name)

    yield Bar(
        "the sandbox alone", "≤ 2 × bubblewrap", start(ALONE), _times(2.0, [start(BWRAP)], at_most=True), "ms"
    )
    yield Bar(
        "sandboxes in a row, drift",
        "the last tenth ≤ 1.1 × the first",
        book.median("in a row, drift", "mvm"),
        1.1,
        "×",
    )
    for figure in ("descriptors left", "processes left"):
        yield Bar(
            f"sandboxes in a row, {figure}",
            "≤ 2: the last close may be under way",
            book.median(f"in a row, {figure}", "mvm"),
            2.0,
            "",
        )
    bwrap, python = start(BWRAP), start(PYTHON)
    both = None if bwrap is None or python is None else 3 * (bwrap + python)
    yield Bar("mvmctl run -- true", "≤ 3 × (bubblewrap + python3 -c pass)", start(RUN), both, "ms")
    for other in ("podman", "runsc"):
        yield Bar(
            "mvmctl run -- true",
            f"≤ 0.4 × {other}",
            start(RUN),
            _times(0.4, [start(other)], at_most=True),
            "ms",
        )
    yield Bar("mvmctl --help", "≤ 60 ms", start(HELP), 60.0, "ms")
