"""Presets: what each base set of grants opens, given what this machine's tools are configured with.

Owns the two short lists that stand in the source (source hosts, model APIs), the shape of what
`mvm.registries` discovers, and the making of grants from both. Must never name a package
registry's host (those are discovered, so that a private mirror works untouched), and never look
anything up itself: discoveries are handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, assert_never

from mvm.policy.model import Grant
from mvm.terms import HostName, Preset, Tls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.terms import Host

SOURCE_HOSTS: tuple[HostName, ...] = tuple(
    HostName(name)
    for name in (
        "api.bitbucket.org",
        "api.github.com",
        "bitbucket.org",
        "codeberg.org",
        "codeload.github.com",
        "gist.github.com",
        "git.sr.ht",
        "github.com",
        "gitlab.com",
        "media.githubusercontent.com",
        "objects.githubusercontent.com",
        "raw.githubusercontent.com",
        "release-assets.githubusercontent.com",
    )
)
"""Hosts that serve source code, each on 443 only: clones over https, archives, raw files, releases."""

MODEL_APIS: tuple[HostName, ...] = tuple(
    HostName(name)
    for name in (
        "api.anthropic.com",
        "api.cohere.com",
        "api.deepseek.com",
        "api.groq.com",
        "api.mistral.ai",
        "api.openai.com",
        "api.together.xyz",
        "api.x.ai",
        "generativelanguage.googleapis.com",
        "openrouter.ai",
    )
)
"""Hosts that answer for language models, each on 443 only. Whatever is sent there leaves the machine."""

_BROAD = "Broad presets are convenience tools, not production policy; `network freeze` spells one out."
_BROADEST = (
    "Broad presets are convenience tools, not production policy; `network suggest` names what a run needed."
)

PRESET_WARNINGS: dict[Preset, str] = {
    Preset.REGISTRIES: (
        "The preset `registries` opens every package registry that this machine's tools are configured with; "
        f"a registry that takes uploads can receive data. {_BROAD}"
    ),
    Preset.DEV: (
        "The preset `dev` opens package registries, source hosts and model APIs; "
        f"anyone can publish on a source host, so it can receive data. {_BROAD}"
    ),
    Preset.AGENT: (
        "The preset `agent` opens source hosts and model APIs; "
        f"anyone can publish on a source host, so it can receive data. {_BROAD}"
    ),
    Preset.UNRESTRICTED: (
        "The preset `unrestricted` opens every public host on every port; metadata, loopback and private "
        f"addresses stay closed. {_BROADEST}"
    ),
}
"""What to tell whoever chooses a preset; `none` needs no warning and has no entry."""


class RegistryHost(NamedTuple):
    """One host that a package tool fetches from.

    Attributes:
        host: the host name or address literal; credentials of its URL are gone.
        port: 1 to 65535, from the URL or else from its scheme.
        scheme: `https` or `http`.
        source: the file, variable or constant that names it, for people.
        configured: named by this machine's configuration, not the tool's own public default.
    """

    host: Host
    port: int
    scheme: str
    source: str
    configured: bool


class Discovery(NamedTuple):
    """What one package tool of this machine is configured to use.

    Attributes:
        tool: its command (`pip`, `npm`, ...).
        present: whether it is installed and answered.
        hosts: what the presets `registries` and `dev` grant for it.
        withheld: what files of the project in the working directory name on top. Not granted: such files
            are written by whoever wrote the project, or by the last workload that ran in it.
        note: what else is worth telling (absent, proxies, unreadable files), or an empty string.
    """

    tool: str
    present: bool
    hosts: tuple[RegistryHost, ...] = ()
    withheld: tuple[RegistryHost, ...] = ()
    note: str = ""


def expand(preset: Preset, discovered: Sequence[Discovery]) -> tuple[Grant, ...]:
    """Give the grants that a preset stands for.

    Args:
        preset: the base; `none` and `unrestricted` name no hosts (the latter is a flag of the policy).
        discovered: what `mvm.registries.discover` found; used by `registries` and `dev` only.

    Returns:
        Grants sorted by host and port, one per host and port, each with a reason and its source.
    """
    match preset:
        case Preset.NONE | Preset.UNRESTRICTED:
            grants: list[Grant] = []
        case Preset.REGISTRIES:
            grants = _of_registries(preset, discovered)
        case Preset.DEV:
            grants = [*_of_registries(preset, discovered), *_of_lists(preset)]
        case Preset.AGENT:
            grants = _of_lists(preset)
        case _:
            assert_never(preset)
    unique: dict[tuple[str, int], Grant] = {}
    for grant in grants:  # the first wins: a registry's entry carries more than the same host in a list
        unique.setdefault((str(grant.host), grant.port), grant)
    return tuple(unique[key] for key in sorted(unique))


def _of_lists(preset: Preset) -> list[Grant]:
    lists = (("source host", SOURCE_HOSTS), ("model API", MODEL_APIS))
    return [
        Grant(host=name, port=443, tls=Tls.REQUIRE, reason=kind, source=f"preset {preset.value}: {kind}s")
        for kind, names in lists
        for name in names
    ]


def _of_registries(preset: Preset, discovered: Sequence[Discovery]) -> list[Grant]:
    uses: dict[tuple[str, int], list[tuple[str, RegistryHost]]] = {}
    for discovery in discovered:
        for found in discovery.hosts:
            uses.setdefault((str(found.host), found.port), []).append((discovery.tool, found))
    grants = []
    for users in uses.values():
        hosts = [found for _, found in users]
        tools = list(dict.fromkeys(tool for tool, _ in users))
        sources = list(dict.fromkeys(f"{tool}: {found.source}" for tool, found in users))
        grants.append(
            Grant(
                host=hosts[0].host,
                port=hosts[0].port,
                tls=Tls.REQUIRE if all(found.scheme == "https" for found in hosts) else Tls.AUTO,
                # A company's mirror has a private address, be it by a name of its own or because its name
                # server answers for the public one. Metadata services stay closed (`decide.admit`).
                private=True,
                reason=f"packages for {', '.join(tools)}",
                source=f"preset {preset.value}: {'; '.join(sources)}",
            )
        )
    return grants
