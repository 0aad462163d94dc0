"""The tools on the caller's PATH are seen, read-only; the home they live in isn't."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mvm.images.toolchains import PRIVATE
from mvm.images.trace import lies_in
from mvm.plan.view import Bind, Device, View
from tests.images.home import Home


def test_pyenv_shows_shims_and_versions_only(home: Home) -> None:
    """The clone of itself, its cache and the rest of its root stay out."""
    home.python(".pyenv/versions/3.12.1")
    for name in ("shims/python3", "libexec/pyenv", "bin/pyenv"):
        home.program(f".pyenv/{name}")
    home.put(".pyenv/version", "3.12.1\n")
    home.put(".pyenv/.git/config", "private")
    view = home.view(
        f"{home.at}/.pyenv/shims", f"{home.at}/.pyenv/bin", environ={"PYENV_ROOT": f"{home.at}/.pyenv"}
    )
    assert home.shown(view) == {
        f".pyenv/{part}" for part in ("bin", "shims", "libexec", "versions", "version")
    }
    assert view.path.startswith(f"{home.at}/.pyenv/shims:{home.at}/.pyenv/bin:")
    assert view.environ["PYENV_ROOT"] == f"{home.at}/.pyenv"


def test_a_pyenv_version_kept_elsewhere_comes_along(home: Home) -> None:
    """`versions/x` may be a link to a prefix that another tool installed."""
    home.python("pythons/x")
    home.program(".pyenv/shims/python3")
    home.link(".pyenv/versions/x", f"{home.at}/pythons/x")
    assert "pythons/x" in home.shown(home.view(f"{home.at}/.pyenv/shims"))


def test_a_virtual_environment_brings_its_base(home: Home) -> None:
    """An environment upon an environment upon a pyenv version: all three, and nothing of pyenv besides."""
    base = home.python(".pyenv/versions/3.12.1")
    first = home.venv("envs/first", base=base)
    second = home.venv("envs/second", base=first)
    view = home.view(second, environ={"VIRTUAL_ENV": f"{home.at}/envs/second"})
    assert home.shown(view) == {"envs/first", "envs/second", ".pyenv/versions/3.12.1"}
    assert view.environ["VIRTUAL_ENV"] == f"{home.at}/envs/second"


def test_an_environment_inside_the_workspace_brings_its_base_only(home: Home) -> None:
    """The workspace itself shows the environment, writable; its interpreter is outside, read-only."""
    base = home.python("sdk/python")
    bin_dir = home.venv("work/.venv", base=base)
    for path in ((bin_dir,), ()):
        view = home.view(*path, workspace=f"{home.at}/work")
        assert home.shown(view) == {"work", "sdk/python"}
        assert {
            e.source: e.writable for e in view.entries if isinstance(e, Bind) and "alice" in e.source
        } == {
            f"{home.at}/work": True,
            f"{home.at}/sdk/python": False,
        }


def test_an_environment_that_the_workload_may_write_opens_nothing_but_a_python(home: Home) -> None:
    """A workload plants links and a base in its workspace; the next run shows none of what they name."""
    home.put("project/lib/secret.txt")
    home.program("project/bin/python3")
    home.put("work/.venv/pyvenv.cfg", f"home = {home.at}/project/bin\n")
    home.link("work/.venv/bin/python3", f"{home.at}/letter.txt")
    home.link("work/.venv/bin/python", f"{home.at}/project/bin/python3")
    home.link("work/bin/tool", f"{home.at}/letter.txt")
    view = home.view(f"{home.at}/work/.venv/bin", f"{home.at}/work/bin", workspace=f"{home.at}/work")
    assert home.shown(view) == {"work"}


def test_links_in_local_bin_are_followed_to_their_tool(home: Home) -> None:
    """A Python of uv by its version's link, a pipx environment, a lone script; nothing around them."""
    base = home.python(".local/share/uv/python/cpython-3.12.7")
    home.link(".local/share/uv/python/cpython-3.12", "cpython-3.12.7")
    home.link(".local/bin/python3.12", f"{home.at}/.local/share/uv/python/cpython-3.12/bin/python3.12")
    home.venv(".local/share/pipx/venvs/tool", base=base)
    home.link(".local/bin/tool", "../share/pipx/venvs/tool/bin/tool")
    home.program("dotfiles/scripts/note")
    home.put("dotfiles/scripts/token")
    home.link(".local/bin/note", f"{home.at}/dotfiles/scripts/note")
    home.put(".local/lib/python3.12/site-packages/six.py")
    home.put(".local/share/keyrings/login.keyring")
    view = home.view(f"{home.at}/.local/bin")
    assert home.shown(view) == {
        ".local/bin",
        ".local/lib",
        ".local/share/uv/python/cpython-3.12.7",
        ".local/share/pipx/venvs/tool",
        "dotfiles/scripts/note",
    }
    assert home.links(view) == {".local/share/uv/python/cpython-3.12": "cpython-3.12.7"}


def test_cargo_shows_programs_and_toolchains_but_no_credentials(home: Home) -> None:
    """Of ~/.cargo only `bin`; of ~/.rustup what a proxy reads."""
    home.program(".cargo/bin/rustup")
    home.link(".cargo/bin/cargo", "rustup")
    home.put(".cargo/credentials.toml", "private")
    home.put(".cargo/config.toml", "private")
    home.put(".rustup/settings.toml")
    home.program(".rustup/toolchains/stable/bin/cargo")
    home.put(".rustup/downloads/x")
    view = home.view(
        f"{home.at}/.cargo/bin",
        environ={"CARGO_HOME": f"{home.at}/.cargo", "CARGO_REGISTRY_TOKEN": "private"},
    )
    assert home.shown(view) == {".cargo/bin", ".rustup/settings.toml", ".rustup/toolchains"}
    assert view.environ["CARGO_HOME"] == f"{home.at}/.cargo"
    assert "CARGO_REGISTRY_TOKEN" not in view.environ


def test_node_managers_show_the_chosen_version(home: Home) -> None:
    """By nvm the version's directory on PATH; by fnm the same through a link made for one shell."""
    for prefix in (
        ".nvm/versions/node/v20",
        ".nvm/versions/node/v22",
        ".local/share/fnm/node-versions/v20/installation",
    ):
        home.program(f"{prefix}/bin/node")
        home.put(f"{prefix}/lib/node_modules/npm/package.json")
    home.link(".local/state/fnm_multishells/7", f"{home.at}/.local/share/fnm/node-versions/v20/installation")
    view = home.view(f"{home.at}/.nvm/versions/node/v20/bin", f"{home.at}/.local/state/fnm_multishells/7/bin")
    assert home.shown(view) == {".nvm/versions/node/v20", ".local/share/fnm/node-versions/v20/installation"}
    assert ".local/state/fnm_multishells/7" in home.links(view)
    assert f"{home.at}/.local/state/fnm_multishells/7/bin" in view.path.split(":")


def test_directories_of_lone_programs_show_themselves(home: Home) -> None:
    """go, bun and deno: the directory on PATH, not the sources and caches beside it."""
    for tool in ("go/bin/gopls", ".bun/bin/bun", ".deno/bin/deno"):
        home.program(tool)
    home.put("go/pkg/mod/x")
    home.put(".bun/install/cache/x")
    view = home.view(f"{home.at}/go/bin", f"{home.at}/.bun/bin", f"{home.at}/.deno/bin")
    assert home.shown(view) == {"go/bin", ".bun/bin", ".deno/bin"}


def test_conda_is_seen_as_the_environment_on_path(home: Home) -> None:
    """The active environment, not its siblings; `condabin` leads to the whole installation."""
    for prefix in ("miniconda3", "miniconda3/envs/a", "miniconda3/envs/b"):
        home.put(f"{prefix}/conda-meta/history")
        home.program(f"{prefix}/bin/python3")
    home.program("miniconda3/condabin/conda")
    assert home.shown(home.view(f"{home.at}/miniconda3/envs/a/bin")) == {"miniconda3/envs/a"}
    assert home.shown(home.view(f"{home.at}/miniconda3/condabin")) == {"miniconda3"}


def test_path_keeps_its_order_and_loses_what_is_not_there(home: Home) -> None:
    """Relative, empty, missing and refused entries go; the standard ones come last."""
    home.program("bin/tool")
    home.program(".config/yarn/bin/tool")
    refused = f"{home.at}/.config/yarn/bin"
    view = home.view(
        "", ".", "bin", f"/{home.at}/bin/", home.at, f"{home.at}/gone", refused, "/", "//usr/bin"
    )
    entries = view.path.split(":")
    assert entries[:4] == [f"/{home.at}/bin", home.at, "//usr/bin", "/usr/bin"]
    assert home.shown(view) == {"bin"}
    assert refused not in entries
    assert "/usr/sbin" in entries


def test_a_home_reached_through_a_link_works_under_both_names(home: Home, tmp_path: Path) -> None:
    """HOME and PATH name the link; tools are bound where it leads, and the link is there."""
    home.program("bin/tool")
    alias = str(tmp_path / "alias")
    os.symlink(home.at, alias)
    real = home.at
    home.at = alias
    view = home.view(f"{alias}/bin")
    assert [e.source for e in view.entries if isinstance(e, Bind) and "alice" in e.source] == [f"{real}/bin"]
    assert view.path.split(":")[0] == f"{alias}/bin"
    assert view.environ["HOME"] == alias


NAMES = st.sampled_from(
    [
        ".ssh",
        ".config",
        ".cargo",
        ".local",
        "bin",
        "lib",
        "shims",
        "versions",
        "python3",
        "node_modules",
        "work",
        "x",
    ]
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
# a link to the root once made a path with two slashes in front, and a walk up that never met its end
ODD = st.sampled_from(["..", "../..", "../../..", "/", "/etc", "/tmp", "../x/bin", "../.ssh"])


@given(
    programs=st.lists(PATHS, max_size=8),
    links=st.lists(st.tuples(PATHS, st.one_of(PATHS, ODD)), max_size=6),
    path=st.lists(st.one_of(PATHS, st.just("")), max_size=5),
    base=PATHS,
)
@settings(max_examples=300, deadline=None)
def test_no_home_however_made_gives_more_than_tools(
    programs: list[str], links: list[tuple[str, str]], path: list[str], base: str
) -> None:
    """No bind is the home or a parent of it or passes a private name, and all are read-only."""
    with tempfile.TemporaryDirectory() as root:
        home = Home(Path(os.path.realpath(root)))
        for name in programs:
            with suppress(OSError):  # another file is in the way: then this tree has one less
                home.program(name)
        for name, to in links:
            with suppress(OSError):
                home.link(name, to if to.startswith((".", "/")) else f"{home.at}/{to}")
        with suppress(OSError):
            home.put("x/pyvenv.cfg", f"home = {home.at}/{base}\n")
        check_harmless(home.view(*(f"{home.at}/{entry}" for entry in path)), home=home.at)


def check_harmless(view: View, *, home: str) -> None:
    """Assert what holds of each view, whatever PATH says."""
    for entry in view.entries:
        if isinstance(entry, Bind):
            assert not entry.writable
            assert not lies_in(home, entry.source)
            assert PRIVATE.isdisjoint(entry.source.split("/"))
            assert os.path.realpath(entry.source) == entry.source
    targets = [entry.target for entry in view.entries if not isinstance(entry, Device)]
    assert len(targets) == len(set(targets))
