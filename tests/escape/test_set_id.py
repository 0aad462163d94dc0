"""Files that would run as their owner, planted where they outlive the sandbox.

Owns one sandbox in which every call that sets a mode is made raw, once for each mode. Each test reads its
part of what came of that, and what the host then sees.
"""

from __future__ import annotations

import json
import platform
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.sandbox.reaching import python
from tests.support.mvmctl import Mvmctl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import World

pytestmark = pytest.mark.escape

_REFUSED, _MISSING = 1, 38  # EPERM, ENOSYS
_BITS = (0o4000, 0o2000, 0o6000)
_HIGH = 1 << 40  # in the half of a word that the kernel drops

_PROGRAM = """
import ctypes, json, os, platform, stat
libc = ctypes.CDLL(None, use_errno=True)
column = ("x86_64", "aarch64").index(platform.machine())
HERE, NEW = -100, os.O_CREAT | os.O_EXCL | os.O_WRONLY
NUMBERS = {
    "open": (2, None), "creat": (85, None), "mknod": (133, None), "chmod": (90, None), "fchmod": (91, 52),
    "fchmodat": (268, 53), "fchmodat2": (452, 452), "openat": (257, 56), "mknodat": (259, 33),
    "linkat": (265, 37), "openat2": (437, 437),
}

def call(name, *arguments):
    words = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in (*arguments, *[0] * 6)]
    result = libc.syscall(ctypes.c_long(NUMBERS[name][column]), *words[:6])
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result

def plain(place):
    os.close(os.open(place, NEW, 0o644))
    return place

def unnamed(place, mode):
    made = call("openat", HERE, b".", os.O_TMPFILE | os.O_WRONLY, mode)
    call("linkat", HERE, f"/proc/self/fd/{made}".encode(), HERE, place, 0x400)

ACTS = {
    "chmod": lambda p, m: call("chmod", plain(p), m),
    "fchmod": lambda p, m: call("fchmod", os.open(plain(p), os.O_RDONLY), m),
    "fchmodat": lambda p, m: call("fchmodat", HERE, plain(p), m),
    "fchmodat2": lambda p, m: call("fchmodat2", HERE, plain(p), m, 0),
    "open": lambda p, m: call("open", p, NEW, m),
    "openat": lambda p, m: call("openat", HERE, p, NEW, m),
    "creat": lambda p, m: call("creat", p, m),
    "a file without a name": unnamed,
    "mknod": lambda p, m: call("mknod", p, stat.S_IFREG | m, 0),
    "mknodat": lambda p, m: call("mknodat", HERE, p, stat.S_IFREG | m, 0),
    "a pipe": lambda p, m: call("mknodat", HERE, p, stat.S_IFIFO | m, 0),
    "open, making nothing": lambda p, m: call("open", plain(p), os.O_RDWR, m),
    "openat, making nothing": lambda p, m: call("openat", HERE, plain(p), os.O_RDWR | os.O_TRUNC, m),
    "openat2": lambda p, m: call("openat2", HERE, p, bytes((ctypes.c_uint64 * 3)(NEW, m, 0)), 24),
}

def tried(act, place, mode):
    try:
        ACTS[act](place.encode(), mode)
    except OSError as refusal:
        return refusal.errno
    return 0

os.umask(0)
asked = json.loads(ASKED)
print(json.dumps([tried(act, f"{at}", mode) for at, (act, mode) in enumerate(asked)]))
"""

_CHMODS = ("chmod", "fchmod", "fchmodat", "fchmodat2")
_MAKING = ("open", "openat", "creat", "a file without a name", "mknod", "mknodat", "a pipe")
_MAKING_NOTHING = ("open, making nothing", "openat, making nothing")
_BEHIND_A_POINTER = "openat2"
_OLD = {"chmod", "open", "creat", "mknod", "open, making nothing"}  # which aarch64 never had


def _here(*acts: str) -> list[str]:
    return [act for act in acts if platform.machine() == "x86_64" or act not in _OLD]


class Came(NamedTuple):
    """What came of one try: the error's number or 0, and the mode of the file that the host sees, or None."""

    error: int
    mode: int | None


@pytest.fixture(scope="module")
def came(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, int], Came]]:
    """What came of every call with every mode, tried in one sandbox on a directory of the host's."""
    acts = _here(*_CHMODS, *_MAKING, *_MAKING_NOTHING, _BEHIND_A_POINTER)
    asked = [(act, high | bits | 0o755) for act in acts for high in (0, _HIGH) for bits in (0, *_BITS)]
    lent = tmp_path_factory.mktemp("lent")
    mvmctl = Mvmctl(Path(tempfile.mkdtemp(prefix="i", dir=world.directory)))
    try:
        code = f"ASKED = {json.dumps(asked)!r}\n{_PROGRAM}"
        said = json.loads(mvmctl("run", "--workspace", str(lent), "--", *python(code)).expect(0).stdout)
        modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in lent.iterdir()}
        yield {key: Came(said[at], modes.get(str(at))) for at, key in enumerate(asked)}
    finally:
        mvmctl.close()


@pytest.mark.parametrize("bits", _BITS)
@pytest.mark.parametrize("act", _here(*_CHMODS, *_MAKING))
def test_no_file_in_a_volume_is_made_to_run_as_its_owner(
    act: str, bits: int, came: dict[tuple[str, int], Came]
) -> None:
    """44: each call that sets a mode is refused the bits; the host has no such file. Without, it works."""
    if came[act, 0o755].error == _MISSING:
        pytest.skip(f"this kernel has no {act}")
    before = 0o644 if act in _CHMODS else None
    for high in (0, _HIGH):
        assert came[act, high | bits | 0o755] == Came(_REFUSED, before)
        assert came[act, high | 0o755] == Came(0, 0o755)


@pytest.mark.parametrize("act", _here(*_MAKING_NOTHING))
def test_a_mode_that_nothing_is_made_with_is_not_judged(act: str, came: dict[tuple[str, int], Came]) -> None:
    """A call that opens what is there may name any mode: programs leave anything in that register."""
    tries = [tried for (name, _), tried in came.items() if name == act]
    assert len(tries) == 8
    assert set(tries) == {Came(0, 0o644)}


def test_a_mode_behind_a_pointer_is_not_taken(came: dict[tuple[str, int], Came]) -> None:
    """44: openat2, whose mode no filter sees, is a call that this kernel seems not to have."""
    tries = [tried for (name, _), tried in came.items() if name == _BEHIND_A_POINTER]
    assert len(tries) == 8
    assert set(tries) == {Came(_MISSING, None)}
