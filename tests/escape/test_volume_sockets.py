"""UNIX sockets of the host that lie in a volume: a mount, read-only too, is no wall (ATTACKS 41)."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.kernel import landlock
from tests.escape.confinement import program
from tests.escape.unix_sockets import KINDS, HostSocket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

COVERED = frozenset({"EACCES", "ECONNREFUSED"})
"""What comes of a place at which an empty file lies that nobody may open."""
LATER = "EACCES" if landlock.abi() >= 9 else "ok"
"""What comes of a socket that is made in a volume after the look: kernels from Linux 7.1 on refuse it."""


@pytest.fixture
def volume(mvmctl: Mvmctl) -> Path:
    """Make a directory of the caller's with others in it, of which the workload may be shown all."""
    top = mvmctl.temporary / "v"
    (top / "a/b").mkdir(parents=True)
    for place in (mvmctl.temporary, top, top / "a", top / "a/b"):
        place.chmod(0o755)
    return top


def _tries(mvmctl: Mvmctl, options: Sequence[str], *acts: tuple[object, ...]) -> tuple[list[str], str]:
    ended = mvmctl("run", *options, "--", *program(*acts)).expect(0)
    return json.loads(ended.stdout), ended.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["ro", "rw", "workspace"])
def test_a_socket_deep_in_a_volume_is_covered(mvmctl: Mvmctl, volume: Path, mode: str, kind: str) -> None:
    """41: a service deeper in hears nobody, and is warned of; it answers the host, an own one answers."""
    inside = str(volume) if mode == "workspace" else "/v"
    options = ("--workspace", inside) if mode == "workspace" else ("-v", f"{volume}:/v:{mode}")
    own = "/tmp/own" if mode == "ro" else f"{inside}/a/own"
    with HostSocket(f"{volume}/a/b/s", KINDS[kind]) as host:
        acts = (("unix", f"{inside}/a/b/s", int(KINDS[kind])), ("own_unix", own, int(KINDS[kind])))
        (found, answered), said = _tries(mvmctl, options, *acts)
        assert found in COVERED
        assert answered == "ok"
        assert "now covered: 'a/b/s'" in said
        assert host.arrived() == 0
        host.knock()
        assert host.arrived() == 1


def test_a_covered_socket_is_not_uncovered_from_inside(mvmctl: Mvmctl, volume: Path) -> None:
    """41: what lies over it is neither removed, renamed nor linked, and goes along with its directory."""
    acts = "import os, json\nsaid = []\n" + "".join(
        f"try: os.{act}; said.append('ok')\nexcept OSError as e: said.append(type(e).__name__)\n"
        for act in (
            "unlink('/v/a/b/s')",
            "rename('/v/a/b/s', '/v/a/b/t')",
            "link('/v/a/b/s', '/v/a/b/t')",
            "rename('/v/a/b/x', '/v/a/b/s')",
            "chmod('/v/a/b/s', 0o777)",
        )
    )
    acts += "os.rename('/v/a/b', '/v/a/c')\nprint(json.dumps(said))\n"
    acts += "import socket\ntry: socket.socket(socket.AF_UNIX).connect('/v/a/c/s')\n"
    acts += "except OSError as e: print(type(e).__name__)\n"
    (volume / "a/b/x").write_text("")
    with HostSocket(f"{volume}/a/b/s", KINDS["stream"]) as host:
        ended = mvmctl("run", "-v", f"{volume}:/v", "--", "python3", "-c", acts)
        (volume / "a/c").rename(volume / "a/b")
        said, connected = ended.expect(0).stdout.splitlines()
        assert "ok" not in json.loads(said)
        assert connected in {"PermissionError", "ConnectionRefusedError"}
        assert host.arrived() == 0


_THEN = """
import os, socket, sys
import mvm.supervisor.prepare as preparing
whole = preparing.prepare
def prepare(*words, **named):
    prepared = whole(*words, **named)
    os.chdir(os.environ["THEN_IN"])
    exec(os.environ["THEN"])
    return prepared
preparing.prepare = prepare
from mvm.cli import main
main()
"""
"""The command line, in which something happens between the look at the sockets and the mounts."""


@pytest.mark.parametrize(
    ("then", "outcome"),
    [
        ("os.unlink('s')", {"ENOENT"}),
        ("os.unlink('s'); os.rename('../b', '../c')", {"ENOENT"}),
        ("os.unlink('s'); open('s', 'w').close()", {"ECONNREFUSED"}),
        ("os.unlink('s'); os.symlink('/etc/passwd', 's')", {"EACCES", "ECONNREFUSED"}),
        (
            "os.unlink('s'); sys.s = socket.socket(1); sys.s.bind('s'); os.chmod('s', 0o777); sys.s.listen()",
            COVERED,
        ),
    ],
    ids=["removed", "moved", "a file", "a link", "another socket"],
)
def test_what_becomes_of_a_socket_meanwhile_hinders_no_start(
    mvmctl: Mvmctl, volume: Path, then: str, outcome: frozenset[str]
) -> None:
    """41: gone or replaced between look and mount: it starts, and another socket is covered as well."""
    with HostSocket(f"{volume}/a/b/s", KINDS["stream"]) as host:
        mvmctl.command = [sys.executable, "-c", _THEN]
        words = ("run", "-v", f"{volume}:/v", "--", *program(("unix", "/v/a/b/s")))
        ended = mvmctl(*words, env={"THEN": then, "THEN_IN": f"{volume}/a/b"}).expect(0)
        assert set(json.loads(ended.stdout)) <= outcome
        assert "now covered: 'a/b/s'" in ended.stderr
        assert host.arrived() == 0


def test_what_is_made_in_a_volume_later_is_not_covered(mvmctl: Mvmctl, volume: Path) -> None:
    """The limit: a socket that is made while the sandbox runs, or made anew in a covered place, is reached.

    Linux from 7.1 on refuses it (`LATER`).
    """
    first = HostSocket(f"{volume}/a/b/s", KINDS["stream"])
    up = mvmctl("up", "-d", "--name", "before", "-v", f"{volume}:/v:ro").expect(0)
    assert "now covered: 'a/b/s'" in up.stderr
    acts = [("unix", "/v/a/b/s"), ("unix", "/v/a/late")]
    try:
        found = json.loads(mvmctl("exec", "before", "--", *program(*acts)).expect(0).stdout)
        assert found[0] in COVERED
        assert found[1] == "ENOENT"
        first.close()
        with (
            HostSocket(f"{volume}/a/b/s", KINDS["stream"]) as again,
            HostSocket(f"{volume}/a/late", KINDS["stream"]) as late,
        ):
            found = json.loads(mvmctl("exec", "before", "--", *program(*acts)).expect(0).stdout)
            assert found == [LATER, LATER]
            assert again.arrived() == late.arrived() == (LATER == "ok")
    finally:
        mvmctl("down", "before").expect(0)


def test_a_socket_of_an_image_does_not_answer(mvmctl: Mvmctl, volume: Path) -> None:
    """41: an image's tree is seen through an overlay, in which nobody listens; the host reaches it."""
    for name in ("usr", "bin", "lib", "lib64", "etc"):
        (volume / name).mkdir() if not os.path.islink(f"/{name}") else os.symlink(
            os.readlink(f"/{name}"), volume / name
        )
    with HostSocket(f"{volume}/a/b/s", KINDS["stream"]) as host:
        options = ("--image", f"dir:{volume}", "-v", "/usr:/usr:ro")
        (found, own), _ = _tries(mvmctl, options, ("unix", "/a/b/s"), ("own_unix", "/a/own"))
        assert found == "ECONNREFUSED"
        assert own == "ok"
        assert host.arrived() == 0
        host.knock()
        assert host.arrived() == 1


@pytest.mark.skipif(
    os.geteuid() != 0, reason="means something only as root: nobody else writes into the system"
)
@pytest.mark.parametrize("above", ["/opt", "/usr/local"])
def test_a_socket_in_the_system_is_covered(mvmctl: Mvmctl, above: str) -> None:
    """41: what a service of the host has put into a directory that every sandbox sees hears nobody."""
    place = Path(tempfile.mkdtemp(dir=above, prefix="mvm-test-"))
    try:
        place.chmod(0o755)
        with HostSocket(f"{place}/s", KINDS["stream"]) as host:
            acts = (
                ("unix", f"{place}/s", int(KINDS["stream"])),
                ("own_unix", "/tmp/own", int(KINDS["stream"])),
            )
            (found, answered), _ = _tries(mvmctl, (), *acts)
            assert found in COVERED
            assert answered == "ok"
            assert host.arrived() == 0
            host.knock()
            assert host.arrived() == 1
    finally:
        place.rmdir()
