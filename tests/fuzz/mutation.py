"""New inputs from old ones: bits, lengths, runs, splices, and the words that the readers know.

Owns the ways in which an input is changed. Everything hangs on the `Random` it is handed, so that a run can
be repeated from its seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

_EDGES = tuple(
    bytes([each]) for each in (0, 1, 0x0A, 0x0D, 0x20, 0x22, 0x2E, 0x3A, 0x5C, 0x7F, 0x80, 0xC0, 0xFF)
)
WORDS: tuple[bytes, ...] = (
    *_EDGES,
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b"\x16\x03\x01",
        b"\x16\x03\x03\xff\xff",
        b"\xc0\x0c",
        b"\0\0",
        b"\xff" * 4,
    ),
    *b"GET,POST,CONNECT,PRI * HTTP/2.0,Host: ,HTTP/1.1,HTTP/1.0,http://,Transfer-Encoding: chunked".split(
        b","
    ),
    *b"Content-Length: ,Upgrade: websocket,Connection: ,Expect: 100-continue,0\r\n\r\n,api.example".split(
        b","
    ),
    *b"tcp|udp|private|tls=auto|tls=off|tls=require|expires=|max-up=|1h|1.5h|0|1e9|65535|65536|-1|KiB".split(
        b"|"
    ),
    *b"127.0.0.1|::1|[::]|::ffff:1.2.3.4|0x7f.1|xn--|*.|@|#|%|localhost|resolver=|system|none".split(b"|"),
    *b"null|true|false|NaN|1e999|-0|{}|[]|\\ud800|\\u0000|network|allow|host|port|reason|mode".split(b"|"),
    *"é|ß|\u0131|\uff0e|\u202e|\u200d|\ufeff|\U0001f600|\u0661".encode().split(b"|"),
    *b"import mvm\n|@mvm.app(|mvm.network(|lambda: |f'{x}'|**|:=|global |(|)".split(b"|"),
    *b'sha256:|"prev":|"seq":|ustar\0|path=|size='.split(b"|"),
)
"""What stands in the readers' grammars, and what breaks readers of text and of lengths."""

_NEST = (b"[", b'{"a":', b"(", b"-", b"a.", b"not ", b"\xc0\x0c", b"a=[")
_MOST_STEPS = 4


def mutate(chance: Random, data: bytes, others: Sequence[bytes], longest: int) -> bytes:
    """Give one new input.

    Args:
        chance: where every choice comes from.
        data: what to begin with.
        others: inputs to splice with.
        longest: bytes at which it is cut.
    """
    for _ in range(chance.randint(1, _MOST_STEPS)):
        data = chance.choice(_STEPS)(chance, data, others)
    return data[:longest]


def _place(chance: Random, data: bytes) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.choice((0, 1, 1, 2, 4, 16, 64)))


def _flip(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _number(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A length that is off by a little or a lot, of one, two or three bytes."""
    size = chance.choice((1, 2, 2, 3))
    if len(data) < size:
        return data
    at = chance.randint(0, len(data) - size)
    most = (1 << 8 * size) - 1
    old = int.from_bytes(data[at : at + size], "big")
    new = chance.choice((old + 1, old - 1, 0, most, len(data), old << 1, chance.randint(0, most))) & most
    return data[:at] + new.to_bytes(size, "big") + data[at + size :]


def _put(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A word, put in or over what stood there."""
    start, stop = _place(chance, data)
    return data[:start] + chance.choice(WORDS) + data[chance.choice((start, stop)) :]


def _cut(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _place(chance, data)
    return data[:start] + data[stop:]


def _end(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: chance.randint(0, len(data))]


def _repeat(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _place(chance, data)
    return data[:stop] + data[start:stop] * chance.choice((1, 2, 8, 64)) + data[stop:]


def _splice(chance: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _digit(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A number in text that is another one."""
    start, _end_of_it = _place(chance, data)
    return (
        data[:start]
        + str(chance.choice((0, 7, 255, 65536, 1 << 31, 1 << 63, 10**40))).encode()
        + data[start:]
    )


def _nest(chance: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Something so deep that a reader which calls itself would fall."""
    if chance.randrange(8):
        return data
    start, _end_of_it = _place(chance, data)
    return data[:start] + chance.choice(_NEST) * chance.choice((8, 200, 500, 3000)) + data[start:]


_STEPS: tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...] = (
    _flip,
    _number,
    _number,
    _put,
    _put,
    _cut,
    _end,
    _repeat,
    _splice,
    _digit,
    _nest,
)
