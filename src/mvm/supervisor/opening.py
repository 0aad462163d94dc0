"""The first lines of a run's record: what the sandbox is, what it was granted, and which ports lead in.

Owns what is told of these. Written whole before anything runs inside.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm import __version__
from mvm.audit.record import Kind
from mvm.policy.document import policy_digest
from mvm.policy.grants import grant_to_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mvm.audit.log import Log
    from mvm.plan.plan import Plan
    from mvm.supervisor.request import Request

    Entry = tuple[str, dict[str, object]]

_PLACE = ("host", "port", "protocol", "source")


def record_start(log: Log, plan: Plan, request: Request, limits: Sequence[str]) -> None:
    """Record that a sandbox begins.

    Args:
        log: the run's record, empty.
        plan: what was decided.
        request: what was asked; it may bring the decision on a tool.
        limits: which limits are held, each with how.

    Raises:
        AuditError: it can't be recorded.
    """
    log.append_all([_started(plan, limits), *_grants(plan, request), *_forwards(plan)])


def _started(plan: Plan, limits: Sequence[str]) -> Entry:
    policy = plan.policy
    return Kind.RUN_STARTED, {
        "name": plan.name,
        "version": __version__,
        "backend": plan.backend,
        "isolation": plan.isolation,
        "policy": policy_digest(policy),
        "preset": policy.preset,
        "unrestricted": policy.unrestricted,
        "dns": policy.dns.mode,
        "grants": len(policy.grants),
        "forwards": len(policy.forwards),
        "ttl": policy.ttl,
        "timeout": plan.timeout,
        "image": plan.digest,
        "image_kind": plan.image.partition(":")[0],
        "requested": plan.requested,
        "achieved": plan.achieved,
        "limits": limits or None,
        "uid": os.geteuid(),
        **({} if plan.profile is None else plan.profile.to_record()),
    }


def _grants(plan: Plan, request: Request) -> Iterator[Entry]:
    """The decision on the tool that it is started for, and every grant that does not come from there."""
    decided = [dict(fields) for fields in request.decided]
    for fields in decided:
        yield Kind.GRANT_DECIDED, fields
    told = {tuple(fields.get(member) for member in _PLACE) for fields in decided}
    for grant in plan.policy.grants:
        fields = grant_to_record(grant)
        if tuple(fields[member] for member in _PLACE) not in told:
            yield Kind.GRANT_DECIDED, {**fields, "by": "start"}


def _forwards(plan: Plan) -> Iterator[Entry]:
    for forward in plan.policy.forwards:
        yield (
            Kind.PORT_OPENED,
            {
                "address": str(forward.address),
                "host_port": forward.host_port,
                "guest_port": forward.guest_port,
                "protocol": "tcp",
            },
        )
