"""What a workload does first of all: connect, to one place after the other, before anything else is loaded.

Owns the shell's words for it and the reading of what it says. A place is `HOST/PORT`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.mvmctl import Ended

_AT_ONCE_S = 0.9
"""Far more than it takes; a SYN is repeated after a second, a question after two."""
_WORDS = (
    # A shell that connects by itself, as its very first act: nothing that loads for longer comes before.
    'say() { if : 2>/dev/null <>"/dev/tcp/$1"; then echo "open $1"; else echo "shut $1"; fi; }\n'
    "began=$EPOCHREALTIME\n"
    'for place; do say "$place"; done\n'
    'ended=$EPOCHREALTIME; echo "took $(( ${ended/[.,]/} - ${began/[.,]/} ))"\n'
)


def first_acts(*places: str) -> tuple[str, ...]:
    """The command that tries these places."""
    return ("bash", "--norc", "--noprofile", "-c", _WORDS, "bash", *places)


def shut(*places: str) -> list[str]:
    """What it says where each of them is refused."""
    return [f"shut {place}" for place in places]


def expect_shut(ended: Ended, *places: str) -> None:
    """Each place was refused, all of them sooner than anything is tried anew, on the workload's own clock."""
    *said, took = ended.expect(0).stdout.splitlines()
    assert said == shut(*places)
    assert int(took.removeprefix("took ")) < _AT_ONCE_S * 1e6
