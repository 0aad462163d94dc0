"""A made-up machine: the real tools, a home and configuration of the test's own; how to read its findings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mvm.policy.presets import Discovery


class Machine:
    """A home, a project and an environment; PATH is the real one, so the tools are real.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.project = root / "project"
        self.home.mkdir()
        self.project.mkdir()
        real = Path.home()
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_CONFIG_DIRS": str(root / "xdg"),
            "RUSTUP_HOME": os.environ.get(
                "RUSTUP_HOME", str(real / ".rustup")
            ),  # the tool chain is no configuration
        }
        for name in ("GOROOT", "LD_LIBRARY_PATH", "RUBYLIB"):  # where an unpacked tool finds its own parts
            if name in os.environ:
                self.environ[name] = os.environ[name]

    def write(self, name: str, text: str) -> Path:
        """Write a file of the home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def without_tools(self) -> None:
        """Leave a PATH on which nothing is."""
        self.environ["PATH"] = str(self.project)


def names(found: Discovery) -> set[str]:
    """Give the hosts of a discovery as `scheme://host:port`."""
    return {f"{each.scheme}://{each.host}:{each.port}" for each in found.hosts}


def needs(tool: str) -> pytest.MarkDecorator:
    """Skip where the real tool is not installed."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")
