"""What a sandbox is made of, from the words for it to a tree that can be mounted.

    host            this machine's system (`images.host`)
    dir:PATH        a directory tree, used where it lies; it has no digest
    tar:PATH        a root tree in an archive         ┐ unpacked once into the cache (`images.store`), by the
    oci:PATH[:TAG]  an OCI layout, or `docker save`   ┘ digest of the file or of the manifest
    a flake         a tree, an archive, or a package: this machine with the package on PATH

Owns the choice among these. Must never grant what an image asks for: that is carried along to be shown.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from mvm.errors import UsageError
from mvm.images.config import DOCUMENT, ImageConfig, config_from_document
from mvm.plan.view import Bind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mvm.images.inflate import Progress
    from mvm.images.layers import OciImage
    from mvm.images.store import Held, Store
    from mvm.images.tarball import Tarball

HOST = "host"
_KINDS = ("dir", "tar", "oci")
EMPTY = ImageConfig()
_ROOT_MARKS = ("bin/sh", "usr/bin", "sbin/init")
_LARGEST_CONFIG = 1 << 20


class Image(NamedTuple):
    """An image, ready to be used.

    Attributes:
        words: by which it was asked for.
        digest: `sha256:…` of what it was made of, or None for a tree that is used where it lies.
        config: what it says of itself.
        root: the path of its root tree on the host; None where it is this machine's system.
        packages: what is seen beside the tree or the system, at places of its own.
        path: directories that come first on PATH.
        held: keeps it in the cache while it is used, or None.
    """

    words: str
    digest: str | None
    config: ImageConfig
    root: str | None
    packages: tuple[Bind, ...] = ()
    path: tuple[str, ...] = ()
    held: Held | None = None

    @classmethod
    def host(cls) -> Image:
        """This machine's system."""
        return cls(HOST, None, EMPTY, None)

    @property
    def kind(self) -> str:
        """The first of its words: `host`, `dir`, `tar`, `oci` or `flake`."""
        return self.words.partition(":")[0]

    def close(self) -> None:
        """Let the cache have it back."""
        if self.held is not None:
            self.held.close()


Told: TypeAlias = "Callable[[str, int], Progress]"
"""Is told what takes long, a title and a size in bytes; gives what is to be called with the bytes done."""


def pending(words: str, digest: str | None = None, config: ImageConfig = EMPTY) -> Image:
    """Stand for an image that is not unpacked or built yet, in a plan that is only shown."""
    return Image(words, digest, config, f"{words}, unpacked or built at the start")


class Opener:
    """How images are opened for one caller.

    Args:
        cwd: the caller's working directory, absolute.
        environ: the caller's environment.
        store: the cache.
        owner: user and group that what is unpacked is to belong to, or None for the caller's own.
        told: is told what takes long; None where nothing is to be made: then what is not in the cache is
            `pending`.
    """

    def __init__(
        self,
        *,
        cwd: str,
        environ: Mapping[str, str],
        store: Store,
        owner: tuple[int, int] | None,
        told: Told | None,
    ) -> None:
        self._cwd, self._environ, self._store = cwd, environ, store
        self._owner, self._told = owner, told

    def open(self, words: str) -> Image:
        """Open the image of `--image`.

        Args:
            words: `host`, `dir:PATH`, `tar:PATH` or `oci:PATH[:TAG]`.

        Raises:
            UsageError: there is no such image.
            PolicyRefused: what is in it is refused.
            BackendUnavailable: something that unpacks it is missing.
        """
        kind, colon, rest = words.partition(":")
        if words == HOST:
            return Image.host()
        if kind not in _KINDS or not colon or not rest:
            msg = f"{words!r} is no image"
            raise UsageError(
                msg,
                hint="write host, dir:PATH, tar:PATH or oci:PATH[:TAG], such as the file of `docker save`",
            )
        if kind == "dir":
            return self._tree(self._absolute(rest), words)
        return self._archive(rest, words) if kind == "tar" else self._oci(rest, words)

    def build(self, ref: str) -> Image:
        """Build the flake of `--flake`, and open what comes of it.

        Raises:
            BackendUnavailable: there is no nix.
            PolicyRefused: it can't be built, or what comes of it is refused.
            UsageError: what comes of it is no image.
        """
        from mvm.images.flake import build

        built = build(ref, cwd=self._cwd, environ=self._environ, store=self._store)
        words = f"flake:{ref}"
        if os.path.isfile(built.real):
            return self._archive(built.real, words)._replace(digest=built.digest)
        packages = tuple(
            Bind(real, path, writable=False, optional=False, reason="flake") for path, real in built.closure
        )
        config = _config_in(built.real, words) or EMPTY
        if any(os.path.lexists(f"{built.real}/{mark}") for mark in _ROOT_MARKS):
            return Image(words, built.digest, config, built.real, packages)
        if built.program is not None and not config.entrypoint:
            config = config._replace(entrypoint=(f"{built.path}/bin/{built.program}",))
        path = (f"{built.path}/bin",) if os.path.isdir(f"{built.real}/bin") else ()
        return Image(words, built.digest, config, None, packages, path)

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self._cwd, path))

    def _tree(self, path: str, words: str) -> Image:
        from mvm.images.rootfs import require_tree

        root = require_tree(path, words)
        return Image(words, None, _config_in(root, words) or EMPTY, root)

    def _archive(self, path: str, words: str) -> Image:
        from mvm.images.store import identity_of
        from mvm.images.tarball import open_tar

        place = self._absolute(path)
        known = self._store.recall(place)
        held = None if known is None else self._store.hold(self._key(known))
        if held is None:
            with closing(open_tar(place)) as archive:
                identity = identity_of(place)
                if self._told is None:
                    return pending(words, archive.digest, archive.config)
                held = self._store.hold(self._key(archive.digest)) or self._unpacked(archive, words)
                self._store.remember(place, archive.digest, identity)
        return self._stored(held, words)

    def _oci(self, rest: str, words: str) -> Image:
        from mvm.images.oci_layout import open_oci

        path, tag = rest, None
        if not os.path.exists(self._absolute(rest)) and ":" in rest:
            path, _, tag = rest.rpartition(":")
        with closing(open_oci(self._absolute(path), tag)) as image:
            held = self._store.hold(self._key(image.digest))
            if held is None and self._told is None:
                return pending(words, image.digest, image.config)
            return self._stored(held or self._unpacked(image, words), words)

    def _unpacked(self, source: OciImage | Tarball, words: str) -> Held:
        from mvm.images.inflate import Bounds, Spent

        told = self._told
        assert told is not None, "only shown"

        def fill(root: int) -> dict[str, object]:
            spent = Spent()
            progress = told(f"unpacking {words}", source.work)
            source.unpack(root, owner=self._owner, bounds=Bounds(), progress=progress, spent=spent)
            return {
                "digest": source.digest,
                "words": words,
                "config": (_config_in(f"/proc/self/fd/{root}", words) or source.config)._asdict(),
                "bytes": spent.bytes,
                "entries": spent.entries,
            }

        return self._store.make(self._key(source.digest), fill)

    def _stored(self, held: Held, words: str) -> Image:
        facts = held.stored.facts
        said: dict[str, Any] = facts["config"]
        values = (said[field] for field in ImageConfig._fields)
        config = ImageConfig._make(tuple(value) if isinstance(value, list) else value for value in values)
        return Image(words, str(facts["digest"]), config, held.stored.root, held=held)

    def _key(self, digest: str) -> str:
        """Name a tree in the cache: it can't serve two owners."""
        name = digest.removeprefix("sha256:")
        return name if self._owner is None else f"{name}-{self._owner[0]}"


def _config_in(root: str, words: str) -> ImageConfig | None:
    """Read the `mvm.json` at the top of a tree, if there is one."""
    from mvm.images.tree import read_plain

    content = read_plain(f"{root}/{DOCUMENT}", _LARGEST_CONFIG)
    return None if content is None else config_from_document(content, words)
