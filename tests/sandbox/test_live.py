"""The policy of a running sandbox: replaced as a whole, compared first, flows of what is gone reset."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import mvm
from tests.sandbox.reaching import closed, get, open_to, python

if TYPE_CHECKING:
    from tests.sandbox.conftest import Start
    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

_SOON_S, _ROUNDS = 0.1, 30
_API, _OTHER, _ECHO = "api.example.test:80", "other.example.test:80", "echo.example.test:7"

_HOLD = """
import socket, sys, time
sock = socket.create_connection(("echo.example.test", 7))
sock.sendall(b"x")
print(sock.recv(1).decode(), flush=True)
try:
    print("data" if sock.recv(1) else "end", time.monotonic(), flush=True)
except ConnectionResetError:
    print("reset", time.monotonic(), flush=True)
"""
"""Holds a flow open, and says when it was reset."""


def _reaches(sandbox: mvm.Sandbox, place: str) -> bool:
    return sandbox.run(get(place.partition(":")[0])).returncode == 0


def test_another_policy_replaces_all_of_the_first(box: Start) -> None:
    """What was granted before is not any more, and what was not is."""
    sandbox = box(open_to(_API))
    assert (_reaches(sandbox, _API), _reaches(sandbox, _OTHER)) == (True, False)
    sandbox.set_network(open_to(_OTHER))
    assert (_reaches(sandbox, _API), _reaches(sandbox, _OTHER)) == (False, True)
    sandbox.set_network(closed())
    assert (_reaches(sandbox, _API), _reaches(sandbox, _OTHER)) == (False, False)


def test_the_digest_is_that_of_the_policy(box: Start) -> None:
    """`set_network` gives the digest that `network_digest` then shows; the same policy has the same one."""
    sandbox = box(open_to(_API))
    first = sandbox.network_digest
    second = sandbox.set_network(open_to(_API, _OTHER))
    assert sandbox.network_digest == second != first
    assert sandbox.set_network(open_to(_OTHER, _API)) == second
    assert sandbox.set_network(open_to(_API)) == first


def test_a_policy_that_is_not_the_expected_one_is_not_replaced(box: Start) -> None:
    """A stale digest is refused and changes nothing; the present one is taken."""
    sandbox = box(open_to(_API))
    stale = sandbox.network_digest
    present = sandbox.set_network(closed(), expect=stale)
    with pytest.raises(mvm.UsageError, match=present):
        sandbox.set_network(open_to(_OTHER), expect=stale)
    assert sandbox.network_digest == present
    assert not _reaches(sandbox, _OTHER)
    sandbox.set_network(open_to(_OTHER), expect=present)
    assert _reaches(sandbox, _OTHER)


def test_a_policy_that_is_not_acceptable_changes_nothing(box: Start) -> None:
    """A value that is no network, and a name without a DNS policy: refused, and the first one stands."""
    sandbox = box(open_to(_API))
    before = sandbox.network_digest
    nobody_resolves = mvm.network(mode="bridge", egress=mvm.egress([mvm.host_port("other.example.test", 80)]))
    for wrong in ("none", None, nobody_resolves):
        with pytest.raises(mvm.PolicyRefused):
            sandbox.set_network(wrong)
    assert sandbox.network_digest == before
    assert _reaches(sandbox, _API)


def test_inbound_ports_stay(box: Start) -> None:
    """Ports of a running sandbox can't be changed: refused, with what to do instead."""
    sandbox = box()
    with pytest.raises(mvm.UsageError, match="inbound ports"):
        sandbox.set_network(mvm.network(mode="bridge", ports=["8080"]))
    assert sandbox.describe()["ports"] == []


def test_flows_of_a_revoked_grant_are_reset(box: Start, internet: Internet) -> None:
    """Within 100 ms at the best of a few rounds, as others share this machine; on both sides in each."""
    sandbox = box()
    taken: list[float] = []
    while not taken or taken[-1] >= _SOON_S:
        assert len(taken) < _ROUNDS, taken
        sandbox.set_network(open_to(_ECHO, _API))
        before = internet.arrivals("echo.example.test")
        with sandbox.popen(python(_HOLD)) as process:
            assert process.stdout.readline() == b"x\n"
            began = time.monotonic()
            sandbox.set_network(open_to(_API))
            word, moment = process.communicate(timeout=20)[0].split()
        assert word == b"reset"
        taken.append(float(moment) - began)
        internet.wait_for_arrivals("echo.example.test", resets=before.resets + 1)


def test_flows_of_a_grant_that_stays_go_on(box: Start) -> None:
    """The twin: a change that leaves the grant as it is leaves its flows alone."""
    sandbox = box(open_to(_ECHO, _API))
    with sandbox.popen(python(_HOLD)) as process:
        assert process.stdout.readline() == b"x\n"
        sandbox.set_network(open_to(_ECHO))
        sandbox.run(["true"])
        assert process.poll() is None


def test_each_sandbox_has_a_policy_of_its_own(box: Start) -> None:
    """A change of one changes nothing in the other, though one process holds both."""
    one, other = box(open_to(_API)), box(open_to(_API))
    one.set_network(closed())
    assert (_reaches(one, _API), _reaches(other, _API)) == (False, True)
