"""The real pip in a sandbox, with a private mirror: `registries` lets it through, `none` answers at once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.upstream.index import FILES_HOST, PACKAGE, PAGES_HOST, wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cast import Host
    from tests.support.internet import Internet
    from tests.support.mvmctl import Ended, Mvmctl

_PATH = "/usr/bin:/bin"
"""The system's tools: those of a home are not visible inside where root runs this."""

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("pip", path=_PATH) is None, reason="the system has no pip"),
]

_PIP = ("pip", "--disable-pip-version-check", "--no-cache-dir", "download", PACKAGE)
_NO_MORE_THAN_START = ("pip", "--disable-pip-version-check", "--version")


@pytest.fixture(scope="module")
def mirror(internet: Internet) -> Host:
    """A mirror that has the pages and the files of one package, over TLS, at a company's own address."""
    return internet.serve(
        "index",
        port=8443,
        transport="tls",
        alpn=("http/1.1",),
        name="mirror.example.test",
        addresses=("10.1.2.4",),
    )


class Shell(NamedTuple):
    """A caller whose pip is configured, in a directory of the caller's own.

    Attributes:
        mvmctl: the command line.
        environ: how pip is configured, and where its certificates are.
        directory: the workspace, which the certificates are in.
        home: the caller's.
    """

    mvmctl: Mvmctl
    environ: dict[str, str]
    directory: Path
    home: Path

    def pip(self, *options: str, command: tuple[str, ...] = _PIP) -> Ended:
        """Run the real pip in a sandbox with these options of `mvmctl run`."""
        told = ("--workspace", ".", "-e", "PIP_CERT", "-e", "PIP_CONFIG_FILE")
        words = ("run", "--json", *told, *options, "--", *command)
        return self.mvmctl(*words, env=self.environ, cwd=self.directory, timeout_s=60)

    def downloaded(self) -> list[Path]:
        """The wheels that have come."""
        return sorted(self.directory.glob("*.whl"))


@pytest.fixture
def shell(mvmctl: Mvmctl, internet: Internet, tmp_path: Path) -> Shell:
    """A caller whose pip has no configuration but its certificates."""
    directory = tmp_path / "work"
    directory.mkdir()
    authority = directory / "ca.pem"
    authority.write_bytes(internet.ca_file.read_bytes())
    home = tmp_path / "home"
    home.mkdir()
    environ = {
        "HOME": str(home),
        "PIP_CERT": str(authority),
        "PIP_CONFIG_FILE": "/dev/null",
        "PATH": _PATH,
    }
    return Shell(mvmctl, environ, directory, home)


def _index(host: str, port: int = 8443) -> str:
    return f"https://{host}:{port}/simple"


def test_a_mirror_of_the_environment_is_all_that_registries_needs(
    shell: Shell, mirror: Host, internet: Internet
) -> None:
    """PIP_INDEX_URL names the mirror, and nothing else has to: the wheel comes, as it was made."""
    shell.environ["PIP_INDEX_URL"] = _index(mirror.name)
    before = internet.arrivals(mirror.name).connections
    result = shell.pip("--network-preset", "registries", "-e", "PIP_INDEX_URL").expect(0).json
    assert [path.read_bytes() for path in shell.downloaded()] == [wheel()]
    assert (result["denials"], [flow["host"] for flow in result["flows"]]) == ([], [mirror.name])
    assert internet.arrivals(mirror.name).connections > before


def test_without_a_grant_the_same_command_is_answered_at_once(
    shell: Shell, mirror: Host, internet: Internet
) -> None:
    """`none`: pip gives up 5 s after its start at most, the denial names the mirror, nothing arrives."""
    shell.environ["PIP_INDEX_URL"] = _index(mirror.name)
    before = internet.arrivals(mirror.name).connections
    start = shell.pip("--network-preset", "none", command=_NO_MORE_THAN_START).expect(0)
    ended = shell.pip("--network-preset", "none", "-e", "PIP_INDEX_URL").expect(1)
    assert ended.duration_s - start.duration_s < 5
    assert (ended.json["cause"], ended.json["flows"], shell.downloaded()) == ("policy", [], [])
    (denial,) = ended.json["denials"]
    assert (denial["host"], denial["reason"]) == (mirror.name, "dns-not-allowed")
    assert f"--network-allow {mirror.name}:" in ended.stderr
    assert internet.arrivals(mirror.name).connections == before


def test_a_mirror_of_the_users_own_file_is_enough(shell: Shell, mirror: Host) -> None:
    """So is `~/.config/pip/pip.conf`, which is lent to pip inside, whose home is empty."""
    file = shell.home / ".config" / "pip" / "pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text(f"[global]\nindex-url = {_index(mirror.name)}\n")
    del shell.environ["PIP_CONFIG_FILE"]
    lent = ("-v", f"{file}:/pip.conf:ro", "-e", "PIP_CONFIG_FILE=/pip.conf")
    shell.pip("--network-preset", "none", *lent).expect(1)
    assert shell.downloaded() == []
    shell.pip("--network-preset", "registries", *lent).expect(0)
    assert [path.read_bytes() for path in shell.downloaded()] == [wheel()]


def test_an_index_that_only_the_workload_names_stays_closed(shell: Shell, mirror: Host) -> None:
    """What is set inside alone opens nothing: the mirror of the caller is open, another index is not."""
    shell.environ["PIP_INDEX_URL"] = _index(mirror.name)
    ended = shell.pip("--network-preset", "registries", "-e", f"PIP_INDEX_URL={_index('index.test', 443)}")
    assert ended.exit_code != 0
    assert {denial["host"] for denial in ended.json["denials"]} == {"index.test"}
    assert (ended.json["flows"], shell.downloaded()) == ([], [])


def test_files_on_another_host_need_that_host_by_name(shell: Shell) -> None:
    """The denial gives the flag for the host that the index points to; with it the same command works."""
    shell.environ["PIP_INDEX_URL"] = _index(PAGES_HOST, 443)
    words = ("--network-preset", "registries", "-e", "PIP_INDEX_URL")
    denied = shell.pip(*words, "-e", "PIP_RETRIES=0")
    assert denied.exit_code != 0
    assert {denial["host"] for denial in denied.json["denials"]} == {FILES_HOST}
    flag = f"{FILES_HOST}:443"
    assert f"--network-allow {flag}" in denied.stderr
    shell.pip(*words, "--network-allow", flag).expect(0)
    assert [path.read_bytes() for path in shell.downloaded()] == [wheel()]


def test_the_preset_shows_the_mirror_and_where_it_was_found(shell: Shell, mirror: Host) -> None:
    """`network presets registries` names it with the variable that it stands in, and nobody else's host."""
    shell.environ["PIP_INDEX_URL"] = _index(mirror.name)
    shown = shell.mvmctl("network", "presets", "registries", env=shell.environ, cwd=shell.directory).expect(0)
    (line,) = (line for line in shown.stdout.splitlines() if mirror.name in line)
    assert "PIP_INDEX_URL" in line
