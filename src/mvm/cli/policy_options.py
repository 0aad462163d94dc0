"""The options that say what a sandbox may reach, and the one call that makes a policy of them.

Owns their spelling and the reading of the policy file. What they mean together stands in `policy.resolve`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict

import click

from mvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from mvm.policy.capability import Capability
    from mvm.policy.document import PolicyDocument
    from mvm.policy.presets import Discovery
    from mvm.policy.resolve import Document, Resolved

_POLICY_HINT = "name a file with --policy FILE, or leave it out"
PRESETS = ("none", "registries", "dev", "agent", "unrestricted")


class PolicyWords(TypedDict):
    """What the options gave, each as it was typed."""

    network_preset: str | None
    network_allow: tuple[str, ...]
    policy: str | None
    dns: str | None
    dns_static: tuple[str, ...]


_OPTIONS: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
    click.option(
        "--network-preset",
        type=click.Choice(PRESETS),
        help="The base that is granted; without it, what the policy file says, else none.",
    ),
    click.option(
        "--network-allow",
        multiple=True,
        metavar="GRANT",
        help="Grant one host: HOST:PORT[/udp][,KEY=VALUE]… with reason, private, tls, expires, max-up, "
        "max-down, sends, downloads. May be repeated.",
    ),
    click.option(
        "--policy",
        metavar="FILE",
        help="The policy file; without it, mvm.toml of this directory or of the repository it is in.",
    ),
    click.option(
        "--dns",
        metavar="WHO",
        help="Who resolves granted names: none, system or resolver=IP[:PORT]. "
        "By default system as soon as a name is granted.",
    ),
    click.option(
        "--dns-static", multiple=True, metavar="NAME=IP", help="A fixed answer for a name. May be repeated."
    ),
)


def policy_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `PolicyWords` to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def resolve_policy(
    words: PolicyWords,
    *,
    ports: Sequence[str] = (),
    ttl: str | None = None,
    tool: Capability | None = None,
    stated: PolicyDocument | None = None,
    looks: bool = True,
) -> tuple[Resolved, str | None]:
    """Make the policy that the words ask for.

    Args:
        words: as they were typed.
        ports: each `--port`.
        ttl: of `--ttl`, or None.
        tool: the tool whose grants are added, or None.
        stated: what an app declares, which stands in place of a policy file, or None.
        looks: whether a policy file that is not named is looked for.

    Returns:
        The policy with its sources, and the path of the policy file that was found unasked, or None.

    Raises:
        UsageError: the policy file can't be read.
        PolicyRefused: with every finding.
    """
    from mvm.policy.resolve import Asked, resolve

    path = words["policy"]
    if path is None and stated is None and looks:
        path = find_policy_file()
    asked = Asked(
        preset=words["network_preset"],
        allow=words["network_allow"],
        document=stated if path is None else read_document(path, hint=_POLICY_HINT),
        dns=words["dns"],
        dns_static=words["dns_static"],
        ports=tuple(ports),
        ttl=ttl,
        grants=() if tool is None else tool.policy.grants,
        grants_dns=None if tool is None else tool.policy.dns,
    )
    return resolve(asked, discover_registries), path if words["policy"] is None else None


def find_policy_file() -> str | None:
    """Find the policy file of the project that the working directory is in, its path as one would type it."""
    from mvm.policy.resolve import find_document

    directory = working_directory()
    found = find_document("" if directory == "/" else directory, os.path.exists)
    return found if found is None or os.path.dirname(found) != directory else os.path.basename(found)


def read_document(path: str, *, hint: str = "name a policy file that you can read") -> Document:
    """Read a policy file.

    Args:
        path: where it is.
        hint: what to do where it can't be read.

    Raises:
        UsageError: it is not there, can't be read, or is no text.
    """
    from mvm.policy.resolve import Document
    from mvm.supervisor.documents import read_text

    return Document(path, read_text(path, kind="policy file", hint=hint))


def discover_registries() -> Sequence[Discovery]:
    """Ask this machine's package tools what they use; about a second."""
    from pathlib import Path

    from mvm.registries.discover import discover

    return discover(os.environ, Path(working_directory()))


def working_directory() -> str:
    """Give the working directory.

    Raises:
        UsageError: it was removed.
    """
    try:
        return os.getcwd()
    except OSError as error:
        raise UsageError("the working directory is gone", hint="cd to one that is there") from error
