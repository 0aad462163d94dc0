"""Edits of a standing policy: what they add and take, and what they leave as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mvm.errors import PolicyRefused
from mvm.policy.edit import grant_less, grant_more
from mvm.policy.parse import format_dns, format_grant, parse_grant
from mvm.policy.resolve import Asked, resolve

if TYPE_CHECKING:
    from mvm.policy.model import Policy


def policy(
    *allow: str, dns: str | None = None, static: tuple[str, ...] = (), ports: tuple[str, ...] = ()
) -> Policy:
    """Make a policy as a command line would."""
    return resolve(Asked(allow=allow, dns=dns, dns_static=static, ports=ports), lambda: ()).policy


def spelled(made: Policy) -> list[str]:
    """Write its grants."""
    return [format_grant(grant) for grant in made.grants]


def test_a_grant_is_added_and_the_rest_stays() -> None:
    """What stood stands, what was asked for is there, ports and answers are the same."""
    before = policy("a.example:443", ports=("8080",), static=("c.example=192.0.2.7",))
    after, warnings = grant_more(before, [parse_grant("b.example:443")])
    assert spelled(after) == ["a.example:443", "b.example:443"]
    assert (after.forwards, after.dns, after.ttl) == (before.forwards, before.dns, before.ttl)
    assert warnings == ()


def test_a_grant_for_the_same_place_replaces_the_one_before() -> None:
    """Host, port and protocol name a grant: what is said of it anew stands alone."""
    before = policy("a.example:443,expires=1m,reason=old")
    after, _ = grant_more(before, [parse_grant("a.example:443,max-up=1MB")])
    assert spelled(after) == ["a.example:443,max-up=1MB"]


def test_two_grants_that_disagree_are_refused() -> None:
    """In one edit, the same place with two budgets has no meaning."""
    grants = [parse_grant("a.example:443,max-up=1MB"), parse_grant("a.example:443,max-up=2MB")]
    with pytest.raises(PolicyRefused) as refusal:
        grant_more(policy(), grants)
    assert [finding.code for finding in refusal.value.findings] == ["conflicting-grants"]


def test_names_are_resolved_as_soon_as_one_is_granted() -> None:
    """The first name brings `system` where nobody resolved; an address or a fixed answer does not."""
    assert format_dns(grant_more(policy(), [parse_grant("192.0.2.7:443")])[0].dns) == "none"
    assert format_dns(grant_more(policy(), [parse_grant("a.example:443")])[0].dns) == "system"
    fixed = policy(dns="none", static=("a.example=192.0.2.7",))
    assert format_dns(grant_more(fixed, [parse_grant("a.example:443")])[0].dns) == "none"


def test_a_resolver_that_was_chosen_stays() -> None:
    """An edit never changes who resolves where somebody does."""
    before = policy("a.example:443", dns="resolver=192.0.2.53")
    after, _ = grant_more(before, [parse_grant("b.example:443")])
    assert after.dns == before.dns


def test_a_grant_is_taken_and_the_rest_stays() -> None:
    """Exactly the named place goes, whatever else was said of it."""
    before = policy("a.example:443,max-up=1MB", "a.example:80", "a.example:443/udp", "b.example:443")
    after = grant_less(before, [parse_grant("a.example:443")])
    assert spelled(after) == ["a.example:80", "a.example:443/udp", "b.example:443"]


def test_what_is_not_granted_can_not_be_taken() -> None:
    """Every such place is told, and nothing changes."""
    with pytest.raises(PolicyRefused) as refusal:
        grant_less(policy("a.example:443"), [parse_grant("a.example:80"), parse_grant("b.example:443")])
    assert [finding.code for finding in refusal.value.findings] == ["not-granted", "not-granted"]
