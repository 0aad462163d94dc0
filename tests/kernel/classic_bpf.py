"""An interpreter of classic BPF over struct seccomp_data, and the kernel's check of a program.

Owns what the kernel does with a filter (net/core/filter.c, kernel/seccomp.c), written anew from its
documentation. Must never import the product.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_LOAD_WORD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_CONDITIONS: dict[int, Callable[[int, int], bool]] = {
    0x15: lambda value, k: value == k,
    0x25: lambda value, k: value > k,
    0x35: lambda value, k: value >= k,
    0x45: lambda value, k: bool(value & k),
}
_DATA = struct.Struct("<IIQ6Q")
_MAX_INSTRUCTIONS = 4096
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000


class Call(NamedTuple):
    """One system call as a filter sees it."""

    number: int
    arguments: tuple[int, ...] = ()
    machine: int = 0


class Verdict(NamedTuple):
    """What a filter says: `allow`, `errno` with a number, or `kill`; and how many instructions that took."""

    action: str
    errno: int
    steps: int


def run(program: bytes, call: Call) -> Verdict:
    """Run a program that `check` has passed on one call."""
    arguments = [argument & (1 << 64) - 1 for argument in call.arguments]
    data = _DATA.pack(call.number & 0xFFFFFFFF, call.machine, 0, *arguments, *[0] * (6 - len(arguments)))
    accumulator = position = steps = 0
    while True:
        code, if_true, if_false, constant = struct.unpack_from("<HBBI", program, position * 8)
        position, steps = position + 1, steps + 1
        if code == _LOAD_WORD:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif code == _AND:
            accumulator &= constant
        elif code == _JUMP:
            position += constant
        elif code == _RETURN:
            return _verdict(constant, steps)
        else:
            position += if_true if _CONDITIONS[code](accumulator, constant) else if_false


def _verdict(value: int, steps: int) -> Verdict:
    action = value & 0xFFFF0000
    names = {_ALLOW: "allow", _ERRNO: "errno", _KILL_PROCESS: "kill"}
    return Verdict(names[action], value & 0xFFFF, steps)


def check(program: bytes) -> None:
    """Check what the kernel checks before it takes a filter: sizes, codes, jumps, loads, and the end."""
    count, rest = divmod(len(program), 8)
    assert rest == 0
    assert 0 < count <= _MAX_INSTRUCTIONS
    for position in range(count):
        code, if_true, if_false, constant = struct.unpack_from("<HBBI", program, position * 8)
        if code in _CONDITIONS:
            assert position + 1 + max(if_true, if_false) < count, f"{position}: jumps beyond the end"
        elif code == _JUMP:
            assert position + 1 + constant < count, f"{position}: jumps beyond the end"
        elif code == _LOAD_WORD:
            assert constant % 4 == 0, f"{position}: loads from between two words"
            assert constant < _DATA.size, f"{position}: loads from beyond the data"
        else:
            assert code in {_AND, _RETURN}, f"{position}: code {code:#x}"
    assert struct.unpack_from("<H", program, (count - 1) * 8) == (_RETURN,)
