"""Where the receipt of a run goes: held from before the start, and written once the log is sealed.

Owns the one file that `--receipt` names. The directory is opened before anything runs, so that what runs
cannot lead it elsewhere by a link; the file appears whole or not at all, and never in the place of another.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.receipt import SealedLog, make_statement, sign_receipt
from mvm.audit.state import place_file
from mvm.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mvm.audit.chain import Signer

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_HINT = "name a file that is not there yet, in a directory that you can write"
_MODE = 0o666  # as any file that somebody asks for: the umask decides


class Place(NamedTuple):
    """The place of a receipt.

    Attributes:
        directory: a descriptor of the directory.
        name: the file's, in it.
        path: all of it, absolute.
    """

    directory: int
    name: str
    path: str

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self.directory)

    def write(self, log: str, key: Signer, result: Mapping[str, object]) -> None:
        """Write the receipt of a run.

        Args:
            log: the path of its log, sealed with `key`.
            key: to sign with.
            result: `mvm.result/1`.

        Raises:
            AuditError: it can't be written, or the log is not what was sealed.
        """
        try:
            content = sign_receipt(make_statement(read_sealed(log), result), key)
            if not place_file(self.directory, self.name, content, mode=_MODE):
                raise FileExistsError(0, "something is there already")
        except (OSError, ValueError) as error:
            raise _refusal(self.path, error) from error


def hold(path: str) -> Place:
    """Hold the place of a receipt before the run that it will be of starts.

    Args:
        path: absolute.

    Raises:
        AuditError: it will not be possible to write it there.
    """
    parent, name = os.path.split(path)
    try:
        directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _look(directory, name)
        except OSError:
            os.close(directory)
            raise
    except OSError as error:
        raise _refusal(path, error) from error
    return Place(directory, name, path)


def _look(directory: int, name: str) -> None:
    if name in {"", ".", ".."}:
        raise OSError(0, "that is a directory")
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True):
        raise OSError(0, "permission denied")
    if os.path.lexists(f"/proc/self/fd/{directory}/{name}"):
        raise OSError(0, "something is there already")


def read_sealed(path: str) -> SealedLog:
    """Take from a sealed log what its receipt needs; the whole file is read once.

    Args:
        path: of the log.

    Raises:
        OSError: it can't be read.
        ValueError: it is not a log that begins with a start and ends with an end and a seal.
    """
    import json

    whole, first, before, last = sha256(), b"", b"", b""
    with os.fdopen(os.open(path, _READ), "rb") as log:
        for line in log:
            whole.update(line)
            first, before, last = first or line, last, line
    started, ended, seal = (json.loads(line or b"{}") for line in (first, before, last))
    kinds = [record.get("kind") for record in (started, ended, seal)]
    if kinds != ["run.started", "run.ended", "audit.sealed"]:
        msg = "the log is not sealed"
        raise ValueError(msg)
    return SealedLog(whole.hexdigest(), started, ended, seal)


def _refusal(path: str, error: OSError | ValueError) -> AuditError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return AuditError(f"the receipt {path} can't be written: {why.lower()}", hint=_HINT)
