"""gem: the sources of RubyGems, and the host of the default source's index.

Owns the asking of the installed ruby (gem help environment; `Gem.sources`, `Gem.default_sources`).
Must never know a default by itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mvm.registries.ask import NoAnswer, ask, find_tool
from mvm.registries.gather import Gathering

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mvm.policy.presets import Discovery

_QUESTION = """\
puts Gem.method(:sources).source_location[0]
puts "configured", Gem.sources.to_a, "default", Gem.default_sources.to_a
"""
_INDEX = re.compile(r'uri\.host == "([^"]+)"\s+index_uri = uri\.dup\s+index_uri\.host = "([^"]+)"')


def discover(environ: Mapping[str, str], cwd: Path) -> tuple[Discovery, ...]:  # noqa: ARG001  (one shape for all tools)
    """Find what gem is configured to use.

    Args:
        environ: the caller's environment.
        cwd: not used; ruby is asked from the root directory.

    Returns:
        One discovery, of `gem`.
    """
    gathering = Gathering("gem")
    tool, ruby = find_tool("gem", environ), find_tool("ruby", environ)
    if tool is None or ruby is None:
        return (gathering.absent("gem: gem or ruby is not on PATH"),)
    try:
        lines = ask([str(ruby), "-rrubygems", "-e", _QUESTION], environ).splitlines()
        start, middle = lines.index("configured"), lines.index("default")
    except (NoAnswer, ValueError) as error:
        return (
            gathering.absent(
                f"gem: {error if isinstance(error, NoAnswer) else 'ruby gave no readable answer'}"
            ),
        )
    defaults = lines[middle + 1 :]
    for url in lines[start + 1 : middle]:
        own = url in defaults
        gathering.add(url, source="gem's default source" if own else "gem sources", configured=not own)
    _add_index(gathering, Path(lines[0]).with_suffix("") / "source.rb")
    return (gathering.found(),)


def _add_index(gathering: Gathering, program: Path) -> None:
    """Add the second host that RubyGems itself puts in place of the default one for the index."""
    found = _INDEX.search(gathering.read(program))
    if found and any(host.host == found[1] for host in gathering.found().hosts):
        gathering.add(f"https://{found[2]}/", source="index of gem's default source", configured=False)
