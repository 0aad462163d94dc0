"""The figures of the door: throughput, connections, latency, processor time, for every subject in turn.

Owns the rounds: in each, every subject gives one sample of every figure, in random order. A sample with
errors or lost bytes is a remark and no sample. Must never let one subject run beside another.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from bench import layout as places
from bench.processor import Watch, on_one_processor
from bench.product import Mvm, Unrecorded
from bench.subjects import Haproxy, HaproxySplice, LeftOut, Nat, Nginx, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from bench.book import Book
    from bench.layout import Layout

_MAY_FAIL = 0.001
"""Connections that may fail before a sample doesn't count: a part of all."""


class Figure(NamedTuple):
    """One run of the load generator: its words, and which of its results are samples of what."""

    mode: str
    port: int
    streams: int
    takes: dict[str, str]
    per_gigabyte: str = ""
    per_connection: str = ""


FIGURES = (
    Figure("up", places.DISCARD, 1, {"up 1": "MBps"}),
    Figure("up", places.DISCARD, 8, {"up 8": "MBps"}, per_gigabyte="cpu up"),
    Figure("down", places.SOURCE, 1, {"down 1": "MBps"}),
    Figure("down", places.SOURCE, 8, {"down 8": "MBps"}, per_gigabyte="cpu down"),
    Figure("conn", places.ONCE, 16, {"conn/s": "per_s"}, per_connection="cpu/conn"),
    Figure("conn", places.ONCE, 1, {"new p50": "p50_us", "new p99": "p99_us"}),
    Figure("req", places.KEPT, 1, {"kept p50": "p50_us", "kept p99": "p99_us"}),
)
_CONNECTIONS = FIGURES[4]
ONE_PROCESSOR = tuple(
    figure._replace(
        takes={f"{name}, one processor": key for name, key in figure.takes.items()},
        per_gigabyte="",
        per_connection=figure.per_connection and f"{figure.per_connection}, one processor",
    )
    for figure in FIGURES
    if figure.streams > 1
)
"""With client, gateway and server on the same processor, where nothing is done beside anything else."""


def stand(layout: Layout, book: Book, kinds: Sequence[Callable[[Layout], Subject]]) -> list[Subject]:
    """Start every subject that can be had here; the others are left out by name."""
    standing = []
    for kind in kinds:
        name = getattr(kind, "name", "?")
        try:
            subject = kind(layout)
            subject.start()
            subject.load("req", places.KEPT, "-t", "0.1")  # it does its job at all, and is warm
        except (LeftOut, OSError, subprocess.SubprocessError) as problem:
            book.left_out[name] = _reason(problem)
            continue
        book.order.append(name)
        if subject.gateway is not None:
            book.add("memory", name, subject.pss_bytes())
        standing.append(subject)
    return standing


def measure(
    subjects: Sequence[Subject],
    book: Book,
    random: Random,
    *,
    rounds: int,
    seconds: float,
    figures: Sequence[Figure] = FIGURES,
) -> None:
    """Every figure of every subject, `rounds` times, each for `seconds`."""
    stuck: set[tuple[str, str, int]] = set()
    for number in range(rounds):
        print(f"bench: the door, round {number + 1} of {rounds}", flush=True)
        turns = [(figure, subject) for figure in figures for subject in subjects]
        random.shuffle(turns)
        for figure, subject in turns:
            # What the record costs is asked of connections alone.
            asked = not isinstance(subject, Unrecorded) or figure is _CONNECTIONS
            turn = (subject.name, figure.mode, figure.streams)
            if asked and turn not in stuck and _sample(figure, subject, book, seconds):
                stuck.add(turn)


def measure_on_one_processor(
    subjects: Sequence[Subject], book: Book, random: Random, *, rounds: int, seconds: float
) -> None:
    """The kernel, the fastest peers and mvm, with one processor for all three of client, gateway, server."""
    chosen = [each for each in subjects if type(each) in {Subject, Nat, HaproxySplice, Haproxy, Nginx, Mvm}]
    with on_one_processor():
        measure(chosen, book, random, rounds=rounds, seconds=seconds, figures=ONE_PROCESSOR)


def _sample(figure: Figure, subject: Subject, book: Book, seconds: float) -> bool:
    """Take one; returns whether the client waited in vain at its end, so that no more of these are taken."""
    before = subject.cpu_seconds()
    try:
        with Watch() as watch:
            found = subject.load(figure.mode, figure.port, "-c", str(figure.streams), "-t", str(seconds))
    except (OSError, subprocess.SubprocessError, ValueError) as problem:
        book.remarks[f"{subject.name}, {figure.mode}: {_reason(problem)}"] += 1
        return False
    used = subject.cpu_seconds() - before
    book.others.append(watch.others)
    if found["stuck"]:
        # It does not pass the end of a stream on, so nobody counts for the client: what it took in the time
        # counts.
        book.remarks[f"{subject.name} does not pass the end of an upload on to the server"] += 1
        found["MBps"] = found["bytes"] / seconds / 1e6
    wrong = found["errs"] > _MAY_FAIL * found["done"] or found["lost"]
    if wrong or not (found["bytes"] or found["done"]):
        told = {name: found[name] for name in ("errs", "lost", "done") if found[name]}
        book.remarks[
            f"{subject.name}, {figure.mode} with {figure.streams}: a sample did not count: {told}"
        ] += 1
        return False
    for name, key in figure.takes.items():
        book.add(name, subject.name, found[key])
    if subject.gateway is not None and figure.per_gigabyte:
        book.add(figure.per_gigabyte, subject.name, used / (found["bytes"] / 1e9))
    if subject.gateway is not None and figure.per_connection:
        book.add(figure.per_connection, subject.name, used / found["done"] * 1e6)
    return bool(found["stuck"])


def measure_iperf(
    layout: Layout, subjects: Sequence[Subject], book: Book, random: Random, *, rounds: int, seconds: int
) -> None:
    """The same job by the tool that everybody knows, with 8 streams, where it is installed."""
    if shutil.which("iperf3") is None:
        book.left_out["iperf3"] = "iperf3 is not installed (--install brings it)"
        return
    chosen = [each for each in subjects if type(each) in {Subject, Nat, Mvm}]
    for _ in range(rounds):
        turns = [(way, subject) for way in ("up", "down") for subject in chosen]
        random.shuffle(turns)
        for way, subject in turns:
            try:
                book.add(f"iperf3 {way}", subject.name, _iperf(layout, subject, way, seconds))
            except (OSError, subprocess.SubprocessError, ValueError, KeyError) as problem:
                book.remarks[f"{subject.name}, iperf3 {way}: {_reason(problem)}"] += 1


def _iperf(layout: Layout, subject: Subject, way: str, seconds: int) -> float:
    """One test against a server of its own, since one that was cut off may wait for its client; Gbit/s."""
    server = layout.start(["iperf3", "-s", "-1", "-B", places.UP], at=layout.up)
    try:
        layout.await_up(places.IPERF)
        words = ["iperf3", "-c", subject.address, "-P", "8", "-t", str(seconds), "--json"]
        said = subject.run([*words, *(["-R"] if way == "down" else [])], limit_s=15)
    finally:
        layout.stop(server)
    received: float = json.loads(said)["end"]["sum_received"]["bits_per_second"]
    return received / 1e9


def _reason(problem: Exception) -> str:
    said = getattr(problem, "stderr", None) or str(problem)
    lines = [line for line in str(said).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(problem).__name__
