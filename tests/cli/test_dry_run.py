"""`--dry-run`: the resolved policy and the plan, for the page's four commands as written and for others."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said

# Each as it stands on the page, and what it opens.
PAGE = {
    "mvmctl up --flake . --name agent-sandbox --network-preset none": [],
    "mvmctl up --flake . --name build-sandbox --network-preset registries": None,
    "mvmctl up --flake . --name agent-sandbox --network-preset none "
    "--network-allow api.openai.com:443 --network-allow github.com:443": ["api.openai.com", "github.com"],
    "mvmctl up --flake . --name api-dev --network-preset none -p 127.0.0.1:8080:8080": [],
}


def words_of(line: str) -> list[str]:
    """Split a line of the page, without its first word."""
    return shlex.split(line)[1:]


@pytest.mark.parametrize("line", PAGE)
def test_the_pages_commands_are_planned_as_written(line: str, type_in: Callable[..., Said]) -> None:
    """Each of the page's four commands prints, with --dry-run, its policy with sources and a plan."""
    said = type_in(*words_of(line), "--dry-run").expect(0)
    assert said.output.startswith("policy sha256:")
    assert "\ndoor\n  no link out, no route: every address is local\n" in said.output
    assert "from --network-preset" in said.output


@pytest.mark.parametrize("line", PAGE)
def test_the_pages_commands_grant_exactly_what_they_name(line: str, type_in: Callable[..., Said]) -> None:
    """As JSON: exactly the named hosts, each with its source; of registries, what the tools were asked."""
    plan = type_in(*words_of(line), "--dry-run", "--json").expect(0).json
    grants = plan["policy"]["grants"]
    hosts = PAGE[line]
    if hosts is None:
        assert all(grant["source"].startswith("preset registries: ") for grant in grants)
    else:
        assert [grant["host"] for grant in grants] == hosts
        assert {grant["source"] for grant in grants} <= {"--network-allow"}


def test_an_inbound_port_opens_no_way_out(type_in: Callable[..., Said]) -> None:
    """The page's fourth command has a port that leads in, and not one grant."""
    line = next(line for line in PAGE if " -p " in line)
    network = type_in(*words_of(line), "--dry-run", "--json").expect(0).json["policy"]["document"]["network"]
    assert network["ports"] == ["127.0.0.1:8080:8080"]
    assert network["allow"] == []


def test_the_plan_has_its_schema_and_members(type_in: Callable[..., Said]) -> None:
    """`mvm.plan/1`: the policy with its sources, warnings, the command, and the steps."""
    plan = (
        type_in("run", "--network-allow", "a.example:443", "--dry-run", "--json", "--", "true").expect(0).json
    )
    assert plan["schema"] == "mvm.plan/1"
    assert plan["command"] == ["true"]
    assert plan["flake"] is None
    assert plan["warnings"] == []
    assert plan["policy"]["digest"].startswith("sha256:")
    assert plan["policy"]["sources"][".network.dns"] == "default"
    assert [step["step"] for step in plan["plan"]][:4] == ["identity", "image", "isolation", "door"]


def test_nothing_is_started_or_written(type_in: Callable[..., Said], tmp_path: Path) -> None:
    """A dry run leaves no record, no name and no key."""
    type_in("run", "--dry-run", "--", "true").expect(0)
    assert list((tmp_path / "state").iterdir()) == list((tmp_path / "run").iterdir()) == []


def test_warnings_are_told(type_in: Callable[..., Said]) -> None:
    """A broad preset is planned, with its warning."""
    plan = (
        type_in("run", "--network-preset", "unrestricted", "--dry-run", "--json", "--", "true").expect(0).json
    )
    assert [warning["code"] for warning in plan["warnings"]] == ["broad-preset"]
    text = type_in("run", "--network-preset", "unrestricted", "--dry-run", "--", "true").expect(0).output
    assert "warning: " in text
    assert "every public host, by name" in text


def test_limits_environment_and_files_are_planned(type_in: Callable[..., Said], project: Path) -> None:
    """Memory, processors, processes, a volume and a variable's name are in the plan; its value is not."""
    (project / "data").mkdir()
    said = type_in(
        *("run", "--memory", "512MB", "--cpus", "1.5", "--pids", "64", "-v", "data:/data:ro"),
        *("-e", "TOKEN=hush", "--dry-run", "--", "true"),
    ).expect(0)
    for expected in ("memory 512000000", "cpus 1.5", "pids 64", "/data", "TOKEN"):
        assert expected in said.output
    assert "hush" not in said.output


def test_the_source_of_every_part_is_told(type_in: Callable[..., Said], project: Path) -> None:
    """Each line of the policy says the flag or the file's line that gave it."""
    (project / "mvm.toml").write_text(
        '[network]\nmode = "bridge"\ndns = "system"\nttl = "30m"\n'
        'allow = [\n  {host = "b.example", port = 443},\n]\n'
    )
    said = type_in("run", "--network-allow", "a.example:443", "-p", "8080", "--dry-run", "--", "true").expect(
        0
    )
    lines = [" ".join(line.split()) for line in said.output.splitlines()]
    assert "allow a.example:443 from --network-allow" in lines
    assert "allow b.example:443 from mvm.toml:6" in lines
    assert "dns system from mvm.toml" in lines
    assert "inbound 127.0.0.1:8080:8080 from --port" in lines
    assert "ttl 30m from mvm.toml" in lines
