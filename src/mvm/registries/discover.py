"""Discovery: all tools asked at once.

Owns the list of tools and their running side by side. Must never fail because one tool does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.policy.presets import Discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TOOLS = ("pip", "uv", "npm", "apt", "cargo", "go", "gem", "maven")
"""The modules of this package that each ask one tool (or kin of it)."""


def discover(environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:
    """Find which registries this machine's package tools are configured to use.

    Every tool is asked in its own thread, each with its own time limit; nothing is written.

    Args:
        environ: the caller's environment, from which PATH, HOME and the tools' variables are read.
        cwd: the caller's working directory, absolute; a project's files there are told, never granted.

    Returns:
        One discovery per tool, in a fixed order, absent tools included.
    """
    import threading

    found: dict[str, tuple[Discovery, ...]] = {}

    def run(name: str) -> None:
        found[name] = _discover_one(name, environ, cwd)

    threads = [
        threading.Thread(target=run, args=(name,), name=f"discover {name}", daemon=True) for name in TOOLS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tuple(discovery for name in TOOLS for discovery in found[name])


def _discover_one(name: str, environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:
    from importlib import import_module

    try:
        one: Callable[[Mapping[str, str], Path], tuple[Discovery, ...]]
        one = import_module(f"mvm.registries.{name}").discover
        return one(environ, cwd)
    except Exception as error:  # noqa: BLE001  (a surprise in one tool's files must not cost the others theirs)
        # no hosts: what was not understood opens nothing; the error's text could hold a credential
        return (Discovery(tool=name, present=False, note=f"{name}: not understood ({type(error).__name__})"),)
