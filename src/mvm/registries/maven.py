"""maven: the mirrors and repositories of its settings, and the repository every project inherits.

Owns the reading of settings.xml (Maven, "Settings Reference", "Guide to Mirror Settings") and of
the super-POM in the installed Maven. Must never start Maven (a Java machine takes longer than all
other tools together), and never know a default by itself. Repositories of a project's pom.xml are
the project's own and not read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from mvm.registries.ask import find_tool, home
from mvm.registries.gather import Gathering

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from xml.etree.ElementTree import Element

    from mvm.policy.presets import Discovery

_SUPER_POM = "org/apache/maven/model/pom-4.0.0.xml"
_LARGEST = 1 << 18
_VARIABLE = re.compile(r"\$\{env\.([^}]+)\}")
_REPOSITORIES = ("repositories/repository", "pluginRepositories/pluginRepository")


class _Repository(NamedTuple):
    name: str
    url: str
    source: str
    configured: bool = True


class _Mirror(NamedTuple):
    of: str
    url: str
    blocked: bool
    source: str


def discover(environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:  # noqa: ARG001  (one shape for all tools)
    """Find what Maven is configured to use.

    Args:
        environ: the caller's environment. Java takes the home from the user database; HOME is used
            here, as for every other tool, and is the same but for unusual set-ups.
        cwd: not used.

    Returns:
        One discovery, of `mvn`.
    """
    gathering = Gathering("mvn")
    tool = find_tool("mvn", environ)
    if tool is None:
        return (gathering.absent("mvn: not on PATH"),)
    installed = tool.resolve().parent.parent
    mirrors: list[_Mirror] = []
    repositories: list[_Repository] = []
    for path in (
        home(environ) / ".m2" / "settings.xml",
        installed / "conf" / "settings.xml",
    ):  # the user's first
        root = _parse(gathering, gathering.read(path), str(path))
        if root is not None:
            mirrors += _mirrors(root, environ, str(path))
            repositories += _repositories(root, environ, str(path), "profiles/profile/")
            if any(_text(proxy, "active") != "false" for proxy in root.iterfind("{*}proxies/{*}proxy")):
                gathering.note(
                    "mvn is configured with a proxy; a sandbox reaches its repositories without one"
                )
    repositories += _inherited(
        gathering, environ, installed, {repository.name for repository in repositories}
    )
    for repository in repositories:
        mirror = next((mirror for mirror in mirrors if _covers(mirror.of, repository)), None)
        if mirror is None:
            gathering.add(repository.url, source=repository.source, configured=repository.configured)
        elif not mirror.blocked:
            gathering.add(mirror.url, source=mirror.source)
    return (gathering.found(),)


def _inherited(
    gathering: Gathering, environ: Mapping[str, str], installed: Path, overridden: set[str]
) -> list[_Repository]:
    """Give the super-POM's repositories, but for those that a profile redefines by name."""
    import zipfile

    for jar in sorted((installed / "lib").glob("maven-model-builder*.jar")):
        try:
            with zipfile.ZipFile(jar) as archive, archive.open(_SUPER_POM) as file:
                text = file.read(_LARGEST).decode("utf-8", "replace")
        except (OSError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
            continue
        root = _parse(gathering, text, str(jar))
        if root is not None:
            own = _repositories(root, environ, "Maven's super-POM", "")
            return [each._replace(configured=False) for each in own if each.name not in overridden]
    gathering.note("Maven's own default repository was not found in its files")
    return []


def _parse(gathering: Gathering, text: str, source: str) -> Element | None:
    import xml.etree.ElementTree as ET

    if not text.strip():
        return None
    if "<!DOCTYPE" in text:  # entities can grow without bound, and no settings file needs them
        gathering.note(f"{source} has a document type and was passed over")
        return None
    try:
        return ET.fromstring(text)  # noqa: S314  (no document type, so no entities; and at most 1 MiB)
    except (ET.ParseError, ValueError):
        gathering.note(f"{source} is malformed and was passed over")
        return None


def _text(element: Element, name: str) -> str:
    return (element.findtext(f"{{*}}{name}") or "").strip()


def _url(element: Element, environ: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: environ.get(found[1], found[0]), _text(element, "url"))


def _mirrors(root: Element, environ: Mapping[str, str], source: str) -> Iterator[_Mirror]:
    for each in root.iterfind("{*}mirrors/{*}mirror"):
        yield _Mirror(_text(each, "mirrorOf"), _url(each, environ), _text(each, "blocked") == "true", source)


def _repositories(root: Element, environ: Mapping[str, str], source: str, prefix: str) -> list[_Repository]:
    paths = ("/".join(f"{{*}}{part}" for part in f"{prefix}{path}".split("/")) for path in _REPOSITORIES)
    return [
        _Repository(_text(each, "id"), _url(each, environ), source)
        for path in paths
        for each in root.iterfind(path)
    ]


def _covers(pattern: str, repository: _Repository) -> bool:
    """Tell whether a mirror stands in for a repository (`mirrorOf`: names, `*`, `external:`, `!name`)."""
    words = [word.strip() for word in pattern.split(",")]
    if f"!{repository.name}" in words:
        return False
    url = repository.url.lower()
    outside = "://" in url and not url.startswith(("file:", "http://localhost", "http://127.0.0.1"))
    return (
        repository.name in words
        or "*" in words
        or ("external:*" in words and outside)
        or ("external:http:*" in words and outside and url.startswith("http:"))
    )
