"""`--profile browser` beside everything else: dry run, record, a running sandbox, declared apps, Python."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import mvm
from tests.support.rootfs import make_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_API = "api.example.test:443"
_HELD = ("--profile", "browser,workspace=shop,retain=7d")
_SHOWN = {"name": "browser", "workspace": "shop", "retain": "7d"}


def test_a_dry_run_says_what_it_would_be_held_to_and_makes_nothing(mvmctl: Mvmctl) -> None:
    """The profile is a step of the plan, the life time it sets has its source, and no workspace is made."""
    text = mvmctl("run", *_HELD, "--dry-run", "--", "true").expect(0).stdout
    assert "profile\n  browser\n  the workspace shop outlives it, for 7d\n" in text
    assert "ttl     30m   from --profile\n" in text
    assert "/workspace from " in text
    plan = mvmctl("run", *_HELD, "--dry-run", "--json", "--", "true").expect(0).json
    assert plan["profile"] == _SHOWN
    assert mvmctl("run", "--dry-run", "--json", "--", "true").expect(0).json["profile"] is None
    assert not (mvmctl.state / "workspaces").exists()


def test_a_dry_run_is_refused_for_what_a_run_would_be(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Each breach is told at once, with the mounts looked at, and status 65."""
    words = ("--profile", "browser", "--network-preset", "agent", "--ttl", "2h", "--workspace", str(tmp_path))
    told = mvmctl("run", *words, "--dry-run", "--", "true").expect(65).stderr
    assert all(f"[browser-{code}]" in told for code in ("preset", "long-ttl", "writable-mount"))


def test_the_record_says_what_it_was_held_to(mvmctl: Mvmctl) -> None:
    """The first line has the profile, its workspace, its rule and the reason; without one, none."""
    keys = ("profile", "workspace", "retain", "long_ttl")

    def first(*words: str) -> list[Any]:
        run = mvmctl("run", "--json", *words, "--", "true").expect(0).json["run"]
        line = json.loads(mvmctl("audit", "show", run, "--json").expect(0).stdout.splitlines()[0])
        return [line.get(key) for key in keys]

    held = ("--profile", "browser,workspace=shop,retain=7d,long-ttl=a crawl", "--ttl", "1h")
    assert first(*held) == ["browser", "shop", 604_800, "a crawl"]
    assert first() == [None] * 4


def test_a_running_browser_says_its_profile_and_is_not_widened_past_it(
    mvmctl: Mvmctl, up: Callable[..., str], leftovers: Leftovers
) -> None:
    """`network show` has it; a host more is granted; its end frees the workspace."""
    name = up(*_HELD, "--network-allow", _API)
    assert "profile browser, workspace shop, retain 7d" in mvmctl("network", "show", name).expect(0).stdout
    assert mvmctl("network", "show", "--json", name).expect(0).json["profile"] == _SHOWN
    mvmctl("network", "allow", name, "other.example.test:443").expect(0)
    assert "used by another sandbox" in mvmctl("run", *_HELD, "--", "true").expect(64).stderr
    mvmctl("exec", name, "--", "sh", "-c", "echo seen > ~/f").expect(0)
    mvmctl("down", name, "--time", "0").expect(0)
    assert mvmctl("run", *_HELD, "--", "cat", "f").expect(0).stdout == "seen\n"
    leftovers.expect_none()


@pytest.mark.user_only
def test_what_we_may_not_look_at_is_not_shown(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """A directory with a part that is closed to the caller is refused; once it is open, it passes."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    words = ("run", "--profile", "browser", "-v", f"{tmp_path}:/seen:ro", "--", "true")
    told = mvmctl(*words).expect(65).stderr
    assert f"{closed}: Permission denied [browser-unread-mount]" in told
    closed.chmod(0o700)
    mvmctl(*words).expect(0)


def test_another_image_has_its_workspace_and_its_rules(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """In a root tree too the workspace is the home and lasts; a home as a tree is refused, or with a jar."""
    tree = make_root(tmp_path / "tree", config={"env": {"HOME": "/elsewhere"}})
    words = (
        "run",
        *_HELD,
        "--image",
        f"dir:{tree}",
        "--",
        "sh",
        "-c",
        "pwd; echo $HOME; echo x >> f; cat ~/f",
    )
    assert mvmctl(*words).expect(0).stdout.split() == ["/workspace", "/workspace", "x"]
    assert mvmctl(*words).expect(0).stdout.split() == ["/workspace", "/workspace", "x", "x"]
    assert "[browser-broad-mount]" in mvmctl(*words, env={"HOME": str(tree)}).expect(65).stderr
    (tmp_path / "tree" / "home" / "Cookies").write_text("jar")
    assert "--image" in mvmctl(*words).expect(65).stderr


_APP = """
import mvm

@mvm.app(
    name="crawler",
    network=mvm.network(mode="none"),
    mounts=["account:/account:ro"],
    entrypoint=["cat", "/account/Cookies"],
    {words}
)
def crawl():
    pass
"""
_NAMED = 'profile=mvm.browser_profile(credentials={"account": "the login is under test"}),'


def test_a_declared_profile_is_compiled_and_held_to(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Its life time stands in the JSON, paths are its file's, what its mount holds is looked at later."""
    (tmp_path / "account").mkdir()
    (tmp_path / "account" / "Cookies").write_text("jar")
    file, elsewhere = tmp_path / "app.py", tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(words: str, *flags: str) -> Any:  # noqa: ANN401
        file.write_text(_APP.format(words=words))
        return mvmctl("run", *flags, "--app", str(file), cwd=elsewhere)

    assert "[browser-credentials]" in run("profile=mvm.browser_profile(),").expect(65).stderr
    assert run(_NAMED).expect(0).stdout == "jar"
    (app,) = mvmctl("compile", str(file)).expect(0).json["apps"]
    assert app["profile"] == {"name": "browser", "credentials": {"account": "the login is under test"}}
    assert app["policy"]["network"]["ttl"] == "30m"
    assert run(_NAMED, "--profile", "browser").expect(0).stdout == "jar"
    assert run(_NAMED, *_HELD).exit_code == 64
    assert "[browser-long-ttl]" in run(_NAMED, "--ttl", "2h").expect(65).stderr
    assert "[browser-credentials]" in run("", "--profile", "browser").expect(65).stderr
    assert run("").expect(0).stdout == "jar"
    (app,) = mvmctl("compile", str(file)).expect(0).json["apps"]
    assert "profile" not in app


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (
            'network=mvm.network(mode="bridge", egress=mvm.egress_preset("dev"), dns=mvm.dns_system())',
            "preset",
        ),
        ('network=mvm.network(mode="none"), ttl="2h"', "long-ttl"),
        ('network=mvm.network(mode="none"), mounts=["/home:/seen:ro"]', "broad-mount"),
        ('network=mvm.network(mode="none"), mounts=["data:/data"]', "writable-mount"),
    ],
)
def test_a_declaration_is_refused_for_what_its_text_shows(
    words: str, code: str, type_in: Callable[..., Said], project: Path
) -> None:
    """`mvmctl compile` says so, and lets the same declaration be without a profile."""
    text = "import mvm\n\n@mvm.app({words})\ndef main():\n    pass\n"
    (project / "app.py").write_text(text.format(words=f"{words}, profile=mvm.browser_profile()"))
    assert f"[browser-{code}]" in type_in("compile", "app.py").expect(65).errors
    (project / "app.py").write_text(text.format(words=words))
    type_in("compile", "app.py").expect(0)


def test_a_word_of_python_is_refused_where_it_is_written() -> None:
    """A wrong type, and a rule that is missing, each with a code."""
    for words, code in (
        ({"workspace": 7}, "wrong-type"),
        ({"workspace": "../x"}, "browser-bad-workspace"),
        ({"credentials": ["./p"]}, "wrong-type"),
        ({"retain": "long"}, "bad-duration"),
    ):
        with pytest.raises(mvm.PolicyRefused) as caught:
            mvm.browser_profile(**words)
        assert caught.value.findings[0].code == code
