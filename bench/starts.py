"""How long a start takes: the sandbox alone, the command, and whatever others start.

Owns the turns. Each start runs `true` (or the smallest program) and ends; what is timed is all of it. Must
never start a subject twice at the same time, save where that is the figure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import mvm
from bench.arithmetic import drift
from bench.memory import helper, network
from bench.processor import Watch, alive, descriptors, rss_bytes
from bench.product import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from bench.book import Book

ALONE, BWRAP, PYTHON, RUN, HELP = (
    "mvm, sandbox alone",
    "bubblewrap",
    "python3 -c pass",
    "mvmctl run",
    "mvmctl --help",
)
CONTAINERS = ("podman", "crun", "runc", "runsc")
_BWRAP = (
    "bwrap --unshare-all --die-with-parent --new-session --ro-bind / / --dev /dev --tmpfs /tmp --proc /proc"
    " true"
)
WORDS = {
    PYTHON: [sys.executable, "-c", "pass"],
    RUN: [sys.executable, "-m", "mvm.cli", "run", "--", "true"],
    HELP: [sys.executable, "-m", "mvm.cli", "--help"],
    BWRAP: _BWRAP.split(),
}
_LIMIT_S = 30
_WHAT = {
    "crun": ["--cgroup-manager=disabled"],
    "runc": [],
    "runsc": ["--network=none", "--ignore-cgroups", "--platform=ptrace"],
}


def measure(book: Book, random: Random, programs: Path, directory: Path, *, rounds: int) -> None:
    """One start of each, `rounds` times, in random order."""
    acts: dict[str, Callable[[], object]] = {
        ALONE: sandbox,
        **{name: partial(run, words) for name, words in WORDS.items()},
    }
    groups = _groups()
    acts |= {name: _container(name, programs, directory) for name in CONTAINERS}
    for name, act in list(acts.items()):
        try:
            act()  # warm, and shows whether it runs here at all
        except (OSError, subprocess.SubprocessError) as problem:
            book.left_out[name] = _reason(problem)
            del acts[name]
    for number in range(rounds):
        # What takes a tenth of a second and more settles in fewer turns.
        names = [name for name in acts if name not in CONTAINERS or number % 4 == 0]
        random.shuffle(names)
        for name in names:
            with Watch() as watch:
                began = time.perf_counter()
                acts[name]()
                book.add("start ms", name, (time.perf_counter() - began) * 1e3)
            book.others.append(watch.others)
    for made in sorted(_groups() - groups, key=lambda group: -len(group.parts)):
        try:
            made.rmdir()
        except OSError as problem:
            book.remarks[f"podman's cgroup {made} stays: {problem.strerror}"] += 1


def _groups() -> set[Path]:
    """What podman makes to put its containers' cgroups into, and leaves behind."""
    if os.geteuid() != 0:
        return set()
    parents = Path("/sys/fs/cgroup").glob("**/libpod_parent")
    return {group for parent in parents for group in (parent, *parent.rglob("*")) if group.is_dir()}


def measure_row(book: Book, *, count: int) -> None:
    """So many sandboxes one after the other: later ones must not be slower, nor anything be left."""
    sandbox()
    holder = helper()
    before = descriptors(holder), alive(), rss_bytes(holder)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        sandbox()
        took.append((time.perf_counter() - began) * 1e3)
    book.add("in a row ms", "mvm", *took)
    book.add("in a row, drift", "mvm", drift(took))
    book.add("in a row, descriptors left", "mvm", descriptors(holder) - before[0])
    book.add("in a row, processes left", "mvm", alive() - before[1])
    book.add("in a row, bytes left each", "mvm", (rss_bytes(holder) - before[2]) / count)


def measure_at_once(book: Book, *, rounds: int, count: int) -> None:
    """So many sandboxes at the same time: how long until the last has run its command and is gone."""
    with ThreadPoolExecutor(count) as pool:
        for _ in range(rounds):
            began = time.perf_counter()
            for done in [pool.submit(sandbox) for _ in range(count)]:
                done.result()
            book.add(f"{count} at once ms", "mvm", (time.perf_counter() - began) * 1e3)


def sandbox() -> None:
    """Start one of the library's, run `true` in it, end it. Raises OSError where that fails."""
    with mvm.Sandbox(network=network()) as box, box.popen(["true"]) as process:
        if process.wait():
            raise OSError(f"`true` ended with {process.returncode} in a sandbox")


def run(words: list[str]) -> None:
    """Run a command to its end. Raises OSError and subprocess.SubprocessError."""
    subprocess.run(
        words,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_LIMIT_S,
    )


def _container(name: str, programs: Path, directory: Path) -> Callable[[], object]:
    """The start of a container that holds one static program and nothing else."""
    root = directory / f"bundle-{name}" / "rootfs"
    (root / "bin").mkdir(parents=True)
    shutil.copy(programs / "nothing", root / "bin" / "true")
    if name == "podman":
        kept = [
            f"--root={directory}/podman",
            f"--runroot={directory}/podman-run",
            "--runtime=runc",
            "--cgroup-manager=cgroupfs",
        ]
        words = [
            name,
            *kept,
            "run",
            "--rm",
            "--network=none",
            "--rootfs",
            str(root),
            "/bin/true",
        ]
        return lambda: run(words)
    (root.parent / "config.json").write_text(json.dumps(_specification()))
    state = [f"--root={directory}/state-{name}"]
    return lambda: run([name, *state, *_WHAT[name], "run", "--bundle", str(root.parent), f"bench-{name}"])


def _specification() -> dict[str, object]:
    """An OCI runtime specification with the namespaces of a sandbox and no privileges."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "cwd": "/",
            "env": ["PATH=/bin"],
            "noNewPrivileges": True,
            "capabilities": {name: [] for name in ("bounding", "effective", "permitted")},
        },
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
    }


def _reason(problem: Exception) -> str:
    if isinstance(problem, FileNotFoundError):
        return "is not installed (--install brings it)"
    said = [line for line in str(getattr(problem, "stderr", None) or problem).splitlines() if line.strip()]
    return f"does not run here: {said[-1][:200] if said else problem}"
