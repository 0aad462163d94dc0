"""The page of figures, in Markdown: the bars, tables with ratios and quartiles, and what was left out.

Owns the words. Must never compute more than a ratio, nor leave out a figure because it is bad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bench.bars import bars
from bench.book import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.arithmetic import Bar
    from bench.book import Book


class Column(NamedTuple):
    """One column: its figure and head, the size of its unit, digits, whether a ratio is given."""

    figure: str
    head: str
    scale: float = 1.0
    digits: int = 0
    ratio: bool = False


_THROUGHPUT = (
    Column("up 1", "up, 1 stream", ratio=True),
    Column("up 8", "up, 8 streams", ratio=True),
    Column("down 1", "down, 1 stream", ratio=True),
    Column("down 8", "down, 8 streams", ratio=True),
)
_COST = (
    Column("cpu up", "CPU s/GB up", digits=2),
    Column("cpu down", "CPU s/GB down", digits=2),
    Column("cpu/conn", "CPU µs/connection", digits=0),
    Column("memory", "PSS at rest, MB", scale=1e6, digits=1),
)
_CONNECTIONS = (
    Column("conn/s", "new/s, 16 at once", ratio=True),
    Column("new p50", "new p50, µs"),
    Column("new p99", "new p99, µs"),
    Column("kept p50", "kept p50, µs"),
    Column("kept p99", "kept p99, µs"),
)
_ONE_PROCESSOR = (
    Column("up 8, one processor", "up, 8 streams, MB/s", ratio=True),
    Column("down 8, one processor", "down, 8 streams, MB/s", ratio=True),
    Column("conn/s, one processor", "new/s, 16 at once", ratio=True),
    Column("cpu/conn, one processor", "CPU µs/connection"),
)
_ANATOMY = {
    "conn": (
        "Where a connection's time goes in its gateway (16 at once)",
        (
            Column("user/conn", "itself, µs"),
            Column("system/conn", "in the kernel, µs"),
            Column("calls/conn", "system calls", digits=1),
        ),
    ),
    "start": (
        "Where a start's time goes, all its processes together",
        (
            Column("user/start", "themselves, ms", digits=1),
            Column("system/start", "in the kernel, ms", digits=1),
            Column("calls/start", "system calls"),
        ),
    ),
}
_SELDOM = 0.05
"""Calls that are made less often are left out of the lists."""
_MOST_LISTED = 14
_CROWD = (
    Column("crowd, conn/s", "new/s of one, 16 at once"),
    Column("crowd, cpu/conn", "CPU µs/connection"),
    Column("crowd, gateway memory", "gateway of all, PSS, MB", scale=1e6, digits=1),
    Column("crowd, memory each", "each, all processes, PSS, MB", scale=1e6, digits=1),
)
_IPERF = (
    Column("iperf3 up", "up", digits=1, ratio=True),
    Column("iperf3 down", "down", digits=1, ratio=True),
)
_DATAGRAMS = (
    Column("datagrams/s", "datagrams/s through it", ratio=True),
    Column("dns/s", "names/s of its resolver"),
)
_DENIALS = tuple(
    Column(f"denied {shape} {part}", f"{what} {part}, µs")
    for shape, what in (("name", "name"), ("port", "port"), ("word", "SNI"))
    for part in ("p50", "p99")
)
_GRANTS = (Column("decide ns", "a decision, ns"), Column("resolve ns", "an answer, ns"))
_STARTS = (Column("start ms", "start to end, ms", digits=1),)
_SINGLE = (
    Column("revoked p50", "revocation to reset, 1,000 flows, p50, ms", digits=1),
    Column("revoked p99", "revocation to reset, 1,000 flows, p99, ms", digits=1),
    Column("memory, library", "gateway of the library's helper, 1 sandbox, MB PSS", scale=1e6, digits=1),
    Column("memory, each further", "each further sandbox in it, KB RSS", scale=1e3),
    Column(
        "memory, idle sandbox", "one more idle sandbox, all processes together, MB PSS", scale=1e6, digits=1
    ),
    Column("processes, idle sandbox", "idle sandbox, processes"),
    Column("in a row ms", "sandboxes in a row, each, ms", digits=1),
    Column("in a row, drift", "sandboxes in a row, last tenth / first tenth", digits=2),
    Column("in a row, descriptors left", "sandboxes in a row, descriptors left"),
    Column("in a row, processes left", "sandboxes in a row, processes left"),
    Column("in a row, bytes left each", "sandboxes in a row, bytes more of the helper for each"),
    Column("50 at once ms", "50 at once, until the last is gone, ms"),
)

_INTRODUCTION = """\
# Benchmarks

`python3 dev.py bench` wrote this page: one run, all subjects on the same wire, with the same client and
server, in random order and interleaved rounds. Only ratios within the run mean anything; client, gateway
and server share the machine's processors. A cell is the median, then its ratio to `direct` (no gateway)
where it says something, then the quartiles. mvm records every connection; the peers log nothing. HAProxy,
nginx, Squid, tinyproxy, dante and mitmproxy admit one name and refuse the rest, as mvm does; kernel NAT,
slirp4netns and pasta carry everything.
"""


def report(book: Book) -> str:
    """The whole page."""
    return "\n".join([*_head(book), *_bars(book), *_tables(book), *_tail(book), ""])


def _head(book: Book) -> Iterator[str]:
    yield _INTRODUCTION
    for name, value in book.facts.items():
        yield f"- {name}: {value}"
    yield f"- other load: {book.others_median:.2f} processors used by other programs, median over all samples"
    found = book.noise()
    if found.noisy:
        yield f"- **The machine was too noisy to conclude**: {'; '.join(found.reasons)}"
    yield ""
    yield "![part of the bare kernel's throughput and connections, by subject](benchmarks.svg)"
    yield ""


def _bars(book: Book) -> Iterator[str]:
    noisy = book.noise().noisy
    found = bars(book)
    met = sum(bar.verdict == "met" for bar in found)
    yield "## Bars"
    yield ""
    yield f"{met} of {len(found)} met{'; the machine was too noisy to conclude' if noisy else ''}."
    yield ""
    yield "| figure | bar | mvm | bound | |"
    yield "|---|---|---|---|---|"
    for bar in found:
        verdict = bar.verdict if bar.verdict == "met" else f"**{bar.verdict}**"
        unsure = " (noisy)" if noisy and bar.verdict != "not measured" else ""
        value, bound = _value(bar.value, bar), _value(bar.bound, bar)
        yield f"| {bar.name} | {bar.wanted} | {value} | {bound} | {verdict}{unsure} |"
    yield ""


def _value(number: float | None, bar: Bar) -> str:
    if number is None:
        return "–"
    digits = 2 if abs(number) < 10 else 1 if abs(number) < 100 else 0
    return f"{number:,.{digits}f} {bar.unit}".rstrip()


def _tables(book: Book) -> Iterator[str]:
    yield from _table(book, "Throughput, MB/s", _THROUGHPUT)
    yield from _table(book, "iperf3, 8 streams, Gbit/s", _IPERF)
    yield from _table(book, "What the gateway uses", _COST)
    yield from _table(book, "Connections", _CONNECTIONS)
    yield from _table(book, "Client, gateway and server together on one processor", _ONE_PROCESSOR)
    yield from _anatomy(book, "conn")
    yield from _table(book, "Datagrams", _DATAGRAMS)
    yield from _table(
        book, "Denials, as the client sees them (`direct`: a bare round trip of the same shape)", _DENIALS
    )
    yield from _table(book, "Decisions and names, by grants", _GRANTS)
    yield from _table(book, "One sandbox alone, and among others of its process", _CROWD)
    yield from _table(book, "Starts", _STARTS)
    yield from _anatomy(book, "start")
    yield "## One by one"
    yield ""
    yield "| figure | median | quartiles |"
    yield "|---|---|---|"
    for column in _SINGLE:
        found = book.summary(column.figure, "mvm")
        if found is not None:
            low, median, high = (f"{part / column.scale:,.{column.digits}f}" for part in found[:3])
            yield f"| {column.head} | {median} | {low} – {high} |"
    yield ""


def _anatomy(book: Book, what: str) -> Iterator[str]:
    title, columns = _ANATOMY[what]
    yield from _table(book, title, columns)
    for name in book.subjects(column.figure for column in columns):
        counts = book.calls.get(f"{what} {name}", {})
        listed = [f"{call} {count:.1f}" for call, count in counts.items() if count >= _SELDOM][:_MOST_LISTED]
        if listed:
            yield f"- {name}: {', '.join(listed)}{', …' if len(listed) == _MOST_LISTED else ''}"
    yield ""


def _table(book: Book, title: str, columns: Iterable[Column]) -> Iterator[str]:
    columns = [column for column in columns if book.samples.get(column.figure)]
    if not columns:
        return
    yield f"## {title}"
    yield ""
    yield f"| | {' | '.join(column.head for column in columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for name in book.subjects(column.figure for column in columns):
        cells = (_cell(book, column, name) for column in columns)
        shown = f"**{name}**" if name == "mvm" else name
        yield f"| {shown} | {' | '.join(cells)} |"
    yield ""


def _cell(book: Book, column: Column, name: str) -> str:
    found = book.summary(column.figure, name)
    if found is None:
        return "–"
    low, median, high = (f"{part / column.scale:,.{column.digits}f}" for part in found[:3])
    whole = book.median(column.figure, REFERENCE)
    ratio = f" · {found.median / whole:.2f}" if column.ratio and whole else ""
    spread = f" · {low}–{high}" if found.size > 1 else ""
    return f"{median}{ratio}{spread}"


def _tail(book: Book) -> Iterator[str]:
    yield "## Left out"
    yield ""
    for name, why in book.left_out.items():
        yield f"- {name}: {why}"
    yield "- sandbox-runtime: comes from no package of the distribution"
    yield ""
    if book.remarks:
        yield "## Remarks"
        yield ""
        for text, count in book.remarks.most_common():
            yield f"- {text}{f' ({count} times)' if count > 1 else ''}"
        yield ""
