"""cargo: the registry it replaces the default by, the other registries, and the default.

Owns the reading of cargo's configuration (The Cargo Book, "Configuration", "Source Replacement",
"Registries": CARGO_REGISTRIES_*_INDEX over $CARGO_HOME/config.toml). Must never know a default by
itself: it stands in the installed cargo; the host of the files is in cargo's copy of an index's
`config.json`, there once that index was used. A project's `.cargo/config.toml` is told, never granted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mvm.registries.ask import NoAnswer, ask, find_tool, home, search_program
from mvm.registries.gather import Gathering

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mvm.policy.presets import Discovery

_DEFAULT = re.compile(rb"sparse\+(https://[a-z0-9.-]+)/")
_GIT_DEFAULT = re.compile(rb"(https://[a-z0-9.-]+)/[a-z-]+/[a-z.]+-index\b")
_DEFAULT_NAME = "crates-io"
_VARIABLE = re.compile(r"CARGO_REGISTRIES_[A-Z0-9_]+_INDEX\Z")


def discover(environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:
    """Find what cargo is configured to use.

    Args:
        environ: the caller's environment.
        cwd: the working directory, absolute; the project's files are looked for from it upwards.

    Returns:
        One discovery, of `cargo`.
    """
    gathering = Gathering("cargo")
    tool = find_tool("cargo", environ)
    if tool is None:
        return (gathering.absent("cargo: not on PATH"),)
    top = Path(environ.get("CARGO_HOME") or home(environ) / ".cargo")
    urls, replaced = _configured(gathering, top)
    for url, source in (*urls, *_variables(environ)):
        gathering.add(_plain(url), source=source)
    for folder in (cwd, *cwd.parents):
        if folder / ".cargo" != top:
            for url, source in _configured(gathering, folder / ".cargo")[0]:
                gathering.withhold(_plain(url), source=source)
    if not replaced:
        _add_default(gathering, environ, tool)
    _add_file_hosts(gathering, top)
    return (gathering.found(),)


def _configured(gathering: Gathering, folder: Path) -> tuple[list[tuple[str, str]], bool]:
    """Give the URLs that a configuration folder names, and whether it replaces the default registry."""
    import tomllib

    path = folder / "config" if (folder / "config").is_file() else folder / "config.toml"
    try:
        table = tomllib.loads(gathering.read(path))
    except (tomllib.TOMLDecodeError, RecursionError):
        gathering.note(f"{path} is malformed and was passed over")
        return [], False
    if "proxy" in _table(table, "http"):
        gathering.note("cargo is configured with a proxy; a sandbox reaches its registry without one")
    sources, registries = _table(table, "source"), _table(table, "registries")
    urls = [_table(sources, name).get("registry") for name in sources]
    urls += [_table(registries, name).get("index") for name in registries]
    replaced = "replace-with" in _table(sources, _DEFAULT_NAME)
    return [(url, str(path)) for url in urls if isinstance(url, str)], replaced


def _table(table: Mapping[str, object], key: str) -> dict[str, object]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if _VARIABLE.match(name):
            yield value, name


def _plain(url: str) -> str:
    return url.removeprefix("sparse+").removeprefix("registry+")


def _add_default(gathering: Gathering, environ: Mapping[str, str], tool: Path) -> None:
    """Look for the default index in the program: cargo has no command that tells it."""
    program = tool.resolve()
    if program.name.startswith("rustup"):  # its stand-in: the real one belongs to a tool chain
        try:
            program = Path(ask([str(program.with_name("rustup")), "which", "cargo"], environ).strip())
        except NoAnswer as error:
            gathering.note(f"rustup {error}, so cargo's default registry is not known")
            return
    try:
        found = search_program(program, _DEFAULT) or search_program(program, _GIT_DEFAULT)
    except NoAnswer as error:
        gathering.note(str(error))
        return
    if found is None:
        gathering.note("cargo's default registry was not found in its program")
        return
    gathering.add(f"{found.decode('ascii')}/", source="cargo's default registry", configured=False)


def _add_file_hosts(gathering: Gathering, top: Path) -> None:
    """Add the hosts that the used indexes say their files are on (`dl` of an index's config.json)."""
    import json

    copies = list((top / "registry" / "index").glob("*/config.json"))
    for found in gathering.found().hosts:
        mine = [path for path in copies if path.parent.name.startswith(f"{found.host}-")]
        for path in mine:
            try:
                config = json.loads(gathering.read(path) or "{}")
            except (ValueError, RecursionError):
                gathering.note(f"{path} is malformed and was passed over")
                continue
            place = config.get("dl") if isinstance(config, dict) else None
            if isinstance(place, str):
                gathering.add(place.partition("{")[0], source=str(path), configured=found.configured)
        if not mine:
            gathering.note(f"the host of {found.host}'s files is not known before cargo has used it once")
