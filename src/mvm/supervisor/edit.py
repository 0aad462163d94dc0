"""One edit of a running sandbox's policy, safe beside other edits.

Owns the loop of compare-and-set: read, change, put in force if nobody else was first, else again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mvm.errors import Finding
    from mvm.policy.model import Grant, Policy
    from mvm.supervisor.client import Client

_MOST_TRIES = 1000


class Edited(NamedTuple):
    """What an edit came to.

    Attributes:
        digest: of the policy that stands now.
        granted: grants that are new, or granted anew.
        revoked: grants that are gone, or were replaced.
        warnings: findings about the policy that stands now.
    """

    digest: str
    granted: tuple[Grant, ...]
    revoked: tuple[Grant, ...]
    warnings: tuple[Finding, ...]


def edit(
    client: Client,
    change: Callable[[Policy], tuple[Policy, Sequence[Finding]]],
    *,
    by: str,
    anew: Sequence[Grant] = (),
) -> Edited:
    """Change the policy of a running sandbox.

    Args:
        client: a conversation with it.
        change: gives the policy that is wanted in place of the one that stands, and what to warn of.
        by: one word for the record.
        anew: grants whose time and budget begin again even where they stand already.

    Raises:
        UsageError: the sandbox has ended.
        PolicyRefused: what is wanted is refused.
        AuditError: the edit can't be recorded, and is not made.
        TransportError: others changed it without end.
    """
    for _ in range(_MOST_TRIES):
        standing, digest = client.policy()
        wanted, warnings = change(standing)
        answer = client.set_policy(wanted, expect=digest, by=by, anew=anew)
        if "conflict" not in answer:
            before, after = set(standing.grants), set(wanted.grants)
            granted = tuple(grant for grant in wanted.grants if grant not in before or grant in anew)
            revoked = tuple(grant for grant in standing.grants if grant not in after)
            return Edited(str(answer["digest"]), granted, revoked, tuple(warnings))
    msg = f"the policy was changed by others, {_MOST_TRIES} times in between"
    raise TransportError(msg, hint="try again")
