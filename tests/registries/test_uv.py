"""uv's discovery, with the real uv."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.registries.pip import ask_pip
from mvm.registries.uv import discover

from .machine import names, needs

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine

pytestmark = needs("uv")


def test_default_is_what_uv_says(machine: Machine) -> None:
    """Without configuration it is the index of uv's own help text and the file host that pip knows."""
    (found,) = discover(machine.environ, machine.project)
    answer = ask_pip(machine.environ)
    assert {str(each.host) for each in found.hosts} == {answer.simple.split("/")[2], answer.files}
    assert not any(each.configured for each in found.hosts)


def test_environment_is_over_user_is_over_system(machine: Machine, tmp_path: Path) -> None:
    """One default index counts, the strongest; other indexes of all places count together."""
    system = tmp_path / "xdg" / "uv"
    system.mkdir(parents=True)
    (system / "uv.toml").write_text('index-url = "https://system.example/simple"\n')
    assert names(discover(machine.environ, machine.project)[0]) == {"https://system.example:443"}
    machine.write(
        ".config/uv/uv.toml",
        '[[index]]\nurl = "https://user.example/simple"\ndefault = true\n[[index]]\nurl = "https://more.example/"\n',
    )
    expected = {"https://user.example:443", "https://more.example:443"}
    assert names(discover(machine.environ, machine.project)[0]) == expected
    machine.environ |= {
        "UV_DEFAULT_INDEX": "https://env.example/simple",
        "UV_INDEX": "named=http://a.example:81/x",
    }
    assert names(discover(machine.environ, machine.project)[0]) == {
        "https://env.example:443",
        "http://a.example:81",
        "https://more.example:443",
    }


def test_pip_part_and_links(machine: Machine) -> None:
    """The `[pip]` table and the link pages count."""
    machine.environ["UV_CONFIG_FILE"] = str(
        machine.write(
            "other.toml",
            'find-links = ["https://links.example/", "/opt/wheels"]\n[pip]\nindex-url = "https://pip.example/"\n',
        )
    )
    found = discover(machine.environ, machine.project)[0]
    assert names(found) == {"https://links.example:443", "https://pip.example:443"}


def test_project_is_told_not_granted(machine: Machine) -> None:
    """A project's own index is withheld, with the flag that grants it; the machine's stays granted."""
    below = machine.project / "src"
    below.mkdir()
    (machine.project / "pyproject.toml").write_text(
        '[tool.uv]\nindex-url = "https://project.example/simple"\n'
    )
    machine.environ["UV_DEFAULT_INDEX"] = "https://env.example/simple"
    (found,) = discover(machine.environ, below)
    assert names(found) == {"https://env.example:443"}
    assert [str(each.host) for each in found.withheld] == ["project.example"]
    assert "--network-allow project.example:443" in found.note


def test_malformed_file_is_a_note(machine: Machine) -> None:
    """TOML that does not parse is told, and the default stays."""
    path = machine.write(".config/uv/uv.toml", "index-url = = =\n")
    (found,) = discover(machine.environ, machine.project)
    assert f"{path} is malformed" in found.note
    assert found.hosts


def test_absent_uv_has_no_hosts(machine: Machine) -> None:
    """Without uv on PATH nothing is granted, whatever its variables say."""
    machine.without_tools()
    machine.environ["UV_INDEX"] = "https://mirror.example/"
    (found,) = discover(machine.environ, machine.project)
    assert (found.present, found.hosts, found.note) == (False, (), "uv: not on PATH")


def test_no_config_reads_no_file(machine: Machine) -> None:
    """UV_NO_CONFIG passes over the files, as uv does."""
    machine.write(".config/uv/uv.toml", 'index-url = "https://user.example/"\n')
    machine.environ["UV_NO_CONFIG"] = "1"
    assert "https://user.example:443" not in names(discover(machine.environ, machine.project)[0])
    del machine.environ["UV_NO_CONFIG"]
    assert "https://user.example:443" in names(discover(machine.environ, machine.project)[0])
