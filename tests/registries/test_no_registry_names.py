"""The repository names no package registry: a preset is what the machine is configured with."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mvm.policy.presets import MODEL_APIS, SOURCE_HOSTS
from mvm.registries.discover import discover

if TYPE_CHECKING:
    from mvm.policy.presets import Discovery

    from .machine import Machine

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 4 << 20


def learned(*discoveries: Discovery) -> dict[str, str]:
    """Give each discovered host and the tool it is of; source hosts may stand in the repository."""
    hosts = {str(each.host): found.tool for found in discoveries for each in found.hosts}
    return {host: tool for host, tool in hosts.items() if host not in SOURCE_HOSTS}


def tracked() -> list[Path]:
    """Give the repository's own text files."""
    files = [path for top in ("src", "tests", "docs") for path in (ROOT / top).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    return [path for path in files if path.suffix != ".pyc" and path.stat().st_size <= LARGEST]


def places(hosts: dict[str, str], files: list[Path]) -> list[str]:
    """Give where a host stands, without repeating its name: a log of this test must not either."""
    if not hosts:
        return []
    pattern = re.compile(
        rb"(?<![a-z0-9-])(" + b"|".join(re.escape(host.encode()) for host in hosts) + rb")\b", re.IGNORECASE
    )
    found = []
    for path in files:
        content = path.read_bytes()
        for match in pattern.finditer(content):
            line = content.count(b"\n", 0, match.start()) + 1
            found.append(f"{path}:{line}: a registry of {hosts[match[1].decode().lower()]}")
    return found


def test_no_registry_stands_in_the_repository(machine: Machine) -> None:
    """Neither the hosts this machine's tools are configured with nor the tools' own defaults are written."""
    machine.environ["PIP_CONFIG_FILE"] = os.devnull
    defaults = discover(machine.environ, machine.project)
    configured = discover(dict(os.environ), Path("/"))
    hosts = learned(*defaults, *configured)
    assert hosts or not any(found.present for found in defaults)
    assert places(hosts, tracked()) == []


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    """A name in any letter case and inside a URL is found; a longer name is not that name."""
    path = tmp_path / "file"
    path.write_text("nothing\nhttps://Index.TEST/simple\nmyindex.test\n")
    assert places({"index.test": "pip"}, [path]) == [f"{path}:2: a registry of pip"]
    assert places({"other.test": "pip"}, [path]) == []


def test_lists_in_the_source_are_no_registries(machine: Machine) -> None:
    """No source host or model API is what a tool here fetches packages from by default."""
    machine.environ["PIP_CONFIG_FILE"] = os.devnull
    defaults = {each.host for found in discover(machine.environ, machine.project) for each in found.hosts}
    assert not defaults & {*SOURCE_HOSTS, *MODEL_APIS}
