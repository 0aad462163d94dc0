"""The readers of package tools' configuration (`mvm.registries`), each with the text of a file.

Owns what must hold of what they find. No tool is asked and no file is read: every file is the one input.
`discover` would pass over what a reader raises; here it is a finding, since it costs the tool's hosts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mvm.policy.parse import parse_host
from mvm.registries import apt, cargo, maven, npm, pip, uv
from mvm.registries.gather import Gathering

if TYPE_CHECKING:
    from collections.abc import Callable

_NOWHERE = Path("/nonexistent")
_ENVIRON = {"HOME": "/nonexistent/home", "PATH": "/nonexistent/bin", "TOKEN": "s3cr3t"}


class _Given(Gathering):
    """What is known of one tool, all of whose files hold the same."""

    def __init__(self, tool: str, text: str) -> None:
        super().__init__(tool)
        self._text = text

    def read(self, path: Path) -> str:
        assert path.is_absolute()
        return self._text


def _apt(gathering: _Given, text: str) -> None:
    for uri in (*apt._stanzas(text), *apt._lines(text)):  # noqa: SLF001
        apt._add(gathering, uri, "sources")  # noqa: SLF001


def _cargo(gathering: _Given, _text: str) -> None:
    for url, source in cargo._configured(gathering, _NOWHERE)[0]:  # noqa: SLF001
        gathering.add(cargo._plain(url), source=source)  # noqa: SLF001


def _maven(gathering: _Given, text: str) -> None:
    root = maven._parse(gathering, text, "settings.xml")  # noqa: SLF001
    if root is None:
        return
    repositories = maven._repositories(root, _ENVIRON, "settings.xml", "profiles/profile/")  # noqa: SLF001
    for mirror in maven._mirrors(root, _ENVIRON, "settings.xml"):  # noqa: SLF001
        gathering.add(mirror.url, source=mirror.source)
        for repository in repositories:
            maven._covers(mirror.of, repository)  # noqa: SLF001
    for repository in repositories:
        gathering.add(repository.url, source=repository.source)


def _npm(gathering: _Given, _text: str) -> None:
    npm._add_npmrc(gathering, _ENVIRON, _NOWHERE, None)  # noqa: SLF001


def _pip(gathering: _Given, _text: str) -> None:
    for keys in pip._settings(gathering, _ENVIRON, _NOWHERE, _NOWHERE).values():  # noqa: SLF001
        for setting in keys.values():
            pip._add(gathering, setting)  # noqa: SLF001


def _uv(gathering: _Given, _text: str) -> None:
    for name in ("uv.toml", "pyproject.toml"):
        table = uv._table(gathering, _NOWHERE / name)  # noqa: SLF001
        for url in (*uv._defaults(table), *uv._extras(table)):  # noqa: SLF001
            gathering.withhold(uv._nameless(url), source=name)  # noqa: SLF001


_TOOLS: dict[str, Callable[[_Given, str], None]] = {
    "apt": _apt,
    "cargo": _cargo,
    "mvn": _maven,
    "npm": _npm,
    "pip": _pip,
    "uv": _uv,
}


def tool_files(data: bytes) -> object:
    """As a file of each tool: hosts that can be granted, and of anything else no more than a note."""
    text = data.decode("utf-8", "replace")
    said = []
    for name, read in _TOOLS.items():
        gathering = _Given(name, text)
        read(gathering, text)
        found = gathering.found()
        for each in (*found.hosts, *found.withheld):
            assert parse_host(str(each.host), path=name) == each.host
            assert 1 <= each.port <= 65535
            assert each.scheme in {"http", "https"}
        said.append(len(found.hosts))
    return said
