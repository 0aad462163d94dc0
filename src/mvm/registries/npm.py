"""npm, and the tools that read its configuration: registries of packages and of scopes.

Owns the reading of npmrc files in npm's documented order (npmrc(5), config(7): environment, user,
global, built in, default) and of yarn's one line. Must never know a default by itself: it stands in
the installed tool's own definitions. A project's `.npmrc` is told, never granted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mvm.registries.ask import NoAnswer, ask, find_tool, home, read_file
from mvm.registries.gather import Gathering

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mvm.policy.presets import Discovery

_DEFINITIONS = (
    "node_modules/@npmcli/config/lib/definitions/definitions.js",  # npm 9 and later
    "../@npmcli/config/lib/definitions/definitions.js",  # as distributions unbundle it
    "lib/utils/config/definitions.js",  # npm 7 and 8
)
_DEFAULT = re.compile(r"""['"]registry['"],[^{}]{0,40}\{\s*default:\s*['"](https?://[^'"]+)['"]""")
_YARN_DEFAULT = re.compile(r"""\bYARN_REGISTRY\s*=\s*['"](https?://[^'"]+)['"]""")
_VARIABLE = re.compile(r"(?<!\\)(\\*)\$\{([^${}?]+)(\?)?\}")
_YARNRC = re.compile(r"""^\s*(?:registry\s+|npmRegistryServer:\s*)["']?(https?://[^"'\s]+)""", re.MULTILINE)


def discover(environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:
    """Find what npm, yarn and pnpm are configured to use.

    Args:
        environ: the caller's environment.
        cwd: the working directory, absolute; the project's files are looked for from it upwards.

    Returns:
        Three discoveries: `npm`, `yarn`, `pnpm`.
    """
    return (_npm(environ, cwd, "npm"), _yarn(environ, cwd), _npm(environ, cwd, "pnpm"))


def _npm(environ: Mapping[str, str], cwd: Path, name: str) -> Discovery:
    gathering = Gathering(name)
    if find_tool(name, environ) is None:
        return gathering.absent(f"{name}: not on PATH")
    npm = find_tool("npm", environ)
    if not _add_npmrc(gathering, environ, cwd, npm):
        _add_default(gathering, environ, npm)
    return gathering.found()


def _yarn(environ: Mapping[str, str], cwd: Path) -> Discovery:
    gathering = Gathering("yarn")
    tool = find_tool("yarn", environ)
    if tool is None:
        return gathering.absent("yarn: not on PATH")
    configured = _add_npmrc(gathering, environ, cwd, find_tool("npm", environ))
    for variable in ("YARN_REGISTRY", "YARN_NPM_REGISTRY_SERVER"):
        if environ.get(variable):
            configured = True
            gathering.add(environ[variable], source=variable)
    for name in (".yarnrc", ".yarnrc.yml"):
        path = home(environ) / name
        for url in _YARNRC.findall(gathering.read(path)):
            configured = True
            gathering.add(url, source=str(path))
        if cwd != home(environ):
            for url in _YARNRC.findall(gathering.read(cwd / name)):
                gathering.withhold(url, source=str(cwd / name))
    if not configured:
        _add_yarn_default(gathering, tool)
    return gathering.found()


def _add_yarn_default(gathering: Gathering, tool: Path) -> None:
    found = None
    for script in (tool.resolve(), tool.resolve().parent.parent / "lib" / "cli.js"):
        found = found or _search(script, _YARN_DEFAULT, limit=8 << 20)
    if found is None:
        gathering.note("yarn's default registry was not found in its files")
    else:
        gathering.add(found, source="yarn's default", configured=False)


def _add_npmrc(gathering: Gathering, environ: Mapping[str, str], cwd: Path, npm: Path | None) -> bool:
    """Add what environment and npmrc files name; tell whether the unscoped registry was among it."""
    variables = {
        re.sub(r"(?<!^)_", "-", key[len("npm_config_") :]).lower(): (value, key)
        for key, value in environ.items()
        if key.lower().startswith("npm_config_") and value
    }
    user = cwd / variables["userconfig"][0] if "userconfig" in variables else home(environ) / ".npmrc"
    lowest = _npmrc(gathering, npm.resolve().parent.parent / "npmrc", environ) if npm else {}
    own = _npmrc(gathering, user, environ)
    if gathering.tool == "pnpm":
        config = Path(environ.get("XDG_CONFIG_HOME") or home(environ) / ".config")
        own = _npmrc(gathering, config / "pnpm" / "rc", environ) | own
    top = _global_file(environ, lowest | own | variables)  # built in and user files may move it
    merged = lowest | (_npmrc(gathering, top, environ) if top else {}) | own | variables
    for key, (url, source) in merged.items():
        if _names_registry(key):
            gathering.add(url, source=source)
    if "proxy" in merged or "https-proxy" in merged:
        gathering.note(
            f"{gathering.tool} is configured with a proxy; a sandbox reaches its registry without one"
        )
    project = _project_file(cwd)
    if project != user:
        for key, (url, source) in _npmrc(gathering, project, environ).items():
            if _names_registry(key):
                gathering.withhold(url, source=source)
    return "registry" in merged


def _names_registry(key: str) -> bool:
    return key == "registry" or (key.startswith("@") and key.endswith(":registry"))


def _global_file(environ: Mapping[str, str], settings: Mapping[str, tuple[str, str]]) -> Path | None:
    """Give the global npmrc: named outright, or under the prefix, which is node's own unless said."""
    if "globalconfig" in settings:
        return Path(settings["globalconfig"][0])
    node = find_tool("node", environ)
    prefix = settings["prefix"][0] if "prefix" in settings else environ.get("PREFIX", "")
    if prefix:
        return Path(prefix, "etc", "npmrc")
    return node.resolve().parent.parent / "etc" / "npmrc" if node else None


def _project_file(cwd: Path) -> Path:
    """Give the project's npmrc: beside the nearest package.json or node_modules (folders(7))."""
    for folder in (cwd, *cwd.parents):
        if (folder / "package.json").exists() or (folder / "node_modules").exists():
            return folder / ".npmrc"
    return cwd / ".npmrc"


def _npmrc(gathering: Gathering, path: Path, environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Read one npmrc: `key = value`, comments, `${VARIABLE}`; other sections and lists name no registry."""
    settings = {}
    for line in gathering.read(path).splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or line.lstrip()[:1] in {";", "#", "["}:
            continue
        value = value.strip().strip("\"'")
        settings[_expand(key.strip(), environ)] = (_expand(value, environ), str(path))
    return settings


def _expand(text: str, environ: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        slashes, name, optional = found.groups()
        if len(slashes) % 2:
            return found[0][(len(slashes) + 1) // 2 :]
        return slashes[len(slashes) // 2 :] + environ.get(name, "" if optional else f"${{{name}}}")

    return _VARIABLE.sub(value, text)


def _add_default(gathering: Gathering, environ: Mapping[str, str], npm: Path | None) -> None:
    if npm is None:
        gathering.note(f"without npm, the default registry of {gathering.tool} is not known")
        return
    found = None
    for candidate in _candidates(npm):
        found = found or _search(candidate, _DEFAULT)
    try:  # a version manager's stand-in has no definitions beside it; npm itself is slow but always right
        found = found or ask([str(npm), "config", "get", "registry"], environ).strip()
    except NoAnswer as error:
        gathering.note(f"npm {error}")
        return
    gathering.add(found, source="npm's default registry", configured=False)


def _candidates(npm: Path) -> Iterator[Path]:
    package = npm.resolve().parent.parent
    yield from (package / name for name in _DEFINITIONS)


def _search(path: Path, pattern: re.Pattern[str], *, limit: int = 1 << 20) -> str | None:
    try:
        found = pattern.search(read_file(path, limit=limit) or "")
    except NoAnswer:
        return None
    return found[1] if found else None
