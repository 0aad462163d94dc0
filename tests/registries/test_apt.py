"""apt's discovery, with the real apt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.registries.apt import discover
from mvm.registries.ask import ask, find_tool

from .machine import names, needs

if TYPE_CHECKING:
    from .machine import Machine

pytestmark = needs("apt-config")

ONE_LINE = """\
# deb http://commented.example/debian stable main
deb http://plain.example/debian stable main
deb [arch=amd64 signed-by=/x.gpg] https://user:hunter2@options.example:8443/debian stable main # trailing
deb-src http://source.example/debian stable main
deb file:/srv/archive stable main
deb cdrom:[Disc]/ stable main
"""
DEB822 = """\
# comment
Types: deb
URIs: https://one.example/debian
 http://two.example/debian
# comment inside
Suites: stable
Components: main

Types: deb
URIs: https://disabled.example/debian
Suites: stable
Components: main
Enabled: no
"""
EXPECTED = {
    "http://plain.example:80",
    "https://options.example:8443",
    "http://source.example:80",
    "https://one.example:443",
    "http://two.example:80",
}


def configure(machine: Machine, extra: str = "") -> None:
    """Point apt at source lists of the test's home."""
    lists = machine.write("etc/sources.list", ONE_LINE).parent
    machine.write("etc/sources.list.d/more.sources", DEB822)
    machine.write("etc/sources.list.d/ignored.list.bak", "deb http://ignored.example/ stable main\n")
    configuration = machine.write(
        "apt.conf",
        f'Dir::Etc::sourcelist "{lists}/sources.list";\n'
        f'Dir::Etc::sourceparts "{lists}/sources.list.d";\n{extra}',
    )
    machine.environ["APT_CONFIG"] = str(configuration)


def test_lists_of_both_formats(machine: Machine) -> None:
    """One-line and deb822 entries count; commented, disabled, local and misnamed ones don't."""
    configure(machine)
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == EXPECTED
    assert "hunter2" not in repr(found)


def test_agrees_with_apt_itself(machine: Machine) -> None:
    """The http and https hosts are those that `apt-get indextargets` gives for the same lists."""
    configure(machine)
    tool = find_tool("apt-get", machine.environ)
    assert tool is not None
    line = [str(tool), "indextargets", "--no-release-info", "--format", "$(REPO_URI)"]
    sites = {
        uri.split("/")[2].rpartition("@")[2]
        for uri in ask(line, machine.environ).split()
        if uri.startswith("http")
    }
    (found,) = discover(machine.environ, machine.project)
    ours = {f"{each.host}:{each.port}" if each.port == 8443 else str(each.host) for each in found.hosts}
    assert sites == ours


def test_mirror_lists(machine: Machine) -> None:
    """A list of mirrors in a file is followed; one on a host grants that host and says so."""
    listed = machine.write(
        "mirrors.txt", "https://m1.example/debian\tpriority:1\n# no\nhttp://m2.example/debian\n"
    )
    configure(machine)
    machine.write(
        "etc/sources.list.d/more.sources",
        f"Types: deb\nURIs: mirror+file:{listed} mirror+https://list.example/list mirror://old.example/list\n"
        "Suites: stable\nComponents: main\n",
    )
    (found,) = discover(machine.environ, machine.project)
    listed_names = {
        "https://m1.example:443",
        "http://m2.example:80",
        "https://list.example:443",
        "http://old.example:80",
    }
    assert listed_names < names(found)
    assert "list of mirrors" in found.note


def test_proxy_is_a_note(machine: Machine) -> None:
    """A proxy of apt is told and not granted; without one nothing is told."""
    configure(machine)
    assert discover(machine.environ, machine.project)[0].note == ""
    configure(machine, 'Acquire::http::Proxy "http://u:hunter2@proxy.example:3128";\n')
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == EXPECTED
    assert "proxy" in found.note
    assert "hunter2" not in found.note


def test_absent_apt_has_no_hosts(machine: Machine) -> None:
    """Without apt-config nothing is granted, and the note names apt."""
    configure(machine)
    machine.without_tools()
    (found,) = discover(machine.environ, machine.project)
    assert (found.present, found.hosts) == (False, ())
    assert found.note.startswith("apt")
