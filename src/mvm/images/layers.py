"""An image as layers over each other: verified, then unpacked.

Owns the order: every byte of every layer was hashed before the first is unpacked, and the unpacked bytes are
hashed again while they are used. Must never know how the files that describe an image look.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import BackendUnavailable, UsageError
from mvm.images.archive import Unpacker
from mvm.images.blobs import check, not_what_it_says
from mvm.images.inflate import Inflated, Spent
from mvm.images.refused import damaged, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.images.blobs import Files, Segment
    from mvm.images.config import ImageConfig
    from mvm.images.inflate import Bounds, Progress, Raw

_CHUNK = 1 << 20


class Layer(NamedTuple):
    """One layer.

    Attributes:
        blob: as it lies there.
        digest: of the blob, or None where nobody says: then `diff_id` is checked beforehand.
        size: of the blob, or None.
        diff_id: the digest of the uncompressed layer.
        zstd: whether it is compressed with zstd; gzip, bzip2 and xz are recognised.
    """

    blob: Segment
    digest: str | None
    size: int | None
    diff_id: str
    zstd: bool


class OciImage:
    """An image that was opened: in an OCI layout or a `docker save` archive.

    Attributes:
        digest: `sha256:…` of the manifest; of the config in a `docker save` archive.
        config: how it wants to be run.
        size: bytes of the layers, as they lie there.
        work: what progress comes to: each byte is read twice.
    """

    def __init__(self, files: Files, digest: str, config: ImageConfig, layers: Sequence[Layer]) -> None:
        """Take what was read of it; `files` are closed with it."""
        self.digest, self.config = digest, config
        self.size = sum(layer.blob.length for layer in layers)
        self.work = 2 * self.size
        self._files, self._layers = files, tuple(layers)

    def unpack(
        self,
        root: int,
        *,
        owner: tuple[int, int] | None,
        bounds: Bounds,
        progress: Progress,
        spent: Spent | None = None,
    ) -> None:
        """Verify all layers, then unpack them over each other.

        Args:
            root: descriptor of an empty directory that nobody else changes meanwhile.
            owner: user and group to whom all is given; None leaves it the caller's.
            bounds: what it may come to.
            progress: is told how much of `work` is done.
            spent: counts what is read and made.

        Raises:
            PolicyRefused: `archive-…`: it is not what it says, damaged or hostile. What was unpacked so far
                stays in `root`.
            BackendUnavailable: a layer needs zstd, which is not there, or there is no room.
        """
        spent = Spent() if spent is None else spent
        try:
            done = 0
            for layer in self._layers:
                self._verify(layer, bounds, lambda count, done=done: progress(done + count))  # type: ignore[misc]
                done += layer.blob.length
        except OSError as error:
            raise failed(error, "reading it", self._files.name) from error
        unpacker = Unpacker(root, owner=owner, bounds=bounds, spent=spent, source=self._files.name)
        try:
            for layer in self._layers:
                self._unpack(layer, unpacker, bounds, spent, lambda count: progress(self.size + count))
            unpacker.finish()
        finally:
            unpacker.close()

    def close(self) -> None:
        """Close its files."""
        self._files.close()

    def _verify(self, layer: Layer, bounds: Bounds, progress: Progress) -> None:
        blob = layer.blob.again()
        if layer.digest is not None:
            check(blob, layer.digest, layer.size, self._files.name, progress)
            return
        sum_ = _Sum(layer.diff_id)
        Inflated(blob, bounds=bounds, spent=Spent(), progress=progress, observe=sum_.add).drain()
        if not sum_.is_right():
            raise not_what_it_says(layer.diff_id, self._files.name)

    def _unpack(
        self, layer: Layer, unpacker: Unpacker, bounds: Bounds, spent: Spent, progress: Progress
    ) -> None:
        sum_ = _Sum(layer.diff_id)
        blob = layer.blob.again()
        unzstd = Unzstd(blob) if layer.zstd else None
        raw: Raw = unzstd or blob
        try:
            stream = Inflated(raw, bounds=bounds, spent=spent, progress=progress, observe=sum_.add)
            unpacker.add(stream, is_layer=True)
        except UsageError as error:
            raise damaged(f"a layer: {error.message}", self._files.name) from error
        finally:
            if unzstd:
                unzstd.close()
        if not sum_.is_right():
            raise not_what_it_says(layer.diff_id, self._files.name, "archive-diff-id")


class _Sum:
    """The digest of bytes that pass, and whether it is the one it must be."""

    def __init__(self, digest: str) -> None:
        import hashlib

        algorithm, _, self._told = digest.partition(":")
        self._sum = hashlib.new(algorithm)
        self.add = self._sum.update

    def is_right(self) -> bool:
        return self._sum.hexdigest() == self._told


class Unzstd:
    """What the program zstd unpacks from a blob (`inflate.Raw`); `taken` counts the blob's bytes."""

    def __init__(self, blob: Segment) -> None:
        """Start the program.

        Raises:
            BackendUnavailable: it is not on PATH.
        """
        import subprocess
        from shutil import which
        from threading import Thread

        program = which("zstd")
        if program is None:
            raise BackendUnavailable(
                f"{blob.name} has a layer that is compressed with zstd, which is not installed",
                hint="apt-get install zstd",
            )
        self.name = blob.name
        self.size: int | None = None  # of what comes out
        self._blob = blob
        self._process = subprocess.Popen(
            [program, "-d", "-c", "-q"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._feeder = Thread(target=self._feed, name="mvm-zstd")
        self._feeder.start()

    @property
    def taken(self) -> int:
        """As `Raw` has it."""
        return self._blob.taken

    def read(self, most: int) -> bytes:
        """As `Raw` has it. Raises PolicyRefused where zstd says that it is damaged."""
        assert self._process.stdout
        data = self._process.stdout.read(most)
        if not data and self._process.wait():
            raise damaged("its compression is damaged: zstd refuses it", self.name)
        return data

    def skip(self, size: int) -> int:
        """As `Raw` has it: nothing is passed over unread."""
        return size

    def close(self) -> None:
        """End the program, however far it came."""
        self._process.kill()
        self._feeder.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()
        self._process.wait()

    def _feed(self) -> None:
        assert self._process.stdin
        descriptor = self._process.stdin.fileno()
        try:
            while data := memoryview(self._blob.read(_CHUNK)):
                while data:
                    data = data[os.write(descriptor, data) :]
        except OSError:
            return  # it ended: its status says why
        finally:
            self._process.stdin.close()
