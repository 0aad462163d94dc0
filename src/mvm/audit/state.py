"""Where mvm keeps what it must remember: the state directory, the runtime directory, the runs.

Owns the order in which these are looked for (SPEC section 6), how they are made, and whom they must
belong to. A directory that somebody else can write is refused: its record would prove nothing.
Known hole: only the directories that mvm itself uses are examined, not those above them.

    STATE/            0700
      keys/           the signing key (`audit.keys`)
      runs/RUN/       0700, log.jsonl, seal.json (`audit.log`), console.log (`supervisor.streams`)
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.chain import LONGEST_LINE
from mvm.audit.run_id import is_run_id
from mvm.errors import AuditError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNS = "runs"
LOG_FILE = "log.jsonl"
SEAL_FILE = "seal.json"
CONSOLE_FILE = "console.log"

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def state_directory(environ: Mapping[str, str]) -> str:
    """Say where state lives; nothing is made or examined.

    Args:
        environ: the caller's environment (`os.environ`).

    Returns:
        An absolute path: `$MVM_STATE_DIR`, else `$XDG_STATE_HOME/mvm`, else `~/.local/state/mvm`.

    Raises:
        AuditError: the variable holds a relative path, or there is no home directory.
    """
    if own := environ.get("MVM_STATE_DIR"):
        return _absolute("MVM_STATE_DIR", own)
    # The XDG Base Directory Specification tells readers to ignore relative paths.
    if (base := environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return f"{base.rstrip('/')}/mvm"
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        msg = "there is no place for the record: neither MVM_STATE_DIR, XDG_STATE_HOME nor HOME is set"
        raise AuditError(msg, hint="set MVM_STATE_DIR to a directory of your own")
    return f"{home.rstrip('/')}/.local/state/mvm"


def runtime_directory(environ: Mapping[str, str]) -> str:
    """Say where running sandboxes keep their sockets; nothing is made or examined.

    Args:
        environ: the caller's environment (`os.environ`).

    Returns:
        An absolute path: `$MVM_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/mvm`, else `run` in the state directory.

    Raises:
        AuditError: as `state_directory`.
    """
    if own := environ.get("MVM_RUNTIME_DIR"):
        return _absolute("MVM_RUNTIME_DIR", own)
    if (base := environ.get("XDG_RUNTIME_DIR", "")).startswith("/"):
        return f"{base.rstrip('/')}/mvm"
    return f"{state_directory(environ)}/run"


def _absolute(variable: str, path: str) -> str:
    if not path.startswith("/"):
        msg = f"{variable} is {path!r}, and where that is would depend on the working directory"
        raise AuditError(msg, hint=f"set {variable} to an absolute path")
    return path.rstrip("/") or "/"


def open_private(path: str, *, below: int | None = None) -> int:
    """Open a directory that nobody else can write, making it with mode 0700 if it is not there.

    Args:
        path: absolute; or one name inside `below`.
        below: the descriptor of the directory it is in, or None.

    Returns:
        A descriptor of the directory itself, never of something put in its place; the caller closes it.

    Raises:
        AuditError: it is not a directory, a symbolic link, somebody else's, writable by group or others,
            or it cannot be made.
    """
    try:
        _make(path, below)
        directory = os.open(path, _OPEN_DIRECTORY, dir_fd=below)
    except NotADirectoryError as error:
        msg = f"{_whole(path, below)} is not a directory (or a symbolic link), so no record can be kept there"
        raise AuditError(msg, hint="set MVM_STATE_DIR to a directory of your own") from error
    except OSError as error:
        msg = f"{_whole(path, below)} cannot be used for the record: {error.strerror}"
        raise AuditError(msg, hint="set MVM_STATE_DIR to a directory that you can write") from error
    try:
        _check_owner(_whole(path, below), os.fstat(directory))
    except AuditError:
        os.close(directory)
        raise
    return directory


def _whole(path: str, below: int | None) -> str:
    """The path as a message has it."""
    return path if below is None else f"{os.readlink(f'/proc/self/fd/{below}')}/{path}"


def _make(path: str, below: int | None) -> None:
    if below is None and (parent := os.path.dirname(path)) not in ("", "/"):  # pathlib costs 4 ms
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        except FileNotFoundError:
            _make(parent, None)
        else:
            return
    try:
        os.mkdir(path, 0o700, dir_fd=below)
    except FileExistsError:
        return


def place_file(
    directory: int, name: str, content: bytes, *, replace: bool = False, mode: int = 0o600
) -> bool:
    """Let a file appear whole or not at all, and durably.

    Args:
        directory: a descriptor of the directory.
        name: the file's, in it.
        content: all of it.
        replace: whether one that is there already gives way; without, it stays.
        mode: of the file, before the umask.

    Returns:
        Whether it is there now; not where another stayed.

    Raises:
        OSError: it can't be written.
    """
    draft = f".{name}.{os.getpid()}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(draft, flags, mode, dir_fd=directory)
    is_there = True
    try:
        with os.fdopen(file, "wb", buffering=0) as opened:
            if opened.write(content) != len(content):
                msg = "no space left for it"
                raise OSError(msg)
            os.fsync(file)
        if replace:
            os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
            return is_there
        try:
            os.link(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
        except FileExistsError:  # another creator was first: its key counts
            is_there = False
        os.unlink(draft, dir_fd=directory)
        os.fsync(directory)
    except BaseException:  # also an interruption leaves no private key lying about
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=directory)
        raise
    return is_there


def _check_owner(path: str, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        msg = f"{path} belongs to user {found.st_uid}, not to you ({os.geteuid()})"
        raise AuditError(msg, hint="set MVM_STATE_DIR to a directory of your own")
    if found.st_mode & _OTHERS_MAY_WRITE:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        msg = f"{path} can be written by others (mode {mode}), so that a record there proves nothing"
        raise AuditError(msg, hint=f"chmod go-w {path}")


class Run(NamedTuple):
    """One run that state knows of.

    Attributes:
        id: its run id.
        directory: absolute path of `runs/RUN`.
        name: the name its sandbox was given, or an empty string where its log does not say.
    """

    id: str
    directory: str
    name: str

    @property
    def log(self) -> str:
        """The path of its log."""
        return f"{self.directory}/{LOG_FILE}"

    @property
    def console(self) -> str:
        """The path of its console output, which is kept where it ran detached."""
        return f"{self.directory}/{CONSOLE_FILE}"


def list_runs(directory: str) -> tuple[Run, ...]:
    """List the runs, oldest first; a state directory that is not there has none.

    Args:
        directory: the state directory.

    Raises:
        AuditError: the directory cannot be read.
    """
    runs = f"{directory}/{RUNS}"
    try:
        names = sorted(filter(is_run_id, os.listdir(runs)))  # pathlib costs 4 ms
    except FileNotFoundError:
        return ()
    except OSError as error:
        msg = f"the runs in {runs} cannot be listed: {error.strerror}"
        raise AuditError(msg) from error
    return tuple(_run_at(f"{runs}/{name}", name) for name in names)


def find_run(directory: str, text: str) -> Run:
    """Find the run that somebody means.

    Args:
        directory: the state directory.
        text: a run id, the name of a sandbox (then its newest run), or the beginning of exactly one id.

    Returns:
        The run.

    Raises:
        UsageError: none is meant, or more than one.
        AuditError: the directory cannot be read.
    """
    runs = list_runs(directory)
    wanted = text.upper()
    found = [run for run in runs if run.id == wanted] or [run for run in runs if run.name == text][-1:]
    found = found or [run for run in runs if wanted and run.id.startswith(wanted)]
    match found:
        case [run]:
            return run
        case []:
            msg = f"there is no run {text!r}"
            raise UsageError(msg, hint="mvmctl ls -a lists the runs that are known")
        case _:
            msg = f"{text!r} is the beginning of {len(found)} run ids"
            raise UsageError(msg, hint=f"write more of it, for example {found[-1].id}")


def _run_at(directory: str, run: str) -> Run:
    return Run(id=run, directory=directory, name=_name_in(f"{directory}/{LOG_FILE}"))


def _name_in(log: str) -> str:
    """Read the name from the first line; what is wrong with a log is for `audit.chain` to say."""
    import json  # only listing reads JSON

    try:
        file = os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(file, "rb") as opened:
            first = json.loads(opened.readline(LONGEST_LINE))
    except (OSError, ValueError, RecursionError):
        return ""
    name = first.get("name") if isinstance(first, dict) else None
    return name if isinstance(name, str) else ""
