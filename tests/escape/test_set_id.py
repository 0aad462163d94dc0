"""Files that would run as their owner, planted where they outlive the sandbox."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.reaching import python

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

_HEAD = """
import ctypes, os, platform, stat
libc = ctypes.CDLL(None, use_errno=True)
other = platform.machine() == "aarch64"
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
open("plain", "w").close()
"""
_ACTS = {
    "chmod": "os.chmod('plain', MODE)",
    "fchmod": "os.fchmod(os.open('plain', os.O_RDONLY), MODE)",
    "fchmodat": "call(53 if other else 268, -100, b'plain', MODE)",
    "fchmodat2": "call(452, -100, b'plain', MODE, 0)",
    "openat": "os.umask(0); os.open('made', os.O_CREAT | os.O_WRONLY, MODE)",
    "a file without a name": "os.umask(0); f = os.open('.', os.O_TMPFILE | os.O_WRONLY, MODE); "
    "call(37 if other else 265, -100, f'/proc/self/fd/{f}'.encode(), -100, b'made', 0x400)",
    "mknod": "os.umask(0); os.mknod('made', MODE | stat.S_IFREG)",
}


@pytest.mark.parametrize("bits", [0o4000, 0o2000, 0o6000])
@pytest.mark.parametrize("act", _ACTS)
def test_no_file_in_a_volume_is_made_to_run_as_its_owner(
    act: str, bits: int, mvmctl: Mvmctl, tmp_path: Path
) -> None:
    """Each call that sets a mode is refused the two bits; the host has no such file. Without, it works."""
    lent = tmp_path / "lent"
    lent.mkdir()
    words = ("run", "--workspace", str(lent), "--")
    code = f"{_HEAD}MODE = 0o755 | {bits}\ntry:\n    {_ACTS[act]}\nexcept OSError as e:\n    print(e.errno)\n"
    said = mvmctl(*words, *python(code)).expect(0)
    assert said.stdout.split() == ["1"]
    assert [file.name for file in lent.iterdir() if file.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)] == []
    mvmctl(*words, *python(f"{_HEAD}MODE = 0o755\n{_ACTS[act]}")).expect(0)
    assert (lent / ("made" if (lent / "made").exists() else "plain")).stat().st_mode & 0o777 == 0o755


def test_a_mode_behind_a_pointer_is_not_taken(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """openat2, whose mode no filter sees, is a call that this kernel seems not to have."""
    lent = tmp_path / "lent"
    lent.mkdir()
    code = (
        f"{_HEAD}how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o4755, 0)\n"
        "try:\n    call(437, -100, b'made', ctypes.byref(how), 24)\n"
        "except OSError as e:\n    print(e.errno)\n"
    )
    assert mvmctl("run", "--workspace", str(lent), "--", *python(code)).expect(0).stdout == "38\n"
    assert [file.name for file in lent.iterdir()] == ["plain"]
