"""Landlock, with the rules of each version, on this kernel: allowed below, refused beside."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest

from mvm.kernel import landlock, syscalls
from tests.support.children import in_child, in_user_namespace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HERE = landlock.abi()
VERSIONS = range(1, 8)
FILES, SCOPES = frozenset({"files"}), frozenset({"files", "abstract-sockets", "signals"})
SOCKETS = SCOPES | {"sockets"}


def _need(version: int) -> None:
    if version > HERE:
        pytest.skip(f"this kernel has version {HERE} of Landlock")


def _restricted(version: int, writable: list[str], act: Callable[[], object]) -> object:
    """Do something under the rules of one version, in a child."""
    _need(version)

    def inside() -> object:
        landlock.abi = lambda: version  # in the child only; a kernel takes the rules of all older versions
        syscalls.set_no_new_privileges()
        landlock.restrict(writable)
        return act()

    return in_child(inside)


def _tried(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as refusal:
        return errno.errorcode[refusal.errno or 0]
    return "ok"


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A writable place and one beside it, each with a file and two directories."""
    made = (tmp_path / "inside", tmp_path / "outside")
    for place in made:
        for name in ("one", "two"):
            (place / name).mkdir(parents=True)
        for name in ("file", "other", "one/moves", "one/links", "one/goes"):
            (place / name).write_text("said")
    return made


def _acts(place: Path) -> dict[str, Callable[[], object]]:
    return {
        "write": lambda: (place / "file").write_bytes(b"x"),
        "make a file": (place / "new").touch,
        "make a directory": (place / "newer").mkdir,
        "make a link": lambda: (place / "link").symlink_to("x"),
        "make a pipe": lambda: os.mkfifo(place / "pipe"),
        "make a socket": lambda: socket.socket(socket.AF_UNIX).bind(str(place / "socket")),
        "rename": lambda: (place / "other").rename(place / "renamed"),
        "rename to another directory": lambda: (place / "one/moves").rename(place / "two/moves"),
        "link into another directory": lambda: os.link(place / "one/links", place / "two/links"),
        "remove": (place / "one/goes").unlink,
        "remove a directory": (place / "empty").rmdir,
    }


@pytest.mark.parametrize("version", range(2, 8))
def test_files_are_changed_only_below_the_writable_places(version: int, places: tuple[Path, Path]) -> None:
    """Every way of changing works inside, fails outside, and reading and running work everywhere."""
    inside, outside = places
    for place in places:
        (place / "empty").mkdir()
    told = _restricted(
        version, [str(inside)], lambda: [{n: _tried(a) for n, a in _acts(p).items()} for p in places]
    )
    assert isinstance(told, list)
    assert set(told[0].values()) == {"ok"}
    assert set(told[1].values()) <= {"EACCES", "EXDEV"}
    assert [name for name, result in told[1].items() if result == "EXDEV"] == []
    words = [sys.executable, "-c", f"print(open('{outside}/file').read())"]
    assert _restricted(version, [], lambda: subprocess.check_output(words)) == b"said\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_truncating_is_a_right_of_its_own(version: int, places: tuple[Path, Path]) -> None:
    """From version 3 on a file outside keeps its length; inside it can be cut."""
    inside, outside = places
    acts = [lambda: os.truncate(inside / "file", 1), lambda: os.truncate(outside / "file", 1)]
    told = _restricted(version, [str(inside)], lambda: [_tried(act) for act in acts])
    assert told == ["ok", "EACCES" if version >= 3 else "ok"]


def test_the_first_version_is_left_alone(places: tuple[Path, Path]) -> None:
    """Its rules would forbid every rename between directories, so none are set, and that is told."""
    inside, outside = places
    acts = [
        lambda: (inside / "one/moves").rename(inside / "two/moves"),
        lambda: (outside / "file").write_text("x"),
    ]
    assert _restricted(1, [str(inside)], lambda: [_tried(act) for act in acts]) == ["ok", "ok"]
    assert landlock.restricted(1) == frozenset()


@pytest.mark.parametrize("version", VERSIONS)
def test_abstract_sockets_of_others_are_out_of_reach(version: int) -> None:
    """From version 6 on an abstract socket outside refuses; one made under the same rules answers."""
    name = f"\0mvm-test-{os.getpid()}-{version}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()

        def act() -> list[str]:
            own = socket.socket(socket.AF_UNIX)
            own.bind(name + "-own")
            own.listen()
            return [
                _tried(partial(socket.socket(socket.AF_UNIX).connect, to)) for to in (name, name + "-own")
            ]

        assert _restricted(version, [], act) == ["EPERM" if version >= 6 else "ok", "ok"]


@pytest.mark.parametrize("version", [7, 9])
def test_socket_files_of_others_are_out_of_reach(version: int, tmp_path: Path) -> None:
    """From version 9 on a socket file outside refuses, in a writable place too; an own one answers."""
    names = [str(tmp_path / name) for name in ("others", "own")]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(names[0])
        listener.listen()

        def act() -> list[str]:
            own = socket.socket(socket.AF_UNIX)
            own.bind(names[1])
            own.listen()
            return [_tried(partial(socket.socket(socket.AF_UNIX).connect, name)) for name in names]

        assert _restricted(version, [str(tmp_path)], act) == ["EACCES" if version >= 9 else "ok", "ok"]


def test_the_right_to_sockets_is_asked_of_kernels_that_know_it() -> None:
    """An older one refuses a rule set with a right that it doesn't know, and with it every start."""
    assert [landlock.rights(version).sockets for version in (7, 8, 9, 99)] == [0, 0, 1 << 16, 1 << 16]


@pytest.mark.parametrize("version", VERSIONS)
def test_signals_reach_only_those_under_the_same_rules(version: int) -> None:
    """From version 6 on the parent outside gets no signal; an own child does."""

    def act() -> list[str]:
        child = subprocess.Popen(["sleep", "100"])
        told = [_tried(lambda: os.kill(os.getppid(), 0)), _tried(child.kill)]
        return [*told, str(child.wait())]

    wanted = ["EPERM" if version >= 6 else "ok", "ok", str(-signal.SIGKILL)]
    assert _restricted(version, ["/dev"], act) == wanted


def test_single_files_can_be_opened_up(places: tuple[Path, Path]) -> None:
    """A writable file can be written and cut; its neighbours can't, and it can't be removed."""
    inside, _ = places
    acts: list[Callable[[], object]] = [
        lambda: (inside / "file").write_text("x"),
        lambda: (inside / "other").write_text("x"),
        (inside / "file").unlink,
    ]
    told = _restricted(min(HERE, 7), [str(inside / "file")], lambda: [_tried(act) for act in acts])
    assert told == ["ok", "EACCES", "EACCES"]


def test_a_place_that_is_gone_opens_nothing(places: tuple[Path, Path]) -> None:
    """It is passed over; were it made later it would not be writable."""
    inside, outside = places
    writable = [str(outside / "gone"), str(inside)]
    acts = [(outside / "gone").touch, (inside / "new").touch]
    assert _restricted(min(HERE, 7), writable, lambda: [_tried(act) for act in acts]) == ["EACCES", "ok"]


def test_what_is_restricted_is_told() -> None:
    """The words returned are those of the version that this kernel has."""
    _need(1)

    def act() -> frozenset[str]:
        syscalls.set_no_new_privileges()
        return landlock.restrict([])

    assert in_child(act) == landlock.restricted(HERE)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (0, frozenset()),
        (1, frozenset()),
        *[(v, FILES) for v in range(2, 6)],
        *[(v, SCOPES) for v in (6, 7, 8)],
        *[(v, SOCKETS) for v in (9, 99)],
    ],
)
def test_each_version_restricts_what_it_can(version: int, words: frozenset[str]) -> None:
    """The table of versions, those to come included: they restrict no less."""
    assert landlock.restricted(version) == words


@pytest.mark.parametrize("version", [6, 7, 99])
def test_neither_abstract_sockets_nor_signals_are_left_out(version: int) -> None:
    """Both bits of linux/landlock.h are asked for, also where this kernel can't show what they do."""
    assert landlock.rights(5).scoped == 0
    assert landlock.rights(version).scoped == 0b11


@pytest.mark.kernel
def test_rules_need_no_new_privileges() -> None:
    """Without them, and without a capability, the refusal is raised."""
    _need(2)

    def act() -> None:
        syscalls.drop_capabilities()
        landlock.restrict([])

    with pytest.raises(PermissionError, match="landlock_restrict_self"):
        in_user_namespace(act)


def test_a_kernel_without_landlock_is_version_0() -> None:
    """ENOSYS, as under a filter that knows nothing of it, is version 0, and restricts nothing."""
    import struct

    from mvm.kernel import seccomp

    without = b"".join(
        struct.pack("=HBBI", *row)
        for row in (
            (0x20, 0, 0, 0),
            (0x35, 0, 1, 444),
            (0x06, 0, 0, 0x50000 | errno.ENOSYS),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )

    def act() -> tuple[int, frozenset[str]]:
        syscalls.set_no_new_privileges()
        seccomp.install(without)
        return landlock.abi(), landlock.restrict([])

    assert in_child(act) == (0, frozenset())
