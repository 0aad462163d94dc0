"""The refusals of images: what each is called, and what to do about it.

Owns the wording that several readers share. Must never open anything.
"""

from __future__ import annotations

import errno

from mvm.errors import BackendUnavailable, Finding, MvmError, PolicyRefused, used_up

FLAG = "--image"

_GET_ANEW = "get it anew, or build it again"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def refused(code: str, message: str, hint: str, source: str) -> PolicyRefused:
    """Refuse an image for what it is.

    Args:
        code: `archive-…` for what is in its files, `image-…` for what it says of itself.
        message: what is wrong.
        hint: what to do.
        source: the file it is in, for people.
    """
    return PolicyRefused([Finding(code=code, path=FLAG, message=message, hint=hint, source=source)])


def damaged(message: str, source: str, code: str = "archive-damaged") -> PolicyRefused:
    """Refuse what an accident explains as well as malice does."""
    return refused(code, message, _GET_ANEW, source)


def hostile(code: str, message: str, source: str) -> PolicyRefused:
    """Refuse what no tool that makes images does."""
    return refused(code, message, "no tool that makes images does this: do not use this one", source)


def shown(name: bytes) -> str:
    """Return a name in an archive as people may be shown it: quoted, and no longer than a line."""
    text = repr(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 120 else f"{text[:60]}…{text[-50:]}"


def failed(error: OSError, doing: str, source: str) -> MvmError:
    """Say what a failure of the system while an image was read or unpacked means.

    Args:
        error: what the system said.
        doing: what was tried, as in "unpacking 'a'".
        source: the image, for people.
    """
    reason = (error.strerror or str(error)).lower()
    if error.errno in {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}:
        return hostile("archive-name", f"{doing}: this name can't be made: {reason}", source)
    if error.errno in _NO_ROOM:
        return BackendUnavailable(f"{source}: {doing}: {reason}", hint="df -h shows where room is short")
    return used_up(error) or BackendUnavailable(
        f"{source}: {doing}: {reason}", hint="mvmctl doctor says what this machine can do"
    )
