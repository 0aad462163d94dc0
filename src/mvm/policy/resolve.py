"""From what a command line says to one policy, in which everything still tells where it came from.

Owns how flags, a policy file, a preset and a capability's grants meet. Must never find a file, run a tool
or open what nobody wrote; the text of the file and what the package tools are configured with are handed in.

    preset          a base. `--network-preset` stands in place of the file's; where they differ is warned of
    grants          all add up: the preset's, the file's, a capability's, every `--network-allow`. A flag for
                    a host, port and protocol of the file narrows that grant: it may end sooner, carry less,
                    demand TLS; what it leaves out stays as in the file; what it would widen is refused
    DNS             `--dns`, else the file's, else a capability's. Where none says: `system` as soon as a
                    flag, or the flag's preset, grants a host name, else `none`; names that the file grants
                    need the file's word
    fixed answers   `--dns-static` adds; for a name that the file or the capability answers too, the flag's
                    stand alone, and the file's before the capability's
    inbound ports   both; one port of this machine that leads to two ports is refused
    life time       `--ttl`, else the file's
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mvm.errors import PolicyRefused
from mvm.policy.fields import default_tls, word
from mvm.policy.hosts import Place
from mvm.policy.model import Dns
from mvm.policy.parse import (
    parse_dns,
    parse_dns_static,
    parse_duration,
    parse_forward,
    parse_grant,
)
from mvm.policy.validate import (
    default_dns,
    grant_key,
    merge_grants,
    policy_of,
    spell_grant,
    with_more_static,
    with_static,
)
from mvm.terms import DnsMode, Preset, Tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mvm.errors import Finding
    from mvm.policy.document import PolicyDocument
    from mvm.policy.model import Forward, Grant, Policy
    from mvm.policy.presets import Discovery
    from mvm.terms import Address, HostName, Seconds

T = TypeVar("T")

DOCUMENT_NAME = "mvm.toml"
"""The policy file that is looked for."""

ALLOW, PRESET, DNS, STATIC, PORT, TTL = (
    "--network-allow",
    "--network-preset",
    "--dns",
    "--dns-static",
    "--port",
    "--ttl",
)
_DEFAULT = "default"
_ANY_NAME = Dns(mode=DnsMode.SYSTEM)  # for judging the rest where what was said about DNS can't be read
_STRICTNESS = (Tls.OFF, Tls.AUTO, Tls.REQUIRE)


class Document(NamedTuple):
    """A policy file that was read already.

    Attributes:
        path: as people know it; its ending says whether it is TOML or JSON.
        text: what is in it.
    """

    path: str
    text: str


class Asked(NamedTuple):
    """What a command line says about the network, not yet parsed.

    Attributes:
        preset: of `--network-preset`, or None where it is not given.
        allow: each `--network-allow`.
        document: the policy file, or what an app declares, or None.
        dns: of `--dns`, or None.
        dns_static: each `--dns-static`.
        ports: each `--port`.
        ttl: of `--ttl`, or None.
        grants: parsed already, with sources of their own (a capability's).
        grants_dns: the DNS policy that goes with these, or None.
    """

    preset: str | None = None
    allow: tuple[str, ...] = ()
    document: Document | PolicyDocument | None = None
    dns: str | None = None
    dns_static: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    ttl: str | None = None
    grants: tuple[Grant, ...] = ()
    grants_dns: Dns | None = None


class Resolved(NamedTuple):
    """One policy, and where each part of it came from.

    Attributes:
        policy: what stands; each grant tells its own `source` too.
        warnings: findings that refuse nothing.
        sources: by jq path into the policy's canonical document: a flag, `file:line`, a preset, `default`.
    """

    policy: Policy
    warnings: tuple[Finding, ...]
    sources: Mapping[str, str]


def find_document(directory: str, exists: Callable[[str], bool]) -> str | None:
    """Find the policy file of a project: in a directory, or above it up to the one that holds `.git`.

    Outside of a repository only the directory itself is looked at: whoever may write above it (`/tmp`, say)
    shall not choose what is opened below.

    Args:
        directory: an absolute path without a slash at its end.
        exists: whether there is something at a path.

    Returns:
        The path of the file, or None.
    """
    if exists(f"{directory}/{DOCUMENT_NAME}"):
        return f"{directory}/{DOCUMENT_NAME}"
    found, above = None, directory
    while above and not exists(f"{above}/.git"):
        above = above.rpartition("/")[0]
        if found is None and exists(f"{above}/{DOCUMENT_NAME}"):
            found = f"{above}/{DOCUMENT_NAME}"
    return found if above else None


def resolve(asked: Asked, discover: Callable[[], Sequence[Discovery]]) -> Resolved:
    """Make the policy that a command line asks for, by the rules at the head of this file.

    Args:
        asked: the words, as they were given.
        discover: gives what this machine's package tools are configured with; called once, and only for the
            presets that need it.

    Returns:
        The policy, what to warn of, and where everything came from.

    Raises:
        PolicyRefused: with every finding about all the words together, errors first.
    """
    return _Resolver(asked, discover).resolve()


class _Resolver:
    """One command line being read: what is wrong with it is collected, and raised at the end."""

    def __init__(self, asked: Asked, discover: Callable[[], Sequence[Discovery]]) -> None:
        self._asked, self._discover = asked, discover
        self._findings: list[Finding] = []

    def resolve(self) -> Resolved:
        asked = self._asked
        document = self._document()
        preset = self._preset(document)
        flags = merge_grants(self._each(asked.allow, parse_grant), self._findings)
        base = self._expand(preset)
        of_file = document.grants if document is not None else ()
        dns = self._dns(document, of_file, (*base, *flags, *asked.grants), preset)
        if asked.document is not None and document is None:
            dns = _ANY_NAME
        forwards = self._forwards(document)
        ttl = self._one(asked.ttl, lambda text: parse_duration(text, path=TTL), None)
        if asked.ttl is None and document is not None:
            ttl = document.ttl
        self._warn_of_opening(document, preset, (*flags, *asked.grants))
        policy = self._judge(
            grants=(*base, *self._narrowed(of_file, flags), *asked.grants),
            dns=dns,
            preset=preset,
            forwards=forwards,
            ttl=ttl,
        )
        sources = _sources(policy, asked, document)
        return Resolved(policy=policy, warnings=tuple(self._findings), sources=sources)

    # ---- reading the words

    def _each(self, texts: Iterable[str], reader: Callable[[str], T]) -> list[T]:
        read = []
        for text in texts:
            try:
                read.append(reader(text))
            except PolicyRefused as refusal:
                self._findings += refusal.findings
        return read

    def _one(self, text: str | None, reader: Callable[[str], T], default: T) -> T:
        read = self._each([] if text is None else [text], reader)
        return read[0] if read else default

    def _document(self) -> PolicyDocument | None:
        from mvm.policy.document import PolicyDocument, read_policy

        given = self._asked.document
        if given is None or isinstance(given, PolicyDocument):
            return given
        try:
            return read_policy(given.text, path=given.path)
        except PolicyRefused as refusal:
            self._findings += refusal.findings
            return None

    def _preset(self, document: PolicyDocument | None) -> Preset:
        of_file = document.preset if document is not None else Preset.NONE
        place = Place(PRESET, PRESET)
        preset = self._one(
            self._asked.preset, lambda text: word(Preset, text, place, "unknown-preset"), of_file
        )
        if preset is not of_file and of_file is not Preset.NONE:
            message = f"the preset `{preset}` stands, not `{of_file}` as in {self._path()}"
            hint = f"leave {PRESET} out to have the file's"
            self._findings.append(place.finding("overrides-preset", message, hint, severity="warning"))
        return preset

    def _path(self) -> str:
        return self._asked.document.path if self._asked.document is not None else ""

    def _expand(self, preset: Preset) -> tuple[Grant, ...]:
        if preset in {Preset.NONE, Preset.UNRESTRICTED}:
            return ()
        from mvm.policy.presets import expand

        return expand(preset, self._discover() if preset in {Preset.REGISTRIES, Preset.DEV} else ())

    def _dns(
        self,
        document: PolicyDocument | None,
        of_file: Sequence[Grant],
        others: Sequence[Grant],
        preset: Preset,
    ) -> Dns | None:
        """Choose who resolves; None where the file has to say and doesn't."""
        asked = self._asked
        answers = self._each(asked.dns_static, parse_dns_static)
        in_file = document.dns if document is not None else None
        of_preset = asked.preset is None and document is not None and document.preset is not Preset.NONE
        if asked.dns is not None:
            chosen: Dns | None = self._one(asked.dns, parse_dns, _ANY_NAME)
        elif in_file is not None:
            chosen = in_file
        elif of_preset or any(isinstance(grant.host, str) for grant in of_file):
            chosen = None
        elif asked.grants_dns is not None and asked.grants_dns.mode is not DnsMode.NONE:
            chosen = asked.grants_dns
        else:
            chosen = default_dns(others, unrestricted=preset is Preset.UNRESTRICTED)
        return None if chosen is None else _with_answers(chosen, (in_file, asked.grants_dns), answers)

    def _forwards(self, document: PolicyDocument | None) -> tuple[Forward, ...]:
        of_file = document.forwards if document is not None else ()
        return (*of_file, *self._each(self._asked.ports, parse_forward))

    # ---- meeting

    def _warn_of_opening(
        self, document: PolicyDocument | None, preset: Preset, grants: Sequence[Grant]
    ) -> None:
        if document is None or document.bridged or not (grants or preset is not Preset.NONE):
            return
        message = f"{document.path} opens nothing (mode `none`); what the flags open is opened all the same"
        hint = "leave the flags out, or grant it in the file, where it is reviewed"
        place = Place(".network.mode", document.path)
        self._findings.append(place.finding("opens-closed-file", message, hint, severity="warning"))

    def _narrowed(self, of_file: Sequence[Grant], flags: Sequence[Grant]) -> Iterable[Grant]:
        by_key = {grant_key(grant): grant for grant in flags}
        for grant in of_file:
            flag = by_key.pop(grant_key(grant), None)
            yield grant if flag is None else self._narrow(grant, flag)
        yield from by_key.values()

    def _narrow(self, grant: Grant, flag: Grant) -> Grant:
        """Give the file's grant with what a flag restricts; what it would widen is found wrong."""
        wider = []
        tls = flag.tls
        if flag.tls is default_tls(flag.port, flag.protocol):
            tls = grant.tls  # the flag does not say, or says what the port has anyway
        elif _STRICTNESS.index(flag.tls) < _STRICTNESS.index(grant.tls):
            wider.append("tls")
        if flag.private and not grant.private:
            wider.append("private")
        limits = {}
        for name in ("expires", "max_up", "max_down"):
            ours, theirs = getattr(grant, name), getattr(flag, name)
            if None not in (ours, theirs) and theirs > ours:
                wider.append(name)
            limits[name] = ours if theirs is None else theirs
        said = {}
        for name in ("reason", "sends", "downloads"):
            ours, theirs = getattr(grant, name), getattr(flag, name)
            if None not in (ours, theirs) and ours != theirs:
                wider.append(name)
            said[name] = theirs if ours is None else ours
        if wider:
            changed = ", ".join(wider)
            message = f"{spell_grant(grant)} is granted in {grant.source}, and a flag changes its {changed}"
            hint = "a flag may narrow what a file grants, not widen or reword it: change the file"
            self._findings.append(Place(ALLOW, ALLOW).finding("widens-file", message, hint))
            return grant
        narrowed = replace(grant, tls=tls, **limits, **said)
        if narrowed == grant:
            return grant
        return replace(narrowed, source=f"{ALLOW} narrows {grant.source}")

    def _judge(
        self,
        *,
        grants: Iterable[Grant],
        dns: Dns | None,
        preset: Preset,
        forwards: Sequence[Forward],
        ttl: Seconds | None,
    ) -> Policy:
        judged = tuple(grants)  # what is found while they are made belongs before what is found of them
        try:
            policy, warnings = policy_of(
                grants=judged,
                dns=dns,
                preset=preset,
                unrestricted=preset is Preset.UNRESTRICTED,
                forwards=forwards,
                ttl=ttl,
            )
        except PolicyRefused as refusal:
            raise PolicyRefused(_errors_first([*self._findings, *refusal.findings])) from None
        self._findings += warnings
        if any(finding.severity == "error" for finding in self._findings):
            raise PolicyRefused(_errors_first(self._findings))
        return policy


def _errors_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.severity != "error")


def _with_answers(
    chosen: Dns, others: Sequence[Dns | None], answers: Sequence[tuple[HostName, Address]]
) -> Dns:
    """Put fixed answers in front: the flags', and each of the others' for names not answered before it."""
    dns = with_static(replace(chosen, static=()), answers)
    for other in others:
        dns = dns if other is None else with_more_static(dns, other)
    return dns


def _sources(policy: Policy, asked: Asked, document: PolicyDocument | None) -> dict[str, str]:
    path = document.path if document is not None else _DEFAULT
    sources = {f".network.allow[{number}]": grant.source for number, grant in enumerate(policy.grants)}
    of_file = set(document.forwards) if document is not None else set()
    for number, forward in enumerate(policy.forwards):
        sources[f".network.ports[{number}]"] = path if forward in of_file else PORT
    in_file = document.dns if document is not None else None
    sources[".network.dns"] = DNS if asked.dns is not None else path if in_file is not None else _DEFAULT
    static = dict(in_file.static) if in_file is not None else {}
    place = Place(".network.dns.static")
    for name, found in policy.dns.static:
        sources[place.at(name).path] = path if static.get(name) == found else STATIC
    sources[".network.preset"] = PRESET if asked.preset is not None else path
    if policy.ttl is not None:
        sources[".network.ttl"] = TTL if asked.ttl is not None else path
    return sources
