"""cargo's discovery, with the real cargo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.registries.cargo import discover

from .machine import names, needs

if TYPE_CHECKING:
    from .machine import Machine

pytestmark = needs("cargo")


def test_default_is_in_the_installed_cargo(machine: Machine) -> None:
    """Without configuration one https host is found, in the program, and the note says what is not known."""
    (found,) = discover(machine.environ, machine.project)
    (default,) = found.hosts
    assert (default.scheme, default.port, default.configured) == ("https", 443, False)
    assert f"the host of {default.host}'s files is not known" in found.note


def test_file_host_comes_from_the_used_index(machine: Machine) -> None:
    """Once cargo has an index's config.json, the host of its files counts; an unused index's doesn't."""
    (default,) = discover(machine.environ, machine.project)[0].hosts
    index = ".cargo/registry/index"
    machine.write(
        f"{index}/{default.host}-0123456789abcdef/config.json", '{"dl": "https://files.example/{crate}/x"}'
    )
    machine.write(f"{index}/unused.example-0123456789abcdef/config.json", '{"dl": "https://other.example/"}')
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == {f"https://{default.host}:443", "https://files.example:443"}
    assert found.note == ""


def test_replacement_takes_the_default_away(machine: Machine) -> None:
    """A source that replaces the default one is the only host then."""
    replacement = (
        '[source.crates-io]\nreplace-with = "m"\n[source.m]\nregistry = "sparse+https://mirror.example/i/"\n'
    )
    machine.write(".cargo/config.toml", replacement)
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == {"https://mirror.example:443"}
    assert found.hosts[0].configured


def test_other_registries_count_beside_the_default(machine: Machine) -> None:
    """Registries of the file and of variables are added, wherever CARGO_HOME is."""
    machine.write(
        "elsewhere/config.toml", '[registries.a]\nindex = "https://u:hunter2@a.example/git/index"\n'
    )
    machine.environ |= {
        "CARGO_HOME": str(machine.home / "elsewhere"),
        "CARGO_REGISTRIES_B_INDEX": "sparse+http://b.example:8080/",
    }
    (found,) = discover(machine.environ, machine.project)
    assert {"https://a.example:443", "http://b.example:8080"} < names(found)
    assert "hunter2" not in repr(found)


def test_project_is_told_not_granted(machine: Machine) -> None:
    """A project's configuration neither adds a host nor takes the default away."""
    below = machine.project / "crate"
    below.mkdir()
    (machine.project / ".cargo").mkdir()
    text = '[source.crates-io]\nreplace-with = "m"\n[source.m]\nregistry = "https://project.example/"\n'
    (machine.project / ".cargo" / "config.toml").write_text(text)
    (default,) = discover(machine.environ, machine.home)[0].hosts
    (found,) = discover(machine.environ, below)
    assert [each.host for each in found.hosts] == [default.host]
    assert [str(each.host) for each in found.withheld] == ["project.example"]
    assert "--network-allow project.example:443" in found.note


def test_malformed_file_is_a_note(machine: Machine) -> None:
    """TOML that does not parse, or has other types than it should, never ends discovery."""
    path = machine.write(".cargo/config.toml", "[source\n")
    (found,) = discover(machine.environ, machine.project)
    assert f"{path} is malformed" in found.note
    machine.write(".cargo/config.toml", 'source = 3\nregistries = ["x"]\n[http]\nproxy = "proxy.example:1"\n')
    (found,) = discover(machine.environ, machine.project)
    assert len(found.hosts) == 1
    assert "proxy" in found.note


def test_absent_cargo_has_no_hosts(machine: Machine) -> None:
    """Without cargo on PATH nothing is granted."""
    machine.without_tools()
    (found,) = discover(machine.environ, machine.project)
    assert (found.present, found.hosts, found.note) == (False, (), "cargo: not on PATH")
