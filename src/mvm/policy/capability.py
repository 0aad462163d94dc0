"""Tools and the fixed grants they stand for, so that no model chooses a destination.

Owns the decision on a tool's name, which is all that is ever asked, and what is recorded of it. Must never
take a host, a port or a URL from whoever uses a tool: no function here that decides has such a parameter.
Where the grants come from stands in `policy.capability_file`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mvm.errors import PolicyDenied
from mvm.policy.grants import grant_to_record, recorded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mvm.errors import Finding
    from mvm.policy.model import Policy

LONGEST_NAME = 64
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
"""The letters of a tool's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One tool.

    Attributes:
        tool: its name.
        policy: its grants, whose sources name the file and the tool, and who resolves.
        ports: those that its grants may have; empty where the document does not say.
        path: its jq path in the document, empty where it is the document.
    """

    tool: str
    policy: Policy
    ports: tuple[int, ...]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided on one use of a tool.

    Attributes:
        tool: the name that was asked for, as a record may carry it.
        capability: what it stands for, or None where it was refused.
        by: the document.
        digest: of the tool's policy, or None where it was refused.
        code: why it was refused, or None.
    """

    tool: str
    capability: Capability | None
    by: str
    digest: str | None
    code: str | None

    def records(self) -> tuple[dict[str, object], ...]:
        """Give the fields of each `grant.decided` that the decision is recorded by, at least one."""
        said: dict[str, object] = {
            "by": "capability",
            "tool": self.tool,
            "source": recorded(self.by),
            "decision": "refused" if self.capability is None else "allowed",
            "code": self.code,
            "policy": self.digest,
        }
        grants = () if self.capability is None else self.capability.policy.grants
        return tuple({**said, **grant_to_record(grant)} for grant in grants) or (said,)


class Run(Protocol):
    """The run in which a tool is used: a sandbox, seen from here."""

    def record_decision(self, fields: Mapping[str, object]) -> None:
        """Write one `grant.decided` into the run's log.

        Raises:
            AuditError: it can't be written; nothing is opened then.
        """

    def add_grants(self, policy: Policy) -> None:
        """Add the grants of a policy to those that stand, and its DNS where names need one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """A capability document.

    Attributes:
        path: the file, for people.
        capabilities: in the order of the file, each tool once.
        warnings: what was found and refuses nothing.
    """

    path: str
    capabilities: tuple[Capability, ...]
    warnings: tuple[Finding, ...]

    def decide(self, tool: str) -> Decision:
        """Decide on the use of a tool: what the document says of that name, or a refusal.

        Args:
            tool: any text, as a model may have made it up.
        """
        from mvm.policy.document import policy_digest

        for capability in self.capabilities:
            if capability.tool == tool:
                digest = policy_digest(capability.policy)
                return Decision(tool=tool, capability=capability, by=self.path, digest=digest, code=None)
        return Decision(tool=_spell(tool), capability=None, by=self.path, digest=None, code="unknown-tool")

    def denial(self, decision: Decision) -> PolicyDenied:
        """Give the error that a refusal is."""
        names = ", ".join(capability.tool for capability in self.capabilities)
        return PolicyDenied(f"{decision.tool!r} is no tool of {self.path}", hint=f"the tools are {names}")

    def warnings_of(self, capability: Capability) -> tuple[Finding, ...]:
        """Give what was found about one of the tools."""
        return tuple(one for one in self.warnings if one.path.startswith(f"{capability.path}."))

    def grant(self, tool: str, *, run: Run) -> Decision:
        """Open in a run what a tool stands for: decide, record, then open.

        Args:
            tool: its name, and nothing more: where it leads stands in the document.
            run: the sandbox that uses it.

        Returns:
            The decision, already in force.

        Raises:
            PolicyDenied: no such tool; that is recorded too.
            AuditError: the decision can't be recorded, and nothing is opened.
        """
        decision = self.decide(tool)
        for fields in decision.records():
            run.record_decision(fields)
        if decision.capability is None:
            raise self.denial(decision)
        run.add_grants(decision.capability.policy)
        return decision


def _spell(tool: str) -> str:
    r"""Write any text so that a record can carry it: bytes other than plain ones as `\DDD`."""
    data = tool.encode("utf-8", "backslashreplace")[:LONGEST_NAME]
    return "".join(chr(byte) if chr(byte) in PLAIN else f"\\{byte:03d}" for byte in data) or "."
