"""What the kernel itself says of a workload: namespaces, groups, keys, mounts, limits; and of its keeper."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.kernel import syscalls
from tests.support.children import in_child

if TYPE_CHECKING:
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_GROUP = 4321
_ADD_KEY = {"x86_64": (248, 250), "aarch64": (217, 219)}
_SESSION, _SETPERM = -3, 5  # linux/keyctl.h: KEY_SPEC_SESSION_KEYRING, KEYCTL_SETPERM
_PERMISSIONS = {"of the user": 0x3F3F0000, "of the session": 0x3F000000}
_KEY = "mvm-test-key-of-the-caller"


def test_no_namespace_is_the_callers(mvmctl: Mvmctl) -> None:
    """Of each kind a workload has another than its caller, whose own a plain child shares."""
    words = ["sh", "-c", f"cd /proc/self/ns; readlink {' '.join(_NAMESPACES)}"]
    own = subprocess.run(words, capture_output=True, check=True, text=True).stdout.split()
    assert own == [os.readlink(f"/proc/self/ns/{kind}") for kind in _NAMESPACES]
    inside = mvmctl("run", "--", *words).expect(0).stdout.split()
    assert [each.partition(":")[0] for each in inside] == list(_NAMESPACES)
    assert not set(inside) & set(own)


@pytest.mark.root_only
def test_a_workload_is_in_no_group_of_roots(mvmctl: Mvmctl) -> None:
    """Root's supplementary groups, by which much can be read, are given up; a plain child has them."""
    words = ["sed", "-n", r"s/^Groups:\s*//p", "/proc/self/status"]
    found = [
        subprocess.run(
            [*before, *words],
            env=mvmctl.environment(),
            extra_groups=[_GROUP],
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()
        for before in ((), (*mvmctl.command, "run", "--"))
    ]
    assert found == [[str(_GROUP)], []]


@pytest.mark.user_only
@pytest.mark.parametrize("permissions", _PERMISSIONS.values(), ids=_PERMISSIONS)
def test_no_key_of_the_callers_is_listed(mvmctl: Mvmctl, permissions: int) -> None:
    """Neither what the same user may see anywhere, nor what is seen by whoever has the session keyring.

    The names of keys tell whom somebody logs in to. Root's a workload, which is another user, never sees.
    """

    def act() -> list[bool] | None:
        if not syscalls.join_new_keyring():
            return None
        add, keyctl = _ADD_KEY[platform.machine()]
        key = syscalls.call("add_key", add, b"user", _KEY.encode(), b"x", 1, _SESSION)
        syscalls.call("keyctl", keyctl, _SETPERM, key, permissions)
        inside = mvmctl("run", "--", "cat", "/proc/keys").stdout
        return [_KEY in keys for keys in (Path("/proc/keys").read_text(), inside)]

    found = in_child(act)
    if found is None:
        pytest.skip("this kernel has no keyrings")
    assert found == [True, False]


def _mounts(text: str) -> list[tuple[str, set[str]]]:
    """Read mount points and their options from what /proc/PID/mountinfo says (proc(5))."""
    rows = [line.split() for line in text.splitlines()]
    return [(row[4], set(row[5].split(","))) for row in rows]


def test_no_mount_gives_rights_to_a_file(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """On none a program runs as its owner; none has devices but the harmless ones, and these run nothing."""
    words = ("-v", f"{tmp_path}:/lent:rw", "--", "cat", "/proc/self/mountinfo")
    found = _mounts(mvmctl("run", *words).expect(0).stdout)
    places = {place for place, _ in found}
    assert places >= {"/", "/lent", "/usr", "/proc", "/dev/null", "/dev/pts", "/tmp"}
    assert [place for place, options in found if "nosuid" not in options] == []
    devices = {place for place in places if place.startswith("/dev/") and place != "/dev/shm"}
    assert {place for place, options in found if "nodev" not in options} == devices
    assert [place for place, options in found if place in devices and "noexec" not in options] == []
    assert ["rw" in options for place, options in found if place == "/lent"] == [True]


def test_above_the_root_there_is_nothing(mvmctl: Mvmctl) -> None:
    """The tree that the root was made from is gone: `/..` is the root, and one mount is there."""
    said = mvmctl("run", "--", "sh", "-c", "ls -A /; echo --; ls -A /..; echo --; cat /proc/self/mountinfo")
    root, above, mounts = said.expect(0).stdout.split("--\n")
    assert root.split() == above.split()
    assert "usr" in root.split()
    assert [place for place, _ in _mounts(mounts)].count("/") == 1


def test_the_keeper_has_no_stream_of_the_callers(mvmctl: Mvmctl) -> None:
    """Whoever reads what `mvmctl` prints isn't kept waiting by what outlives it: it has /dev/null."""
    running = mvmctl.start("run", "--", "sh", "-c", "echo up; exec cat")
    running.until("up\n")
    pid = running.process.pid
    keepers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert keepers
    assert {os.readlink(f"/proc/{keeper}/fd/{stream}") for keeper in keepers for stream in (0, 1, 2)} == {
        "/dev/null"
    }
    assert "/dev/null" not in {os.readlink(f"/proc/{pid}/fd/{stream}") for stream in (0, 1, 2)}
    running.finish().expect(0)


def test_the_limit_that_is_recorded_is_upon_the_workload(mvmctl: Mvmctl) -> None:
    """By a cgroup it is in that of its run, by an rlimit it has that one; without a limit it has neither."""
    words = ("sh", "-c", "grep '^Max processes' /proc/self/limits; echo up; exec cat")
    for limit in ("50", None):
        asked = () if limit is None else ("--pids", limit)
        running = mvmctl.start("run", "--name", "limited", *asked, "--", *words)
        soft = running.until("up\n").split()[2]
        groups = _cgroups_of_workloads(running.process.pid)
        running.finish().expect(0)
        shown = mvmctl("audit", "show", "limited").expect(0).stdout
        by_cgroup, by_rlimit = "pids:cgroup-v" in shown, "pids:rlimit" in shown
        assert (by_cgroup or by_rlimit) == (limit is not None)
        assert ("mvm-" in groups) == by_cgroup
        assert (soft == "50") == by_rlimit


def _cgroups_of_workloads(supervisor: int) -> str:
    """Say in which cgroups the grandchildren's children of a supervisor are: keeper, init, workload."""
    pids = [str(supervisor)]
    for _ in range(3):
        pids = [
            child for pid in pids for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    assert pids
    return "".join(Path(f"/proc/{pid}/cgroup").read_text() for pid in pids)
