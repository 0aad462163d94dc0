"""Asking this machine: find a tool, run it with bounds, read one configuration file.

Owns every process and every file that discovery touches. Must never use a shell, inherit the
caller's working directory (a project's files there could be run or believed), wait without a limit,
or keep more than `LIMIT` bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mvm.terms import Seconds

if TYPE_CHECKING:
    import re
    import subprocess
    from collections.abc import Mapping, Sequence

LIMIT = 1 << 20
"""Bytes kept of a tool's output and accepted of a configuration file."""

PATIENCE = Seconds(8.0)
"""How long one tool may take to answer; a warm one takes less than 0.2 s."""


class NoAnswer(Exception):
    """A tool or file could not be asked; the text says why and holds nothing of its content."""


def find_tool(name: str, environ: Mapping[str, str]) -> Path | None:
    """Find a command as the caller's shell would.

    Args:
        name: the command's name, without a slash.
        environ: where PATH is read; its relative entries are passed over, since they mean the
            working directory.

    Returns:
        The absolute path, links not followed, or None.
    """
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = Path(folder, name)
        if candidate.is_absolute() and os.access(candidate, os.X_OK) and candidate.is_file():
            return candidate
    return None


def home(environ: Mapping[str, str]) -> Path:
    """Give the caller's home directory: HOME where it is set and absolute, else the user database's."""
    named = environ.get("HOME", "")
    return Path(named) if named.startswith("/") else Path("~").expanduser()


def ask(argv: Sequence[str], environ: Mapping[str, str], *, patience: Seconds = PATIENCE) -> str:
    """Run a tool from the root directory and give what it writes to standard output.

    Args:
        argv: the tool's absolute path and its arguments.
        environ: its environment; the language is fixed to C.
        patience: seconds until it is ended, with every process of its group.

    Returns:
        Its output, at most `LIMIT` bytes, undecodable bytes replaced.

    Raises:
        NoAnswer: it could not be started, took too long, wrote too much, or ended with an error.
    """
    import subprocess

    try:
        process = subprocess.Popen(
            list(argv),
            cwd="/",
            env={**environ, "LC_ALL": "C", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        message = f"could not be started ({error.strerror})"
        raise NoAnswer(message) from error
    with process:
        try:
            output = _drain(process, patience)
        finally:
            _end_group(process)
    if process.returncode:
        message = f"ended with status {process.returncode}"
        raise NoAnswer(message)
    return output.decode("utf-8", "replace")


def _drain(process: subprocess.Popen[bytes], patience: Seconds) -> bytes:
    """Read to the end of output and wait for the exit, both within `patience`."""
    import select
    import subprocess
    import time

    assert process.stdout is not None  # asked for as a pipe above; tells the type
    deadline = time.monotonic() + patience
    kept = bytearray()
    late = f"did not answer within {patience:g} s"
    while True:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise NoAnswer(late)
        block = os.read(process.stdout.fileno(), 1 << 16)
        if not block:
            break
        kept += block
        if len(kept) > LIMIT:
            message = f"wrote more than {LIMIT} bytes"
            raise NoAnswer(message)
    try:
        process.wait(max(0.001, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(late) from error
    return bytes(kept)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a tool: version managers put a shell in front of the real one."""
    import signal

    if process.returncode is None:  # not reaped yet, so its number cannot be another's
        os.killpg(process.pid, signal.SIGKILL)


def read_file(path: Path, *, limit: int = LIMIT) -> str | None:
    """Read one configuration file.

    Args:
        path: the file; links are followed.
        limit: bytes accepted; a larger file is refused.

    Returns:
        Its text, undecodable bytes replaced, or None where there is none.

    Raises:
        NoAnswer: it is there and cannot be read, is no regular file, or is larger than `limit`.
    """
    import stat

    if str(path) == os.devnull:  # how people say "no file"
        return None
    try:
        # O_NONBLOCK: opening a FIFO in the place of a file must not stop us
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                message = f"{path} is no regular file"
                raise NoAnswer(message)
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read ({getattr(error, 'strerror', None) or 'no file name'})"
        raise NoAnswer(message) from error
    if len(content) > limit:
        message = f"{path} is larger than {limit} bytes"
        raise NoAnswer(message)
    return content.decode("utf-8", "replace")


def search_program(path: Path, pattern: re.Pattern[bytes]) -> bytes | None:
    """Search a program's file for a constant, without reading it whole into memory.

    Args:
        path: the program.
        pattern: what to look for, with one group.

    Returns:
        The group of the first match, or None.

    Raises:
        NoAnswer: it can't be read.
    """
    import mmap

    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = pattern.search(content)
            return bytes(found[1]) if found else None
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read"
        raise NoAnswer(message) from error
