"""What no image needs is refused, each by its own code; and nothing outside of the root ever changes."""

from __future__ import annotations

import gzip
import lzma
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvm.errors import PolicyRefused, UsageError
from mvm.images.archive import Bounds
from mvm.images.removal import remove
from tests.images.archives import (
    END,
    Endless,
    Ground,
    archive,
    directory,
    entry,
    hard_link,
    pax,
    refused,
    symlink,
)

_HOSTILE: dict[str, list[tuple[bytes, bool]]] = {
    "archive-dotdot": [
        (archive(entry("../outside/new")), False),
        (archive(entry("a/../../outside/new")), False),
        (archive(entry("/../outside/new")), False),
        (archive(symlink("..", "x")), False),
        (archive(pax(entry("a"), path="../outside/new")), False),
        (archive(entry("new", prefix=b"../outside")), False),
        (archive(hard_link("a", "../outside/secret")), False),
        (archive(entry("../.wh.outside")), True),
    ],
    "archive-symlink": [
        (archive(symlink("s", "../../outside"), entry("s/new")), False),
        (archive(symlink("s", "/proc/self/cwd"), entry("s/new")), False),
        (archive(symlink("s", "t"), symlink("t", "s"), entry("s/new")), False),
        (archive(symlink("s", "../../outside/new"), entry("s/x/y")), False),
    ],
    "archive-hard-link": [
        (archive(hard_link("a", "nowhere")), False),
        (archive(hard_link("a", "/etc/passwd")), False),
        (archive(symlink("s", "../../outside"), hard_link("a", "s/secret")), False),
        (archive(directory("d"), hard_link("a", "d")), False),
        (archive(hard_link("a", "/")), False),
    ],
    "archive-path": [(archive(entry("a"), entry("a/b")), False)],
    "archive-device": [
        (archive(entry("etc/disk", kind=b"4", device=(8, 0))), False),
        (archive(entry("a", kind=b"3")), False),
        (archive(entry("a", kind=b"3", device=(1, 3))), True),
    ],
    "archive-entry": [(archive(entry("a", kind=kind)), False) for kind in (b"D", b"M", b"8", b"\xff")],
    "archive-name": [
        (archive(pax(entry("a"), path="a\0b")), False),
        (archive(pax(entry("a"), path="")), False),
        (archive(pax(entry("a"), path="a" * 256)), False),
        (archive(pax(entry("a"), path="a/" * 3000 + "b")), False),
        (archive(pax(symlink("a", "b"), linkpath="b" * 5000)), False),
        (archive(entry("", kind=b"0")), False),
        (archive(entry(".", b"file")), False),
        (archive(symlink(".", "/etc")), False),
        (
            archive(
                pax(directory("a"), path="/".join(["a" * 99] * 39)),
                pax(symlink("l", "b"), linkpath="/".join(["a" * 99] * 39)),
                pax(directory("l"), path="l/" + "/".join(["a" * 99] * 20)),
            ),
            False,
        ),
    ],
    "archive-whiteout": [
        (archive(entry(".wh..")), True),
        (archive(entry(".wh...")), True),
        (archive(entry(".wh.")), True),
        (archive(entry("d/.wh...")), True),
        (archive(entry(".wh.../.wh.a")), True),
        (archive(entry(".wh.a/b")), True),
    ],
    "archive-damaged": [
        (archive(entry("a"), b"\xff" * 512), False),
        (archive(entry("a"), b"x" + entry("b")[1:]), False),
        (entry("a") + bytes(512) + b"x" * 512, False),
        (archive(pax(entry("a"), size="-1")), False),
        (archive(pax(entry("a"), mtime="never")), False),
        (archive(entry("pax", b"99 path=x\n", kind=b"x"), entry("a")), False),
        (archive(entry("pax", b"path=x\n", kind=b"x"), entry("a")), False),
        (archive(pax(entry("a", b"xy"), GNU__sparse__map="5,1,2,1", GNU__sparse__size="9")), False),
        (archive(pax(entry("a", b"x"), GNU__sparse__map="0,-1", GNU__sparse__size="9")), False),
        (archive(pax(entry("a", b"9\n"), GNU__sparse__major="1", GNU__sparse__realsize="9")), False),
        (gzip.compress(archive(entry("a", os.urandom(99999))))[:-8] + b"12345678", False),
        (gzip.compress(archive(entry("a"))) + b"more", False),
        (archive(entry("s", kind=b"2")), False),
        (b"\x1f\x8b\x08" + b"x" * 99, False),
    ],
    "archive-truncated": [
        (entry("a", b"x" * 2000)[:1000], False),
        (entry("a", b"x" * 2000), False),
        (entry("a", b"x" * 2000)[:-300], True),
        (entry("a", b"x" * 2000) + entry("b")[:100], True),
        (pax(b"", path="a"), True),
        (gzip.compress(archive(entry("a", os.urandom(99999))))[:50000], False),
        (lzma.compress(archive(entry("a", os.urandom(99999))))[:50000], False),
        (archive(entry("a", size=8**11 - 1)), True),
    ],
    "archive-headers": [
        (archive(entry("pax", kind=b"x", size=2 << 20)), False),
        (archive(*[entry("g", kind=b"g")] * 40, entry("a")), False),
    ],
    "archive-ratio": [
        (gzip.compress(archive(entry("a", size=8**11 - 1))), False),
        (archive(pax(entry("a", b""), GNU__sparse__map="", GNU__sparse__size=str(9 << 30))), False),
    ],
    "archive-bytes": [(gzip.compress(archive(pax(entry("a"), size=str(99 << 40)))), False)],
}


@pytest.mark.parametrize(
    ("code", "data", "whiteouts"),
    [
        pytest.param(code, data, whiteouts, id=f"{code}-{number}")
        for code, tries in _HOSTILE.items()
        for number, (data, whiteouts) in enumerate(tries)
    ],
)
def test_what_no_image_does_is_refused(ground: Ground, code: str, data: bytes, whiteouts: bool) -> None:
    """Each is refused by its own code, with a hint, and nothing beside the root changes."""
    below = [archive(entry("below"))] if whiteouts else []
    assert refused(lambda: ground.unpack(*below, data, whiteouts=whiteouts)) == code


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"x" * 5000,
        b"PK\x03\x04" + bytes(2000),
        gzip.compress(b"hello"),
    ],
)
def test_what_is_no_archive_is_a_mistake(ground: Ground, data: bytes) -> None:
    """A file that is no archive at all is not called hostile."""
    with pytest.raises(UsageError, match="is no archive"):
        ground.unpack(data)
    assert ground.tree() == []


def test_an_archive_without_anything_is_one(ground: Ground) -> None:
    """The end alone is an archive, and so are the zeros that docker has for an empty layer."""
    ground.unpack(END)
    ground.unpack(bytes(10240))
    assert ground.tree() == []


@pytest.mark.parametrize(
    ("begin", "again", "code"),
    [
        (b"", entry("a"), "archive-entries"),
        (b"", directory("d") + symlink("d", "e"), "archive-entries"),
        (b"", pax(entry("a"), path="a/" * 300 + "b") + entry("a") + directory("a"), "archive-entries"),
        (b"", entry("g", kind=b"g"), "archive-headers"),
        (entry("a", size=1 << 32), bytes(1 << 16), "archive-bytes"),
        (END, bytes(1 << 16), "archive-bytes"),
    ],
)
def test_what_never_ends_is_stopped(ground: Ground, begin: bytes, again: bytes, code: str) -> None:
    """At the bound it is over, long before the end of the archive."""
    stream = Endless(begin, again * (1 + (1 << 16) // len(again)))
    bounds = Bounds(entries=1000, bytes=16 << 20)
    assert refused(lambda: ground.unpack(stream, bounds=bounds)) == code
    assert stream.given < 20 << 20
    assert len(ground.tree()) <= 1000


def test_bounds_count_over_layers(ground: Ground) -> None:
    """What one layer spent is gone for the next."""
    layer = archive(entry("a"), entry("b"))
    ground.unpack(layer, layer, whiteouts=True, bounds=Bounds(entries=4))
    assert (
        refused(lambda: ground.unpack(layer, layer, whiteouts=True, bounds=Bounds(entries=3)))
        == "archive-entries"
    )


_PARTS = st.sampled_from(
    ["a", "b", "c", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh...", "outside", "dev"]
)
_PATHS = st.one_of(
    st.lists(_PARTS, min_size=1, max_size=4).map("/".join),
    st.sampled_from(["../../outside", "/", "../outside/secret", "/proc/self/root", "a/b/c", "in/root"]),
)
_ENTRIES = st.builds(
    lambda name, data, kind, link, mode, device: entry(
        name, data if kind in b"07" else b"", kind=kind, link=link, mode=mode, device=device
    ),
    name=_PATHS,
    data=st.binary(max_size=600),
    kind=st.sampled_from([b"0", b"0", b"1", b"1", b"2", b"2", b"2", b"5", b"5", b"3", b"6", b"7"]),
    link=_PATHS,
    mode=st.integers(0, 0o7777),
    device=st.sampled_from([(0, 0), (1, 3)]),
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    layers=st.lists(st.lists(_ENTRIES, max_size=12), min_size=1, max_size=3),
    whiteouts=st.booleans(),
    flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=2),
    cut=st.integers(0, 4000),
)
def test_whatever_is_in_it_nothing_outside_changes(
    ground: Ground, layers: list[list[bytes]], whiteouts: bool, flips: list[tuple[int, int]], cut: int
) -> None:
    """Any entries in any order, damaged or not: it is unpacked or refused, and stays inside."""
    made = [bytearray(archive(*layer)) for layer in layers]
    for place, value in flips:
        made[-1][place % len(made[-1])] = value
    if cut < 2000:
        del made[-1][cut:]
    try:
        for layer in made:
            ground.unpack(bytes(layer), whiteouts=whiteouts)
    except (PolicyRefused, UsageError):
        pass  # the two ways in which an archive may be refused
    finally:
        ground.expect_untouched()
        above = os.open(ground.root.parent, os.O_RDONLY)
        ground.confined(lambda: remove(above, b"root"))
        os.close(above)
        ground.root.mkdir()
        os.utime(ground.root.parent, ns=ground.times)
