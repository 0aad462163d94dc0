"""`network freeze`: a preset written out as explicit grants, which mean the same and name their source."""

from __future__ import annotations

import json
import os
import resource
import stat
import tomllib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said

_FILE = """# ours
[network]
mode = "bridge"
dns = "system"
preset = "registries"
allow = [{host = "a.example", port = 443, reason = "models", subdomains = 1}, {host = "b.example", port = 22}]
ports = ["8080:80"]
ttl = "1h"
"""


@pytest.fixture
def mirror(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A made-up package index that this machine's pip is configured with; its host."""
    config = project.parent / "home" / "pip.conf"
    config.write_text("[global]\nindex-url = https://user:hush@mirror.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    (project / "mvm.toml").write_text(_FILE)
    return "mirror.example"


def digest_of(type_in: Callable[..., Said], path: str) -> str:
    """The digest of what a file means here."""
    return str(type_in("network", "diff", "--json", path, path).expect(0).json["a"]["digest"])


def test_a_frozen_file_means_the_same_without_the_machine(
    mirror: str, type_in: Callable[..., Said], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes `network check` without a finding and has the same digest, also where pip is no longer so."""
    before = digest_of(type_in, "mvm.toml")
    text = type_in("network", "freeze", "mvm.toml").expect(0).output
    (project / "frozen.toml").write_text(text)
    monkeypatch.delenv("PIP_CONFIG_FILE")
    assert digest_of(type_in, "mvm.toml") != before
    said = type_in("network", "check", "frozen.toml").expect(0)
    assert (said.output, said.errors) == ("", "1 file, no finding\n")
    assert digest_of(type_in, "frozen.toml") == before
    assert f"# policy {before}" in text
    network = tomllib.loads(text)["network"]
    assert "preset" not in network
    assert mirror in {grant["host"] for grant in network["allow"]}


def test_each_grant_tells_its_source(mirror: str, type_in: Callable[..., Said]) -> None:
    """A comment behind each grant: the file and line, or the preset with the tool's own file; no password."""
    said = type_in("network", "freeze", "mvm.toml").expect(0)
    rows = [line for line in said.output.splitlines() if "{host = " in line]
    assert all("  # " in row for row in rows)
    (found,) = [row for row in rows if mirror in row]
    assert "# preset registries: pip: " in found
    assert "pip.conf" in found
    assert any(row.endswith("# mvm.toml:6") for row in rows)
    assert "hush" not in said.output
    assert said.errors == ""


def test_as_json_it_is_a_policy_file_too(mirror: str, type_in: Callable[..., Said], project: Path) -> None:
    """--json, or a name that ends so: a policy in JSON, of the same digest."""
    assert mirror
    text = type_in("network", "freeze", "--json", "mvm.toml").expect(0).output
    assert json.loads(text)["schema"] == "mvm.policy/1"
    type_in("network", "freeze", "mvm.toml", "--output", "frozen.json").expect(0)
    assert (project / "frozen.json").read_text() == text
    assert digest_of(type_in, "frozen.json") == digest_of(type_in, "mvm.toml")
    type_in("network", "freeze", "-i", "frozen.json").expect(0)
    assert (project / "frozen.json").read_text() == text


def test_an_output_appears_whole_and_writes_over_nothing(
    mirror: str, type_in: Callable[..., Said], project: Path
) -> None:
    """A new file has what stdout would have, and stdout nothing; one that is there is usage and untouched."""
    assert mirror
    expected = type_in("network", "freeze", "mvm.toml").expect(0).output
    assert type_in("network", "freeze", "mvm.toml", "-o", "frozen.toml").expect(0).output == ""
    assert (project / "frozen.toml").read_text() == expected
    (project / "link.toml").symlink_to("nowhere.toml")
    for taken in ("mvm.toml", "frozen.toml", "link.toml", "."):
        type_in("network", "freeze", "mvm.toml", "-o", taken).expect(64)
    assert (project / "mvm.toml").read_text() == _FILE
    assert sorted(os.listdir(project)) == ["frozen.toml", "link.toml", "mvm.toml"]
    said = type_in("network", "freeze", "mvm.toml", "-o", "absent/frozen.toml").expect(64)
    assert "can't be written" in said.errors


def test_in_place_the_file_keeps_its_mode_and_its_link(
    mirror: str, type_in: Callable[..., Said], project: Path
) -> None:
    """--in-place replaces the file that a link leads to; a second time nothing changes."""
    assert mirror
    (project / "mvm.toml").chmod(0o640)
    (project / "link.toml").symlink_to("mvm.toml")
    before = digest_of(type_in, "mvm.toml")
    assert type_in("network", "freeze", "--in-place", "link.toml").expect(0).output == ""
    assert (project / "link.toml").is_symlink()
    assert stat.S_IMODE((project / "mvm.toml").stat().st_mode) == 0o640
    assert digest_of(type_in, "mvm.toml") == before
    assert 'preset = "' not in (project / "mvm.toml").read_text()
    assert sorted(os.listdir(project)) == ["link.toml", "mvm.toml"]
    said = type_in("network", "freeze", "-i", "mvm.toml", "-o", "x.toml").expect(64)
    assert "two places" in said.errors


def test_where_it_can_not_be_written_whole_nothing_is_left(
    mirror: str, type_in: Callable[..., Said], project: Path
) -> None:
    """Writing fails in the middle: usage, the file is as it was, and no draft lies about."""
    assert mirror
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        said = type_in("network", "freeze", "-i", "mvm.toml").expect(64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "can't be written: file too large" in said.errors
    assert (project / "mvm.toml").read_text() == _FILE
    assert os.listdir(project) == ["mvm.toml"]


def test_a_file_without_a_preset_stays_what_it_is(type_in: Callable[..., Said], project: Path) -> None:
    """No preset: the same grants, no word of a preset; a closed policy stays closed."""
    (project / "a.toml").write_text(_FILE.replace('preset = "registries"\n', ""))
    text = type_in("network", "freeze", "a.toml").expect(0).output
    assert "preset" not in text
    (project / "b.toml").write_text(text)
    type_in("network", "diff", "a.toml", "b.toml").expect(0)
    (project / "closed.toml").write_text('[network]\nmode = "none"\n')
    assert 'mode = "none"' in type_in("network", "freeze", "closed.toml").expect(0).output


def test_what_can_not_be_frozen_is_65(type_in: Callable[..., Said], project: Path) -> None:
    """`unrestricted` names no hosts, and a refused file has none: 65, nothing written; no file is usage."""
    (project / "mvm.toml").write_text(_FILE.replace("registries", "unrestricted"))
    said = type_in("network", "freeze", "-i", "mvm.toml").expect(65)
    assert "[preset-not-freezable]" in said.errors
    assert "network suggest" in said.errors
    assert "unrestricted" in (project / "mvm.toml").read_text()
    (project / "bad.toml").write_text(_FILE.replace("b.example", "10.0.0.0/8"))
    assert "[cidr]" in type_in("network", "freeze", "bad.toml").expect(65).errors
    type_in("network", "freeze", "absent.toml").expect(64)
