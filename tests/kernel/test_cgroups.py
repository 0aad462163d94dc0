"""Limits that hold: by the cgroups that this machine has, and by rlimits where it has none."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.kernel import cgroups, syscalls
from mvm.terms import Limits
from tests.support.children import Ended, in_child, in_user_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mvm.kernel.cgroups import Cgroup

MEGABYTE = 1 << 20
ALL = Limits(memory=64 * MEGABYTE, cpus=0.25, pids=20)


@pytest.fixture
def name() -> Iterator[str]:
    """A name that nobody uses, and of which nothing is left afterwards."""
    chosen = f"mvm-test-{os.getpid()}-{time.monotonic_ns()}"
    yield chosen
    assert [directory for directory, names, _ in os.walk("/sys/fs/cgroup") if chosen in names] == []


def _make(name: str, limits: Limits) -> Cgroup:
    made = cgroups.create(name, limits)
    if made is None:
        pytest.skip("no cgroup on this machine carries any limit for this user")
    if set(made.achieved) != set(limits.asked()):
        made.remove()
        pytest.skip(f"cgroups on this machine carry only {', '.join(made.achieved)} for this user")
    return made


def _inside(made: Cgroup, act: Callable[[], object]) -> object:
    """Do something in a child that is moved into a cgroup first."""

    def moved() -> object:
        made.add(os.getpid())
        return act()

    return in_child(moved)


def _fill(megabytes: int) -> str:
    held = bytearray(megabytes * MEGABYTE)
    held[::4096] = b"x" * len(held[::4096])
    return f"filled {len(held) // MEGABYTE}"


def _fork_until_refused(most: int) -> int:
    """Start children that wait; return how many there could be, at most `most`."""
    started: list[int] = []
    try:
        while len(started) < most:
            pid = os.fork()
            if pid == 0:
                signal.pause()
            started.append(pid)
    except BlockingIOError:
        pass  # there can be no more: that is the answer
    for pid in started:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(started)


@pytest.mark.root_only
def test_memory_is_bounded(name: str) -> None:
    """A process fills what it may; one that wants more than the limit is killed, and nobody else is."""
    made = _make(name, Limits(memory=64 * MEGABYTE))
    try:
        assert _inside(made, lambda: _fill(20)) == "filled 20"
        with pytest.raises(Ended, match="status -9"):
            _inside(made, lambda: _fill(200))
        assert _fill(100) == "filled 100"
    finally:
        made.remove()


@pytest.mark.root_only
def test_processes_are_bounded(name: str) -> None:
    """With a limit of 20 the first process can have 19 more, and outside there is no such limit."""
    made = _make(name, Limits(pids=20))
    try:
        assert _inside(made, lambda: _fork_until_refused(40)) == 19
        assert in_child(lambda: _fork_until_refused(40)) == 40
    finally:
        made.remove()


@pytest.mark.root_only
def test_processor_time_is_bounded(name: str) -> None:
    """A process that only computes gets about a tenth of a processor, and outside is not held back."""
    made = _make(name, Limits(cpus=0.1))

    def used() -> float:
        end, before = time.monotonic() + 0.6, time.process_time()
        while time.monotonic() < end:
            pass
        return time.process_time() - before

    try:
        held = _inside(made, used)
        assert isinstance(held, float)
        assert held < 0.25
        assert in_child(used) > held
    finally:
        made.remove()


@pytest.mark.root_only
def test_all_limits_at_once_are_told(name: str) -> None:
    """What the cgroup carries, where it is, and what is in it, is what the kernel shows."""
    made = _make(name, ALL)
    pid = os.fork()
    if pid == 0:
        signal.pause()
    try:
        assert set(made.achieved) == {"memory", "cpus", "pids"}
        assert all(path.endswith(f"/{name}") and os.path.isdir(path) for path in made.paths)
        assert made.processes() == frozenset()
        made.add(pid)
        assert made.processes() == {pid}
        assert Path(f"/proc/{pid}/cgroup").read_text().count(name) == len(made.paths)
        assert cgroups.rlimits(ALL, made.achieved) == []
    finally:
        made.remove()
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


@pytest.mark.root_only
def test_removing_ends_what_is_inside_and_nothing_else(name: str) -> None:
    """A tree of processes that ignore every signal they can is gone at once; removing again is no error."""
    made = _make(name, ALL)
    alive, alive_inside = os.pipe()
    pid = os.fork()
    if pid == 0:
        made.add(os.getpid())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for _ in range(4):
            os.fork()
        os.setsid() if os.getpid() != os.getpgrp() else None
        signal.pause()
    os.close(alive_inside)
    bystander = os.fork()
    if bystander == 0:
        signal.pause()
    try:
        _wait_until(lambda: len(made.processes()) == 16)
        started = time.monotonic()
        made.remove()
        assert time.monotonic() - started < 2
        assert select.select([alive], [], [], 2)[0] == [alive]
        assert not any(os.path.exists(path) for path in made.paths)
        made.remove()
        assert os.waitpid(bystander, os.WNOHANG) == (0, 0)
    finally:
        os.close(alive)
        os.kill(bystander, signal.SIGKILL)
        os.waitpid(bystander, 0)
        _reap()


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _reap() -> None:
    """Collect the orphans that the world's process has adopted."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


@pytest.mark.root_only
def test_a_name_is_taken_once(name: str) -> None:
    """A second cgroup of a name is refused, and the first is left as it is."""
    made = _make(name, Limits(pids=20))
    try:
        with pytest.raises(FileExistsError):
            cgroups.create(name, Limits(pids=99))
        assert Path(made.paths[0], "pids.max").read_text() == "20\n"
    finally:
        made.remove()


@pytest.mark.root_only
def test_a_limit_that_the_kernel_refuses_leaves_nothing(name: str) -> None:
    """A value beyond what the kernel takes is raised with file and value, and no directory stays."""
    with pytest.raises(OSError, match=r"write \d+ to .*pids.max"):
        cgroups.create(name, Limits(memory=64 * MEGABYTE, pids=1 << 40))


@pytest.mark.root_only
def test_stale_ones_are_those_without_a_process(name: str) -> None:
    """An empty cgroup of ours is found wherever it is, as one, and can be removed; one in use is not."""
    made = _make(name, ALL)
    pid = os.fork()
    if pid == 0:
        signal.pause()
    try:
        found = [cgroup for cgroup in cgroups.stale() if cgroup.name == name]
        assert [sorted(cgroup.paths) for cgroup in found] == [sorted(made.paths)]
        made.add(pid)
        assert name not in {cgroup.name for cgroup in cgroups.stale()}
    finally:
        made.remove()
        os.waitpid(pid, 0)
    found[0].remove()
    assert name not in {cgroup.name for cgroup in cgroups.stale()}


@pytest.mark.user_only
def test_an_ordinary_user_gets_what_is_delegated_or_nothing(name: str) -> None:
    """Where no hierarchy is the user's nothing is made and nothing raised; rlimits are named for the rest."""
    made = cgroups.create(name, ALL)
    achieved = () if made is None else made.achieved
    if made is not None:
        made.remove()
    wanted = {resource.RLIMIT_AS: "memory", resource.RLIMIT_NPROC: "pids"}
    held = {wanted[kind] for kind, _ in cgroups.rlimits(ALL, achieved)}
    assert held | {"cpus"} | set(achieved) == {"memory", "cpus", "pids"}


RLIMITS: list[tuple[Limits, tuple[str, ...], list[tuple[int, int]]]] = [
    (ALL, (), [(resource.RLIMIT_AS, 64 * MEGABYTE), (resource.RLIMIT_NPROC, 20)]),
    (ALL, ("memory",), [(resource.RLIMIT_NPROC, 20)]),
    (ALL, ("pids", "cpus"), [(resource.RLIMIT_AS, 64 * MEGABYTE)]),
    (ALL, ("memory", "cpus", "pids"), []),
    (Limits(), (), []),
    (Limits(cpus=1.0), (), []),
]


@pytest.mark.parametrize(("limits", "already", "held"), RLIMITS)
def test_rlimits_hold_what_no_cgroup_does(
    limits: Limits, already: tuple[str, ...], held: list[tuple[int, int]]
) -> None:
    """Only what is asked for and not yet carried, and never processor time."""
    assert cgroups.rlimits(limits, already) == held


@pytest.mark.parametrize(
    ("release", "held"), [("5.13.19-generic", False), ("5.14.0", True), ("6.1-rc3+", True)]
)
def test_processes_are_counted_by_namespace_since_5_14(
    monkeypatch: pytest.MonkeyPatch, release: str, held: bool
) -> None:
    """On an older kernel the limit would count all processes of the user on the machine: it is not set."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", release, "v", "x86_64")))
    assert bool(cgroups.rlimits(Limits(pids=20), ())) is held


@pytest.mark.kernel
def test_the_rlimit_of_processes_holds_in_a_sandbox() -> None:
    """In a nested user namespace, without capabilities, as a user other than root: so many and no more."""

    def act() -> tuple[int, int]:
        if os.getuid() == 0:
            os.setresuid(65534, 65534, 65534)
        syscalls.unshare(syscalls.NEWUSER)
        syscalls.drop_capabilities()
        free = in_child(lambda: _fork_until_refused(40))
        for kind, value in cgroups.rlimits(Limits(pids=20), ()):
            resource.setrlimit(kind, (value, value))
        return free, in_child(lambda: _fork_until_refused(40))

    free, held = in_child(act)
    assert free == 40
    assert 10 <= held <= 19


@pytest.mark.kernel
def test_the_rlimit_of_memory_holds_for_a_process() -> None:
    """A process may have so much address space and no more; a failed allocation is told to the program."""

    def act() -> list[str]:
        told = [_fill(40)]
        resource.setrlimit(*_as_rlimit(cgroups.rlimits(Limits(memory=200 * MEGABYTE), ())[0]))
        try:
            told.append(_fill(400))
        except MemoryError:
            told.append("refused")
        return [*told, _fill(20)]

    assert in_user_namespace(act) == ["filled 40", "refused", "filled 20"]


def _as_rlimit(pair: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    return pair[0], (pair[1], pair[1])


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, str]]]:
    """Where the new cgroup would go in a tree of version 2 with these delegations, for a caller in /a/b/c."""

    def places(given: dict[str, str]) -> list[dict[str, str]]:
        for path in ("", "a", "a/b", "a/b/c"):
            directory = tmp_path / path
            directory.mkdir(exist_ok=True)
            (directory / "cgroup.procs").touch()
            (directory / "cgroup.subtree_control").write_text(given.get(path, ""))
        mounted: list[tuple[str, frozenset[str], str, str]] = [(cgroups.V2, frozenset(), str(tmp_path), "/")]
        monkeypatch.setattr(cgroups, "_mounts", lambda: iter(mounted))
        monkeypatch.setattr(cgroups, "_own", lambda _controller: "/a/b/c")
        found = cgroups._places_v2(("memory", "cpus", "pids"))  # noqa: SLF001  no machine has every tree
        return [{limit: os.path.relpath(path, tmp_path) for limit, path in each.items()} for each in found]

    return places


def test_version_2_prefers_the_most_then_the_nearest(hierarchy: Callable[..., list[dict[str, str]]]) -> None:
    """The nearest ancestor that gives all is first, one that gives less after it, one that gives none not."""
    every = "cpuset cpu io memory pids"
    assert hierarchy({}) == []
    assert [set(place.values()) for place in hierarchy({"": every, "a": every})] == [{"a"}, {"."}]
    some = hierarchy({"": every, "a/b": "memory pids"})
    assert some == [dict.fromkeys(("memory", "cpus", "pids"), "."), dict.fromkeys(("memory", "pids"), "a/b")]


@pytest.mark.user_only
def test_version_2_passes_over_what_is_not_the_users(
    hierarchy: Callable[..., list[dict[str, str]]], tmp_path: Path
) -> None:
    """An ancestor whose directory or list of processes the user may not write can't hold the new cgroup."""
    every = "cpu memory pids"
    hierarchy({"": every, "a": every, "a/b": every})
    (tmp_path / "a" / "cgroup.procs").chmod(0o444)
    (tmp_path / "a" / "b").chmod(0o555)
    try:
        assert os.access(tmp_path / "a", os.W_OK)
        found = cgroups._places_v2(("memory", "pids"))  # noqa: SLF001  as above
        assert [set(place.values()) for place in found] == [{str(tmp_path)}]
    finally:
        (tmp_path / "a" / "b").chmod(0o755)


def test_a_write_that_is_refused_names_file_and_value(tmp_path: Path) -> None:
    """Moving a process that is gone says which, and where to."""
    (tmp_path / "cgroup.procs").symlink_to("/dev/full")
    made = cgroups.Cgroup("mvm-x", cgroups.V2, (str(tmp_path),), ())
    with pytest.raises(OSError, match=r"write 42 to .*/cgroup\.procs") as refusal:
        made.add(42)
    assert refusal.value.errno == errno.ENOSPC
