"""The tools on the caller's PATH that are no part of the system: pyenv, venv, uv, pipx, nvm, cargo and kin.

Owns which directories a sandbox must see for `python3` inside to be the python3 that the caller's shell
finds. Must never walk a tree, run a tool, or show a directory in which people keep keys and tokens.

A directory of PATH is asked, in this order: does it belong to a virtual environment? (Then its base
interpreter comes too.) To a tool's own prefix, known by a mark (`lib/node_modules`, `conda-meta`, ...)?
Then that prefix is seen, whole. To a manager of versions, whose shims choose among them? Then those parts
of it that it reads. Otherwise only the directory, the `lib` beside it, and each program that a link in it
leads to, by the same questions.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.images.trace import lies_in
from mvm.images.volumes import PSEUDO
from mvm.plan.view import Bind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mvm.images.tree import Tree

PRIVATE = frozenset({
    ".aws", ".azure", ".config", ".docker", ".git-credentials", ".gnupg", ".kube", ".mozilla",
    ".netrc", ".npmrc", ".password-store", ".pki", ".pypirc", ".ssh", ".thunderbird", "keyrings",
})  # fmt: skip
"""Names in a path under which nothing is ever shown because of PATH."""

# Prefixes that many share, with private things among them: never seen whole.
_SHARED = frozenset(
    {".local", ".cargo", ".rustup", ".gem", ".m2", ".npm", ".cache", ".bun", ".deno", ".volta"}
)
_TOO_BROAD = frozenset({"/run/user", "/var/tmp", "/var/run", "/var/lib"})  # noqa: S108 - named to be refused
_PREFIX_MARKS = (
    "conda-meta", "lib/node_modules", "pkg/tool", "lib/rustlib", "lib/ruby", "lib/perl5", "lib/modules",
    "jre", "Cellar", "gems",
)  # fmt: skip
# What a manager of versions needs of its root; the rest (caches, a clone of itself) stays out.
_MANAGER_PARTS = (
    "bin", "shims", "libexec", "lib", "plugins", "pyenv.d", "rbenv.d", "nodenv.d", "versions", "version",
    "installs",
)  # fmt: skip


def add_tools(tree: Tree, *, environ: Mapping[str, str], home: str, claimed: tuple[str, ...]) -> None:
    """Add read-only binds for the directories of PATH that the tree doesn't show yet.

    Args:
        tree: to be added to; system, home and /tmp are in it.
        environ: the caller's; PATH and the variables by which tools name their roots are read.
        home: the caller's real home directory.
        claimed: directories that will be bound later for other reasons, with all below them.
    """
    finder = _Finder(tree, environ=environ, home=home, claimed=claimed)
    for directory in path_entries(environ):
        finder.add_directory(directory)
    for directory in claimed:
        finder.add_claimed_venv(f"{directory}/.venv")
        finder.add_claimed_venv(f"{directory}/venv")
    for program in _links_in("/usr/local/bin"):  # where links into a home directory are usual
        finder.add_program(program)
    finder.settle()


def path_entries(environ: Mapping[str, str]) -> list[str]:
    """Return the directories of PATH once each, without those that depend on the working directory.

    Args:
        environ: the caller's.
    """
    entries = dict.fromkeys(entry.rstrip("/") for entry in environ.get("PATH", "").split(":"))
    # Under WSL, Windows' own directories: slow to ask, and their programs would run outside.
    windows = "/mnt/" if "WSL_DISTRO_NAME" in environ else "\0"
    return [entry for entry in entries if entry.startswith("/") and not entry.startswith(windows)]


class _Finder:
    """Gathers binds; each question about a path is asked once."""

    def __init__(
        self, tree: Tree, *, environ: Mapping[str, str], home: str, claimed: tuple[str, ...]
    ) -> None:
        self._tree = tree
        self._environ = environ
        self._home = home
        self._claimed = claimed
        self._binds: dict[str, str] = {}
        self._links: list[tuple[tuple[str, str], ...]] = []
        self._asked: set[str] = set()

    def settle(self) -> None:
        """Put what was gathered into the tree, parents first so that what lies below them is left out."""
        for source in sorted(self._binds):
            self._tree.bind(Bind(source, source, writable=False, optional=True, reason=self._binds[source]))
        for links in self._links:
            self._tree.links(tuple(link for link in links if not self._is_claimed(link[0])))

    def add_directory(self, directory: str) -> None:
        """Gather what a directory of PATH needs."""
        real = self._follow(directory)
        if real is None:
            self._add_shown_venv(directory)
            return
        if self._is_claimed(real):
            self.add_claimed_venv(os.path.dirname(real))
            return
        if self._add_known(real) or not self._take(real, "on your PATH"):
            return
        parent = os.path.dirname(real)
        if os.path.basename(real) == "bin" and parent != self._home:
            self._take(f"{parent}/lib", "beside a directory on your PATH")
            self._take(f"{parent}/libexec", "beside a directory on your PATH")
        if os.path.exists(f"{real}/rustup"):
            self._add_rustup()
        if os.path.exists(f"{real}/volta-shim"):
            self._take(f"{parent}/tools", "volta")
            self._take(f"{parent}/layout.v4", "volta")
        for program in _links_in(real):
            self.add_program(program)

    def add_claimed_venv(self, directory: str) -> None:
        """Gather the base interpreter of an environment that the workload may write.

        What such an environment says may be the workload's own words, from the run before: it may name an
        installed Python, and nothing else.
        """
        base = _base_of(f"{directory}/pyvenv.cfg")
        real = None if base is None else self._follow(base)
        if real is not None and os.path.basename(real) == "bin" and _is_python(os.path.dirname(real)):
            self._add_known(real)

    def add_program(self, program: str) -> None:
        """Gather what one program needs that was reached by a link."""
        real = self._follow(program)
        if real is not None and not self._add_known(os.path.dirname(real)) and os.path.isfile(real):
            self._take(real, f"where {program} leads")

    def _add_known(self, directory: str) -> bool:
        """Gather the tool that a real directory of programs belongs to; False if none is recognised."""
        if directory in self._asked:
            return self._is_gathered(directory)
        self._asked.add(directory)
        parent = os.path.dirname(directory)
        if os.path.isfile(f"{parent}/pyvenv.cfg") and self._may_show(parent):
            self._add_venv(parent)
            return True
        if os.path.basename(directory) == "condabin" and os.path.isdir(f"{parent}/conda-meta"):
            return self._take(parent, "conda")
        if os.path.basename(directory) == "bin" and self._is_prefix(parent):
            return self._take(parent, "a tool on your PATH")
        return self._add_manager(directory)

    def _add_shown_venv(self, directory: str) -> None:
        """Gather the base interpreter of an environment that is seen with the system, as below /opt."""
        parent = os.path.dirname(self._tree.tracer.trace(directory).real)
        if self._tree.shows(parent) and os.path.isfile(f"{parent}/pyvenv.cfg"):
            self._add_venv(parent)

    def _is_claimed(self, path: str) -> bool:
        return any(lies_in(path, claimed) for claimed in self._claimed)

    def _is_gathered(self, directory: str) -> bool:
        return self._tree.shows(directory) or any(lies_in(directory, source) for source in self._binds)

    def _is_prefix(self, directory: str) -> bool:
        if os.path.basename(directory) in _SHARED or not self._may_show(directory):
            return False
        if any(os.path.exists(f"{directory}/{mark}") for mark in _PREFIX_MARKS):
            return True
        return _is_python(directory)

    def _add_manager(self, directory: str) -> bool:
        """Gather the parts of a manager of versions: its shims choose among all that it has installed."""
        for root in (
            os.path.dirname(directory),
            os.path.dirname(os.path.dirname(os.path.dirname(directory))),
        ):
            if not os.path.isdir(f"{root}/shims") or not self._may_show(root):
                continue
            for part in _MANAGER_PARTS:
                self._take(f"{root}/{part}", f"versions managed in {os.path.basename(root)}")
            for version in _links_in(f"{root}/versions"):
                self._follow_prefix(version)
            if os.path.isdir(f"{root}/installs"):
                self._take(f"{self._home}/.tool-versions", "versions chosen")
                for program in _links_in(directory):
                    self.add_program(program)
            return True
        return False

    def _add_venv(self, directory: str) -> None:
        self._take(directory, "a virtual environment on your PATH")
        base = _base_of(f"{directory}/pyvenv.cfg")
        if base is not None and (real := self._follow(base)) is not None:
            self._add_known(real)
        for name in ("python3", "python"):
            self.add_program(f"{directory}/bin/{name}")

    def _add_rustup(self) -> None:
        root = self._environ.get("RUSTUP_HOME") or f"{self._home}/.rustup"
        real = self._follow(root)
        if real is None:
            return
        self._take(f"{real}/settings.toml", "rustup")
        self._take(f"{real}/toolchains", "rustup")
        for chain in _links_in(f"{real}/toolchains"):
            self._follow_prefix(chain)

    def _follow_prefix(self, link: str) -> None:
        """Gather a version that lives elsewhere, if it looks like a tool and not like somebody's project."""
        real = self._follow(link)
        if real is not None and self._is_prefix(real):
            self._take(real, f"where {link} leads")

    def _follow(self, path: str) -> str | None:
        """Return where `path` leads if that may be shown and isn't yet, and note the links on the way."""
        traced = self._tree.tracer.trace(path)
        if not os.path.exists(traced.real) or not all(self._may_pass(link) for link, _ in traced.links):
            return None
        if traced.links:
            self._links.append(traced.links)
        return None if self._tree.shows(traced.real) else traced.real

    def _take(self, path: str, reason: str) -> bool:
        traced = self._tree.tracer.trace(path)
        if not self._may_show(traced.real) or not os.access(traced.real, os.R_OK):
            return False
        if traced.links:
            self._links.append(traced.links)
        if not self._is_claimed(traced.real):
            self._binds.setdefault(traced.real, reason)
        return True

    def _may_show(self, path: str) -> bool:
        """Return whether a real path may be shown because PATH leads to it."""
        if path.count("/") < 2 or path in _TOO_BROAD or os.path.dirname(path) == "/run/user":
            return False  # /tmp, /run, /home and the like: others' sockets and files
        return self._may_pass(path) and not any(lies_in(path, kept) for kept in PSEUDO)

    def _may_pass(self, path: str) -> bool:
        return not lies_in(self._home, path) and PRIVATE.isdisjoint(path.split("/"))


def _is_python(prefix: str) -> bool:
    return any(name.startswith(("python2", "python3", "pypy")) for name in _names_in(f"{prefix}/lib"))


def _base_of(config: str) -> str | None:
    """Return the directory of the interpreter that a virtual environment was made with (PEP 405, `home`)."""
    try:
        with open(config, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                key, equals, value = line.partition("=")
                if equals and key.strip() == "home" and value.strip().startswith("/"):
                    return value.strip()
    except OSError:  # not readable: then no interpreter could use it either
        return None
    return None


def _links_in(directory: str) -> Iterator[str]:
    """Yield the links in a directory that lead out of it, in no order; nothing if it cannot be listed."""
    try:
        with os.scandir(directory) as entries:
            yield from [e.path for e in entries if e.is_symlink() and "/" in os.readlink(e.path)]
    except OSError:  # not there, not ours to list, or changed at this moment
        return


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:  # not there
        return []
