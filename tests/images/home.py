"""Made-up homes: the trees that pyenv, venv, uv, pipx, nvm, cargo and kin leave behind, small.

Owns the making of files for the tests of this folder.
"""

from __future__ import annotations

import errno
import os
from ipaddress import ip_address
from typing import TYPE_CHECKING

from mvm.images.host import host_view
from mvm.plan.view import Bind, File, Link, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

RESOLVERS = (ip_address("198.18.0.1"), ip_address("fd00:6d76:6d::1"))


class Home:
    """A caller's home below a temporary directory, full of private things and without any tool yet."""

    def __init__(self, root: Path) -> None:
        """Make it."""
        self._root = os.path.realpath(root)
        self.at = f"{self._root}/home/alice"
        for name in (
            ".ssh/id_ed25519",
            ".config/gh/hosts.yml",
            ".npmrc",
            ".pypirc",
            ".aws/credentials",
            "letter.txt",
        ):
            self.put(name, "private")

    def put(self, name: str, text: str = "", *, mode: int = 0o644) -> str:
        """Write a file below the home and return its path."""
        path = self._place(name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, mode)
        return path

    def _place(self, name: str) -> str:
        """Return a path below the home, its directory made; never out of the test's root by a link."""
        path = f"{self.at}/{name}"
        if not os.path.realpath(path).startswith(f"{self._root}/"):
            raise PermissionError(errno.EPERM, "leads out of the test's own directory", path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def program(self, name: str) -> str:
        """Write an executable below the home."""
        return self.put(name, "#!/bin/sh\n", mode=0o755)

    def link(self, name: str, to: str) -> str:
        """Make a symbolic link below the home."""
        path = self._place(name)
        os.symlink(to, path)
        return path

    def python(self, prefix: str) -> str:
        """Make an interpreter's prefix and return its directory of programs."""
        self.program(f"{prefix}/bin/python3.12")
        self.link(f"{prefix}/bin/python3", "python3.12")
        self.put(f"{prefix}/lib/python3.12/os.py")
        return f"{self.at}/{prefix}/bin"

    def venv(self, directory: str, *, base: str) -> str:
        """Make a virtual environment upon the interpreter in `base` and return its directory of programs."""
        self.put(f"{directory}/pyvenv.cfg", f"home = {base}\nversion = 3.12\n")
        self.link(f"{directory}/bin/python3", f"{base}/python3")
        self.program(f"{directory}/bin/tool")
        return f"{self.at}/{directory}/bin"

    def view(
        self,
        *path: str,
        workspace: str | None = None,
        volumes: tuple[Bind, ...] = (),
        cwd: str = "/",
        environ: Mapping[str, str] | None = None,
        hidden: Sequence[str] = (),
    ) -> View:
        """Return the view of a caller with this home and PATH."""
        return host_view(
            environ={"PATH": ":".join((*path, "/usr/bin", "/bin")), "USER": "alice", **(environ or {})},
            home=self.at,
            cwd=cwd,
            inside_uid=1000,
            inside_gid=1000,
            resolvers=RESOLVERS,
            workspace=workspace,
            volumes=volumes,
            hidden=hidden,
        )

    def shown(self, view: View) -> set[str]:
        """Return what of the home a view binds, relative to it."""
        return {
            os.path.relpath(entry.source, self.at)
            for entry in view.entries
            if isinstance(entry, Bind) and entry.source.startswith(os.path.dirname(self.at))
        }

    def links(self, view: View) -> dict[str, str]:
        """Return the links that a view makes in the home, relative to it."""
        return {
            os.path.relpath(entry.target, self.at): entry.to
            for entry in view.entries
            if isinstance(entry, Link) and entry.target.startswith(self.at)
        }


def files(view: View) -> dict[str, File]:
    """Return the generated files of a view by their place."""
    return {entry.target: entry for entry in view.entries if isinstance(entry, File)}
