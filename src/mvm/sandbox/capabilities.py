"""Tools with fixed grants, used in a running sandbox: a model names a tool, and never a destination.

    tools = mvm.Capabilities.load("tools.json")
    with mvm.Sandbox(network=mvm.network(mode="none")) as box:
        tools.grant("web_fetch", run=box)

Owns `Capabilities`. Must never take a host, a port or a URL: what a tool's name stands for is in the file,
which the application reads and a model does not write.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.errors import UsageError
from mvm.sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from mvm.policy.capability import Decision, Tools
    from mvm.policy.model import Policy
    from mvm.supervisor.client import Client


class Capabilities:
    """The tools of one capability file; `load` makes it."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a capability file, once: what is written to it later changes nothing here.

        Args:
            path: the file: JSON, one tool or `{"tools": [...]}`.

        Raises:
            UsageError: it can't be read.
            PolicyRefused: with every finding about it.
        """
        from mvm.policy.capability_file import read_capabilities
        from mvm.supervisor.documents import read_capability_text

        text = os.fspath(path)
        return cls(read_capabilities(read_capability_text(text), path=text))

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools, in the order of the file."""
        return tuple(capability.tool for capability in self._tools.capabilities)

    def grant(self, tool: str, *, run: Sandbox) -> Decision:
        """Open in a sandbox what a tool stands for: decided, recorded in the run's log, then opened.

        The tool's grants are added to what stands, whoever else edits it meanwhile. One that stands already
        has its time and its budget again; its open flows go on. A `ttl` counts from now.

        Args:
            tool: its name, and nothing more; any text, as a model may have made it up.
            run: a sandbox that is started.

        Returns:
            The decision, in force.

        Raises:
            PolicyDenied: the file has no such tool; that is in the run's log too.
            AuditError: the decision can't be recorded, and nothing is opened.
            UsageError: the sandbox is not started, or has ended.
        """
        given: object = run
        if not isinstance(given, Sandbox):
            msg = f"a tool is used in a sandbox, not in {given!r}"
            raise UsageError(msg, hint="hand over an mvm.Sandbox that is started, as run=")
        with run._client() as client:  # noqa: SLF001  the sandbox's own conversation, not a word for users
            return self._tools.grant(str(tool), run=_Live(client))


class _Live:
    """A running sandbox as `Tools.grant` sees it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def record_decision(self, fields: Mapping[str, object]) -> None:
        """Write one `grant.decided` into the run's log."""
        self._client.ask({"do": "decide", "decision": dict(fields)})

    def add_grants(self, policy: Policy) -> None:
        """Add the grants of a policy to those that stand, and its DNS where names need one."""
        from mvm.policy.edit import grant_tool
        from mvm.supervisor.edit import edit

        edit(
            self._client,
            lambda standing: grant_tool(standing, policy),
            by="capability",
            anew=policy.grants,
        )
