"""Findings in each of the three formats, and what `network check` finds in a file."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mvm.errors import Finding
from mvm.policy.check import check_text
from mvm.policy.report import as_json, as_sarif, as_text, count_errors, split_source
from tests.policy import json_schema

if TYPE_CHECKING:
    from collections.abc import Callable

SARIF = json.loads((Path(__file__).parent.parent / "vectors/policy/sarif-schema-2.1.0.json").read_text())

ERROR = Finding(
    code="wildcard-host",
    path=".network.allow[0].host",
    message="'*' stands for many names",
    hint="name each host",
    source="dir/a b.toml:3",
)
WARNING = Finding(
    code="broad-preset", path=".network.preset", message="broad", hint="narrow", severity="warning"
)
BROKEN = """[network]
mode = "bridge"
dns = "system"
allow = [
  {host = "api.example.com", port = 443},
  {host = "*.example.com", port = 443},
  {host = "b.example.com", port = "443", tsl = "off"},
]
"""


def test_text_names_place_severity_code_and_hint() -> None:
    """Each finding is two lines: where and what, and what to write instead."""
    assert as_text([ERROR, WARNING]) == (
        "dir/a b.toml:3: error: .network.allow[0].host: '*' stands for many names [wildcard-host]\n"
        "  hint: name each host\n"
        "warning: .network.preset: broad [broad-preset]\n"
        "  hint: narrow\n"
    )
    assert as_text([]) == ""


def test_json_counts_what_refuses() -> None:
    """The object carries every attribute, and how many findings are errors."""
    made = as_json([ERROR, WARNING])
    assert (made["schema"], made["errors"], made["warnings"]) == ("mvm.findings/1", 1, 1)
    assert made["findings"] == [
        {
            "code": one.code,
            "path": one.path,
            "message": one.message,
            "hint": one.hint,
            "severity": one.severity,
            "source": one.source,
        }
        for one in (ERROR, WARNING)
    ]
    assert count_errors([WARNING]) == 0


@pytest.mark.parametrize(
    "findings",
    [(), (ERROR,), (WARNING, ERROR, ERROR), check_text(BROKEN, "mvm.toml"), check_text("[", "x.toml")],
)
def test_sarif_is_what_its_schema_wants(findings: tuple[Finding, ...]) -> None:
    """Whatever the findings, the log is a SARIF 2.1.0 log by the schema of the standard, which it names."""
    log = as_sarif(findings, version="1.2")
    assert json_schema.errors(SARIF, log) == []
    assert log["$schema"] == SARIF["id"]


def test_the_sarif_schema_refuses_what_is_no_sarif() -> None:
    """The schema that judges the logs is no rubber stamp: each spoilt log is found out."""
    log: Any = as_sarif([ERROR], version="1.2")
    spoils: tuple[Callable[[Any], object], ...] = (
        lambda run: run.pop("tool"),
        lambda run: run["tool"]["driver"].pop("name"),
        lambda run: run["results"][0].pop("message"),
        lambda run: run["results"][0].update(level="fatal"),
        lambda run: run["results"][0].update(severity="x"),
        lambda run: run["results"][0]["locations"][0]["physicalLocation"]["region"].update(startLine=0),
        lambda run: run["results"][0]["locations"][0]["physicalLocation"]["region"].pop("startLine"),
        lambda run: run["results"][0]["locations"][0]["physicalLocation"].pop("artifactLocation"),
        lambda run: run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"].update(
            uri="a b"
        ),
    )
    for spoil in spoils:
        spoilt = json.loads(json.dumps(log))
        spoil(spoilt["runs"][0])
        assert json_schema.errors(SARIF, spoilt)


def test_sarif_places_rules_and_levels() -> None:
    """A result names its rule by id and index, its file as a URI, its line, and its jq path."""
    log: Any = as_sarif([ERROR, WARNING], version="1.2")
    (run,) = log["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["broad-preset", "wildcard-host"]
    first, second = run["results"]
    assert (first["ruleId"], first["ruleIndex"], first["level"]) == ("wildcard-host", 1, "error")
    assert second["level"] == "warning"
    location = first["locations"][0]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "dir/a%20b.toml"},
        "region": {"startLine": 3},
    }
    assert location["logicalLocations"][0]["fullyQualifiedName"] == ".network.allow[0].host"
    assert "physicalLocation" not in second["locations"][0]


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("mvm.toml", ("mvm.toml", 0, 0)),
        ("mvm.toml:3", ("mvm.toml", 3, 0)),
        ("app.py:3:14", ("app.py", 3, 14)),
        ("a:1:2:3", ("a:1", 2, 3)),
        ("", ("", 0, 0)),
        (":3", (":3", 0, 0)),
        ("a:b", ("a:b", 0, 0)),
    ],
)
def test_sources_come_apart(source: str, parts: tuple[str, int, int]) -> None:
    """File, line and column are told apart from the right, so that a colon in a file's name stays there."""
    assert tuple(split_source(source)) == parts


def test_absolute_paths_are_file_uris() -> None:
    """An absolute path has a scheme; a byte that is no UTF-8 is still spelled."""
    log: Any = as_sarif(
        [Finding(code="x", path=".", message="m", hint="h", source="/a/\udcff.toml")], version="1"
    )
    uri = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "file:///a/%FF.toml"


# ---- what is found in a file


def test_check_tells_every_finding_with_its_line() -> None:
    """Each bad grant is told with the file and line that it stands on; the good one is not."""
    found = check_text(BROKEN, "p/mvm.toml")
    assert [(one.code, one.path, one.source) for one in found] == [
        ("wildcard-host", ".network.allow[1].host", "p/mvm.toml:6"),
        ("unknown-key", ".network.allow[2].tsl", "p/mvm.toml:7"),
        ("wrong-type", ".network.allow[2].port", "p/mvm.toml:7"),
    ]
    good = BROKEN.replace("*.", "a.").replace('"443", tsl = "off"', "443")
    assert check_text(good, "p/mvm.toml") == ()


def test_check_places_a_syntax_error() -> None:
    """A file that can't be read at all is one finding, at the line and column where reading stopped."""
    (of_toml,) = check_text("[network]\nmode = \n", "mvm.toml")
    assert (of_toml.code, of_toml.source) == ("not-toml", "mvm.toml:2:8")
    (of_json,) = check_text('{"network": {\n"mode" 1}}', "p.json")
    assert (of_json.code, of_json.source) == ("not-json", "p.json:2:8")


def test_check_owes_a_preset_its_dns() -> None:
    """A preset grants names on some machine or other, so a file must say who resolves; then it only warns."""
    text = '[network]\nmode = "bridge"\npreset = "registries"\n'
    assert [one.code for one in check_text(text, "mvm.toml")] == ["dns-not-stated", "broad-preset"]
    assert [one.code for one in check_text(text + 'dns = "system"', "mvm.toml")] == ["broad-preset"]


def test_every_finding_names_its_file() -> None:
    """Findings about the whole document are of its file too."""
    text = '[network]\nmode = "bridge"\nports = ["80:1", "80:2"]\npreset = "unrestricted"\n'
    found = check_text(text, "x/mvm.toml")
    assert [(one.code, one.severity) for one in found] == [
        ("dns-not-stated", "error"),
        ("conflicting-forwards", "error"),
        ("broad-preset", "warning"),
    ]
    assert {one.source for one in found} == {"x/mvm.toml"}


def test_check_knows_a_capability_file() -> None:
    """JSON that names a tool is read as a capability file, other JSON as a policy."""
    tool = (
        '{"tool": "t", "network": {"mode": "bridge", "dns": "system", "allow": [{"host": "*", "port": 1}]}}'
    )
    assert [(one.code, one.path) for one in check_text(tool, "t.json")] == [
        ("wildcard-host", ".network.allow[0].host")
    ]
    assert check_text(tool.replace("*", "a.example"), "t.json") == ()
    policy = '{"network": {"mode": "bridge", "dns": "system", "allow": [{"host": "a.example", "port": 1}]}}'
    assert check_text(policy, "p.json") == ()


def many_grants(count: int, kind: str) -> str:
    """A policy file of so many grants, each on a line of its own where it is TOML."""
    grants = [{"host": f"host-{n}.example.com", "port": n + 1, "reason": f"part {n}"} for n in range(count)]
    if kind == "json":
        return json.dumps({"network": {"mode": "bridge", "dns": "system", "allow": grants}})
    rows = (f'{{host = "{g["host"]}", port = {g["port"]}, reason = "{g["reason"]}"}},\n' for g in grants)
    return f'[network]\nmode = "bridge"\ndns = "system"\nallow = [\n{"".join(rows)}]\n'


def count_calls(work: Callable[[], object]) -> int:
    """How often anything is called, or returns, while something is done."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_ten_times_the_grants_are_ten_times_the_work(kind: str) -> None:
    """Calls grow with the number of grants and no faster, and are few for each."""
    few, many = many_grants(200, kind), many_grants(2000, kind)
    check_text(few, f"p.{kind}")  # what is imported once is no part of it
    some = count_calls(lambda: check_text(few, f"p.{kind}"))
    more = count_calls(lambda: check_text(many, f"p.{kind}"))
    assert some < more <= 10.5 * some
    assert more < 400 * 2000


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_ten_thousand_grants_are_checked_within_a_second_of_this_process(kind: str) -> None:
    """The processor time for 10,000 grants, each with its line, stays under a second."""
    text = many_grants(10_000, kind)
    taken = []
    for _ in range(3):
        before = time.process_time()
        assert check_text(text, f"p.{kind}") == ()
        taken.append(time.process_time() - before)
    assert min(taken) < 1
