"""uv: the indexes and link pages that it is configured with, and its default index.

Owns the reading of uv's configuration (uv documentation, "Configuration files", "Environment
variables" and "Package indexes": UV_* over the user's uv.toml over the system's). Must never know a
default by itself: the index comes from uv's own help text, and the host of that index's files from
the installed pip. Files of the project (`uv.toml`, `[tool.uv]`) are told, never granted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mvm.registries.ask import NoAnswer, ask, find_tool, home
from mvm.registries.gather import Gathering
from mvm.registries.pip import ask_pip

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mvm.policy.presets import Discovery

_DEFAULT = re.compile(r"\(by\s+default:\s+<(https?://[^>\s]+)>\)")
_TRUE = frozenset({"1", "t", "true", "y", "yes", "on"})
_DEFAULT_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
_LIST_VARIABLES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


def discover(environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:
    """Find what uv is configured to use.

    Args:
        environ: the caller's environment.
        cwd: the working directory, absolute; the project's files are looked for from it upwards.

    Returns:
        One discovery, of `uv`.
    """
    gathering = Gathering("uv")
    tool = find_tool("uv", environ)
    if tool is None:
        return (gathering.absent("uv: not on PATH"),)
    try:
        text = ask([str(tool), "pip", "install", "--help"], environ)
    except NoAnswer as error:
        return (gathering.absent(f"uv: {error}"),)
    named = _add_variables(gathering, environ)
    without = environ.get("UV_NO_INDEX", "").lower() in _TRUE
    for path in _machine_files(environ, cwd):  # strongest first: one default index, all the others together
        table = _table(gathering, path)
        named = named or next(((url, str(path)) for url in _defaults(table)), None)
        without = without or table.get("no-index") is True
        for url in _extras(table):
            gathering.add(url, source=str(path))
    for path in _project_files(environ, cwd):
        table = _table(gathering, path)
        for url in (*_defaults(table), *_extras(table)):
            gathering.withhold(url, source=str(path))
    if named is not None:
        gathering.add(_nameless(named[0]), source=named[1])
    elif not without:
        _add_default(gathering, environ, text)
    return (gathering.found(),)


def _add_variables(gathering: Gathering, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Add the indexes and link pages of UV_* variables; give the default one, and its variable."""
    for variable in _LIST_VARIABLES:
        for word in environ.get(variable, "").replace(",", " ").split():
            gathering.add(_nameless(word), source=variable)
    return next(((environ[name], name) for name in _DEFAULT_VARIABLES if environ.get(name)), None)


def _add_default(gathering: Gathering, environ: Mapping[str, str], text: str) -> None:
    found = _DEFAULT.search(text)
    if found is None:
        gathering.note("uv does not say what its default index is")
        return
    gathering.add(found[1], source="uv's default index", configured=False)
    try:
        gathering.add(
            f"https://{ask_pip(environ).files}/", source="file host of that index", configured=False
        )
    except NoAnswer:
        gathering.note("without pip, the host that serves the files of uv's default index is not known")


def _nameless(word: str) -> str:
    """Drop the name of `name=URL`."""
    name, equals, url = word.partition("=")
    return url if equals and "/" not in name else word


def _machine_files(environ: Mapping[str, str], cwd: Path) -> list[Path]:
    if environ.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return []
    if environ.get("UV_CONFIG_FILE"):
        return [cwd / environ["UV_CONFIG_FILE"]]
    config = Path(environ.get("XDG_CONFIG_HOME") or home(environ) / ".config")
    folders = [*(environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"), "/etc"]
    system = [Path(folder, "uv", "uv.toml") for folder in folders if folder.startswith("/")]
    return [config / "uv" / "uv.toml", *(path for path in system if path.is_file())][:2]


def _project_files(environ: Mapping[str, str], cwd: Path) -> list[Path]:
    if environ.get("UV_NO_CONFIG", "").lower() in _TRUE or environ.get("UV_CONFIG_FILE"):
        return []
    for folder in (cwd, *cwd.parents):
        files = [folder / "uv.toml", folder / "pyproject.toml"]
        if any(path.is_file() for path in files):
            return files
    return []


def _table(gathering: Gathering, path: Path) -> dict[str, object]:
    """Give uv's settings from one file; in pyproject.toml they stand under `tool.uv`."""
    import tomllib

    try:
        whole: dict[str, object] = tomllib.loads(gathering.read(path))
    except (tomllib.TOMLDecodeError, RecursionError):
        gathering.note(f"{path} is malformed and was passed over")
        return {}
    return _sub(_sub(whole, "tool"), "uv") if path.name == "pyproject.toml" else whole


def _sub(table: dict[str, object], key: str) -> dict[str, object]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _indexes(table: dict[str, object]) -> list[dict[str, object]]:
    value = table.get("index")
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _defaults(table: dict[str, object]) -> Iterator[str]:
    """Give what a file puts in the place of the default index."""
    values = [entry.get("url") for entry in _indexes(table) if entry.get("default") is True]
    values += [part.get("index-url") for part in (table, _sub(table, "pip"))]
    yield from (value for value in values if isinstance(value, str))


def _extras(table: dict[str, object]) -> Iterator[str]:
    """Give a file's other indexes and its link pages, those of its `[pip]` part included."""
    values: list[object] = [entry.get("url") for entry in _indexes(table) if entry.get("default") is not True]
    for part in (table, _sub(table, "pip")):
        for key in ("extra-index-url", "find-links"):
            value = part.get(key)
            values.extend(value if isinstance(value, list) else ())
    yield from (value for value in values if isinstance(value, str))
