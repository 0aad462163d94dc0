"""The files that say what may be reached, read whole: a policy file, a capability file.

Owns what is no such file at all: one that can't be read, is too large, or is no text. Must never judge what
stands in it.
"""

from __future__ import annotations

from mvm.errors import UsageError

_LARGEST_FILE = 1 << 26


def read_text(path: str, *, kind: str, hint: str) -> str:
    """Read a file.

    Args:
        path: where it is.
        kind: what it should be, for people: `policy file`.
        hint: what to do where it can't be read.

    Raises:
        UsageError: it is not there, can't be read, or is no text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else None
        raise UsageError(
            f"the {kind} {path} can't be read: {(why or str(error)).lower()}", hint=hint
        ) from error
    if len(data) > _LARGEST_FILE:
        raise UsageError(f"the {kind} {path} is too large", hint="it should be a few kilobytes of text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"the {kind} {path} is not UTF-8 text (byte {error.start})"
        raise UsageError(msg, hint="save it as UTF-8") from error


def read_capability_text(path: str) -> str:
    """Read a capability file.

    Raises:
        UsageError: as `read_text`.
    """
    return read_text(path, kind="capability file", hint="name a capability file that you can read")
