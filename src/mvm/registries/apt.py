"""apt: the archives in its source lists.

Owns the reading of one-line and deb822 source lists (sources.list(5)), at the places that
`apt-config` gives. Must never guess a place or an archive.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mvm.registries.ask import NoAnswer, ask, find_tool
from mvm.registries.gather import Gathering

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mvm.policy.presets import Discovery

_QUESTION = (
    *("LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"),
    *("PROXY", "Acquire::http::Proxy", "SPROXY", "Acquire::https::Proxy"),
    *("DETECT", "Acquire::http::Proxy-Auto-Detect", "SDETECT", "Acquire::https::Proxy-Auto-Detect"),
)
_PART = re.compile(r"[A-Za-z0-9_.-]+\.(list|sources)\Z")
_ONE_LINE = re.compile(r"^\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)")
_FIELD = re.compile(r"^([A-Za-z][A-Za-z-]*)\s*:(.*)")
_LISTED_MIRRORS = 200


def discover(environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:  # noqa: ARG001  (one shape for all tools)
    """Find the archives that apt fetches from.

    Args:
        environ: the caller's environment; APT_CONFIG is apt's own affair.
        cwd: not used; apt reads nothing of it.

    Returns:
        One discovery, of `apt`.
    """
    import shlex

    gathering = Gathering("apt")
    tool = find_tool("apt-config", environ)
    if tool is None:
        return (gathering.absent("apt: apt-config is not on PATH"),)
    try:
        words = shlex.split(ask([str(tool), "shell", *_QUESTION], environ))
    except (NoAnswer, ValueError) as error:
        return (gathering.absent(f"apt: apt-config {error}"),)
    answers = dict(word.split("=", 1) for word in words if "=" in word)
    if answers.keys() & {"PROXY", "SPROXY", "DETECT", "SDETECT"}:
        gathering.note("apt is configured with a proxy; a sandbox reaches its archives without one")
    for path in _files(gathering, answers):
        text = gathering.read(path)
        for uri in _stanzas(text) if path.suffix == ".sources" else _lines(text):
            _add(gathering, uri, str(path))
    return (gathering.found(),)


def _files(gathering: Gathering, answers: Mapping[str, str]) -> Iterator[Path]:
    if answers.get("LIST", "").startswith("/"):
        yield Path(answers["LIST"])
    parts = answers.get("PARTS", "")
    try:
        names = sorted(path.name for path in Path(parts).iterdir()) if parts.startswith("/") else []
    except FileNotFoundError:
        return
    except OSError as error:
        gathering.note(f"{parts} cannot be read ({error.strerror})")
        return
    yield from (Path(parts, name) for name in names if _PART.match(name))


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        found = _ONE_LINE.match(line)
        if found:
            yield found[1]


def _stanzas(text: str) -> Iterator[str]:
    """Give the URIs of a deb822 file's enabled stanzas."""
    fields: dict[str, str] = {}
    name = ""
    for line in (*text.splitlines(), ""):
        if line.startswith("#"):
            continue
        found = _FIELD.match(line)
        if found:
            name = found[1].lower()
            fields[name] = found[2].strip()
        elif line.strip() and name:
            fields[name] += f" {line.strip()}"
        elif not line.strip():
            if fields.get("enabled", "yes").lower() not in {"no", "false", "without", "off", "disable", "0"}:
                yield from fields.get("uris", "").split()
            fields, name = {}, ""


def _add(gathering: Gathering, uri: str, source: str) -> None:
    """Add one archive: `mirror` schemes name a list of archives (apt-transport-mirror(1))."""
    scheme, colon, rest = uri.partition(":")
    method, plus, inner = scheme.lower().rpartition("+")
    if inner == "mirror" or method == "mirror":
        inner = inner if plus else "http"
        if inner != "file":
            gathering.add(f"{inner}:{rest}", source=source)
            gathering.note(
                f"{source} names a list of mirrors on another host; the mirrors in it have to be granted"
            )
            return
        listed = Path("/" + rest.lstrip("/"))
        for line in gathering.read(listed).splitlines()[:_LISTED_MIRRORS]:
            if line.strip() and not line.startswith("#"):
                gathering.add(line.split()[0], source=str(listed))
        return
    if not colon or scheme in {"file", "copy", "cdrom"}:
        return
    gathering.add(uri, source=source)
