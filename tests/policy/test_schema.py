"""The JSON Schemas for editors: what is right passes, what a schema can see to be wrong does not.

The readers are the judge. A schema may be blind, and where it is stands here by name; it is never stricter.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.errors import PolicyRefused
from mvm.policy.capability_file import read_capabilities
from mvm.policy.document import policy_to_json
from mvm.policy.fields import GRANT_KEYS
from mvm.policy.hosts import parse_host
from mvm.policy.parse import parse_duration, parse_size
from mvm.policy.schema import DIALECT, capabilities_schema, policy_schema, schema_documents
from tests.policy import json_schema
from tests.policy.strategies import policies
from tests.policy.vectors import (
    DOCUMENTS,
    DOCUMENTS_REFUSED,
    HOSTS,
    HOSTS_REFUSED,
    WORDS,
    WORDS_REFUSED,
    Document,
    RefusedDocument,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mvm.policy.model import Policy

POLICY, CAPABILITIES = policy_schema(), capabilities_schema()

UNSEEN_DOCUMENTS = frozenset(
    {
        "host with a lone surrogate",
        "json: key twice deep down",
        "json: key twice",
        "name answered by no fixed answer",
        "one port to two",
        "port is a fraction",
        "subdomains of a hosting suffix",
        "subdomains of a registry's second level",
        "subdomains of a top-level name",
        "two reasons",
        "two spellings of one host that disagree",
        "two that disagree on private",
        "two that disagree on their end",
        "two that disagree on tls",
    }
)
"""Documents that only `network check` sees to be wrong: two things against each other, lists of
suffixes, a whole number that is spelt with a fraction."""

UNSEEN_KINDS = frozenset({"other_digits", "mapped", "bad_addresses", "not_idna"})
"""Hosts whose fault takes IDNA, or a reader of IPv6 addresses, to see."""

UNSEEN_HOSTS = frozenset(
    {"192.0.2.1-9", "10.0.0.0-10", "1-2", "::ffff:0.0.0.0", "64:ff9b::0.0.0.0", "255.255.255.255"}
    | {"::ffff:224.0.0.251", "ä" * 60 + ".example"}
)
"""Single hosts of other kinds that pass for a name or an address."""

UNSEEN_WORDS = frozenset({"36501d", "9007199254740992", "10000TiB", "65536", "8080:65536"})
"""Numbers that are too large by little: a pattern does not count."""

BAD_TOOLS: tuple[str, ...] = (
    "[]",
    '{"tools": {}}',
    '{"tools": []}',
    '{"tools": [1]}',
    '{"tool": "x"}',
    '{"network": {}}',
    '{"tool": "", "network": {}}',
    '{"tool": "a b", "network": {}}',
    '{"tool": 3, "network": {}}',
    '{"tool": "x", "network": {}, "host": "a.example"}',
    '{"tool": "x", "network": {}, "ports": ["443"]}',
    '{"tool": "x", "network": {}, "ports": [0]}',
    '{"tool": "x", "network": {}, "reason": " "}',
    '{"tool": "x", "network": {}, "ttl": "10"}',
    '{"tool": "x", "network": {"mode": "host"}}',
    '{"tool": "x", "network": {"mode": "bridge", "preset": "dev"}}',
    '{"tool": "x", "network": {"mode": "bridge", "ports": ["1"]}}',
    '{"tool": "x", "network": {"allow": [{"host": "a.example", "port": 1}]}}',
    '{"tool": "x", "network": {"mode": "bridge", "dns": "none", "allow": [{"host": "a.b", "port": 1}]}}',
    '{"schema": "mvm.policy/1", "tools": [{"tool": "x", "network": {}}]}',
)


def judges() -> Iterator[Callable[[Mapping[str, object], object], bool]]:
    """The validator of the tests, and the package `jsonschema` where this machine has it."""
    yield lambda schema, value: not json_schema.errors(dict(schema), value)
    if importlib.util.find_spec("jsonschema"):
        judge: Any = importlib.import_module("jsonschema").Draft202012Validator
        # It reads patterns as Python does, whose `$` stands before a last line feed too; ECMA 262's does not.
        yield lambda schema, value: judge(
            json.loads(json.dumps(schema).replace('$"', '\\\\Z"')),
        ).is_valid(value)


def is_valid(schema: Mapping[str, object], value: object) -> bool:
    """Ask every judge there is; they have to agree."""
    (verdict,) = {judge(schema, value) for judge in judges()}
    return verdict


def loaded(row: Document | RefusedDocument) -> object:
    """What the file's text is to an editor, which tells TOML from JSON as `read_policy` does."""
    text, path = row["text"], row["path"]
    is_json = path.endswith(".json") or (not path.endswith(".toml") and text.lstrip()[:1] == "{")
    return json.loads(text) if is_json else tomllib.loads(text)


def granting(host: str, **more: object) -> dict[str, object]:
    """Give a document that grants one host."""
    return {"network": {"mode": "bridge", "dns": "system", "allow": [{"host": host, "port": 1, **more}]}}


def is_read(text: str, reader: Callable[[str], object]) -> bool:
    """Tell whether a reader takes a text."""
    try:
        reader(text)
    except PolicyRefused:
        return False
    return True


# ---- documents


@pytest.mark.parametrize("row", DOCUMENTS, ids=[row["name"] for row in DOCUMENTS])
def test_what_is_right_is_valid(row: Document) -> None:
    """Every document that mvm reads passes its schema."""
    assert is_valid(POLICY, loaded(row))


def test_what_is_wrong_is_invalid_but_for_what_a_schema_cannot_see() -> None:
    """Every document that mvm refuses, if it can be loaded at all, fails its schema, or it stands by name."""
    unseen = set()
    for row in DOCUMENTS_REFUSED:
        try:
            value = loaded(row)
        except ValueError:
            continue  # no TOML or no JSON: an editor says so without a schema
        if is_valid(POLICY, value):
            unseen.add(row["name"])
    assert unseen == UNSEEN_DOCUMENTS
    assert len(DOCUMENTS_REFUSED) > 5 * len(unseen)


@given(policies())
def test_every_policy_is_valid(policy: Policy) -> None:
    """Whatever policy there can be, its canonical document passes."""
    document = policy_to_json(policy)
    document.pop("schema")
    assert is_valid(POLICY, document)


# ---- words


@pytest.mark.parametrize("host", [text for text, _ in HOSTS])
def test_hosts_that_are_right_are_valid(host: str) -> None:
    """Every spelling of a host that mvm reads passes."""
    assert is_valid(POLICY, granting(host))


@pytest.mark.parametrize("kind", [kind for kind in HOSTS_REFUSED if kind not in UNSEEN_KINDS])
def test_hosts_that_are_wrong_are_invalid(kind: str) -> None:
    """Every host that mvm refuses fails, but for those that stand by name."""
    passed = {text for text, _ in HOSTS_REFUSED[kind] if is_valid(POLICY, granting(text))}
    assert passed <= UNSEEN_HOSTS


@given(st.text(max_size=12) | st.from_regex(r"\A[a-z0-9.:-]{1,12}\Z"))
def test_no_host_is_invalid_that_mvm_reads(text: str) -> None:
    """A schema is never stricter than the reader."""
    if is_read(text, lambda text: parse_host(text, path=".")):
        assert is_valid(POLICY, granting(text))


@pytest.mark.parametrize(
    ("kind", "key"), [("durations", "expires"), ("sizes", "max_up"), ("forwards", "ports"), ("dns", "dns")]
)
def test_words_are_judged_as_mvm_reads_them(kind: str, key: str) -> None:
    """Times, sizes, inbound ports and DNS policies pass where mvm reads them, and fail where it does not."""

    def document(text: str) -> dict[str, object]:
        if key in GRANT_KEYS:
            return granting("a.example", **{key: text})
        return {"network": {"mode": "bridge", key: [text] if key == "ports" else text}}

    assert [text for text, _ in WORDS[kind] if not is_valid(POLICY, document(text))] == []
    assert {text for text, _ in WORDS_REFUSED[kind] if is_valid(POLICY, document(text))} <= UNSEEN_WORDS


@given(st.from_regex(r"\A[0-9]{0,3}(d|h|m|s|ms|kB|MiB|TB)?([0-9]{0,3}(m|s|ms))?\Z"))
def test_times_and_sizes_are_never_judged_more_strictly(text: str) -> None:
    """What mvm reads as a time or a size passes as one; what is neither in form fails."""
    for key, reader in (("expires", parse_duration), ("max_up", parse_size)):
        reads = is_read(text, lambda text, reader=reader: reader(text, path="."))  # type: ignore[misc]
        assert is_valid(POLICY, granting("a.example", **{key: text})) is reads


def test_reasons_are_judged_by_what_can_be_shown() -> None:
    """No character is refused in a reason that mvm shows; terminal codes and turned text are."""
    definitions: Any = POLICY["$defs"]
    pattern = re.compile(definitions["reason"]["pattern"])
    refused = [char for char in map(chr, range(sys.maxunicode + 1)) if not pattern.search(f"a{char}a")]
    assert [char for char in refused if char.isprintable()] == []
    assert {"\x00", "\x1b", "\n", "\u202e", "\u200b"} <= set(refused)
    assert not is_valid(definitions["reason"], "  ")


# ---- capability documents


def test_the_pages_capability_is_valid() -> None:
    """One tool, and a list of tools, pass."""
    tool = {
        "tool": "web_fetch",
        "network": {"mode": "bridge", "allow": [{"host": "api.openai.com", "port": 443}]},
    }
    full = {**tool, "tool": "a.b-C_9", "ports": [443], "reason": "why", "ttl": "10m", "$schema": "x.json"}
    for document in (tool, full, {"tools": [tool, full], "schema": "mvm.capabilities/1"}):
        assert is_read(json.dumps(document), lambda text: read_capabilities(text, path="t.json"))
        assert is_valid(CAPABILITIES, document)


@pytest.mark.parametrize("text", BAD_TOOLS)
def test_what_is_no_capability_document_is_invalid(text: str) -> None:
    """Each mistake that mvm refuses in a capability document fails its schema too."""
    assert not is_read(text, lambda text: read_capabilities(text, path="t.json"))
    assert not is_valid(CAPABILITIES, json.loads(text))


@given(st.text(min_size=1, max_size=3) | st.integers(60, 70).map(lambda length: "a" * length))
def test_names_of_tools_are_judged_as_mvm_reads_them(name: str) -> None:
    """A tool's name passes exactly where it is one."""
    document = {"tool": name, "network": {"mode": "none"}}
    reads = is_read(json.dumps(document), lambda text: read_capabilities(text, path="t.json"))
    assert is_valid(CAPABILITIES, document) is reads


# ---- the schemas themselves


def test_every_key_says_what_it_is_for() -> None:
    """An editor has a sentence for each key of a document, of `network`, of a grant, of DNS and of a tool."""
    for schema in (POLICY, CAPABILITIES):
        definitions: Any = schema["$defs"]
        objects = [schema, schema.get("then"), *definitions.values(), *definitions["dns"]["anyOf"]]
        keys = [(key, value) for one in objects if one for key, value in one.get("properties", {}).items()]
        silent = [
            key
            for key, value in keys
            if not {**definitions.get(value.get("$ref", "").rpartition("/")[2], {}), **value}.get(
                "description"
            )
        ]
        assert silent == []
        assert len(keys) > 20
        assert tuple(definitions["grant"]["properties"]) == GRANT_KEYS


def test_the_schemas_are_of_the_dialect_that_they_name() -> None:
    """Both name draft 2020-12, and are schemas by its meta-schema where the package `jsonschema` can tell."""
    for name, schema in schema_documents().items():
        assert schema["$schema"] == DIALECT
        assert f"{schema['$id']}.json".replace(":", ".") == f"urn.mvm.schema.{name}"
        if importlib.util.find_spec("jsonschema"):
            importlib.import_module("jsonschema").Draft202012Validator.check_schema(schema)


def test_the_judge_tells_right_from_wrong() -> None:
    """One grant passes, and with its port in quotes it fails."""
    right = granting("api.example.com")
    assert is_valid(POLICY, right)
    wrong: Any = json.loads(json.dumps(right))
    wrong["network"]["allow"][0]["port"] = "443"
    assert json_schema.errors(POLICY, wrong)
