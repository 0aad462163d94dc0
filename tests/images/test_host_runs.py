"""The caller's tools run in a tree made as the view says, and the home is not there.

Here bubblewrap makes the tree, so that the view is tried before and apart from mvm's own backend.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from tempfile import TemporaryFile
from typing import IO

import pytest

from mvm.images.host import host_view
from mvm.plan.view import Bind, Device, File, Link, Terminals, Tmpfs, View
from tests.images.home import RESOLVERS, Home


def run_in(view: View, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the tree of a view, without any network; skip where bubblewrap can't make one."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    files: list[IO[bytes]] = []
    words = ["bwrap", "--unshare-all", "--uid", "1000", "--gid", "1000", "--clearenv", "--proc", "/proc"]
    for entry in view.entries:
        words += _words(entry, files)
    for name, value in view.environ.items():
        words += ["--setenv", name, value]
    words += ["--remount-ro", "/", "--chdir", view.workdir, "--", *argv]
    descriptors = [file.fileno() for file in files]
    done = subprocess.run(
        words, pass_fds=descriptors, capture_output=True, text=True, timeout=60, check=False
    )
    for file in files:
        file.close()
    if "No permissions to create" in done.stderr or "setting up uid map" in done.stderr:
        pytest.skip("bubblewrap may not make a user namespace here")
    return done


def _words(entry: object, files: list[IO[bytes]]) -> list[str]:
    match entry:
        case Bind():
            return ["--bind" if entry.writable else "--ro-bind", entry.source, entry.target]
        case Tmpfs(target="/dev"):
            return ["--dev", "/dev"]  # with devices, terminals and links in one
        case Link() if entry.target.startswith("/dev/"):
            return []
        case Tmpfs():
            return ["--perms", f"{entry.mode:04o}", "--tmpfs", entry.target]
        case Link():
            return ["--symlink", entry.to, entry.target]
        case File():
            file = TemporaryFile()  # noqa: SIM115  whoever asked closes it
            file.write(entry.content)
            file.seek(0)
            files.append(file)
            return ["--perms", f"{entry.mode:04o}", "--ro-bind-data", str(file.fileno()), entry.target]
        case Device() | Terminals():
            return []
    raise AssertionError(entry)


def callers_view(**more: str) -> View:
    """Return the view of whoever runs these tests."""
    return host_view(
        environ={**os.environ, **more},
        home=os.path.expanduser("~"),
        cwd="/",
        inside_uid=1000,
        inside_gid=1000,
        resolvers=RESOLVERS,
        workspace=None,
        volumes=(),
    )


@pytest.mark.parametrize("tool", ["python3", "pip", "uv", "node", "npm", "cargo", "rustc", "git", "sh"])
def test_each_tool_on_the_callers_path_runs_and_is_the_same(tool: str) -> None:
    """What `TOOL --version` answers outside it answers inside."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on this machine's PATH")
    argv = ("sh", "-c", "readlink /proc/$$/exe") if tool == "sh" else (tool, "--version")
    outside = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    if outside.returncode:
        pytest.skip(f"{tool} doesn't run outside either")
    inside = run_in(callers_view(), *argv)
    assert (inside.returncode, inside.stdout) == (0, outside.stdout), inside.stderr


def test_python_of_an_environment_on_path_is_that_one() -> None:
    """The interpreter that runs these tests, put first on PATH, with its packages."""
    first = os.path.dirname(sys.executable)
    view = callers_view(PATH=f"{first}:{os.environ['PATH']}")
    done = run_in(view, "python3", "-c", "import sys, pytest; print(sys.prefix)")
    assert (done.returncode, done.stdout.strip()) == (0, sys.prefix), done.stderr


def test_the_home_is_empty_but_for_tools_and_may_be_written(home: Home) -> None:
    """The keys in it are gone, a tool of it runs, and what is written stays inside."""
    home.put("bin/tool", "#!/bin/sh\necho ran\n", mode=0o755)
    view = home.view(f"{home.at}/bin")
    done = run_in(
        view, "sh", "-c", "tool; ls -A ~; true > ~/new && echo wrote; true > ~/bin/new || echo refused"
    )
    assert done.stdout.split() == ["ran", "bin", "wrote", "refused"], done.stderr
    assert not os.path.exists(f"{home.at}/new")


def test_the_system_is_read_only_and_its_secrets_are_covered(home: Home) -> None:
    """Nothing of /usr, /etc or the root can be written; shadow is empty; /run holds nothing."""
    script = (
        "for d in / /usr /etc /opt; do (: > $d/mvm-was-here) 2>/dev/null && echo wrote $d; done; "
        "cat /etc/shadow /etc/machine-id 2>/dev/null; ls -A /run; whoami; cat /etc/resolv.conf"
    )
    done = run_in(home.view(), "sh", "-c", script)
    run = [line for line in done.stdout.splitlines() if not line.startswith("nameserver")]
    assert run[-1] == "alice", done.stderr
    assert not any(line.startswith("wrote") or ":" in line for line in run)
    assert done.stdout.endswith("nameserver 198.18.0.1\nnameserver fd00:6d76:6d::1\n")


def test_a_workspace_may_be_written_and_a_read_only_volume_not(home: Home) -> None:
    """Both are seen; one of them takes what is written."""
    home.put("work/a")
    home.put("data/b")
    volume = Bind(f"{home.at}/data", "/data", writable=False, optional=False, reason="volume")
    view = home.view(workspace=f"{home.at}/work", volumes=(volume,))
    done = run_in(
        view, "sh", "-c", "ls . /data; true > made && echo wrote; true > /data/made || echo refused"
    )
    assert done.stdout.split() == [".:", "a", "/data:", "b", "wrote", "refused"], done.stderr
    assert os.path.exists(f"{home.at}/work/made")
