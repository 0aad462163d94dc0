"""What a policy demands, and the refusal of what nobody can enforce."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from mvm.errors import BackendUnavailable
from mvm.plan.capabilities import demands, require
from mvm.policy.model import Dns, Forward, Grant, Policy
from mvm.terms import Bytes, Demand, DnsMode, HostName, Preset, Protocol

CLOSED = Policy(
    grants=(), dns=Dns(mode=DnsMode.NONE), preset=Preset.NONE, unrestricted=False, forwards=(), ttl=None
)
GRANT = Grant(host=HostName("api.example.test"), port=443)
NAMES = Dns(mode=DnsMode.SYSTEM)


def test_even_a_closed_policy_demands_that_nothing_leaves() -> None:
    """`no-egress` is a demand like any other: a backend without it is refused."""
    assert Demand.NO_EGRESS in demands(CLOSED)
    assert Demand.HOST_PORT not in demands(CLOSED)


@pytest.mark.parametrize(
    ("policy", "demand"),
    [
        (replace(CLOSED, grants=(GRANT,), dns=NAMES), Demand.HOST_PORT),
        (replace(CLOSED, grants=(GRANT,), dns=NAMES), Demand.SNI),
        (replace(CLOSED, grants=(GRANT,), dns=NAMES), Demand.DNS),
        (replace(CLOSED, grants=(replace(GRANT, protocol=Protocol.UDP),), dns=NAMES), Demand.UDP),
        (replace(CLOSED, grants=(replace(GRANT, max_up=Bytes(1)),), dns=NAMES), Demand.BUDGETS),
        (replace(CLOSED, grants=(replace(GRANT, max_down=Bytes(1)),), dns=NAMES), Demand.BUDGETS),
        (replace(CLOSED, unrestricted=True, dns=NAMES), Demand.UDP),
        (
            replace(
                CLOSED, forwards=(Forward(address=ip_address("127.0.0.1"), host_port=8080, guest_port=80),)
            ),
            Demand.INBOUND_PORTS,
        ),
    ],
)
def test_a_policy_demands_what_it_uses_and_is_refused_where_that_is_missing(
    policy: Policy, demand: Demand
) -> None:
    """Each part of a policy is a demand; a backend that lacks it refuses, one that has it enforces it."""
    asked = demands(policy)
    assert demand in asked
    assert require("namespace", asked, {}) == asked
    with pytest.raises(BackendUnavailable, match=demand):
        require("weak", asked, {demand: "not built"})


def test_what_is_missing_and_not_asked_for_refuses_nothing() -> None:
    """A backend without UDP runs a policy without UDP."""
    asked = demands(CLOSED)
    assert require("weak", asked, {Demand.UDP: "not built"}) == asked
