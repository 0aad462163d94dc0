"""What is wrong with a file before anything is started: `network check` without its command line.

Owns the choice of who reads a file (a policy or a capability file), and the sum of their findings. Must never
open a file or ask this machine: a preset is checked as a word, its hosts are another day's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
from mvm.policy.document import read_policy
from mvm.policy.validate import policy_of
from mvm.terms import Preset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mvm.policy.document import PolicyDocument


def check_text(text: str, path: str) -> tuple[Finding, ...]:
    """Find what is wrong with a policy or a capability file.

    Args:
        text: the file, TOML or JSON.
        path: its name, by whose ending TOML and JSON are told apart; every finding's `source` begins with it.

    Returns:
        Errors first, then warnings; nothing for a file that is right.
    """
    return _findings(lambda: _check(text, path), path)


def check_capabilities(text: str, path: str) -> tuple[Finding, ...]:
    """Find what is wrong with a file that should be a capability file: a policy file has findings too.

    Args:
        text: the file, JSON.
        path: its name; every finding's `source` begins with it.

    Returns:
        As `check_text`.
    """
    from mvm.policy.capability_file import read_capabilities

    return _findings(lambda: read_capabilities(text, path=path).warnings, path)


def _findings(reader: Callable[[], Sequence[Finding]], path: str) -> tuple[Finding, ...]:
    try:
        warnings = reader()
    except PolicyRefused as refusal:
        warnings = refusal.findings
    found = [finding._replace(source=finding.source or path) for finding in warnings]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def _check(text: str, path: str) -> Sequence[Finding]:
    from mvm.policy.capability_file import is_capability_text, read_capabilities

    if is_capability_text(text, path):
        return read_capabilities(text, path=path).warnings
    return check_document(read_policy(text, path=path))


def check_document(document: PolicyDocument) -> tuple[Finding, ...]:
    """Judge a policy document as a whole, with its preset as a word.

    Returns:
        The warnings.

    Raises:
        PolicyRefused: with every error and every warning.
    """
    owed = []
    if document.dns is None and document.preset not in {Preset.NONE, Preset.UNRESTRICTED}:
        # Its hosts depend on the machine, that it has some does not.
        owed.append(
            Finding(
                code="dns-not-stated",
                path=".network.dns",
                message=f"the preset `{document.preset}` grants names, and nobody is named to resolve them",
                hint='add `dns = "system"`',
                source=document.path,
            )
        )
    try:
        _, warnings = policy_of(
            grants=document.grants,
            dns=document.dns,
            preset=document.preset,
            unrestricted=document.preset is Preset.UNRESTRICTED,
            forwards=document.forwards,
            ttl=document.ttl,
        )
    except PolicyRefused as refusal:
        raise PolicyRefused([*owed, *refusal.findings]) from None
    if owed:
        raise PolicyRefused([*owed, *warnings])
    return warnings
