"""`network review`: six questions for every grant of a file, and 65 while one has no answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mvm.policy.review import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said

_ANSWERED = """[network]
mode = "bridge"
dns = "system"
allow = [
    {host = "a.example", port = 443, reason = "asks the model", sends = "user-data", downloads = "none"},
    {host = "b.example", port = 22, reason = "clones", sends = "none", downloads = "retain:7d"},
]
"""
_TOOL = {
    "tool": "web_fetch",
    "network": {"mode": "bridge", "dns": "system", "allow": [{"host": "a.example", "port": 443}]},
}


def test_every_answer_is_shown_for_every_grant(type_in: Callable[..., Said], project: Path) -> None:
    """All answered: exit 0; a block a grant with its place in the file, then six lines, nothing on stderr."""
    (project / "mvm.toml").write_text(_ANSWERED)
    said = type_in("network", "review", "mvm.toml").expect(0)
    lines = said.output.splitlines()
    assert [lines[0], lines[7]] == ["a.example:443/tcp  (mvm.toml:5)", "b.example:22/tcp  (mvm.toml:6)"]
    assert [line.strip().partition("? ")[0] + "?" for line in lines[1:7]] == list(QUESTIONS)
    assert lines[2] == "  Why does the workload need it? asks the model"
    assert lines[4].endswith("yes: user data")
    assert lines[13].endswith("kept for 7d")
    assert (len(lines), said.errors) == (14, "")


@pytest.mark.parametrize(
    ("cut", "code"),
    [
        (', reason = "clones"', "no-reason"),
        (', sends = "none"', "sends-not-stated"),
        (', downloads = "retain:7d"', "downloads-not-stated"),
    ],
)
def test_an_answer_that_is_missing_is_65(
    cut: str, code: str, type_in: Callable[..., Said], project: Path
) -> None:
    """Without one answer of one grant: `NOT SAID`, a finding with the grant's place, and 65."""
    (project / "mvm.toml").write_text(_ANSWERED.replace(cut, ""))
    said = type_in("network", "review", "mvm.toml").expect(65)
    assert said.output.count("NOT SAID") == 1
    (finding,) = [line for line in said.output.splitlines() if "error: " in line]
    assert finding.startswith("mvm.toml:6: error: .network.allow[1]: b.example:22/tcp: ")
    assert finding.endswith(f"[{code}]")


def test_a_broad_preset_is_to_be_frozen(type_in: Callable[..., Said], project: Path) -> None:
    """A preset leaves the exact hosts unsaid: 65, and the way is `network freeze`; of no hosts, `suggest`."""
    for preset, way in (("agent", "network freeze"), ("unrestricted", "network suggest")):
        (project / "mvm.toml").write_text(_ANSWERED.replace("allow", f'preset = "{preset}"\nallow'))
        said = type_in("network", "review", "mvm.toml").expect(65)
        assert "[preset-not-frozen]" in said.output
        assert way in said.output


def test_what_freeze_writes_is_asked_for_what_it_does_not_say(
    type_in: Callable[..., Said], project: Path
) -> None:
    """A frozen preset is reviewed host by host: what may be sent and kept there is still to be said."""
    (project / "mvm.toml").write_text('[network]\nmode = "bridge"\ndns = "system"\npreset = "agent"\n')
    type_in("network", "freeze", "-i", "mvm.toml").expect(0)
    answer = type_in("network", "review", "--json", "mvm.toml").expect(65).json
    codes = {finding["code"] for finding in answer["findings"]}
    assert codes == {"sends-not-stated", "downloads-not-stated"}
    assert len(answer["findings"]) == 2 * len(answer["grants"]) > 20


def test_capability_files_are_reviewed_tool_by_tool(type_in: Callable[..., Said], project: Path) -> None:
    """Each grant of a capability file is named with its tool."""
    (project / "tools.json").write_text(json.dumps(_TOOL))
    assert "a.example:443/tcp  (web_fetch, tools.json" in type_in("network", "review", "tools.json").output
    answer = type_in("network", "review", "--json", "tools.json").expect(65).json
    assert [(grant["tool"], grant["grant"]["host"]) for grant in answer["grants"]] == [
        ("web_fetch", "a.example")
    ]


def test_markdown_is_a_table_for_a_pull_request(type_in: Callable[..., Said], project: Path) -> None:
    """A row a grant; below it `Every question is answered.`, or the list of what is open and 65."""
    (project / "mvm.toml").write_text(_ANSWERED)
    lines = type_in("network", "review", "--format", "markdown", "mvm.toml").expect(0).output.splitlines()
    assert lines[0].startswith("| Grant | Why does the workload need it? |")
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| `a.example:443/tcp`", "| `b.example:22/tcp`"]
    assert lines[4:] == ["", "Every question is answered."]
    (project / "mvm.toml").write_text(_ANSWERED.replace(', reason = "clones"', ""))
    lines = type_in("network", "review", "--format", "markdown", "mvm.toml").expect(65).output.splitlines()
    assert "**not said**" in lines[3]
    assert lines[5] == "Open:"
    assert lines[7].startswith("- `.network.allow[1]`: ")


def test_the_review_as_json(type_in: Callable[..., Said], project: Path) -> None:
    """`mvm.review/1`: each grant with its six answers, null where there is none."""
    (project / "mvm.toml").write_text(_ANSWERED.replace(', sends = "none"', ""))
    answer = type_in("network", "review", "--json", "mvm.toml").expect(65).json
    assert (answer["schema"], answer["file"]) == ("mvm.review/1", "mvm.toml")
    asked = [[one["question"] for one in grant["answers"]] for grant in answer["grants"]]
    assert asked == [list(QUESTIONS)] * 2
    assert [grant["answers"][3]["answer"] for grant in answer["grants"]] == ["yes: user data", None]
    assert answer == type_in("network", "review", "--format", "json", "mvm.toml").expect(65).json


def test_warnings_are_told_and_refuse_nothing(type_in: Callable[..., Said], project: Path) -> None:
    """A name that looks like another is warned of in a review that exits 0."""
    (project / "mvm.toml").write_text(_ANSWERED.replace("b.example", "xn--pypi-4ve.example"))
    said = type_in("network", "review", "mvm.toml").expect(0)
    assert "[look-alike-host]" in said.output


def test_a_file_that_is_refused_is_not_reviewed(type_in: Callable[..., Said], project: Path) -> None:
    """A wildcard is 65 with its finding on stderr, or in the JSON; no file is usage."""
    (project / "bad.toml").write_text(_ANSWERED.replace("a.example", "*.example"))
    said = type_in("network", "review", "bad.toml").expect(65)
    assert said.output == ""
    assert "[wildcard-host]" in said.errors
    answer = type_in("network", "review", "--json", "bad.toml").expect(65).json
    assert [finding["code"] for finding in answer["findings"]] == ["wildcard-host"]
    assert "no such file" in type_in("network", "review", "absent.toml").expect(64).errors


def test_what_a_file_says_can_not_move_the_cursor(type_in: Callable[..., Said], project: Path) -> None:
    """A reason with a control character is refused; none reaches the terminal."""
    (project / "mvm.toml").write_text(_ANSWERED.replace("clones", "\\u001b[2Jclones"))
    said = type_in("network", "review", "mvm.toml").expect(65)
    assert "\x1b" not in said.output + said.errors
