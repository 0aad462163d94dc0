"""One edit of a running sandbox's policy, safe beside other edits.

Owns the loop of compare-and-set: read, change, put in force if nobody else was first, else again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mvm.cli.printing import err, out, print_json, printable
from mvm.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mvm.errors import Finding
    from mvm.policy.model import Grant, Policy

_MOST_TRIES = 1000


class Edited(NamedTuple):
    """What an edit came to.

    Attributes:
        digest: of the policy that stands now.
        granted: grants that are new, or granted anew.
        revoked: grants that are gone, or were replaced.
    """

    digest: str
    granted: tuple[Grant, ...]
    revoked: tuple[Grant, ...]


def edit(
    name: str,
    change: Callable[[Policy], tuple[Policy, Sequence[Finding]]],
    *,
    by: str,
    anew: Sequence[Grant] = (),
) -> Edited:
    """Change the policy of a running sandbox.

    Args:
        name: of the sandbox.
        change: gives the policy that is wanted in place of the one that stands, and what to warn of.
        by: one word for the record.
        anew: grants whose time and budget begin again even where they stand already.

    Raises:
        UsageError: no such sandbox is running.
        PolicyRefused: what is wanted is refused.
        TransportError: others changed it without end.
    """
    from mvm.supervisor.client import Client

    with Client(name, os.environ) as client:
        for _ in range(_MOST_TRIES):
            standing, digest = client.policy()
            wanted, warnings = change(standing)
            answer = client.set_policy(wanted, expect=digest, by=by, anew=anew)
            if "conflict" not in answer:
                for finding in warnings:
                    err(f"mvmctl: warning: {finding.message}")
                before, after = set(standing.grants), set(wanted.grants)
                granted = tuple(grant for grant in wanted.grants if grant not in before or grant in anew)
                revoked = tuple(grant for grant in standing.grants if grant not in after)
                return Edited(str(answer["digest"]), granted, revoked)
    msg = f"the policy of {name!r} was changed by others, {_MOST_TRIES} times in between"
    raise TransportError(msg, hint="try again")


def print_edit(edited: Edited, *, as_json: bool) -> None:
    """Print what an edit changed."""
    from mvm.policy.parse import format_grant, grant_to_json

    if as_json:
        granted, revoked = ([grant_to_json(grant) for grant in grants] for grants in edited[1:])
        print_json({"schema": "mvm.edit/1", "digest": edited.digest, "granted": granted, "revoked": revoked})
        return
    for mark, grants in (("-", edited.revoked), ("+", edited.granted)):
        for grant in grants:
            out(f"{mark} {printable(format_grant(grant))}")


def read_each(texts: Sequence[str], *, source: str) -> list[Grant]:
    """Read grants as a command line has them.

    Raises:
        PolicyRefused: with every finding about all of them.
    """
    from mvm.errors import PolicyRefused
    from mvm.policy.parse import parse_grant

    findings: list[Finding] = []
    read: list[Grant] = []
    for text in texts:
        try:
            read.append(parse_grant(text, source=source))
        except PolicyRefused as refusal:
            findings += refusal.findings
    if findings:
        raise PolicyRefused(findings)
    return read
