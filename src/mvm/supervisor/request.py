"""What somebody asked for, parsed and judged, before this machine is looked at.

Owns the shape, and its JSON for the Python library's helper process. Must never hold text that is
still to be parsed, except paths, which mean something only on the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mvm.terms import Limits

if TYPE_CHECKING:
    from mvm.errors import Finding
    from mvm.policy.browser import BrowserProfile
    from mvm.policy.model import Policy
    from mvm.terms import Seconds


class Request(NamedTuple):
    """One sandbox to be started.

    Attributes:
        policy: what it may reach.
        argv: the first command; empty for the image's own, or for a sandbox that waits for `exec`.
        needs_command: whether it is refused where there is none.
        name: its name, or None for one made from the run id.
        warnings: what was found about the policy and is no error.
        backend: `auto` or a backend's name.
        image: `host`, or another image's words.
        flake: a flake reference instead of an image, or None.
        user: `USER[:GROUP]` of the image, or None for its own choice.
        overlay: the name under which changes of an image's tree are kept, or None for not at all.
        workspace: a directory of the caller's, writable inside, or None.
        volumes: `SRC:DST[:ro|rw]`, each.
        workdir: where the first command starts, or None for the image's own choice.
        environ: `NAME=VALUE` or `NAME`, each.
        limits: what it may use.
        timeout: seconds until it is ended, or None.
        stop_on_denial: whether the first denial ends it.
        decided: how the record tells of the decision on the tool that it is started for
            (`policy.capability.Decision.records`); empty without one.
        profile: stricter rules that it is held to, or None.
        receipt: the file to which the receipt goes, or None.
    """

    policy: Policy
    argv: tuple[str, ...] = ()
    needs_command: bool = False
    name: str | None = None
    warnings: tuple[Finding, ...] = ()
    backend: str = "auto"
    image: str = "host"
    flake: str | None = None
    user: str | None = None
    overlay: str | None = None
    workspace: str | None = None
    volumes: tuple[str, ...] = ()
    workdir: str | None = None
    environ: tuple[str, ...] = ()
    limits: Limits = Limits()
    timeout: Seconds | None = None
    stop_on_denial: bool = False
    decided: tuple[dict[str, object], ...] = ()
    profile: BrowserProfile | None = None
    receipt: str | None = None

    def to_json(self) -> dict[str, object]:
        """Give it as JSON, for `from_json` in another process of the same caller; warnings stay here."""
        from mvm.policy.document import policy_to_json

        return {
            **self._asdict(),
            "policy": policy_to_json(self.policy),
            "preset": str(self.policy.preset),
            "sources": [grant.source for grant in self.policy.grants],
            "warnings": [],
        }


def request_from_json(words: dict[str, object]) -> Request:
    """Read what `Request.to_json` wrote.

    Raises:
        PolicyRefused: the policy in it is none.
        TypeError: it is not such an object.
    """
    from dataclasses import replace

    from mvm.terms import Preset

    words = dict(words)
    document, sources = words.pop("policy"), words.pop("sources")
    if not isinstance(sources, list):
        msg = "no sources"
        raise TypeError(msg)
    policy = replace(policy_from_json(document), preset=Preset(str(words.pop("preset"))))
    named = zip(policy.grants, sources, strict=True)
    policy = with_sources(policy, {grant: str(source) for grant, source in named})
    for key in ("argv", "volumes", "environ", "warnings", "decided"):
        words[key] = tuple(words[key])  # type: ignore[arg-type]
    words["limits"] = Limits(*words["limits"])  # type: ignore[misc]
    if words["profile"] is not None:
        words["profile"] = _profile_of(*words["profile"])  # type: ignore[misc]
    return Request(policy=policy, **words)  # type: ignore[arg-type]


def _profile_of(
    workspace: str | None, retain: Seconds | None, long_ttl: str | None, credentials: list[list[str]]
) -> BrowserProfile:
    from mvm.policy.browser import BrowserProfile

    return BrowserProfile(workspace, retain, long_ttl, tuple((path, why) for path, why in credentials))


def policy_from_json(document: object, source: str = "") -> Policy:
    """Read a canonical policy document back as the policy that it states.

    Raises:
        PolicyRefused: it is none.
    """
    import json

    from mvm.policy.document import read_policy
    from mvm.policy.validate import policy_of
    from mvm.terms import Preset

    read = read_policy(json.dumps(document), path=source or "policy.json")
    policy, _warnings = policy_of(
        grants=read.grants,
        dns=read.dns,
        preset=read.preset,
        unrestricted=read.preset is Preset.UNRESTRICTED,
        forwards=read.forwards,
        ttl=read.ttl,
    )
    return policy


def with_sources(policy: Policy, sources: dict[object, str]) -> Policy:
    """Give grants the sources they are known by; one that is not in `sources` keeps its own."""
    from dataclasses import replace

    grants = tuple(
        grant if sources.get(grant) is None else replace(grant, source=sources[grant])
        for grant in policy.grants
    )
    return replace(policy, grants=grants)
