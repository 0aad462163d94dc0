"""Sandboxes made of flakes, which the real nix builds; the page's commands among them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.docs import page
from tests.support.rootfs import make_flake

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.internet import Internet
    from tests.support.mvmctl import Ended, Mvmctl

pytestmark = pytest.mark.kernel

_ASKS = {"mode": "bridge", "dns": "system", "allow": [{"host": "asked.example.com", "port": 443}]}


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    """A flake without inputs."""
    return make_flake(tmp_path / "flake", config={"env": {"WORD": "of the flake"}, "network": _ASKS})


def test_a_flake_is_built_and_run(flake: Path, mvmctl: Mvmctl) -> None:
    """Without a command the package's main program runs; its digest is in the result and in the record."""
    ended = mvmctl("run", "--flake", str(flake), "--json", cwd=flake).expect(0)
    assert "hello from the flake" in ended.stderr
    image = ended.json["image"]
    assert image["kind"] == "flake"
    assert image["digest"].startswith("sha256:")
    (started,) = _records(mvmctl("audit", "show", ended.json["run"], "--json"), "run.started")
    assert (started["image_kind"], started["image"]) == ("flake", image["digest"])


def test_a_flakes_package_is_on_path_and_read_only(flake: Path, mvmctl: Mvmctl) -> None:
    """Its programs are found, its variables set, and its closure is all that there is of the store."""
    command = "greet; echo $WORD; ls /nix/store; touch /nix/store/x"
    ended = mvmctl("run", "--flake", ".", "--", "sh", "-c", command, cwd=flake)
    first, second, *store = ended.stdout.splitlines()
    assert (first, second) == ("hello from the flake", "of the flake")
    assert sorted(name.partition("-")[2] for name in store) == ["greeter-1", "tools"]
    assert "Read-only file system" in ended.stderr


def test_a_flake_that_is_a_root_tree(flake: Path, mvmctl: Mvmctl) -> None:
    """`REF#attr` with a root tree: the tree is all that is seen."""
    said = mvmctl("run", "--flake", "path:.#root", "--", "cat", "/etc/made-of", cwd=flake).expect(0)
    assert said.stdout == "a root tree of a test\n"
    mvmctl("run", "--flake", "path:.#root", "--", "python3", "-c", "1", cwd=flake).expect(127)


@pytest.mark.parametrize("reference", [".", "path:.", "../flake", "./#default"])
def test_a_declarations_flake_lies_beside_it(flake: Path, mvmctl: Mvmctl, reference: str) -> None:
    """`nix_flake` reads a path from where the declaration stands, wherever it is run."""
    program = (
        'import mvm\nNONE = mvm.network(mode="none")\n'
        f'@mvm.app(network=NONE, image=mvm.nix_flake("{reference}"), entrypoint=["greet"])\n'
        "def agent(): pass\n"
    )
    (flake / "app.py").write_text(program)
    said = mvmctl("run", "--app", "flake/app.py", cwd=flake.parent).expect(0)
    assert "hello from the flake" in said.stdout


@pytest.mark.parametrize("accepts", ["no", "yes"])
def test_a_flakes_own_settings_are_never_accepted(
    flake: Path, mvmctl: Mvmctl, tmp_path: Path, accepts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that a flake would have nix run here is not run, whatever a reference says."""
    hook, ran = tmp_path / "hook", tmp_path / "ran"
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    text = (
        (flake / "flake.nix").read_text().replace("greeter-1", f"greeter-{os.urandom(4).hex()}")
    )  # not built yet
    (flake / "flake.nix").write_text(text.replace("{", f'{{ nixConfig.post-build-hook = "{hook}";', 1))
    app = 'import mvm\n@mvm.app(network=mvm.network(mode="none"), image=mvm.nix_flake({}))\ndef f(): pass\n'
    (flake / "app.py").write_text(app.format('"--accept-flake-config"'))
    refused = mvmctl("run", "--app", "app.py", "--", "greet", cwd=flake).expect(65)
    assert "is an option of nix and no flake" in refused.stderr
    mvmctl("run", "--flake", "--impure", "--", "greet", cwd=flake).expect(65)
    monkeypatch.setenv("NIX_CONFIG", f"accept-flake-config = {'true' if accepts == 'yes' else 'false'}")
    (flake / "app.py").write_text(app.format('"."'))
    mvmctl("run", "--app", "app.py", "--", "greet", cwd=flake).expect(0)
    assert not ran.exists()


def test_a_dry_run_builds_nothing(flake: Path, mvmctl: Mvmctl) -> None:
    """`--dry-run` of a flake shows the plan, and nix is not asked."""
    plan = mvmctl(
        "up", "--flake", ".", "--dry-run", "--json", cwd=flake, env={"PATH": "/nonexistent"}
    ).expect(0)
    assert plan.json["image"] == {"kind": "flake", "digest": None}


def test_without_nix_it_is_told_how_to_get_it(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Where there is no nix, a flake is refused with 69 and the command that installs it."""
    if os.path.exists("/nix/var/nix/profiles/default/bin/nix"):
        pytest.skip("nix is where it is found without PATH")
    ended = mvmctl("run", "--flake", ".", "--", "true", cwd=tmp_path, env={"PATH": "/nonexistent"}).expect(69)
    assert "not installed" in ended.stderr
    assert "hint: " in ended.stderr


def test_a_flake_that_does_not_build(flake: Path, mvmctl: Mvmctl) -> None:
    """What nix says is passed on, and the start is refused."""
    (flake / "flake.nix").write_text("{ outputs = { self }: { }; }")
    ended = mvmctl("run", "--flake", ".", "--", "true", cwd=flake).expect(65)
    assert "[flake-not-built]" in ended.stderr
    assert "error:" in ended.stderr


def test_the_pages_commands_run_for_real(flake: Path, mvmctl: Mvmctl, internet: Internet) -> None:
    """Each of the page's four commands, typed in the flake's directory, with `-d` to come back."""
    assert internet is not None
    for words in page.commands():
        name = words[words.index("--name") + 1]
        mvmctl(*words[1:], "-d", "--", "sleep", "60", cwd=flake, timeout_s=60).expect(0)
        assert mvmctl("exec", name, "--", "greet").expect(0).stdout == "hello from the flake\n"
        denied = mvmctl("exec", name, "--", "curl", "-sS", "https://not-named.example/")
        assert denied.exit_code == 6
        described = mvmctl("network", "show", name, "--json").expect(0).json
        assert [one["host"] for one in described["denials"]] == ["not-named.example"]
        mvmctl("down", name).expect(0)


def _records(shown: Ended, kind: str) -> list[dict[str, object]]:
    return [line for line in map(json.loads, shown.expect(0).stdout.splitlines()) if line["kind"] == kind]
