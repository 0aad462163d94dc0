"""A request on its way to the library's helper process."""

from __future__ import annotations

import json
from ipaddress import ip_address

from mvm.policy.model import Dns, Forward, Grant, Policy
from mvm.policy.parse import parse_grant
from mvm.supervisor.request import Request, request_from_json
from mvm.terms import DnsMode, HostName, Limits, Preset, Seconds


def _policy(*grants: Grant) -> Policy:
    return Policy(
        grants=grants,
        dns=Dns(mode=DnsMode.SYSTEM, static=((HostName("a.example.test"), (ip_address("93.184.216.34"),)),)),
        preset=Preset.NONE,
        unrestricted=False,
        forwards=(Forward(address=ip_address("127.0.0.1"), host_port=8080, guest_port=80),),
        ttl=Seconds(60.0),
    )


def test_a_request_comes_out_of_json_as_it_went_in() -> None:
    """Policy, sources and every other word; nothing is widened on the way."""
    grant = parse_grant("a.example.test:443,reason=because,max-up=10MB,expires=10m")
    request = Request(
        policy=_policy(grant),
        argv=("sh", "-c", "true"),
        name="box",
        workspace="/work",
        volumes=("a:/b:ro",),
        environ=("A=1",),
        limits=Limits(memory=1 << 20, pids=5),
        timeout=Seconds(1.5),
        stop_on_denial=True,
    )
    assert request_from_json(json.loads(json.dumps(request.to_json()))) == request


def test_an_unrestricted_policy_stays_one_and_a_closed_one_stays_closed() -> None:
    """The two ends of what a policy may be are never taken for each other."""
    for unrestricted in (True, False):
        policy = Policy(
            grants=(),
            dns=Dns(mode=DnsMode.SYSTEM),
            preset=Preset.UNRESTRICTED if unrestricted else Preset.NONE,
            unrestricted=unrestricted,
            forwards=(),
            ttl=None,
        )
        there = request_from_json(json.loads(json.dumps(Request(policy=policy).to_json())))
        assert there.policy.unrestricted is unrestricted
