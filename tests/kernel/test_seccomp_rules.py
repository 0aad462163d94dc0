"""Every rule of the filter on the arguments of a call, with good ones and bad ones, in either half of a word.

Owns one table of cases for all calls that are judged by their arguments, written apart from the product.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, NamedTuple

import pytest

from mvm.kernel import syscall_table
from mvm.kernel.seccomp import program
from tests.kernel import classic_bpf
from tests.kernel.classic_bpf import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HIGHS = (1 << 32, 1 << 63, 0xFFFFFFFF << 32)
PATH, HERE = 0x7FFF_1234_5678, (1 << 64) - 100  # some pointer; AT_FDCWD as a register holds it

PLAIN_MODES = (0, 0o644, 0o755, 0o1777, 0o666 | stat.S_IFREG, 0o600 | stat.S_IFIFO)
RUNS_AS_OWNER = tuple(bits | mode for bits in (0o4000, 0o2000, 0o6000) for mode in PLAIN_MODES)
CREATES, UNNAMED = os.O_CREAT, 0o20000000  # __O_TMPFILE
MAKING = (
    CREATES,
    CREATES | os.O_WRONLY | os.O_EXCL,
    UNNAMED | os.O_WRONLY,
    UNNAMED | os.O_DIRECTORY | os.O_RDWR,
)
NOT_MAKING = (os.O_RDONLY, os.O_RDWR | os.O_TRUNC, os.O_DIRECTORY, os.O_PATH | os.O_CLOEXEC)
NEW_NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
CORE, FILES, NOWHERE, SOMEWHERE = 4, 7, 0, 0x5555_0000_1000
ABOVE_4_GB = 0x7FFF << 32  # a pointer whose low half is zero

Arguments = tuple[int, ...]


class Rule(NamedTuple):
    """What one call may be asked, and what not, with its answer; `wide` are arguments of 64 bits."""

    good: tuple[Arguments, ...]
    bad: tuple[Arguments, ...]
    answers: frozenset[str] = frozenset({"EPERM"})
    wide: tuple[int, ...] = ()


def _modes(*before: int) -> Rule:
    """The rule of a call whose mode comes after these arguments."""
    return Rule(tuple((*before, m) for m in PLAIN_MODES), tuple((*before, m) for m in RUNS_AS_OWNER))


def _opening(*before: int) -> Rule:
    """The rule of a call that takes flags and a mode after these arguments."""
    plain = tuple((*before, flags, mode) for flags in MAKING for mode in PLAIN_MODES)
    unheeded = tuple((*before, flags, mode) for flags in NOT_MAKING for mode in RUNS_AS_OWNER)
    return Rule(plain + unheeded, tuple((*before, flags, mode) for flags in MAKING for mode in RUNS_AS_OWNER))


RULES = {
    "open": _opening(PATH),
    "openat": _opening(HERE, PATH),
    "creat": _modes(PATH),
    "mknod": _modes(PATH),
    "mknodat": _modes(HERE, PATH),
    "chmod": _modes(PATH),
    "fchmod": _modes(3),
    "fchmodat": _modes(HERE, PATH),
    "fchmodat2": _modes(HERE, PATH),
    "socket": Rule(
        ((1, 1, 0), (1, 5, 0), (2, 1, 6), (10, 2, 17), (16, 3, 0)),
        ((2, 3, 1), (2, 1, 132), (10, 2, 136), (16, 3, 12), (17, 3, 0x300), (40, 1, 0), (2, 4, 0)),
        frozenset({"EPERM", "EPROTONOSUPPORT", "EAFNOSUPPORT", "ESOCKTNOSUPPORT"}),
    ),
    "socketpair": Rule(
        ((socket.AF_UNIX, 1, 0),), ((2, 1, 0), (30, 5, 0), (40, 1, 0)), frozenset({"EAFNOSUPPORT"})
    ),
    "clone": Rule(
        ((17,), (0x3D0F00,), (0x4111,)), tuple((new | more,) for new in NEW_NAMESPACES for more in (0, 17))
    ),
    "unshare": Rule(((0,), (0x400,), (0x200,)), tuple((new,) for new in (*NEW_NAMESPACES, 0x80))),
    "personality": Rule(((0,), (8,), (0x20000,), (0xFFFFFFFF,)), ((0x40000,), (0x400000,), (1,))),
    "ioctl": Rule(((0, 0x5401), (0, 0x5413), (3, 0x541B)), ((0, 0x5412), (0, 0x541C), (3, 0x5423))),
    "setrlimit": Rule(((FILES, PATH), (0, PATH), (15, PATH)), ((CORE, PATH),), frozenset({"done"})),
    "prlimit64": Rule(
        ((0, FILES, SOMEWHERE, NOWHERE), (0, CORE, NOWHERE, SOMEWHERE), (1, CORE, NOWHERE, ABOVE_4_GB)),
        ((0, CORE, SOMEWHERE, NOWHERE), (0, CORE, ABOVE_4_GB, SOMEWHERE), (1, CORE, 8, 8)),
        frozenset({"done"}),
        wide=(2,),
    ),
}


def _answer(machine: str, number: int, arguments: Arguments) -> str:
    """What the filter says: `allow`, `done` where it only seems to be, or the name of an error."""
    verdict = classic_bpf.run(program(machine), Call(number, arguments, MACHINES[machine]))
    if verdict.action != "errno":
        return verdict.action
    return errno.errorcode[verdict.errno] if verdict.errno else "done"


def _spellings(arguments: Arguments, wide: tuple[int, ...]) -> Iterator[Arguments]:
    """The same to a kernel that takes ints: with bits in the high half of each argument, and of all."""
    yield arguments
    for high in HIGHS:
        for at in range(len(arguments)):
            if at not in wide:
                yield (*arguments[:at], arguments[at] & 0xFFFFFFFF | high, *arguments[at + 1 :])
        yield tuple(a if at in wide else a & 0xFFFFFFFF | high for at, a in enumerate(arguments))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", RULES)
def test_each_rule_with_good_and_bad_arguments(name: str, machine: str) -> None:
    """Good ones pass and bad ones do not, whatever stands in the half of a word that the kernel drops."""
    number = syscall_table.numbers(machine, syscall_table.RULED).get(name)
    if number is None:
        assert name in {"open", "creat", "mknod", "chmod"}  # aarch64 never had them
        return
    rule = RULES[name]
    for arguments in rule.good:
        for spelled in _spellings(arguments, rule.wide):
            assert _answer(machine, number, spelled) == "allow", tuple(map(hex, spelled))
    for arguments in rule.bad:
        for spelled in _spellings(arguments, rule.wide):
            assert _answer(machine, number, spelled) in rule.answers, tuple(map(hex, spelled))


@pytest.mark.parametrize("machine", MACHINES)
def test_no_rule_is_left_out(machine: str) -> None:
    """The table above has every call that the product judges by its arguments."""
    judged = set(syscall_table.numbers(machine, syscall_table.RULED))
    assert judged <= set(RULES)
    assert set(RULES) - judged == (set() if machine == "x86_64" else {"open", "creat", "mknod", "chmod"})
