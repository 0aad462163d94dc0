"""Named workspaces: directories in which state outlives its sandbox, and the rule by which it goes.

Owns their place below the state directory, who uses one, and their removal. What is in one was written by
untrusted code: it is never read here, and never removed through a link.

    STATE/workspaces/NAME/    0700
      rule.json               {"retain_s": 604800}; locked while a sandbox uses it, its time is the last use
      home/                   0700, seen inside as `HOME`

One is removed when any is next asked for: mvm has no process of its own that waits. What is past its time is
therefore never seen again, though its bytes may lie on the disk until then.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.state import open_private
from mvm.errors import AuditError, UsageError
from mvm.images.removal import remove

if TYPE_CHECKING:
    from mvm.terms import Seconds

_DIRECTORY, _RULE, _HOME = "workspaces", "rule.json", "home"


def kept_path(state: str, name: str) -> str:
    """Say where a workspace's files are; nothing is made or looked at.

    Args:
        state: the state directory.
        name: the workspace's, a name by `policy.browser`.
    """
    return f"{state}/{_DIRECTORY}/{name}/{_HOME}"


class Kept(NamedTuple):
    """A workspace in use.

    Attributes:
        rule: the descriptor of its rule, whose lock says that it is used.
    """

    rule: int

    def close(self) -> None:
        """Its sandbox has ended: its time to be kept begins."""
        os.utime(self.rule)
        fcntl.flock(self.rule, fcntl.LOCK_UN)  # the keeper, forked meanwhile, shares it until it has ended
        os.close(self.rule)


def take(state: str, name: str, retain: Seconds, now: float) -> Kept:
    """Take a workspace for one sandbox, making it if need be; first, remove all that are past their time.

    Args:
        state: the state directory.
        name: the workspace's.
        retain: how long it is kept after this use.
        now: seconds since the epoch.

    Raises:
        UsageError: another sandbox uses it.
        AuditError: it can't be kept there.
    """
    os.close(open_private(state))
    directory = open_private(f"{state}/{_DIRECTORY}")
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # one at a time looks which are past their time
        _sweep(directory, now)
        return _take(directory, name, retain)
    except OSError as error:
        msg = f"the workspace {name} can't be used: {error.strerror}"
        raise AuditError(msg, hint="set MVM_STATE_DIR to a directory that you can write") from error
    finally:
        os.close(directory)


def _take(directory: int, name: str, retain: Seconds) -> Kept:
    place = open_private(name, below=directory)
    try:
        os.close(open_private(_HOME, below=place))
        rule = os.open(_RULE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place)
    finally:
        os.close(place)
    try:
        _lock(rule)
        os.ftruncate(rule, 0)
        os.pwrite(rule, json.dumps({"retain_s": retain}).encode(), 0)
        os.fsync(rule)
    except BlockingIOError:
        os.close(rule)
        msg = f"the workspace {name} is used by another sandbox"
        raise UsageError(msg, hint="wait for it, end it (mvmctl ls), or name another workspace") from None
    except BaseException:
        os.close(rule)
        raise
    return Kept(rule)


def _lock(rule: int) -> None:
    fcntl.flock(rule, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sweep(directory: int, now: float) -> None:
    for name in os.listdir(directory):
        with suppress(BlockingIOError):  # it is used
            if _is_past(directory, name, now):
                remove(directory, os.fsencode(name))


def _is_past(directory: int, name: str, now: float) -> bool:
    """Tell whether a workspace is past its time; one without a readable rule has none.

    Raises:
        BlockingIOError: it is used.
    """
    try:
        rule = os.open(f"{name}/{_RULE}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return True
    try:
        _lock(rule)
        retain = json.loads(os.pread(rule, 4096, 0))["retain_s"]
        return not isinstance(retain, int | float) or os.fstat(rule).st_mtime + retain < now
    except (ValueError, KeyError, TypeError):
        return True
    finally:
        os.close(rule)
