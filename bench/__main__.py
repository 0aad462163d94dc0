"""`python -m bench`: the words, the order of the parts, and where the page goes.

Owns the command. Must never measure; each part does. Exit status: 0 measured (whatever the bars say), 64
usage, 69 the machine withholds what is needed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from bench import seclusion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.book import Book
    from bench.layout import Layout

_PAGE = Path(__file__).parents[1] / "docs" / "explanation"
_PARTS = ("door", "anatomy", "answers", "grants", "memory", "crowd", "starts")


class Effort(NamedTuple):
    """How long and how often."""

    rounds: int
    seconds: float
    calls: int
    denials: int
    starts: int
    in_a_row: int
    at_once: int
    further: int
    crowd: int


FULL = Effort(
    rounds=5,
    seconds=1.2,
    calls=50_000,
    denials=300,
    starts=40,
    in_a_row=1000,
    at_once=5,
    further=20,
    crowd=500,
)
QUICK = Effort(
    rounds=2, seconds=0.4, calls=20_000, denials=100, starts=8, in_a_row=100, at_once=1, further=10, crowd=50
)


def main(words: list[str]) -> int:
    """Do what the words say."""
    wanted = _parser().parse_args(words)
    failed = {}
    if wanted.install:
        from bench.install import install

        print("bench: installing the peers", flush=True)
        failed = install()
    directory = Path(tempfile.mkdtemp(prefix="mvm-bench-"))
    directory.chmod(0o755)
    try:
        return seclusion.shut_in(lambda: _measure(wanted, directory, failed))
    except seclusion.Withheld as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 69
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py bench", description="Measure mvm beside its peers; write the page."
    )
    parser.add_argument("--quick", action="store_true", help="under five minutes; prints, and writes no page")
    parser.add_argument("--install", action="store_true", help="bring the peers from Debian's packages first")
    parser.add_argument("--only", choices=_PARTS, action="append", help="this part alone; may be repeated")
    parser.add_argument(
        "--subject", action="append", help="beside direct and mvm this peer alone; may be repeated"
    )
    parser.add_argument("--output", type=Path, help="directory of benchmarks.md and .svg")
    parser.add_argument("--raw", type=Path, help="keep every sample in this JSON file")
    parser.add_argument("--seed", type=int, help="of the random order")
    return parser


def _measure(wanted: argparse.Namespace, directory: Path, failed: dict[str, str]) -> int:
    from bench.book import Book
    from bench.chart import chart
    from bench.report import report
    from mvm.errors import MvmError

    _surroundings(directory)
    seed = wanted.seed if wanted.seed is not None else int.from_bytes(os.urandom(4))
    book, began = Book(), time.monotonic()
    book.left_out.update(failed)
    _facts(book, seed, quick=wanted.quick)
    try:
        _parts(wanted, directory, book, Random(seed))
    except (OSError, subprocess.SubprocessError, MvmError) as problem:
        # What was measured so far is worth more than a clean end; the page says what is missing.
        traceback.print_exc()
        book.remarks[f"the run broke off: {problem}"] += 1
    book.facts["took"] = f"{(time.monotonic() - began) / 60:.1f} minutes"
    if wanted.raw:
        book.write(wanted.raw)
    page = report(book)
    output = wanted.output or (None if wanted.quick or wanted.only or wanted.subject else _PAGE)
    if output is None:
        print(page)
    else:
        (output / "benchmarks.md").write_text(page, "utf-8")
        (output / "benchmarks.svg").write_text(chart(book), "utf-8")
        print(f"bench: {output}/benchmarks.md")
    if (noise := book.noise()).noisy:
        print(f"bench: the machine was too noisy to conclude: {'; '.join(noise.reasons)}")
    return 0


def _parts(wanted: argparse.Namespace, directory: Path, book: Book, random: Random) -> None:
    """Lay the wires, and measure part after part on them."""
    from bench import answers, compiled
    from bench.layout import Layout

    effort, parts = QUICK if wanted.quick else FULL, frozenset(wanted.only or _PARTS)
    programs = compiled.compile_all(directory / "programs")
    shutil.copy(Path(__file__).with_name("inside.py"), programs)
    layout = Layout(directory, programs)
    try:
        answers.questions(layout)
        if parts & {"door", "anatomy", "answers"}:
            _beside_peers(layout, book, random, effort, parts, named=wanted.subject or ())
        _alone(layout, book, random, effort, parts)
    finally:
        layout.close()


def _beside_peers(
    layout: Layout,
    book: Book,
    random: Random,
    effort: Effort,
    parts: frozenset[str],
    *,
    named: Sequence[str],
) -> None:
    """What is measured while every subject stands."""
    from bench import anatomy, answers, door
    from bench.product import Mvm, Unrecorded
    from bench.subjects import PEERS, Nat, Subject

    chosen = [kind for kind in (Nat, *PEERS) if not named or getattr(kind, "name", "") in named]
    kinds = [Subject, *chosen, Mvm, Unrecorded] if parts & {"door", "anatomy"} else [Subject, Mvm]
    standing = door.stand(layout, book, kinds)
    try:
        if "door" in parts:
            door.measure(standing, book, random, rounds=effort.rounds, seconds=effort.seconds)
            door.measure_on_one_processor(
                standing, book, random, rounds=effort.rounds, seconds=effort.seconds
            )
            seconds = math.ceil(effort.seconds)
            door.measure_iperf(layout, standing, book, random, rounds=effort.rounds, seconds=seconds)
        if "anatomy" in parts:
            print("bench: the anatomy of a connection", flush=True)
            anatomy.measure_connections(standing, book, layout.directory)
        if "answers" in parts:
            print("bench: answers", flush=True)
            product = next((each for each in standing if type(each) is Mvm), None)
            answers.measure_datagrams(standing, product, book, rounds=effort.rounds, seconds=effort.seconds)
            if product is not None:
                answers.measure_denials(
                    product, standing[0], book, rounds=effort.rounds, count=effort.denials
                )
                answers.measure_revocation(layout, book, rounds=effort.rounds, flows=1000)
    finally:
        for subject in standing:
            subject.close()


def _alone(layout: Layout, book: Book, random: Random, effort: Effort, parts: frozenset[str]) -> None:
    """What is measured when no gateway of others stands any more."""
    from bench import anatomy, crowd, grants, memory, starts

    if "memory" in parts:
        print("bench: memory", flush=True)
        memory.measure(book, further=effort.further)
    if "crowd" in parts:
        print("bench: a crowd", flush=True)
        crowd.measure(layout, book, rounds=effort.rounds, seconds=effort.seconds, count=effort.crowd)
    if "grants" in parts:
        print("bench: grants", flush=True)
        grants.measure(book, random, rounds=effort.rounds, calls=effort.calls)
    if "starts" in parts:
        print("bench: starts", flush=True)
        starts.measure(book, random, layout.programs, layout.directory, rounds=effort.starts)
        starts.measure_at_once(book, rounds=effort.at_once, count=50)
        starts.measure_row(book, count=effort.in_a_row)
    if "anatomy" in parts:
        print("bench: the anatomy of a start", flush=True)
        anatomy.measure_starts(book, layout.directory)


def _surroundings(directory: Path) -> None:
    """A place for the product's record and for byte code, and room for many open files."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in ("MVM_STATE_DIR", "MVM_RUNTIME_DIR"):
        os.environ[name] = str(directory / name.lower())
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]


def _facts(book: Book, seed: int, *, quick: bool) -> None:
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    book.facts.update(
        {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": f"{processor}, {os.cpu_count()} processors, {platform.machine()}",
            "kernel": platform.release(),
            "Python": platform.python_version(),
            "user": "root" if os.geteuid() == 0 else "an ordinary user",
            "load average at the start": " ".join(f"{each:.2f}" for each in os.getloadavg()),
            "random order's seed": str(seed),
            "kind of run": "quick" if quick else "full",
        }
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
