"""Maven's discovery, with the files of the real Maven."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mvm.registries.maven import discover

from .machine import names, needs

if TYPE_CHECKING:
    from .machine import Machine

pytestmark = needs("mvn")
SPACE = "http://settings.example/1.2.0"  # the real one changes with the version; it says nothing


def settings(machine: Machine, inner: str, *, space: str = f' xmlns="{SPACE}"') -> None:
    """Write the user's settings."""
    machine.write(".m2/settings.xml", f"<settings{space}>{inner}</settings>")


def mirror(of: str, url: str) -> str:
    """Give one mirror."""
    return f"<mirrors><mirror><id>m</id><mirrorOf>{of}</mirrorOf><url>{url}</url></mirror></mirrors>"


def repository(name: str, url: str) -> str:
    """Give one repository in a profile."""
    one = f"<repository><id>{name}</id><url>{url}</url></repository>"
    return f"<profiles><profile><id>p</id><repositories>{one}</repositories></profile></profiles>"


def test_default_is_in_the_super_pom(machine: Machine) -> None:
    """Without settings there is one https host, from Maven's own jar."""
    (found,) = discover(machine.environ, machine.project)
    (default,) = found.hosts
    assert (default.scheme, default.port, default.configured) == ("https", 443, False)
    assert found.note == ""


@pytest.mark.parametrize("of", ["*", "central", "external:*", "other, central", "*,!other"])
def test_mirror_takes_the_default_away(machine: Machine, of: str) -> None:
    """A mirror that covers `central` is the only host then."""
    settings(machine, mirror(of, "https://u:hunter2@mirror.example:8081/maven"))
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == {"https://mirror.example:8081"}
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize("of", ["other", "*,!central", "external:http:*"])
def test_mirror_of_others_leaves_the_default(machine: Machine, of: str) -> None:
    """A mirror that doesn't cover `central`, nor anything else used, opens nothing."""
    settings(machine, mirror(of, "https://mirror.example/maven"))
    (found,) = discover(machine.environ, machine.project)
    assert len(found.hosts) == 1
    assert "https://mirror.example:443" not in names(found)


def test_repositories_of_profiles(machine: Machine) -> None:
    """A profile's repository counts, with `${env.X}` replaced; files without a namespace are read too."""
    machine.environ["WHERE"] = "acme"
    settings(machine, repository("acme", "https://${env.WHERE}.example/maven"), space="")
    (found,) = discover(machine.environ, machine.project)
    assert "https://acme.example:443" in names(found)
    settings(machine, repository("acme", "https://${env.NOWHERE}.example/maven"))
    (found,) = discover(machine.environ, machine.project)
    assert len(found.hosts) == 1
    assert "passed over" in found.note


def test_repository_named_central_replaces_the_default(machine: Machine) -> None:
    """A profile that redefines `central` leaves no default."""
    settings(machine, repository("central", "https://own.example/maven"))
    assert names(discover(machine.environ, machine.project)[0]) == {"https://own.example:443"}


@pytest.mark.parametrize(
    "text", ["<settings>", "<!DOCTYPE s [<!ENTITY a 'b'>]><settings>&a;</settings>", "\0", "3"]
)
def test_malformed_settings_are_a_note(machine: Machine, text: str) -> None:
    """Settings that are no XML, or could grow, are told; the default stays."""
    path = machine.write(".m2/settings.xml", text)
    (found,) = discover(machine.environ, machine.project)
    assert str(path) in found.note
    assert len(found.hosts) == 1


def test_proxy_is_a_note(machine: Machine) -> None:
    """An active proxy is told, an inactive one isn't."""
    settings(machine, "<proxies><proxy><active>false</active><host>proxy.example</host></proxy></proxies>")
    assert discover(machine.environ, machine.project)[0].note == ""
    settings(machine, "<proxies><proxy><host>proxy.example</host></proxy></proxies>")
    assert "proxy" in discover(machine.environ, machine.project)[0].note


def test_absent_maven_has_no_hosts(machine: Machine) -> None:
    """Without mvn on PATH nothing is granted."""
    machine.without_tools()
    (found,) = discover(machine.environ, machine.project)
    assert (found.present, found.hosts, found.note) == (False, (), "mvn: not on PATH")
