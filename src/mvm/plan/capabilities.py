"""What a policy demands of whoever enforces it, and the refusal of what can't be enforced.

Owns the one place where a demand is met or the plan is refused. Pure. Must never leave a demand out
because nobody can meet it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.errors import BackendUnavailable
from mvm.terms import Demand, DnsMode, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mvm.policy.model import Policy


def demands(policy: Policy) -> tuple[Demand, ...]:
    """Name what a policy asks of a backend, sorted."""
    grants = policy.grants
    asked = {Demand.NO_EGRESS, Demand.IPV6, Demand.LIVE_REVOKE}
    if grants or policy.unrestricted:
        asked |= {Demand.HOST_PORT, Demand.SNI}
    if policy.dns.mode is not DnsMode.NONE or policy.dns.static:
        asked.add(Demand.DNS)
    if policy.unrestricted or any(grant.protocol is Protocol.UDP for grant in grants):
        asked.add(Demand.UDP)
    if any(grant.max_up is not None or grant.max_down is not None for grant in grants):
        asked.add(Demand.BUDGETS)
    if policy.forwards:
        asked.add(Demand.INBOUND_PORTS)
    return tuple(sorted(asked))


def require(backend: str, asked: tuple[Demand, ...], missing: Mapping[Demand, str]) -> tuple[Demand, ...]:
    """Refuse a backend that can't enforce what was asked.

    Args:
        backend: its name.
        asked: what the policy demands.
        missing: what the backend can't enforce, and why.

    Returns:
        The demands that will be enforced: all of them.

    Raises:
        BackendUnavailable: one of them can't be.
    """
    unmet = [demand for demand in asked if demand in missing]
    if unmet:
        reasons = "; ".join(f"{demand} ({missing[demand]})" for demand in unmet)
        msg = f"the backend {backend} cannot enforce {reasons}"
        raise BackendUnavailable(msg, hint="choose another --backend; mvmctl doctor says what each enforces")
    return asked
