"""An edit of a running sandbox's policy, as `network allow` and `network revoke` read and print it.

Owns the words. The edit itself is made in `supervisor.edit`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.cli.printing import err, out, print_json, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mvm.errors import Finding
    from mvm.policy.model import Grant, Policy
    from mvm.supervisor.edit import Edited


def edit(
    name: str,
    change: Callable[[Policy], tuple[Policy, Sequence[Finding]]],
    *,
    by: str,
    anew: Sequence[Grant] = (),
) -> Edited:
    """Change the policy of a running sandbox, and print what to warn of.

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
    from mvm.supervisor import edit as edits
    from mvm.supervisor.client import Client

    with Client(name, os.environ) as client:
        edited = edits.edit(client, change, by=by, anew=anew)
    for finding in edited.warnings:
        err(f"mvmctl: warning: {finding.message}")
    return edited


def print_edit(edited: Edited, *, as_json: bool) -> None:
    """Print what an edit changed."""
    from mvm.policy.parse import format_grant, grant_to_json

    if as_json:
        granted, revoked = ([grant_to_json(grant) for grant in grants] for grants in edited[1:3])
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
