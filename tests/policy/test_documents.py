"""Policy files, TOML and JSON: what is right, what is refused and where, and the digest of what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.canonical import encode
from mvm.errors import PolicyRefused
from mvm.policy.check import check_text
from mvm.policy.decide import Authority, Denied
from mvm.policy.document import policy_digest, policy_to_json, read_policy
from mvm.policy.parse import format_grant
from mvm.policy.validate import merge_grants, policy_of
from mvm.terms import HostName, Preset, Protocol
from tests.policy.strategies import grants, names, policies
from tests.policy.vectors import (
    DOCUMENTS,
    DOCUMENTS_REFUSED,
    HOSTS_REFUSED,
    Document,
    RefusedDocument,
    count_accepted,
    count_refused,
)

if TYPE_CHECKING:
    from mvm.policy.model import Grant, Policy


def read_back(document: object) -> Policy:
    """Make the policy that a canonical document says."""
    read = read_policy(json.dumps(document), path="policy.json")
    policy, _ = policy_of(
        grants=read.grants,
        dns=read.dns,
        preset=read.preset,
        unrestricted=read.preset is Preset.UNRESTRICTED,
        forwards=read.forwards,
        ttl=read.ttl,
    )
    return policy


def test_there_are_enough_vectors() -> None:
    """At least 300 inputs are refused and 100 accepted by name."""
    assert count_refused() >= 300
    assert count_accepted() >= 100


@pytest.mark.parametrize("row", DOCUMENTS, ids=[row["name"] for row in DOCUMENTS])
def test_documents_that_are_right(row: Document) -> None:
    """A document grants what it says, and is warned of what it should be."""
    found = check_text(row["text"], row["path"])
    assert [[one.code, one.path] for one in found] == row["warned"]
    assert {one.severity for one in found} <= {"warning"}
    read = read_policy(row["text"], path=row["path"])
    assert [format_grant(grant) for grant in merge_grants(read.grants, [])] == row["grants"]


@pytest.mark.parametrize("row", DOCUMENTS_REFUSED, ids=[row["name"] for row in DOCUMENTS_REFUSED])
def test_documents_that_are_refused(row: RefusedDocument) -> None:
    """A document is refused with code and path of all that is wrong with it, each with a way out."""
    found = check_text(row["text"], row["path"])
    assert [[one.code, one.path] for one in found] == row["found"]
    assert found[0].severity == "error"
    assert all(one.hint and one.message and one.source.startswith(row["path"]) for one in found)


def test_a_document_nested_too_deeply_is_refused() -> None:
    """Brackets without end are a refusal, not a crash."""
    assert [one.code for one in check_text("[" * 100_000, "p.json")] == ["not-json"]
    assert [one.code for one in check_text("a = " + "[" * 100_000, "p.toml")] == ["not-toml"]


@given(st.text(max_size=200))
def test_any_text_is_a_document_or_refused(text: str) -> None:
    """No text makes the readers raise anything but a refusal."""
    for path in ("p.toml", "p.json"):
        check_text(text, path)


KEYS = st.sampled_from(["network", "mode", "dns", "allow", "host", "port", "static", "ports", "ttl", "x"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
)


@given(json_values)
def test_any_json_is_a_document_or_refused(value: object) -> None:
    """No shape of JSON makes the reader raise anything but a refusal."""
    check_text(json.dumps({"network": value}), "p.json")
    check_text(json.dumps(value), "p.json")


# ---- lines


def test_grants_know_their_lines() -> None:
    """Each grant tells the line of its host, in both ways of writing TOML and in JSON."""
    head = '[network]\nmode = "bridge"\n'
    inline = """allow = [
      {host = "a.example", port = 1},
      {port = 2, "host" = 'b.example'},
    ]"""
    tables = """[[network.allow]]
# host = "x"
host = "a.example"
port = 1

[[network.allow]]
host="b.example"
port = 2"""
    as_json = """{"network": {"mode": "bridge", "allow": [
{"host": "a.example", "port": 1},
{"host":
"b.example", "port": 2}]}}"""
    for path, text, lines in (
        ("p.toml", head + inline, [4, 5]),
        ("p.toml", head + tables, [5, 9]),
        ("p.json", as_json, [2, 3]),
    ):
        sources = [grant.source for grant in read_policy(text, path=path).grants]
        assert sources == [f"{path}:{line}" for line in lines]


def test_lines_are_left_out_where_they_are_not_certain() -> None:
    """Where a text could be misread the file alone is named, never a wrong line."""
    text = '[network]\nmode = "bridge"\nallow = [{host = "a.example", port = 1, reason = "host = \'b\'"}]\n'
    (grant,) = read_policy(text, path="p.toml").grants
    assert grant.source == "p.toml"


# ---- parse o print = identity, and the digest


@given(policies())
def test_policies_print_and_read_back(policy: Policy) -> None:
    """A policy's canonical document is read as the same policy, with the same digest."""
    again = read_back(policy_to_json(policy))
    assert policy_to_json(again) == policy_to_json(policy)
    assert policy_digest(again) == policy_digest(policy)
    strip = [replace(grant, source="") for grant in policy.grants]
    assert [replace(grant, source="") for grant in again.grants] == strip


distinct = st.lists(
    grants(depths=st.none(), of=names), max_size=5, unique_by=lambda one: (one.host, one.port, one.protocol)
)


@given(distinct, st.randoms())
def test_the_digest_knows_neither_order_nor_source(listed: list[Grant], source: object) -> None:
    """The same grants in another order, from elsewhere, under another preset, have the same digest."""
    shuffled = [replace(grant, source="elsewhere") for grant in listed]
    source.shuffle(shuffled)  # type: ignore[attr-defined]
    digests = {policy_digest(made(order, preset)) for order, preset in ((listed, "none"), (shuffled, "dev"))}
    assert len(digests) == 1


@given(policies(), grants())
def test_the_digest_knows_every_grant(policy: Policy, grant: Grant) -> None:
    """A policy with one grant more is another policy."""
    if any(str(grant.host) == str(one.host) for one in policy.grants):
        return
    assert policy_digest(replace(policy, grants=(*policy.grants, grant))) != policy_digest(policy)


def made(listed: list[Grant], preset: str) -> Policy:
    """Make a policy of grants under the system's DNS."""
    read = read_policy('[network]\nmode = "bridge"\ndns = "system"\n', path="p.toml")
    policy, _ = policy_of(
        grants=listed, dns=read.dns, preset=Preset(preset), unrestricted=False, forwards=(), ttl=None
    )
    return policy


def test_the_canonical_document_is_canonical() -> None:
    """A policy has one spelling in bytes, whichever way it was written."""
    plain = '{"network":{"dns":"system","mode":"bridge","allow":[{"port":443,"host":"A.example."}]}}'
    spelt = """[network]
mode = "bridge"
dns = {mode = "system"}
[[network.allow]]
host = "a.example"
port = 443
tls = "require"
private = false
"""
    read = [read_policy(text, path=path) for text, path in ((plain, "p.json"), (spelt, "p.toml"))]
    assert len({encode(policy_to_json(made(list(one.grants), "none"))) for one in read}) == 1


# ---- a refused host never resolves


@pytest.mark.parametrize("text", [text for rows in HOSTS_REFUSED.values() for text, _ in rows])
def test_a_refused_host_is_never_resolved(text: str) -> None:
    """No policy file, flag or fixed answer gets a refused text as far as a policy that could resolve it."""
    document = {"network": {"mode": "bridge", "dns": "system", "allow": [{"host": text, "port": 443}]}}
    with pytest.raises(PolicyRefused):
        read_policy(json.dumps(document), path="p.json")
    answered = {"network": {"dns": {"mode": "none", "static": {text: ["192.88.0.1"]}}}}
    with pytest.raises(PolicyRefused):
        read_policy(json.dumps(answered), path="p.json")


@given(names, st.text(min_size=1, max_size=12))
def test_a_granted_name_allows_no_other_text(name: HostName, more: str) -> None:
    """Whatever text a workload asks for, only the granted name itself is allowed."""
    read = read_policy(
        json.dumps({"network": {"mode": "bridge", "dns": "system", "allow": [{"host": name, "port": 443}]}}),
        path="p.json",
    )
    authority = Authority(made(list(read.grants), "none"), 0.0)

    def decide(host: str) -> object:
        return authority.decide(host=HostName(host), address=None, port=443, protocol=Protocol.TCP, now=0.0)

    assert not isinstance(decide(name), Denied)
    for text in (name + more, more + name, f"{more}.{name}", f"{name}.{more}"):
        assert isinstance(decide(text), Denied)
        assert not authority.knows(HostName(text))
