"""What came of a run: the object `mvm.result/1` (SPEC section 2).

Owns its shape. Must never carry payload, paths or secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.terms import Cause, Outcome

if TYPE_CHECKING:
    from mvm.plan.plan import Plan
    from mvm.policy.model import Policy
    from mvm.supervisor.story import Sandbox

SCHEMA = "mvm.result/1"
EXIT_TIMEOUT = 124
EXIT_KILLED = 137
EXIT_DENIED = 77


def make_result(sandbox: Sandbox, outcome: Outcome, status: int | None, duration: float) -> dict[str, object]:
    """Say what came of a sandbox that has ended.

    Args:
        sandbox: which; its gateway is closed already, so that every denial is counted.
        outcome: how it ended.
        status: the first command's, or None where it has none.
        duration: seconds.
    """
    gateway = sandbox.gateway
    denials = [denial.to_json() for denial in gateway.refusals.ledger.denials]
    failures = gateway.failures
    stopped = sandbox.request.stop_on_denial and bool(denials)
    if stopped:
        outcome, status = Outcome.FAILED, EXIT_DENIED
    cause = _cause_of(outcome, status, denials=len(denials), failures=len(failures))
    return {
        "schema": SCHEMA,
        "run": sandbox.plan.run,
        "name": sandbox.plan.name,
        "backend": sandbox.plan.backend,
        "isolation": sandbox.plan.isolation,
        "image": {"kind": sandbox.plan.image.partition(":")[0], "digest": sandbox.plan.digest},
        "policy": describe_policy(sandbox.gateway.authority.policy, sandbox.plan),
        "outcome": str(outcome),
        "cause": None if cause is None else str(cause),
        "exit_code": _exit_code(outcome, status),
        "duration_s": duration,
        "denials": denials,
        "flows": gateway.flows(),
        "failures": failures,
        "receipt": None,
    }


def _cause_of(outcome: Outcome, status: int | None, *, denials: int, failures: int) -> Cause | None:
    """Say whose doing a run's end was, as far as it can be told from outside.

    Args:
        outcome: how it ended.
        status: the first command's, or None.
        denials: how many acts were denied.
        failures: how often a granted host could not be reached.
    """
    if outcome in {Outcome.COMPLETED, Outcome.TIMEOUT, Outcome.KILLED} or (status == 0):
        return None
    if denials:
        return Cause.POLICY
    return Cause.TRANSPORT if failures else Cause.GUEST


def _exit_code(outcome: Outcome, status: int | None) -> int:
    if outcome is Outcome.TIMEOUT:
        return EXIT_TIMEOUT
    if status is not None:
        return status
    return EXIT_KILLED if outcome is Outcome.KILLED else 0


def describe_policy(policy: Policy, plan: Plan) -> dict[str, object]:
    """Give the part `policy` of a result: what stood at the end, and what was enforced."""
    from mvm.policy.document import policy_digest
    from mvm.policy.parse import grant_to_json

    return {
        "digest": policy_digest(policy),
        "grants": [{**grant_to_json(grant), "source": grant.source} for grant in policy.grants],
        "requested": [str(demand) for demand in plan.requested],
        "achieved": [str(demand) for demand in plan.achieved],
    }
