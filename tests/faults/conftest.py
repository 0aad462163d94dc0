"""What holds after every fault: nothing is left, the record verifies, and nobody was met but who is granted.

Owns that judgement, once for all tests of this folder; a test says whom it grants, and whether it kills the
process that would have sealed the record. Must never be left out: it is there without being asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import addresses

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.support.cast import Host
    from tests.support.internet import Internet, Outside
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

_FAILED = pytest.StashKey[bool]()
_NAME_SERVERS = frozenset({*addresses.NAME_SERVERS, *addresses.OTHER_NAME_SERVERS})
_PATIENCE_S = 10.0


class Aftermath:
    """What a test says of itself before it is judged; without a word, nobody may be met and all is sealed."""

    def __init__(self) -> None:
        """Grant nothing."""
        self.granted: set[str] = set()
        """The addresses that may be met besides the name servers'."""
        self.is_sealed = True
        """Whether every record has its seal: false where the process that seals it is killed."""

    def grant(self, *hosts: Host) -> None:
        """The test grants these hosts."""
        self.granted.update(address for host in hosts for address in host.addresses)

    def expect_only_granted(self, outside: Outside) -> None:
        """Nothing else was met, by any protocol. Raises AssertionError with what was.

        An answer whose asker is dead makes the host's kernel tell the name server so, by ICMP.
        """
        met = {
            packet
            for packet in outside.besides_names
            if packet.address not in self.granted
            and not (packet.protocol == "icmp" and packet.address in _NAME_SERVERS)
        }
        assert not met, f"met without a grant: {met}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test itself has failed: what it then leaves behind is no news."""
    report = yield
    if call.when == "call" and call.excinfo is not None:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(autouse=True)
def aftermath(
    request: pytest.FixtureRequest, internet: Internet, mvmctl: Mvmctl, leftovers: Leftovers
) -> Iterator[Aftermath]:
    """Judge what a test has left, after all of its own fixtures but `mvmctl` have ended."""
    made = Aftermath()
    with internet.watch() as outside:
        yield made
        if request.node.stash.get(_FAILED, False):
            return
        leftovers.expect_none(within_s=_PATIENCE_S)
    made.expect_only_granted(outside)
    if any(mvmctl.state.glob("runs/*/log.jsonl")):
        mvmctl("audit", "verify", "--all", *(["--sealed"] if made.is_sealed else []), timeout_s=120).expect(0)
