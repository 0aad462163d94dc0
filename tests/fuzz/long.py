"""The long run: every reader in turn, for as long as it is told, on as many processors as it is told.

    python3 dev.py fuzz [SECONDS] [--processes N] [--keep] [--seed N] [--only READER]…

Inputs grow from the seeds: one that takes the product where none did before joins them. Prints what each
reader got, and every finding as base64 to be made a vector; ends with 1 where there is one. With `--keep` the
inputs that together reach all that was reached are written to tests/vectors/fuzz/.

Owns the times and the account. `docs/explanation/fuzzing.md` tells of the last long run.
"""

from __future__ import annotations

import argparse
import base64
import os
import resource
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import NamedTuple

from tests.fuzz.coverage import Step, steps_of
from tests.fuzz.mutation import mutate
from tests.fuzz.readers import READERS, Reader
from tests.fuzz.seeds import CORPUS, seeds_of

TOO_SLOW_S = 1.0
"""Processor time that no reader may take for one input."""

_TRACED = 24  # one input in so many is traced: tracing costs ten times what reading does
_MEMORY = 2 << 30
_MOST_KEPT_BYTES = 24 << 10
_MOST_FINDINGS = 5


class Told(NamedTuple):
    """What one process found of one reader."""

    name: str
    inputs: int
    seconds: float
    steps: int
    slowest_s: float
    kept: tuple[bytes, ...]
    findings: tuple[tuple[bytes, str], ...]


class Fuzzing:
    """One reader being tried."""

    def __init__(self, reader: Reader, seed: int) -> None:
        self.reader, self.chance = reader, Random(f"{seed} {reader.name}")
        self.pool: list[bytes] = list(seeds_of(reader.name))
        self.seen: set[Step] = set()
        self.kept: list[bytes] = []
        self.findings: dict[str, tuple[bytes, str]] = {}
        self.inputs, self.slowest = 0, 0.0

    def run(self, seconds: float) -> Told:
        """Try inputs until the time is over, or too many are findings."""
        began = time.monotonic()
        for data in self.pool[:]:
            self.trace(data)
        while time.monotonic() < began + seconds and len(self.findings) < _MOST_FINDINGS:
            for _ in range(_TRACED):
                self.read(self._new())
            self.trace(self._new(), is_new=True)
        return Told(
            self.reader.name,
            self.inputs,
            time.monotonic() - began,
            len(self.seen),
            self.slowest,
            tuple(self.kept),
            tuple(self.findings.values()),
        )

    def _new(self) -> bytes:
        return mutate(self.chance, self.chance.choice(self.pool), self.pool, self.reader.longest)

    def read(self, data: bytes) -> None:
        """Try one input."""
        self.inputs += 1
        began = time.process_time()
        try:
            self.reader.run(data)
        except Exception as surprise:  # noqa: BLE001  whatever it is, it is what is looked for
            self._found(data, surprise)
        taken = time.process_time() - began
        self.slowest = max(self.slowest, taken)
        if taken > TOO_SLOW_S:
            self._found(data, TimeoutError(f"{taken:.2f} s for {len(data)} bytes"))

    def trace(self, data: bytes, *, is_new: bool = False) -> None:
        """Try one input and look where it leads; it joins the others where that is somewhere new."""
        self.inputs += 1
        try:
            steps = steps_of(self.reader.run, data)
        except Exception as surprise:  # noqa: BLE001  as in `read`
            self._found(data, surprise)
            return
        if steps - self.seen:
            self.seen |= steps
            self.kept.append(data)
            if is_new:
                self.pool.append(data)

    def _found(self, data: bytes, surprise: Exception) -> None:
        last = traceback.extract_tb(surprise.__traceback__)[-1:]
        where = f"{type(surprise).__name__} at {last[0].filename}:{last[0].lineno}" if last else str(surprise)
        before = self.findings.get(where)
        if before is None or len(data) < len(before[0]):
            self.findings[where] = (data, f"{where}: {surprise}"[:300])


def try_readers(names: list[str], seed: int, seconds: float) -> list[Told]:
    """What one process does: each of the readers in turn, all for the same time."""
    os.nice(19 - os.nice(0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    readers = {reader.name: reader for reader in READERS}
    return [Fuzzing(readers[name], seed).run(seconds / len(names)) for name in names]


def keep(name: str, inputs: set[bytes]) -> None:
    """Write the corpus of one reader: the fewest of the shortest that reach all that these reach."""
    reader = next(reader for reader in READERS if reader.name == name)
    seen: set[Step] = set()
    kept: list[bytes] = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        steps = steps_of(reader.run, data)
        if steps - seen and sum(map(len, kept)) + len(data) <= _MOST_KEPT_BYTES:
            seen |= steps
            kept.append(data)
    CORPUS.mkdir(exist_ok=True)
    lines = (base64.b64encode(data).decode() for data in kept)
    (CORPUS / f"{name}.txt").write_text("\n".join(lines), "ascii")


def main(words: list[str]) -> int:
    """Do what `words` say; the exit status is returned."""
    asked = _parse(words)
    names = asked.only or [reader.name for reader in READERS]
    with ProcessPoolExecutor(asked.processes) as pool:
        running = [
            pool.submit(try_readers, names, asked.seed + number, asked.seconds)
            for number in range(asked.processes)
        ]
        told = [one for each in running for one in each.result()]
    print(f"{'reader':17} {'inputs':>10} {'a second':>9} {'steps':>6} {'slowest':>9} findings")
    for name in names:
        ours = [one for one in told if one.name == name]
        inputs, seconds = sum(one.inputs for one in ours), sum(one.seconds for one in ours)
        slowest, steps = max(one.slowest_s for one in ours), max(one.steps for one in ours)
        found = sum(len(one.findings) for one in ours)
        rate = inputs / seconds if seconds else 0
        print(f"{name:17} {inputs:10} {rate:9.0f} {steps:6} {slowest * 1000:6.1f} ms {found}")
        if asked.keep:
            keep(name, {data for one in ours for data in one.kept})
    findings = [(one.name, *finding) for one in told for finding in one.findings]
    for name, data, why in findings:
        print(f"FOUND {name}: {why}\n  {base64.b64encode(data).decode()}")
    print(f"{sum(one.inputs for one in told)} inputs, {len(findings)} findings")
    return 1 if findings else 0


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description="Try every reader with made-up inputs.")
    parser.add_argument("seconds", nargs="?", type=float, default=60.0, help="for all readers together")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same inputs")
    parser.add_argument("--keep", action="store_true", help="write what reaches most to tests/vectors/fuzz/")
    parser.add_argument("--only", action="append", choices=[reader.name for reader in READERS])
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
