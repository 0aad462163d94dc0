"""pip's discovery, with the real pip."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from mvm.registries.ask import ask
from mvm.registries.pip import ask_pip, discover

from .machine import names, needs

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from .machine import Machine

pytestmark = needs("pip")


def test_default_is_the_constants_of_the_installed_pip(machine: Machine) -> None:
    """Without any configuration the hosts are those that pip's own code holds, and only those."""
    machine.environ["PIP_CONFIG_FILE"] = os.devnull
    (found,) = discover(machine.environ, machine.project)
    answer = ask_pip(machine.environ)
    assert {str(each.host) for each in found.hosts} == {answer.simple.split("/")[2], answer.files}
    assert all(each.port == 443 and not each.configured for each in found.hosts)


def test_user_file_replaces_the_default(machine: Machine) -> None:
    """An index of the user's file is found with its port, and the default is gone."""
    machine.environ["PIP_CONFIG_FILE"] = str(
        machine.write("pip.conf", "[global]\nindex-url = https://mirror.example:8443/simple\n")
    )
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == {"https://mirror.example:8443"}
    assert found.hosts[0].configured
    assert found.hosts[0].source.endswith("pip.conf [global]")


def test_environment_is_over_user_is_over_global(machine: Machine, tmp_path: Path) -> None:
    """The same key in three places counts once: the variable's, else the user's, else the global file's."""
    top = tmp_path / "xdg" / "pip"
    top.mkdir(parents=True)
    (top / "pip.conf").write_text("[global]\nindex-url = https://global.example/simple\n")
    machine.environ["PIP_EXTRA_INDEX_URL"] = (
        "https://extra.example/simple"  # the machine's own must not count
    )
    machine.environ["PIP_FIND_LINKS"] = "http://links.example/wheels/"
    assert "https://global.example:443" in names(discover(machine.environ, machine.project)[0])
    machine.write(".config/pip/pip.conf", "[global]\nindex_url = https://user.example/simple\n")
    assert "https://user.example:443" in names(discover(machine.environ, machine.project)[0])
    assert "https://global.example:443" not in names(discover(machine.environ, machine.project)[0])
    machine.environ["PIP_INDEX_URL"] = "https://env.example/simple"
    assert names(discover(machine.environ, machine.project)[0]) == {
        "https://env.example:443",
        "https://extra.example:443",
        "http://links.example:80",
    }


def test_order_agrees_with_pip_config_list(machine: Machine) -> None:
    """The index found is the one that `pip config list` shows for the same files."""
    machine.write(".config/pip/pip.conf", "[global]\nindex-url = https://newer.example/simple\n")
    machine.write(".pip/pip.conf", "[global]\nindex-url = https://older.example/simple\n")
    pip = ask([sys.executable, "-I", "-m", "pip", "config", "list"], machine.environ)
    assert "global.index-url='https://newer.example/simple'" in pip
    assert "https://newer.example:443" in names(discover(machine.environ, machine.project)[0])
    assert "https://older.example:443" not in names(discover(machine.environ, machine.project)[0])


def test_lists_local_paths_and_sections(machine: Machine) -> None:
    """Lists over several lines count whole, a command's section counts, and local paths open nothing."""
    machine.environ["PIP_CONFIG_FILE"] = str(
        machine.write(
            "pip.conf",
            "[global]\nindex-url = https://mirror.example/simple\nextra-index-url =\n  https://a.example/simple\n"
            "  file:///opt/simple\nfind-links = /opt/wheels\n[install]\nindex-url = http://b.example/\n",
        )
    )
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == {"https://mirror.example:443", "https://a.example:443", "http://b.example:80"}


def test_no_index_closes_every_index(machine: Machine) -> None:
    """`no-index` leaves the link pages only."""
    machine.environ |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "PIP_FIND_LINKS": "https://links.example/",
    }
    assert names(discover(machine.environ, machine.project)[0]) == {"https://links.example:443"}


def test_credentials_and_proxies_are_not_shown(machine: Machine) -> None:
    """User-info of a URL stands nowhere in a discovery, and a proxy is noted, not granted."""
    machine.environ |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://user:hunter2@mirror.example/simple",
        "PIP_EXTRA_INDEX_URL": "ftp://user:hunter2@old.example/ https://u:hunter2@[bad/ https://hunter2\\@x.example/",
        "PIP_PROXY": "http://user:hunter2@proxy.example:3128",
    }
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == {"https://mirror.example:443"}
    assert "proxy" in found.note
    assert "hunter2" not in repr(found)


def test_malformed_file_is_a_note(machine: Machine) -> None:
    """A file that no parser takes is told by name; the rest still counts."""
    path = machine.write("pip.conf", "index-url with no section\n")
    machine.environ |= {"PIP_CONFIG_FILE": str(path), "PIP_FIND_LINKS": "https://links.example/"}
    (found,) = discover(machine.environ, machine.project)
    assert f"{path} is malformed" in found.note
    assert "https://links.example:443" in names(found)


def test_working_directory_is_never_imported(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `pip` package in the project, or on PYTHONPATH, is not run to answer for pip."""
    package = machine.project / "pip"
    package.mkdir()
    witness = machine.project / "witness"
    (package / "__init__.py").write_text(f"open({str(witness)!r}, 'w')\n")
    monkeypatch.chdir(machine.project)
    machine.environ["PYTHONPATH"] = str(machine.project)
    assert (
        subprocess.run([sys.executable, "-c", "import pip"], check=True, cwd=machine.project).returncode == 0
    )
    assert witness.exists()  # without care it would be
    witness.unlink()
    (found,) = discover(machine.environ, machine.project)
    assert found.present
    assert not witness.exists()


def test_absent_pip_has_no_hosts(machine: Machine) -> None:
    """Without a Python that has pip nothing is granted, and the note names pip."""
    machine.without_tools()
    (found,) = discover(machine.environ, machine.project)
    assert (found.present, found.hosts) == (False, ())
    assert "pip" in found.note
