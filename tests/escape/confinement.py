"""Tries against the confinement of one sandbox: `calls.py` run in it, and what must come of each.

Owns the conversation with that program. Every refusal has its twin in the same breath: an ordinary socket
opens in the same sandbox, so that a broken program can't pass for a safe one.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tests.escape.inside import interpreter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.escape.inside import Inside
    from tests.support.mvmctl import Mvmctl

_SOURCE = Path(__file__).with_name("calls.py").read_text("utf-8")
_ORDINARY = ("call", "socket", int(socket.AF_INET), int(socket.SOCK_STREAM), 0)
_PATIENCE_S = 10.0

NOT_ALLOWED = frozenset({"EPERM", "EACCES"})
"""What a workload hears that may not."""


def program(*acts: Sequence[object]) -> list[str]:
    """The command that tries acts; see `calls`."""
    return [interpreter(), "-I", "-S", "-c", _SOURCE, json.dumps(acts)]


class Confined:
    """A sandbox in which acts are tried.

    Args:
        inside: where.
        mvmctl: the command line it was started with.
        shown: a directory of the host that is seen at /shown, read-only.

    Attributes:
        reasons: for which of them acts may be denied and recorded; none are by themselves.
    """

    def __init__(self, inside: Inside, mvmctl: Mvmctl, shown: Path) -> None:
        self.inside, self.mvmctl, self.shown = inside, mvmctl, shown
        self.reasons: set[str] = set()

    def tries(self, *acts: Sequence[object]) -> list[str]:
        """What comes of acts, of which nothing may arrive outside."""
        said = self.inside.denied("run", argv=program(*acts), within_s=_PATIENCE_S)
        assert said.status == 0, said.errors
        found: list[str] = json.loads(said.data)
        return found

    def refused(
        self,
        *act: object,
        by: frozenset[str] = NOT_ALLOWED,
        beside: Sequence[Sequence[object]] = (_ORDINARY,),
    ) -> None:
        """One act fails as `by` says, while those beside it, an ordinary socket if none is named, work."""
        found, *others = self.tries(act, *beside)
        assert found in by, f"{act}: {found}"
        assert set(others) == {"ok"}, f"{beside}: {others}"

    def works(self, *act: object) -> None:
        """The twin: one act works."""
        assert self.tries(act) == ["ok"], act
