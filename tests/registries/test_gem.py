"""gem's discovery, with the real ruby where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.registries.gem import discover

from .machine import names, needs

if TYPE_CHECKING:
    from .machine import Machine


@needs("gem")
@needs("ruby")
def test_default_is_ruby_s_own(machine: Machine) -> None:
    """Without configuration the default source and the host of its index are found."""
    (found,) = discover(machine.environ, machine.project)
    assert [each.configured for each in found.hosts] == [False, False]


@needs("gem")
@needs("ruby")
def test_user_file_replaces_the_default(machine: Machine) -> None:
    """Sources of ~/.gemrc are the only ones, without their credentials."""
    machine.write(
        ".gemrc", "---\n:sources:\n- https://u:hunter2@mirror.example/gems/\n- http://b.example:8808/\n"
    )
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == {"https://mirror.example:443", "http://b.example:8808"}
    assert "hunter2" not in repr(found)


def test_absent_gem_has_no_hosts(machine: Machine) -> None:
    """Without gem on PATH nothing is granted."""
    machine.without_tools()
    (found,) = discover(machine.environ, machine.project)
    assert (found.present, found.hosts) == (False, ())
    assert found.note.startswith("gem")
