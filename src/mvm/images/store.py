"""The cache of images that were unpacked: root trees by the digest of what they were made of.

    CACHE/                          $MVM_CACHE_DIR, else $XDG_CACHE_HOME/mvm, else ~/.cache/mvm; 0700
      images/KEY/root/              the tree; read by every sandbox made of it, written by none
      images/KEY/facts.json         digest, words, config, size, entries
      images/KEY/lock               held (flock, shared) by each sandbox; its time is that of the last use
      locks/KEY                     held while KEY is made, so that a second one waits
      making/lock                   held (shared) by whoever makes or removes; who can have it alone clears up
      making/RANDOM/                a tree in the making, or about to be removed
      nix/, roots/                  a store of nix's own, and what keeps its results (`images.flake`)
      known/HASH.json               a file's digest, as long as nothing about the file has changed

Owns these files. A tree appears whole or not at all, by rename; killed at any moment, what is left is found
and removed by the next one that makes or prunes. Must never remove a tree that a sandbox still uses.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from mvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_IMAGES, _MAKING, _LOCKS, _KNOWN = "images", "making", "locks", "known"
_ROOT, _FACTS, _LOCK = "root", "facts.json", "lock"
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_HINT = "set MVM_CACHE_DIR to a directory of your own"


class Stored(NamedTuple):
    """One image in the cache.

    Attributes:
        key: its name there.
        root: the path of its tree.
        facts: what was written when it was made: `digest`, `words`, `config`, `bytes`, `entries`.
        used: when it was last used, in seconds since 1970 UTC.
    """

    key: str
    root: str
    facts: dict[str, Any]
    used: float


class Held:
    """An image that is used, and stays until this is closed.

    Attributes:
        stored: the image.
    """

    def __init__(self, stored: Stored, lock: int) -> None:
        self.stored = stored
        self._lock = lock

    def close(self) -> None:
        """Let go of it; a second time does nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def cache_directory(environ: Mapping[str, str]) -> str:
    """Say where the cache is; nothing is made or examined.

    Args:
        environ: the caller's environment.

    Raises:
        UsageError: a variable holds a relative path, or there is no home directory.
    """
    own, base, home = (environ.get(name, "") for name in ("MVM_CACHE_DIR", "XDG_CACHE_HOME", "HOME"))
    if own:
        if not own.startswith("/"):
            msg = f"MVM_CACHE_DIR is {own!r}, and where that is would depend on the working directory"
            raise UsageError(msg, hint=_HINT)
        return own.rstrip("/") or "/"
    if base.startswith("/"):
        return f"{base.rstrip('/')}/mvm"
    if not home.startswith("/"):
        raise UsageError("there is no place for the cache of images: HOME is not set", hint=_HINT)
    return f"{home.rstrip('/')}/.cache/mvm"


class Store:
    """The cache.

    Args:
        directory: of `cache_directory`; made when something is to be written.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def hold(self, key: str) -> Held | None:
        """Take an image for use, or None where there is none of that key.

        Raises:
            UsageError: the cache can't be read.
        """
        place = f"{self.directory}/{_IMAGES}/{key}"
        while True:
            try:
                lock = os.open(f"{place}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise self._unusable(error) from error
            fcntl.flock(lock, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), os.stat(f"{place}/{_LOCK}")):
                    os.utime(lock)
                    return Held(self._read(key), lock)
            os.close(lock)  # it was removed between the two

    def make(self, key: str, fill: Callable[[int], dict[str, Any]]) -> Held:
        """Take an image for use, making it where it is not there; a second one who makes it waits.

        Args:
            key: its name: letters, digits and hyphens.
            fill: called with a descriptor of the empty directory that is to become the tree; gives the facts.

        Raises:
            UsageError: the cache can't be written.
            MvmError: whatever `fill` raises; nothing is left of it then.
        """
        with self._making(key):
            held = self.hold(key)
            if held is not None:
                return held
            with self._draft() as draft:
                os.mkdir(f"{draft}/{_ROOT}", 0o755)
                root = os.open(f"{draft}/{_ROOT}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    facts = fill(root)
                finally:
                    os.close(root)
                _write(f"{draft}/{_FACTS}", facts)
                os.close(os.open(f"{draft}/{_LOCK}", _OPEN, 0o600))
                os.rename(draft, f"{self.directory_for(_IMAGES)}/{key}")
            made = self.hold(key)
        if made is None:
            msg = f"the image {key} was removed at the moment when it was made"
            raise UsageError(msg, hint="try again")
        return made

    def images(self) -> list[Stored]:
        """Give every image, the last used one first."""
        try:
            keys = sorted(os.listdir(f"{self.directory}/{_IMAGES}"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error
        found = []
        for key in keys:
            with suppress(FileNotFoundError):
                found.append(self._read(key))
        return sorted(found, key=lambda stored: -stored.used)

    def remove(self, key: str) -> bool:
        """Remove an image; False where a sandbox uses it.

        Raises:
            UsageError: there is none, or it can't be removed.
        """
        place = f"{self.directory}/{_IMAGES}/{key}"
        try:
            lock = os.open(f"{place}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise UsageError(f"there is no image {key}", hint="mvmctl image ls lists them") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self._draft() as draft:
                os.rename(place, f"{draft}/removed")
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            os.close(lock)
        return True

    def sweep(self) -> None:
        """Remove what processes that were killed have left in the making, unless somebody makes something."""
        making = f"{self.directory}/{_MAKING}"
        try:
            lock = os.open(f"{making}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in os.listdir(making):
                if name != _LOCK:
                    remove_tree(f"{making}/{name}")
        except BlockingIOError:
            return
        finally:
            os.close(lock)

    def recall(self, path: str) -> str | None:
        """Give the digest that a file had, if nothing about the file has changed since."""
        try:
            with open(self._known(path), encoding="utf-8") as file:
                known = json.load(file)
            return str(known["digest"]) if known["file"] == identity_of(path) else None
        except (OSError, ValueError, KeyError):
            return None

    def remember(self, path: str, digest: str, identity: list[int]) -> None:
        """Keep the digest of a file, as it was when reading it began (`identity_of`)."""
        self.directory_for(_KNOWN)
        _write(self._known(path), {"file": identity, "digest": digest})

    def _known(self, path: str) -> str:
        from hashlib import sha256

        return f"{self.directory}/{_KNOWN}/{sha256(os.fsencode(path)).hexdigest()}.json"

    def _read(self, key: str) -> Stored:
        place = f"{self.directory}/{_IMAGES}/{key}"
        with open(f"{place}/{_FACTS}", encoding="utf-8") as file:
            facts = json.load(file)
        return Stored(key, f"{place}/{_ROOT}", facts, os.stat(f"{place}/{_LOCK}").st_mtime)

    def directory_for(self, name: str) -> str:
        """Give a directory of the cache, made if it is not there.

        Args:
            name: its own.

        Raises:
            UsageError: the cache can't be written, or others could write it.
        """
        place = f"{self.directory}/{name}"
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(place, 0o700)
            for made in (self.directory, place):
                found = os.lstat(made)
                others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
                if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or others:
                    raise UsageError(f"{made} is not a directory that only you can write", hint=_HINT)
        except OSError as error:
            raise self._unusable(error) from error
        return place

    def _unusable(self, error: OSError) -> UsageError:
        reason = (error.strerror or str(error)).lower()
        return UsageError(f"the cache of images in {self.directory} can't be used: {reason}", hint=_HINT)

    @contextmanager
    def _making(self, key: str) -> Iterator[None]:
        with _locked(f"{self.directory_for(_LOCKS)}/{key}", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _draft(self) -> Iterator[str]:
        """Give a directory in the making, which is gone afterwards, unless it was renamed."""
        self.sweep()
        making = self.directory_for(_MAKING)
        with _locked(f"{making}/{_LOCK}", fcntl.LOCK_SH):
            place = f"{making}/{os.urandom(8).hex()}"
            os.mkdir(place, 0o700)
            try:
                yield place
            finally:
                remove_tree(place)


@contextmanager
def _locked(path: str, how: int) -> Iterator[None]:
    lock = os.open(path, _OPEN, 0o600)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        os.close(lock)


def identity_of(path: str) -> list[int]:
    """Tell a file's state from any other that it may have: device, inode, size, times of change.

    Raises:
        OSError: it is not there.
    """
    found = os.stat(path)
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _write(path: str, facts: dict[str, Any]) -> None:
    draft = f"{path}.{os.urandom(4).hex()}"
    with open(draft, "x", encoding="utf-8") as file:
        json.dump(facts, file)
    os.rename(draft, path)


def remove_tree(place: str) -> None:
    """Remove a directory with all in it, also where its modes forbid that; links are not followed."""
    import shutil

    def allow(function: Callable[..., Any], path: str, _problem: object) -> None:
        with suppress(FileNotFoundError):
            os.chmod(os.path.dirname(path), 0o700)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, 0o700)
                shutil.rmtree(path, onerror=give_up)
                return
            function(path)

    def give_up(_function: Callable[..., Any], _path: str, problem: object) -> None:
        assert isinstance(problem, tuple), "as shutil calls it"
        if not isinstance(problem[1], FileNotFoundError):
            raise problem[1]

    shutil.rmtree(place, onerror=allow)
