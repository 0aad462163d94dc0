"""Who is told what happens: in a sandbox as a whole, and to one command of it.

Owns these two shapes, so that whoever tells need not know who listens.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.audit.denial import Denial
    from mvm.gateway.failure import Failure

_EXIT_NOT_FOUND, _EXIT_NOT_RUN = 127, 126


class Listener:
    """Who is told what happens in a sandbox; every method may be left as it is."""

    def denied(self, denial: Denial) -> None:
        """A distinct denial happened for the first time."""

    def failed(self, host: str, port: int, failure: Failure) -> None:
        """A granted host could not be reached: the network, not the policy."""

    def ended(self, result: dict[str, object]) -> None:
        """The sandbox is gone; `result` is `mvm.result/1`."""


class Job:
    """One command in a sandbox.

    Attributes:
        started: called when it runs, with the controlling side of its terminal or None.
        ended: called when it has ended, with its status.
        failed: called instead of both, with an errno and what was tried.
    """

    def __init__(
        self,
        *,
        started: Callable[[int | None], None],
        ended: Callable[[int], None],
        failed: Callable[[int, str], None],
    ) -> None:
        self.started, self.ended, self.failed = started, ended, failed


def why_unstarted(tried: str, code: int) -> tuple[str, int]:
    """Say why a command could not be started, by the kernel's error, and the status for that, as env(1)."""
    if code == errno.ENOENT:
        return f"{tried}: not found in the sandbox", _EXIT_NOT_FOUND
    return f"{tried}: {os.strerror(code).lower()}", _EXIT_NOT_RUN
