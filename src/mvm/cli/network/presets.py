"""`mvmctl network presets`: what each preset opens on this machine, and where each host came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.policy_options import PRESETS, discover_registries
from mvm.cli.printing import out, print_json, print_table, printable, styled
from mvm.cli.verbs import HELP, examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.policy.model import Grant
    from mvm.policy.presets import Discovery
    from mvm.terms import Preset


@click.command(
    "presets",
    context_settings=HELP,
    epilog=examples("mvmctl network presets registries", "mvmctl network presets dev --json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print the expansions as JSON.")
@click.argument("name", required=False, type=click.Choice(PRESETS), metavar="[NAME]")
def command(name: str | None, *, as_json: bool) -> None:
    """Show what each preset opens on this machine, and where each host came from.

    `registries` is no list: it is what pip, uv, npm, apt, cargo, go, gem and maven are configured to use
    here, asked of the tools themselves, so that a private mirror works untouched. What a project's own
    files name on top is told, never granted.
    """
    from mvm.terms import Preset

    presets = [Preset(name)] if name is not None else list(Preset)
    needs_tools = {Preset.REGISTRIES, Preset.DEV} & set(presets)
    discovered = discover_registries() if needs_tools else ()
    if as_json:
        shown = [_to_json(preset, discovered) for preset in presets]
        tools = [_tool_to_json(discovery) for discovery in discovered]
        print_json({"schema": "mvm.presets/1", "presets": shown, "tools": tools})
        return
    for number, preset in enumerate(presets):
        if number:
            out()
        _print(preset, discovered, alone=name is not None)
    if discovered:
        _print_tools(discovered)


def _to_json(preset: Preset, discovered: Sequence[Discovery]) -> dict[str, object]:
    from mvm.policy.parse import grant_to_json
    from mvm.policy.presets import PRESET_WARNINGS, expand
    from mvm.terms import Preset

    return {
        "name": str(preset),
        "unrestricted": preset is Preset.UNRESTRICTED,
        "warning": PRESET_WARNINGS.get(preset),
        "grants": [{**grant_to_json(grant), "source": grant.source} for grant in expand(preset, discovered)],
    }


def _tool_to_json(discovery: Discovery) -> dict[str, object]:
    return {
        "tool": discovery.tool,
        "present": discovery.present,
        "note": discovery.note,
        "hosts": [
            {
                "host": _place(str(found.host), found.port),
                "source": found.source,
                "configured": found.configured,
            }
            for found in discovery.hosts
        ],
        "withheld": [_place(str(found.host), found.port) for found in discovery.withheld],
    }


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _print(preset: Preset, discovered: Sequence[Discovery], *, alone: bool) -> None:
    from mvm.policy.presets import PRESET_WARNINGS, expand
    from mvm.terms import Preset

    out(styled(str(preset), "bold"))
    if warning := PRESET_WARNINGS.get(preset):
        out(f"  {warning}" if alone else f"  {warning.partition('; ')[0].partition('. ')[0].rstrip('.')}.")
    grants = expand(preset, discovered)
    if not grants:
        nothing = "every public host, on every port" if preset is Preset.UNRESTRICTED else "nothing"
        out(f"  {nothing}")
    print_table(("  GRANT", "FOR", "FROM"), [_cells(grant) for grant in grants])


def _cells(grant: Grant) -> tuple[str, str, str]:
    from mvm.policy.parse import format_grant

    spelled = format_grant(grant).partition(",reason=")[0]
    return f"  {spelled}", grant.reason or "-", grant.source.partition(": ")[2] or grant.source


def _print_tools(discovered: Sequence[Discovery]) -> None:
    noted = [discovery for discovery in discovered if discovery.note]
    if noted:
        out()
    for discovery in noted:
        note = printable(discovery.note)
        out(f"{discovery.tool}: {note}" if discovery.present else note)
