"""Tools that stand for fixed grants: the page's document, what is refused, and who may say where to."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mvm.audit.record import Kind, make_record
from mvm.errors import AuditError, PolicyDenied, PolicyRefused
from mvm.policy import capability as module
from mvm.policy.capability import Decision, Tools
from mvm.policy.capability_file import is_capability_text, read_capabilities, tools_to_json
from mvm.policy.document import policy_digest
from mvm.policy.parse import format_grant
from mvm.terms import DnsMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mvm.policy.model import Policy

PAGE = (Path(__file__).parents[1] / "vectors/page_capability.json").read_text("utf-8")
RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


class Box:
    """A run that takes decisions and grants down in the order in which they come."""

    def __init__(self, *, full: bool = False) -> None:
        self.story: list[object] = []
        self._full = full

    def record_decision(self, fields: Mapping[str, object]) -> None:
        """Take a record down as the log would, or fail as a full disk does."""
        if self._full:
            raise AuditError("no space left")
        self.story.append(
            make_record(Kind.GRANT_DECIDED, fields, seq=1, time="2026-01-01T00:00:00.000000Z", run=RUN)
        )

    def add_grants(self, policy: Policy) -> None:
        """Take the effect down."""
        self.story.append(policy)


def document(**tool: object) -> str:
    """Give a document of one tool, `web_fetch`, with what is given on top."""
    allow = [{"host": "api.example", "port": 443}]
    network = {"mode": "bridge", "dns": "system", "allow": allow}
    return json.dumps({"tool": "web_fetch", "network": network, **tool})


def read(text: str) -> Tools:
    """Read a document as `tools.json`."""
    return read_capabilities(text, path="tools.json")


def refusals(text: str) -> list[tuple[str, str]]:
    """Give code and path of everything that is wrong with a document."""
    with pytest.raises(PolicyRefused) as caught:
        read(text)
    return [(finding.code, finding.path) for finding in caught.value.findings]


def grants(tools: Tools, tool: str) -> list[str]:
    """Give what a tool stands for as a command line has it."""
    made = tools.decide(tool).capability
    assert made is not None
    return [format_grant(grant) for grant in made.policy.grants]


def test_the_pages_document_as_written() -> None:
    """The page's JSON is one tool with one grant; that nobody said who resolves is a warning."""
    tools = read(PAGE)
    assert [capability.tool for capability in tools.capabilities] == ["web_fetch"]
    assert grants(tools, "web_fetch") == ["api.openai.com:443"]
    assert tools.capabilities[0].policy.dns.mode is DnsMode.SYSTEM
    assert [(one.code, one.path, one.severity) for one in tools.warnings] == [
        ("dns-not-stated", ".network.dns", "warning")
    ]
    assert tools.capabilities[0].policy.grants[0].source == "tools.json:7 (web_fetch)"


def test_several_tools_in_one_document() -> None:
    """Each tool of the list has its own grants, and each grant its own line."""
    text = """{"tools": [
      {"tool": "a", "network": {"mode": "bridge", "dns": "system", "allow": [
        {"host": "a.example", "port": 1}]}},
      {"tool": "b", "network": {"mode": "none"}},
      {"tool": "c", "network": {"mode": "bridge", "dns": "system", "allow": [
        {"host": "a.example", "port": 1}, {"host": "c.example", "port": 2}]}}]}"""
    tools = read(text)
    assert grants(tools, "a") == ["a.example:1"]
    assert grants(tools, "b") == []
    assert grants(tools, "c") == ["a.example:1", "c.example:2"]
    assert [grant.source for grant in tools.capabilities[2].policy.grants] == [
        "tools.json:6 (c)",
        "tools.json:6 (c)",
    ]


def test_ports_reason_and_ttl_are_the_tools() -> None:
    """`reason` is that of grants without one, `ttl` is the longest that any lasts."""
    allow = [
        {"host": "a.example", "port": 443},
        {"host": "b.example", "port": 443, "reason": "own", "expires": "1h"},
        {"host": "c.example", "port": 443, "expires": "1m"},
    ]
    network = {"mode": "bridge", "dns": "system", "allow": allow}
    tools = read(document(network=network, ports=[443], reason="fetch pages", ttl="10m"))
    assert grants(tools, "web_fetch") == [
        "a.example:443,expires=10m,reason=fetch pages",
        "b.example:443,expires=10m,reason=own",
        "c.example:443,expires=1m,reason=fetch pages",
    ]


def test_only_expected_ports_for_each_tool_capability() -> None:
    """A grant outside the tool's ports refuses the document, one inside does not."""
    assert refusals(document(ports=[80, 8443])) == [("port-not-expected", ".network.allow")]
    assert grants(read(document(ports=[80, 443])), "web_fetch") == ["api.example:443"]


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("*", "wildcard-host"),
        ("*.example.com", "wildcard-host"),
        ("10.0.0.0/8", "cidr"),
        ("http://proxy.example:3128", "url-host"),
        ("socks5://proxy.example", "proxy-url"),
        ("user@example.com", "user-info"),
    ],
)
def test_wildcards_cidrs_and_proxy_urls_are_refused(host: str, code: str) -> None:
    """A tool's grant is one host; whatever stands for more, or leads elsewhere, refuses the document."""
    text = document().replace("api.example", host)
    assert refusals(text) == [(code, ".network.allow[0].host")]
    many = json.dumps({"tools": [json.loads(document(tool="x")), json.loads(text)]})
    assert refusals(many) == [(code, ".tools[1].network.allow[0].host")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[]", [("wrong-type", ".")]),
        ('{"tools": {}}', [("wrong-type", ".tools")]),
        ('{"tools": []}', [("no-tools", ".tools")]),
        ('{"tools": [1]}', [("wrong-type", ".tools[0]")]),
        ('{"tools": [], "tool": "x"}', [("unknown-key", ".tool"), ("no-tools", ".tools")]),
        ('{"tool": "x"}', [("missing-network", ".network")]),
        ('{"network": {}}', [("missing-tool", ".tool")]),
        (document(tool=""), [("bad-tool", ".tool")]),
        (document(tool="a b"), [("bad-tool", ".tool")]),
        (document(tool=3), [("wrong-type", ".tool")]),
        (document(host="x"), [("unknown-key", ".host")]),
        (document(ports="443"), [("wrong-type", ".ports")]),
        (document(ports=["443"]), [("wrong-type", ".ports[0]")]),
        (document(ports=[0]), [("port-out-of-range", ".ports[0]")]),
        (document(reason=" "), [("empty-reason", ".reason")]),
        (document(ttl=10), [("wrong-type", ".ttl")]),
        (document(ttl="10"), [("bad-duration", ".ttl")]),
        (document(network=[]), [("wrong-type", ".network")]),
        (document(network={"mode": "host"}), [("unknown-mode", ".network.mode")]),
        (
            document(network={"mode": "bridge", "preset": "dev"}),
            [("preset-in-capability", ".network.preset")],
        ),
        (document(network={"mode": "bridge", "ports": ["1"]}), [("unknown-key", ".network.ports")]),
        (document(network={"mode": "bridge", "proxy": "x"}), [("unknown-key", ".network.proxy")]),
        (document(network={"mode": "bridge", "dns": "maybe"}), [("bad-dns", ".network.dns")]),
        (
            document(network={"mode": "bridge", "dns": {"mode": "none", "static": {"a.b": ["x"]}}}),
            [("bad-dns-static", '.network.dns.static["a.b"]')],
        ),
        (
            document(network={"allow": [{"host": "a.example", "port": 1}]}),
            [("mode-none-with-egress", ".network.mode")],
        ),
        (
            document(network={"mode": "bridge", "dns": "none", "allow": [{"host": "a.example", "port": 1}]}),
            [("dns-none", ".network.dns")],
        ),
        (
            document(network={"mode": "bridge", "dns": "system", "allow": [{"host": "a.example"}]}),
            [("missing-port", ".network.allow[0]")],
        ),
        (json.dumps({"tools": [json.loads(document())] * 2}), [("duplicate-tool", ".tools[1].tool")]),
        ('{"schema": "x", "tools": []}', [("unknown-schema", ".schema"), ("no-tools", ".tools")]),
        ("{", [("not-json", ".")]),
    ],
)
def test_what_is_no_capability_document(text: str, found: list[tuple[str, str]]) -> None:
    """Each mistake is told by its code and path, and nothing is told that is right."""
    assert refusals(text) == found


def test_an_unknown_tool_is_refused_and_recorded() -> None:
    """A tool that is not in the document is an error of its own, written down, and opens nothing."""
    box = Box()
    with pytest.raises(PolicyDenied) as caught:
        read(document()).grant("shell", run=box)
    assert caught.value.exit_code == 77
    assert "web_fetch" in caught.value.hint
    (record,) = box.story
    assert isinstance(record, dict)
    assert (record["decision"], record["code"], record["tool"]) == ("refused", "unknown-tool", "shell")


def test_a_known_tool_is_recorded_before_it_takes_effect() -> None:
    """Who, what, why, digest and run id are in the record of each grant, and the record comes first."""
    box = Box()
    tools = read(document(reason="fetch pages", ttl="10m"))
    decision = tools.grant("web_fetch", run=box)
    record, effect = box.story
    assert isinstance(record, dict)
    assert decision.capability is not None
    assert effect == decision.capability.policy
    assert {key: record[key] for key in ("run", "tool", "by", "decision", "host", "port", "protocol")} == {
        "run": RUN,
        "tool": "web_fetch",
        "by": "capability",
        "decision": "allowed",
        "host": "api.example",
        "port": 443,
        "protocol": "tcp",
    }
    assert (record["reason"], record["expires"]) == ("fetch pages", 600)
    assert record["policy"] == policy_digest(decision.capability.policy)


def test_nothing_opens_where_the_decision_cannot_be_recorded() -> None:
    """A full disk refuses the tool, and the run's grants stay as they are."""
    box = Box(full=True)
    with pytest.raises(AuditError):
        read(document()).grant("web_fetch", run=box)
    assert box.story == []


@given(st.text())
@example("web_fetch2")
@example("web_fetch\0")
@example("Web_Fetch")
@example("web_fetc")
def test_any_name_a_model_makes_up_is_decided_and_can_be_recorded(tool: str) -> None:
    """Whatever the text, it opens nothing but what the document says of that very name."""
    box = Box()
    tools = read(document())
    if tool == "web_fetch":
        return
    with pytest.raises(PolicyDenied):
        tools.grant(tool, run=box)
    assert len(box.story) == 1


def test_no_argument_leads_to_a_destination() -> None:
    """Who uses a tool hands over its name and the run: no parameter could carry a host, port or URL."""
    assert list(inspect.signature(Tools.grant).parameters) == ["self", "tool", "run"]
    assert list(inspect.signature(Tools.decide).parameters) == ["self", "tool"]
    hints = get_type_hints(Tools.decide, {**vars(module), "Decision": Decision})
    assert hints["tool"] is str


def test_a_document_reads_back_as_itself() -> None:
    """Tools, written out, are read as the same tools with the same digests."""
    tools = read(document(ports=[443], reason="why", ttl="10m"))
    again = read(json.dumps(tools_to_json(tools)))
    assert [policy_digest(one.policy) for one in again.capabilities] == [
        policy_digest(one.policy) for one in tools.capabilities
    ]
    assert (again.capabilities[0].ports, again.warnings) == ((443,), ())


@pytest.mark.parametrize(
    ("text", "path", "is_one"),
    [
        (PAGE, "x.json", True),
        (PAGE, "-", True),
        (PAGE, "x.toml", False),
        ('{"network": {}}', "x.json", False),
        ('{"network": {"allow": [{"reason": "say \\"tool\\": x"}]}}', "x.json", False),
        ("[network]", "mvm.toml", False),
    ],
)
def test_which_documents_are_capability_documents(text: str, path: str, is_one: Any) -> None:  # noqa: ANN401
    """JSON with a tool is one; TOML, and text inside of a string, is not."""
    assert is_capability_text(text, path) is is_one
