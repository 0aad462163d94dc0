"""The smallest piece of the bench, really run; and that nothing is left when it is interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.leftovers import Leftovers

if TYPE_CHECKING:
    from tests.support.world import World

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_ROOT = Path(__file__).parents[2]
_LIMIT_S = 600
"""For what hangs: a busy machine may take its time."""


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on this machine: the load generator can't be compiled")


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """The bench, with what it keeps in a directory of the test's."""
    source = os.pathsep.join([str(_ROOT / "src"), str(_ROOT)])
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "--quick", "--raw", str(tmp_path / "raw.json"), *words],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": source, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def place(world: World) -> Path:
    """A directory that every user may look into, as workloads must."""
    made = Path(tempfile.mkdtemp(dir=world.directory))
    made.chmod(0o755)
    return made


def test_memory_is_measured_in_a_real_sandbox(place: Path) -> None:
    """The part that needs least: sandboxes stand, are counted, and nothing of them stays."""
    leftovers = Leftovers([place])
    bench = start(place, "--only", "memory")
    said, _ = bench.communicate(timeout=_LIMIT_S)
    assert bench.returncode == 0, said
    samples = json.loads((place / "raw.json").read_text())["samples"]
    assert 1e5 < samples["memory, library"]["mvm"][0] < 1e9
    assert samples["processes, idle sandbox"]["mvm"][0] >= 2
    (place / "raw.json").unlink()
    leftovers.expect_none()


def test_an_interrupted_bench_leaves_nothing(place: Path) -> None:
    """Ctrl-C in the middle: no process, namespace, mount or file stays, and the status says interrupted."""
    leftovers = Leftovers([place])
    bench = start(place, "--only", "memory")
    assert bench.stdout is not None
    assert "memory" in bench.stdout.readline()
    bench.send_signal(signal.SIGINT)
    said, _ = bench.communicate(timeout=_LIMIT_S)
    assert bench.returncode == 130, said
    leftovers.expect_none()
