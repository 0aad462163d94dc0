"""Policies compared, reviewed, suggested and written out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

import mvm
from mvm.declare.network import policy_of_network
from mvm.errors import PolicyRefused, UsageError
from mvm.policy import diff
from mvm.policy.diff import excess
from mvm.policy.document import policy_digest, policy_to_json
from mvm.policy.parse import format_grant
from mvm.policy.resolve import Asked, Document, resolve
from mvm.policy.review import QUESTIONS, as_markdown, as_text, review_text
from mvm.policy.suggest import suggest
from mvm.policy.write import to_flags, to_python, to_toml
from mvm.terms import DnsMode
from tests.policy.strategies import policies

if TYPE_CHECKING:
    from mvm.policy.model import Policy

PAGE = (
    '{"tool": "web_fetch", "network": {"mode": "bridge", "allow": [{"host": "api.openai.com", "port": 443}]}}'
)


def of_toml(text: str) -> Policy:
    """Resolve a policy file."""
    return resolve(Asked(document=Document("mvm.toml", text)), lambda: ()).policy


def of_flags(*allow: str, preset: str = "none", **words: str) -> Policy:
    """Resolve a command line."""
    return resolve(Asked(preset=preset, allow=allow, **words), lambda: ()).policy  # type: ignore[arg-type]


def below(depth: int, host: str = "example.com") -> Policy:
    """Grant the subdomains of a name on 443."""
    row = f'allow = [{{host = "{host}", port = 443, subdomains = {depth}}}]'
    return of_toml(f'[network]\nmode = "bridge"\ndns = "system"\n{row}\n')


def kinds(policy: Policy, over: Policy) -> list[str]:
    """Give the kinds of what one policy allows beyond another."""
    return [one.kind for one in excess(policy, over)]


# ---- diff


@given(policies())
def test_a_policy_allows_nothing_beyond_itself(policy: Policy) -> None:
    """Held against itself, no policy allows more."""
    assert excess(policy, policy) == ()


@given(policies())
def test_every_grant_is_more_than_no_grant(policy: Policy) -> None:
    """Held against the same policy without its grants, each is told unless every host is open there."""
    if not policy.unrestricted:
        bare = replace(policy, grants=())
        assert kinds(policy, bare) == ["grant"] * len(policy.grants)
        assert excess(bare, policy) == ()


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("a.example:443", "a.example:443,expires=10m"),
        ("a.example:443,expires=11m", "a.example:443,expires=10m"),
        ("a.example:443", "a.example:443,max-up=1MB"),
        ("a.example:443,max-down=2MB", "a.example:443,max-down=1MB"),
        ("a.example:443,private", "a.example:443"),
        ("a.example:443,tls=auto", "a.example:443"),
        ("a.example:443,tls=off", "a.example:443,tls=auto"),
    ],
)
def test_what_is_wider_is_told_one_way_only(wide: str, narrow: str) -> None:
    """The wider of two grants is more than the narrower, with how; the narrower is nothing more."""
    (one,) = excess(of_flags(wide), of_flags(narrow))
    assert one.kind == "grant"
    assert one.details
    assert excess(of_flags(narrow), of_flags(wide)) == ()


def test_reasons_and_sources_do_not_differ() -> None:
    """What is only said is no difference; another port is."""
    assert excess(of_flags("a.example:443,reason=x,sends=none"), of_flags("a.example:443")) == ()
    assert kinds(of_flags("a.example:8443"), of_flags("a.example:443")) == ["grant"]


@pytest.mark.parametrize(
    ("host", "is_covered"),
    [("a.example.com", True), ("a.b.example.com", False), ("example.com", False), ("aexample.com", False)],
)
def test_subdomains_cover_names_below_by_labels(host: str, is_covered: bool) -> None:
    """Names one label below are covered by depth 1; deeper ones, the name itself and look-alikes are not."""
    assert (kinds(of_flags(f"{host}:443"), below(1)) == []) is is_covered
    assert kinds(below(1), of_flags(f"{host}:443")) == ["grant"]


def test_subdomains_against_subdomains() -> None:
    """A deeper grant covers a shallower one, also of a name below, and not the other way round."""
    assert kinds(below(1), below(2)) == kinds(below(1, "a.example.com"), below(2)) == []
    assert kinds(below(2), below(1)) == kinds(below(2, "a.example.com"), below(2)) == ["grant"]


def test_unrestricted_covers_public_hosts_only() -> None:
    """`unrestricted` is more than any list; a grant of private addresses is more than it."""
    everything = of_flags(preset="unrestricted")
    assert kinds(of_flags("a.example:443", "1.1.1.1:53"), everything) == []
    assert kinds(of_flags("a.example:443,private"), everything) == ["grant"]
    assert kinds(everything, of_flags("a.example:443")) == ["unrestricted"]


def test_dns_ports_and_life_time() -> None:
    """Another resolver, a fixed answer, an inbound port and a longer life are each told."""
    plain = of_flags("a.example:443", ttl="10m")
    more = resolve(
        Asked(
            allow=("a.example:443",),
            dns="resolver=9.9.9.9",
            dns_static=("a.example=1.1.1.1",),
            ports=("8080:80",),
            ttl="11m",
        ),
        lambda: (),
    ).policy
    assert kinds(more, plain) == ["dns", "answer", "port", "ttl"]
    assert kinds(plain, more) == ["dns"]
    text = diff.as_text(excess(more, plain), "+")
    assert text.splitlines()[2] == "+ port 127.0.0.1:8080:80"


# ---- review


ANSWERED = """[network]
mode = "bridge"
dns = "system"
allow = [{host = "a.example", port = 443, reason = "why | so", sends = "public", downloads = "retain:7d"}]
"""


def test_all_six_questions_answered() -> None:
    """A grant that says everything has six answers and no finding."""
    made = review_text(ANSWERED, "mvm.toml")
    assert made.findings == ()
    (one,) = made.grants
    assert len(one.answers) == len(QUESTIONS) == 6
    assert one.answers[:3] == ("a.example:443/tcp", "why | so", "yes: system")
    assert one.answers[5] == "kept for 7d"
    assert "Every question is answered." in as_markdown(made)
    assert "why \\| so" in as_markdown(made)


def test_each_unanswered_question_is_a_finding() -> None:
    """The page's own document leaves why, secrets and downloads open, each told at its path."""
    made = review_text(PAGE, "tools.json")
    assert [(one.code, one.path, one.severity) for one in made.findings] == [
        ("no-reason", ".network.allow[0]", "error"),
        ("sends-not-stated", ".network.allow[0]", "error"),
        ("downloads-not-stated", ".network.allow[0]", "error"),
        ("dns-not-stated", ".network.dns", "warning"),
    ]
    assert [one.tool for one in made.grants] == ["web_fetch"]
    assert as_text(made).count("NOT SAID") == 3
    many = review_text('{"tools": [' + PAGE + "]}", "tools.json")
    assert many.findings[0].path == ".tools[0].network.allow[0]"


def test_warnings_of_the_file_are_told_and_leave_nothing_open() -> None:
    """A look-alike name is warned of in a review in which every question is answered."""
    made = review_text(ANSWERED.replace("a.example", "xn--pypi-4ve.example"), "mvm.toml")
    assert [(one.code, one.severity) for one in made.findings] == [("look-alike-host", "warning")]
    assert as_markdown(made).splitlines()[4:7:2] == ["Every question is answered.", "Warnings:"]


def test_a_reason_writes_no_markdown() -> None:
    """What a file says stands in the table as text: no link, no emphasis, no tag, no cell of its own."""
    reason = "[x](https://e.example) **not said** <img src=x> `a` | b"
    text = as_markdown(review_text(ANSWERED.replace("why | so", reason), "mvm.toml"))
    row = text.splitlines()[2]
    assert r"\[x\](https://e.example) \*\*not said\*\* &lt;img src=x> \`a\` \| b" in row


def test_presets_and_subdomains_are_not_exact() -> None:
    """A preset is to be frozen, and names below a name are no exact host."""
    preset = review_text('[network]\nmode = "bridge"\ndns = "system"\npreset = "dev"\n', "mvm.toml")
    assert [one.code for one in preset.findings] == ["preset-not-frozen"]
    wide = ANSWERED.replace("port = 443", "port = 443, subdomains = 1").replace('"a.', '"b.a.')
    assert [one.code for one in review_text(wide, "mvm.toml").findings] == ["host-not-exact"]


def test_what_is_refused_is_not_reviewed() -> None:
    """A document that is not acceptable is refused, not reviewed."""
    with pytest.raises(PolicyRefused):
        review_text(ANSWERED.replace("system", "none"), "mvm.toml")


# ---- suggest


def denial(host: str | None, reason: str, **words: object) -> dict[str, object]:
    """Make a denial as a run tells it."""
    return {
        "host": host,
        "address": None,
        "port": 443,
        "protocol": "tcp",
        "layer": "tcp",
        "reason": reason,
        **words,
    }


def test_the_smallest_policy_of_a_run() -> None:
    """What was reached and what was missed is granted; a standing grant that was not used is not."""
    standing = of_flags("a.example:443,reason=kept", "unused.example:443").grants
    made = suggest(
        [{"host": "a.example", "port": 443, "protocol": "tcp"}],
        [denial("b.example", "host-not-granted", port=8443)],
        standing=standing,
    )
    assert [format_grant(one) for one in made.policy.grants] == [
        "a.example:443,reason=kept",
        "b.example:8443",
    ]
    assert made.policy.dns.mode is DnsMode.SYSTEM
    assert made.warnings == ()


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "127.0.0.1", "fe80::1", "::1", "::ffff:169.254.169.254"]
)
def test_metadata_and_loopback_are_never_suggested(address: str) -> None:
    """They are left out with a word of warning; another address is suggested with one."""
    made = suggest([], [denial(None, "address-literal", address=address)])
    assert (made.policy.grants, [one.code for one in made.warnings]) == ((), ["not-suggested"])
    other = suggest([], [denial(None, "address-literal", address="10.0.0.1")])
    assert [format_grant(one) for one in other.policy.grants] == ["10.0.0.1:443,private"]
    assert [one.code for one in other.warnings] == ["literal-address"]


def test_a_name_that_leads_to_this_machine_is_not_suggested() -> None:
    """A name with a loopback or a metadata address is left out, one with a private address is told."""
    for address in ("127.0.0.1", "169.254.169.254"):
        made = suggest([], [denial("a.example", "private-address", address=address)])
        assert (made.policy.grants, [one.code for one in made.warnings]) == ((), ["not-suggested"])
    made = suggest([], [denial("a.example", "private-address", address="10.0.0.1")])
    assert [format_grant(one) for one in made.policy.grants] == ["a.example:443,private"]
    assert [one.code for one in made.warnings] == ["needs-private"]


@pytest.mark.parametrize(
    "host",
    ["localhost", "metadata.google.internal", "policy.mvm.internal", "4.3.2.1.in-addr.arpa", "_x.a.example"],
)
def test_names_that_no_workload_needs_are_not_suggested(host: str) -> None:
    """This machine, metadata, the portal, and what is no host: reached or denied, they are left out."""
    asked = denial(host, "host-not-granted", layer="dns", port=None, protocol=None)
    for made in (suggest([], [asked]), suggest([{"host": host, "port": 80, "protocol": "tcp"}], [])):
        assert (made.policy.grants, [one.code for one in made.warnings]) == ((), ["not-suggested"])


def test_a_grant_that_ended_is_suggested_as_it_stood() -> None:
    """The grant keeps its limit, and a warning says that it was not enough."""
    standing = of_flags("a.example:443,expires=1m").grants
    made = suggest([], [denial("a.example", "expired")], standing=standing)
    assert [format_grant(one) for one in made.policy.grants] == ["a.example:443,expires=1m"]
    assert [one.code for one in made.warnings] == ["grant-ended"]


@pytest.mark.parametrize(
    ("speaks", "tls"), [(["tls"], "require"), (["tls", None], "auto"), ([None, "tls"], "auto")]
)
def test_an_address_that_spoke_no_tls_may_speak_none(speaks: list[str | None], tls: str) -> None:
    """On 443 an address that once spoke another protocol is suggested with `tls=auto`."""
    flows = [{"host": "1.1.1.1", "port": 443, "protocol": "tcp", "speaks": spoken} for spoken in speaks]
    (grant,) = suggest(flows, []).policy.grants
    assert grant.tls == tls


def test_a_denial_of_another_version_is_no_grant() -> None:
    """A reason that this version does not know is warned of, not granted."""
    made = suggest([], [denial("a.example", "too-many-vowels")])
    assert (made.policy.grants, [one.code for one in made.warnings]) == ((), ["no-grant-helps"])


def test_names_without_a_port_and_what_no_grant_helps() -> None:
    """A name that was only asked for gets the usual port with a warning; malformed traffic gets nothing."""
    asked = denial("c.example", "host-not-granted", layer="dns", port=None, protocol=None)
    made = suggest([], [asked, denial("x.example", "malformed")])
    assert [format_grant(one) for one in made.policy.grants] == ["c.example:443"]
    assert sorted(one.code for one in made.warnings) == ["no-grant-helps", "port-guessed"]
    known = suggest([], [asked, denial("c.example", "port-not-granted", port=22)])
    assert [format_grant(one) for one in known.policy.grants] == ["c.example:22"]


# ---- writing out


@given(policies())
def test_toml_reads_back(policy: Policy) -> None:
    """A policy written as TOML is read as the same policy."""
    assert policy_to_json(of_toml(to_toml(policy))) == policy_to_json(policy)


@given(policies())
def test_flags_read_back(policy: Policy) -> None:
    """A policy written as flags resolves to the same policy; subdomains have no flag."""
    try:
        words = to_flags(policy)
    except UsageError:
        assert any(grant.depth is not None for grant in policy.grants)
        return
    given_words: dict[str, list[str]] = {}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        given_words.setdefault(flag, []).append(value)
    asked = Asked(
        preset=given_words["--network-preset"][0],
        allow=tuple(given_words.get("--network-allow", ())),
        dns=given_words["--dns"][0],
        dns_static=tuple(given_words.get("--dns-static", ())),
        ports=tuple(given_words.get("--port", ())),
        ttl=given_words.get("--ttl", [None])[0],
    )
    assert policy_digest(resolve(asked, lambda: ()).policy) == policy_digest(policy)


@given(policies())
def test_python_reads_back(policy: Policy) -> None:
    """A policy written as Python evaluates to the same policy, but for its life time, or is refused."""
    try:
        text = to_python(policy)
    except UsageError:
        return
    stated = eval(text, {"mvm": mvm})  # noqa: S307  what was just written, to see that it means the same
    assert policy_to_json(policy_of_network(stated, lambda: ())) == policy_to_json(replace(policy, ttl=None))
