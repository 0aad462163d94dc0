"""`mvmctl compile` and `--app`: a file's declaration is read, shown, and enforced as it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.fetching import fetch, trusting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said
    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_API, _OTHER = "api.example.test", "other.example.test"
_PROGRAM = f"""
import sys
import urllib.request
import mvm

HOST = "{_API}"
mvm.workload(id="two")

@mvm.app(
    name="fetcher",
    network=mvm.network(
        mode="bridge",
        dns=mvm.dns_system(),
        egress=mvm.egress([mvm.host_port(HOST, 80, reason=f"reads {{HOST}}"), mvm.host_port(HOST, 443)]),
    ),
    env={{"WORD": "declared"}},
    mounts=["data:/data:ro"],
    ttl="5m",
)
def main():
    with urllib.request.urlopen(f"http://{{HOST}}/") as page:
        print(page.read().decode(), end="")
    return 7

@mvm.app(name="closed", network=mvm.network(mode="none"), entrypoint=["sh", "-c", "echo entry $WORD"])
def closed(): pass
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    """The path of a file that declares two apps."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "word").write_text("mounted\n", "utf-8")
    file = tmp_path / "app.py"
    file.write_text(_PROGRAM, "utf-8")
    return str(file)


def test_compile_prints_what_importing_gives(app: str, mvmctl: Mvmctl) -> None:
    """The canonical JSON of the file is, byte for byte, that of the imported module."""
    ended = mvmctl("compile", app).expect(0)
    code = (
        "import app, mvm, sys; from mvm.canonical import encode\n"
        "sys.stdout.buffer.write(encode(mvm.program_of(app).to_json()) + b'\\n')"
    )
    imported = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env=mvmctl.environment(),
        cwd=os.path.dirname(app),
    )
    assert ended.output == imported.stdout
    assert json.loads(ended.output)["workload"] == "two"


def test_compile_refuses_with_line_and_column(type_in: Callable[..., Said], project: Path) -> None:
    """What can't be read is refused with 65, its place and a hint."""
    (project / "bad.py").write_text(
        "import mvm\n@mvm.app(name=str(), network=mvm.network(mode='none'))\ndef f(): pass\n"
    )
    said = type_in("compile", "bad.py").expect(65)
    assert "bad.py:2:15: .: `str` is no word of mvm, and is not called [not-literal]" in said.errors
    assert "hint: write what it gives" in said.errors
    type_in("compile", "absent.py").expect(64)


def test_an_app_runs_its_function(app: str, mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """Without an entrypoint the function runs: its output is ours, and what it returns is the status."""
    ended = mvmctl("run", "--app", f"{app}:fetcher").expect(7)
    assert ended.stdout == f"hello from {_API}\n"
    leftovers.expect_none()


def test_an_app_runs_its_entrypoint(app: str, mvmctl: Mvmctl) -> None:
    """With an entrypoint that runs; a flag's variable is beside the declared ones."""
    assert mvmctl("run", "--app", f"{app}:closed", "-e", "WORD=flag").expect(0).stdout == "entry flag\n"


def test_exactly_what_is_declared_is_enforced(
    app: str, mvmctl: Mvmctl, internet: Internet, ca_file: Path
) -> None:
    """The granted host answers, another one is denied; the variables and mounts are there."""
    words = ("run", "--app", f"{app}:main", *trusting(ca_file), "--json", "--")
    granted = mvmctl(*words, *fetch(_API)).expect(0)
    assert json.loads(granted.stdout)["flows"][0]["host"] == _API
    before = internet.arrivals(_OTHER)
    denied = json.loads(mvmctl(*words, *fetch(_OTHER)).stdout)
    assert [(denial["host"], denial["reason"]) for denial in denied["denials"]] == [
        (_OTHER, "host-not-granted")
    ]
    assert internet.arrivals(_OTHER) == before
    assert mvmctl("run", "--app", f"{app}:main", "--", "sh", "-c", "echo $WORD; cat /data/word").expect(
        0
    ).stdout == ("declared\nmounted\n")


def test_each_grant_tells_its_line(app: str, mvmctl: Mvmctl) -> None:
    """The resolved policy names the file and line of each grant; a flag adds and says so."""
    words = ("run", "--app", f"{app}:fetcher", "--network-allow", f"{_OTHER}:443", "--dry-run", "--json")
    plan = json.loads(mvmctl(*words).expect(0).stdout)
    sources = {f"{grant['host']}:{grant['port']}": grant["source"] for grant in plan["policy"]["grants"]}
    assert sources == {
        f"{_API}:80": f"{app}:14",
        f"{_API}:443": f"{app}:14",
        f"{_OTHER}:443": "--network-allow",
    }


def test_a_policy_file_beside_it_is_not_read(app: str, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """A declared sandbox is what its file says: no mvm.toml adds to it."""
    (tmp_path / "mvm.toml").write_text(
        f'[network]\nmode = "bridge"\ndns = "system"\nallow = [{{host = "{_OTHER}", port = 443}}]\n'
    )
    plan = json.loads(
        mvmctl("run", "--app", f"{app}:closed", "--dry-run", "--json", cwd=tmp_path).expect(0).stdout
    )
    assert plan["policy"]["grants"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "declares several apps: fetcher, closed"),
        ((":absent",), "declares no app 'absent'"),
        ((":closed", "--policy", "mvm.toml"), "--app and --policy both say what is granted"),
    ],
)
def test_which_app_is_meant_must_be_clear(
    app: str, mvmctl: Mvmctl, words: tuple[str, ...], said: str
) -> None:
    """Several apps without a name, a name that is not there, two sources of a policy: usage errors."""
    name, rest = (words[0], words[1:]) if words else ("", ())
    ended = mvmctl("run", "--app", f"{app}{name}", *rest, "--", "true").expect(64)
    assert said in ended.stderr


def test_up_takes_the_declared_name(app: str, mvmctl: Mvmctl) -> None:
    """`up --app` starts a sandbox under the app's own name, with the app's policy."""
    mvmctl("up", "-d", "--app", f"{app}:fetcher", "--", "sleep", "60").expect(0)
    try:
        shown = json.loads(mvmctl("network", "show", "fetcher", "--json").expect(0).stdout)
        assert {grant["host"] for grant in shown["policy"]["grants"]} == {_API}
    finally:
        mvmctl("down", "fetcher").expect(0)
