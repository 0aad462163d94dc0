"""go: its module proxies and its checksum database.

Owns the reading of GOPROXY and GOSUMDB as `go env` tells them (go help environment, Go Modules
Reference). Must never let go change its own tool chain to answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mvm.registries.ask import NoAnswer, ask, find_tool
from mvm.registries.gather import Gathering

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mvm.policy.presets import Discovery

_KEYS = ("GOPROXY", "GOSUMDB", "GOENV")


def discover(environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:  # noqa: ARG001  (one shape for all tools)
    """Find what go is configured to use.

    Args:
        environ: the caller's environment.
        cwd: not used; go reads no registry from a project.

    Returns:
        One discovery, of `go`.
    """
    import json

    gathering = Gathering("go")
    tool = find_tool("go", environ)
    if tool is None:
        return (gathering.absent("go: not on PATH"),)
    try:
        answers = json.loads(ask([str(tool), "env", "-json", *_KEYS], {**environ, "GOTOOLCHAIN": "local"}))
    except (NoAnswer, ValueError, RecursionError) as error:
        why = error if isinstance(error, NoAnswer) else "gave no readable answer"
        return (gathering.absent(f"go: {why}"),)
    proxies, database, settings = (str(answers.get(key, "")) for key in _KEYS)
    source, configured = _source("GOPROXY", environ, gathering, settings)
    for entry in re.split(r"[,|]", proxies):
        if entry.strip() == "direct":
            gathering.note("GOPROXY falls back to `direct`: source hosts are in the preset dev, not here")
        elif entry.strip() != "off":
            gathering.add(entry, source=source, configured=configured)
    source, configured = _source("GOSUMDB", environ, gathering, settings)
    name, _, url = database.partition(" ")
    if url or name not in {"", "off"}:
        gathering.add(url or f"https://{name.partition('+')[0]}/", source=source, configured=configured)
    return (gathering.found(),)


def _source(key: str, environ: Mapping[str, str], gathering: Gathering, settings: str) -> tuple[str, bool]:
    """Tell who set a variable: the environment, go's own settings file, or nobody."""
    from pathlib import Path

    if environ.get(key):
        return key, True
    if settings.startswith("/") and re.search(rf"^{key}=.", gathering.read(Path(settings)), re.MULTILINE):
        return settings, True
    return f"go's default {key}", False
