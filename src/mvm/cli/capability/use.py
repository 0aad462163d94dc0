"""The tool that a sandbox is started for: its file read, the use of it decided, a refusal recorded.

Owns the order of these. Must never take more than the two names: no word of a command line, and so nothing
that a model said, adds to what the file fixes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import UsageError

if TYPE_CHECKING:
    from mvm.errors import Finding
    from mvm.policy.capability import Capability, Tools


class Use(NamedTuple):
    """A tool that may be used.

    Attributes:
        capability: what it stands for.
        decided: how the record tells of the decision.
        warnings: what was found about it in the file.
    """

    capability: Capability
    decided: tuple[dict[str, object], ...]
    warnings: tuple[Finding, ...]


def decide_use(tool: str | None, file: str | None, *, recorded: bool) -> Use | None:
    """Decide on the use of a tool.

    Args:
        tool: of `--capability`, or None.
        file: of `--capabilities`, or None.
        recorded: whether a refusal is recorded: not where nothing is to be started anyway.

    Returns:
        The tool, or None where none is named.

    Raises:
        UsageError: one of the two is missing, or the file can't be read.
        PolicyRefused: the file is refused.
        PolicyDenied: the file has no such tool.
        AuditError: that can't be recorded.
    """
    if tool is None and file is None:
        return None
    if tool is None:
        raise UsageError(
            "--capabilities needs --capability: which tool is it for?", hint="add --capability TOOL"
        )
    if file is None:
        raise UsageError(
            "--capability needs --capabilities: what may it reach?", hint="add --capabilities FILE"
        )
    tools = read_tools(file)
    decision = tools.decide(tool)
    if decision.capability is not None:
        return Use(decision.capability, decision.records(), tools.warnings_of(decision.capability))
    denial = tools.denial(decision)
    if recorded:
        from mvm.supervisor.refusal import record_refusal

        denial.run = record_refusal(decision.records(), os.environ)
        denial.hint += f"; mvmctl audit show {denial.run} shows the record"
    raise denial


def read_tools(path: str) -> Tools:
    """Read a capability file.

    Raises:
        UsageError: it can't be read.
        PolicyRefused: with every finding about it.
    """
    from mvm.policy.capability_file import read_capabilities
    from mvm.supervisor.documents import read_capability_text

    return read_capabilities(read_capability_text(path), path=path)
