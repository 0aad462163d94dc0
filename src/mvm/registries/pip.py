"""pip: the index, extra indexes and link pages that it is configured with, and the host of its files.

Owns the reading of pip's configuration, in its documented order (pip documentation, "Configuration":
global, user, site, PIP_CONFIG_FILE, then PIP_* variables, each over the last). Must never know a
default by itself: the default index and the host of its files are constants of the installed pip,
asked of the Python that runs it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mvm.registries.ask import NoAnswer, ask, find_tool, home, read_file
from mvm.registries.gather import Gathering

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mvm.policy.presets import Discovery

_QUESTION = """\
import sys
from pip._internal.models.index import PyPI
print(sys.prefix, PyPI.simple_url, PyPI.file_storage_domain, sep="\\n")
"""
_TRUE = frozenset({"1", "t", "true", "y", "yes", "on"})
_KEYS = ("index-url", "extra-index-url", "find-links", "no-index", "proxy")


class PipAnswer(NamedTuple):
    """What the installed pip said of itself."""

    prefix: Path
    simple: str
    files: str


class _Setting(NamedTuple):
    value: str
    source: str


def ask_pip(environ: Mapping[str, str]) -> PipAnswer:
    """Ask the installed pip for its default index and the host of that index's files.

    Args:
        environ: the caller's environment.

    Returns:
        The prefix of the Python that runs it, the URL of its default index, and that index's file host.

    Raises:
        NoAnswer: no Python on PATH has pip.
    """
    for python in _pythons(environ):
        try:  # isolated: neither PYTHONPATH nor the working directory can put another `pip` in front
            prefix, simple, files = ask([str(python), "-I", "-c", _QUESTION], environ).splitlines()
        except (NoAnswer, ValueError):  # ValueError: not three lines
            continue
        return PipAnswer(Path(prefix), simple, files)
    message = "no Python on PATH has it"
    raise NoAnswer(message)


def _pythons(environ: Mapping[str, str]) -> Iterator[Path]:
    """Give the interpreters that may run pip: the one its script names, then those on PATH."""
    script = find_tool("pip", environ) or find_tool("pip3", environ)
    if script is not None:
        try:
            first = (read_file(script) or "").partition("\n")[0]
        except NoAnswer:
            first = ""
        named = Path(first.removeprefix("#!").strip())
        if first.startswith("#!/") and named.name.startswith("python") and os.access(named, os.X_OK):
            yield named
    for name in ("python3", "python"):
        python = find_tool(name, environ)
        if python is not None:
            yield python


def discover(environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:
    """Find what pip is configured to use.

    Args:
        environ: the caller's environment.
        cwd: the working directory, absolute; only a relative PIP_CONFIG_FILE is read from it.

    Returns:
        One discovery, of `pip`.
    """
    gathering = Gathering("pip")
    try:
        answer = ask_pip(environ)
    except NoAnswer as error:
        return (gathering.absent(f"pip: {error}"),)
    settings = _settings(gathering, environ, cwd, answer.prefix)
    if any("proxy" in keys for keys in settings.values()):
        gathering.note("pip is configured with a proxy; a sandbox reaches its index without one")
    default = "index-url" not in settings["global"]
    for keys in settings.values():
        if keys.get("no-index", _Setting("", "")).value.lower() not in _TRUE:
            for key in ("index-url", "extra-index-url"):
                _add(gathering, keys.get(key))
        _add(gathering, keys.get("find-links"))
    if default and settings["global"].get("no-index", _Setting("", "")).value.lower() not in _TRUE:
        gathering.add(answer.simple, source="pip's default index", configured=False)
        gathering.add(f"https://{answer.files}/", source="file host of pip's default index", configured=False)
    return (gathering.found(),)


def _add(gathering: Gathering, setting: _Setting | None) -> None:
    for url in setting.value.split() if setting else ():
        gathering.add(url, source=setting.source if setting else "")


def _settings(
    gathering: Gathering, environ: Mapping[str, str], cwd: Path, prefix: Path
) -> dict[str, dict[str, _Setting]]:
    """Give the settings that concern hosts, per section; a later file's word replaces an earlier one's."""
    settings: dict[str, dict[str, _Setting]] = {"global": {}}
    for path in _files(environ, cwd, prefix):
        for section, key, value in _options(gathering, path):
            name = key.lower().replace("_", "-").removeprefix("--")
            if name in _KEYS:
                settings.setdefault(section, {})[name] = _Setting(value, f"{path} [{section}]")
    for key in _KEYS:
        variable = "PIP_" + key.upper().replace("-", "_")
        if environ.get(variable):
            for keys in settings.values():  # a variable is over every section
                keys.pop(key, None)
            settings["global"][key] = _Setting(environ[variable], variable)
    return settings


def _files(environ: Mapping[str, str], cwd: Path, prefix: Path) -> list[Path]:
    """Give the documented places, weakest first."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:  # documented: read no file at all
        return []
    folders = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    system = [Path(folder, "pip", "pip.conf") for folder in folders.split(os.pathsep) if folder]
    config = Path(environ.get("XDG_CONFIG_HOME") or home(environ) / ".config")
    user = [home(environ) / ".pip" / "pip.conf", config / "pip" / "pip.conf"]
    explicit = [cwd / Path(named).expanduser()] if named else []
    if explicit and explicit[0].exists():
        user = []  # pip leaves the user's own file out then
    return [*system, Path("/etc/pip.conf"), *user, prefix / "pip.conf", *explicit]


def _options(gathering: Gathering, path: Path) -> Iterator[tuple[str, str, str]]:
    from configparser import Error, RawConfigParser

    parser = RawConfigParser()
    try:
        parser.read_string(gathering.read(path))
    except Error:
        gathering.note(f"{path} is malformed and was passed over")
        return
    for section in parser.sections():
        for key, value in parser.items(section):
            yield section, key, value
