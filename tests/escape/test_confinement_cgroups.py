"""Control groups from inside: neither a limit nor the host's release agent is in reach (ATTACKS 44, 47)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.kernel import cgroups
from mvm.terms import Limits
from tests.escape import processes
from tests.escape.confinement import NOT_ALLOWED
from tests.sandbox.reaching import python

if TYPE_CHECKING:
    from tests.escape.confinement import Confined
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

CLOSED = NOT_ALLOWED | {"EROFS", "ENOENT"}
PLACES = (
    "/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/memory",
    "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/devices", "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup/rdma", "/cgroup", "/dev/cgroup",
)  # fmt: skip
NEW_CGROUP = 0x2000000
FILES = (
    "cgroup.procs", "cgroup.threads", "tasks", "notify_on_release", "release_agent", "cgroup.subtree_control",
    "cgroup.kill", "cgroup.freeze", "cgroup.clone_children", "cgroup.event_control", "memory.max",
    "memory.limit_in_bytes", "memory.oom_control", "pids.max", "cpu.max", "devices.allow",
)  # fmt: skip


def _agents() -> dict[str, str]:
    """What the host runs where a cgroup of version 1 becomes empty, by hierarchy."""
    return {str(file): file.read_text() for file in Path("/sys/fs/cgroup").glob("*/release_agent")}


@pytest.mark.parametrize("root", ["", "/proc/self/root", "/proc/1/root"])
def test_no_file_of_a_cgroup_is_written(limited: Confined, root: str) -> None:
    """44, 47: no limit, no list of processes, no release agent of either version, by whatever way to it."""
    before = _agents()
    for some in (PLACES[:4], PLACES[4:8], PLACES[8:]):
        paths = [f"{root}{place}/{file}" for place in some for file in FILES]
        *found, twin = limited.tries(*(("write", path, "1") for path in paths), ("write", "/dev/null", "1"))
        assert {path: said for path, said in zip(paths, found, strict=True) if said not in CLOSED} == {}
        assert twin == "ok"
    assert _agents() == before


def test_no_cgroup_is_made(limited: Confined) -> None:
    """44, 47: not beside the own one, nor below; a directory of one's own is."""
    paths = [f"{place}/evil" for place in PLACES]
    *found, twin = limited.tries(*(("do", "mkdir", path) for path in paths), ("do", "mkdir", "/tmp/evil"))
    assert {path: said for path, said in zip(paths, found, strict=True) if said not in CLOSED} == {}
    assert twin == "ok"


MOUNTED = (
    ("cgroup2", 0), ("cgroup2", "nsdelegate"), ("cgroup", 0), ("cgroup", "memory"), ("cgroup", "pids"),
    ("cgroup", "rdma"), ("cgroup", "none,name=evil"), ("cgroup", "none,name=evil,release_agent=/tmp/evil"),
    ("cgroup", "none,name=systemd"), ("cgroup", "all"), ("cpuset", 0),
)  # fmt: skip


def test_no_hierarchy_is_mounted(limited: Confined) -> None:
    """44: neither version, neither with a controller nor by a name of one's own, in one call or in steps."""
    acts: list[tuple[object, ...]]
    acts = [("call", "mount", "none", "/tmp", kind, 0, options) for kind, options in MOUNTED]
    acts += [("call", "fsopen", kind, 0) for kind in ("cgroup", "cgroup2", "cpuset")]
    *found, twin = limited.tries(*acts, ("do", "mkdir", "/tmp/mounted"))
    assert found == ["EPERM"] * len(acts)
    assert twin == "ok"


@pytest.mark.parametrize("of", ["self", "1"])
def test_no_other_cgroup_namespace(limited: Confined, of: str) -> None:
    """44: none is made, by which the own cgroup would seem a root, and none is entered."""
    made = (("call", "unshare", NEW_CGROUP), ("clone", NEW_CGROUP))
    entered = (("enter", f"/proc/{of}/ns/cgroup", NEW_CGROUP), ("enter", "pid:1", NEW_CGROUP))
    *found, twin = limited.tries(*made, *entered, ("clone", 0))
    assert set(found) <= NOT_ALLOWED
    assert twin == "ok"


def test_no_hierarchy_is_in_sight(limited: Confined) -> None:
    """47: none is mounted, and /sys has nothing but devices."""
    mounts, kernel = limited.tries(("read", "/proc/self/mountinfo"), ("names", "/sys"))
    assert {line.partition(" - ")[2].split()[0] for line in mounts.splitlines()} & {
        "cgroup",
        "cgroup2",
    } == set()
    assert kernel == "devices"


@pytest.mark.parametrize("of", ["self", "1"])
def test_only_the_own_name_is_told(limited: Confined, of: str) -> None:
    """47: of where it stands a process learns the name of its sandbox's cgroup, and none of the host's."""
    (said,) = limited.tries(("read", f"/proc/{of}/cgroup"))
    told = {part for line in said.splitlines() for part in line.split(":", 2)[2].split("/")}
    assert {part for part in told - {"", ".."} if not part.startswith("mvm-")} == set()
    assert len(told - {"", ".."}) <= 1
    limited.refused("write", f"/proc/{of}/cgroup", "0::/")


_FLEEING = """
import os, signal
heard, said = os.pipe()

def stay():
    os.setsid()
    for path in ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids/tasks", "/proc/self/cgroup"):
        try:
            open(path, "w").write("0")
        except OSError:
            continue
    os.write(said, b"x")
    signal.pause()

if os.fork() == 0:
    stay()
middle = os.fork()
if middle == 0:
    os.setsid()
    if os.fork() == 0:
        stay()
    os._exit(0)
os.waitpid(middle, 0)
for _ in range(2):
    os.read(heard, 1)
print("ready")
signal.pause()
"""


def test_every_process_stays_in_the_cgroup(mvmctl: Mvmctl) -> None:
    """44: whoever forked it, in a session of its own or orphaned: it counts, and ends with the others.

    The supervisor and the keeper, outside, are not in it.
    """
    if not _can_limit():
        pytest.skip("no cgroup on this machine carries any limit for this user")
    running = mvmctl.start("run", "--memory", "1GB", "--pids", "100", "--", *python(_FLEEING))
    running.until("ready\n")
    inside, everything = processes.inside(running.process.pid), processes.below(running.process.pid)
    held = {_own_cgroups(pid) for pid in inside}
    assert len(held) == 1
    assert held != {frozenset()}
    assert len(inside) == 4  # init, the command, a child in a session of its own, an orphan
    assert {_own_cgroups(pid) for pid in everything - inside} == {frozenset()}


def _can_limit() -> bool:
    made = cgroups.create(f"mvm-test-{os.getpid()}-{secrets.token_hex(4)}", Limits(memory=1 << 30, pids=100))
    if made is not None:
        made.remove()
    return made is not None


def _own_cgroups(pid: int) -> frozenset[str]:
    """Those of a sandbox's that a process is in, as the host sees it."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return frozenset(line for line in lines if line.rpartition("/")[2].startswith("mvm-"))
