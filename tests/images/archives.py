"""Archives made by hand, header by header, as no tool would write them; and the ground they are unpacked on.

Owns the record of everything beside the root: it must be the same after each test. Must never read an
archive.
"""

from __future__ import annotations

import io
import os
import stat
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

import pytest

from mvm.errors import PolicyRefused
from mvm.images.archive import Bounds, Spent, unpack
from mvm.kernel import landlock, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

END = bytes(1024)


def entry(
    name: str | bytes,
    data: bytes = b"",
    *,
    kind: bytes = b"0",
    link: str | bytes = "",
    mode: int = 0o644,
    mtime: int = 1_600_000_000,
    device: tuple[int, int] = (0, 0),
    size: int | None = None,
    prefix: bytes = b"",
) -> bytes:
    """One entry: header and content, padded. `size` is what the header says, whatever the content has."""
    fields = [
        os.fsencode(name)[:100].ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"0001750\0" * 2,
        b"%011o\0" % (len(data) if size is None else size),
        b"%011o\0" % mtime,
        b" " * 8,
        kind,
        os.fsencode(link)[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        b"user".ljust(32, b"\0") * 2,
        b"%07o\0%07o\0" % device,
        prefix.ljust(155, b"\0"),
        bytes(12),
    ]
    header = b"".join(fields)
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    return header + data + bytes(-len(data) % 512)


def directory(name: str, mode: int = 0o755) -> bytes:
    """A directory."""
    return entry(name, kind=b"5", mode=mode)


def symlink(name: str, to: str) -> bytes:
    """A symbolic link."""
    return entry(name, kind=b"2", link=to)


def hard_link(name: str, to: str) -> bytes:
    """A hard link."""
    return entry(name, kind=b"1", link=to)


def pax(following: bytes, **records: str | bytes) -> bytes:
    """An entry with a pax header before it; `__` in a key stands for a dot."""
    text = b""
    for key, value in records.items():
        said = b" " + key.replace("__", ".").encode() + b"=" + os.fsencode(value) + b"\n"
        length = next(n for n in range(len(said), len(said) + 8) if len(str(n)) + len(said) == n)
        text += str(length).encode() + said
    return entry("pax", text, kind=b"x") + following


def archive(*entries: bytes) -> bytes:
    """A whole archive."""
    return b"".join(entries) + END


class Endless(io.RawIOBase):
    """A file that begins with something and then repeats something else for ever."""

    name = "endless.tar"

    def __init__(self, begin: bytes, again: bytes) -> None:
        """Repeat `again`, of which there should be much, for speed."""
        self._begin, self._again = begin, again
        self.given = 0

    def read(self, size: int = -1, /) -> bytes:
        """Whatever comes next, at most as much as was asked for."""
        data, self._begin = self._begin or self._again, b""
        data, rest = data[:size], data[size:]
        self._begin = rest
        self.given += len(data)
        return data

    def seekable(self) -> bool:
        """It is like a pipe."""
        return False


class Fact(NamedTuple):
    """What can be seen of one file."""

    mode: int
    links: int
    mtime: int
    content: bytes | str


def facts(top: Path, *, but: Path | None = None) -> dict[str, Fact]:
    """Everything below a directory, `but` for one tree."""
    found = {}
    for here, names, files in os.walk(top):
        if but is not None and os.path.samefile(here, but):
            names[:] = []
            continue
        for name in [*names, *files, "."]:
            path = os.path.join(here, name)
            if but is not None and name != "." and path == str(but):
                continue
            told = os.lstat(path)
            content: bytes | str = b""
            if stat.S_ISLNK(told.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(told.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            found[os.path.relpath(path, top)] = Fact(
                told.st_mode,
                told.st_nlink if not stat.S_ISDIR(told.st_mode) else 0,
                told.st_mtime_ns,
                content,
            )
    return found


class Ground:
    """A root to unpack into, with something beside it that must stay as it is."""

    def __init__(self, tmp_path: Path) -> None:
        """Make it."""
        self.top = tmp_path / "ground"
        self.root = self.top / "in" / "root"
        self.outside = self.top / "outside"
        self.root.mkdir(parents=True)
        self.outside.mkdir()
        (self.outside / "secret").write_text("as it was")
        (self.outside / "below").mkdir()
        (self.top / "in" / "beside").write_text("as it was")
        self._before = facts(self.top, but=self.root)
        self.times = (0, self.root.parent.stat().st_mtime_ns)

    def expect_untouched(self) -> None:
        """Fail if anything beside the root changed."""
        assert facts(self.top, but=self.root) == self._before

    def unpack(
        self,
        *layers: bytes | BinaryIO | io.RawIOBase,
        whiteouts: bool = False,
        owner: tuple[int, int] | None = None,
        bounds: Bounds | None = None,
        spent: Spent | None = None,
    ) -> Spent:
        """Unpack archives over each other; return what that came to."""
        made = spent or Spent()
        self.confined(lambda: self._unpack(layers, whiteouts, owner, bounds or Bounds(), made))
        return made

    def confined(self, act: Callable[[], object]) -> None:
        """Do something in a thread that Landlock lets write nowhere but on this ground.

        The tests are about guards, and must do this machine no harm when one of them is broken or taken out:
        an archive that got out as root would otherwise remove the machine's own files.
        """
        raised: list[BaseException] = []

        def run() -> None:
            try:
                syscalls.set_no_new_privileges()
                landlock.restrict([str(self.top), os.devnull])
                act()
            except BaseException as error:  # noqa: BLE001  raised again where it belongs
                raised.append(error)

        if "files" not in landlock.restricted(landlock.abi()):
            pytest.skip("this machine has no Landlock to keep hostile archives from it")
        thread = Thread(target=run)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]

    def _unpack(
        self,
        layers: tuple[bytes | BinaryIO | io.RawIOBase, ...],
        whiteouts: bool,
        owner: tuple[int, int] | None,
        bounds: Bounds,
        spent: Spent,
    ) -> None:
        root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for layer in layers:
                stream = io.BytesIO(layer) if isinstance(layer, bytes) else layer
                unpack(
                    stream,  # type: ignore[arg-type]
                    root,
                    owner=owner,
                    whiteouts=whiteouts,
                    bounds=bounds,
                    progress=lambda _: None,
                    spent=spent,
                )
        finally:
            os.close(root)

    def tree(self) -> list[str]:
        """What is in the root: paths in order, directories with a slash, links with where they lead."""
        found = []
        for here, names, files in os.walk(self.root):
            for name in [*names, *files]:
                path = os.path.join(here, name)
                shown = os.path.relpath(path, self.root)
                if os.path.islink(path):
                    shown += f" -> {os.readlink(path)}"
                elif name in names:
                    shown += "/"
                found.append(shown)
        return sorted(found)


def refused(act: Callable[[], object]) -> str:
    """Return the code by which something is refused."""
    with pytest.raises(PolicyRefused) as caught:
        act()
    (finding,) = caught.value.findings
    assert finding.path == "--image"
    assert finding.hint
    return finding.code
