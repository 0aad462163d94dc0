"""`mvmctl network freeze`: a policy file with its preset written out as explicit grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.printing import out
from mvm.cli.verbs import HELP, examples
from mvm.errors import Finding, PolicyRefused, UsageError

if TYPE_CHECKING:
    from mvm.policy.model import Policy
    from mvm.terms import Preset


@click.command(
    "freeze",
    context_settings=HELP,
    epilog=examples(
        "mvmctl network freeze mvm.toml",
        "mvmctl network freeze mvm.toml --output frozen.toml",
        "mvmctl network freeze --in-place mvm.toml",
    ),
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=click.Path(),
    help="Write to a new file, whole or not at all, and print nothing; one that is there stays as it is.",
)
@click.option(
    "-i", "--in-place", is_flag=True, help="Put the frozen policy in FILE's place; comments are lost."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write JSON, not TOML; also where the output's name ends in .json.",
)
@click.argument("path", metavar="FILE", type=click.Path())
def command(path: str, *, output: str | None, in_place: bool, as_json: bool) -> None:
    """Write a policy file out with its preset as explicit grants, as this machine has it now.

    What comes out opens the same hosts, has the same digest, and no longer depends on the machine: review
    it, take out what is not needed, and commit it. In TOML a comment behind each grant tells where it came
    from. `unrestricted` names no hosts, so it can't be frozen: `network suggest` can say what was used.
    """
    from mvm.cli.policy_options import discover_registries, read_document
    from mvm.policy.document import read_policy
    from mvm.policy.resolve import Asked, resolve

    if output is not None and in_place:
        raise UsageError("--output and --in-place are two places", hint="leave one of them out")
    document = read_document(path)
    preset = read_policy(document.text, path=path).preset
    policy = resolve(Asked(document=document), discover_registries).policy
    if policy.unrestricted:
        raise PolicyRefused([_unfreezable(path)])
    target = path if in_place else output
    is_json = as_json or (target or "").endswith(".json")
    text = _as_json(policy) if is_json else _as_toml(policy, preset)
    if target is None:
        out(text.removesuffix("\n"))
        return
    from mvm.cli.placing import place_text

    place_text(target, text, replace=in_place)


def _as_toml(policy: Policy, preset: Preset) -> str:
    from mvm.policy.document import policy_digest
    from mvm.policy.write import to_toml
    from mvm.terms import Preset

    was = "" if preset is Preset.NONE else f"# The preset `{preset}` as it was on one machine, written out.\n"
    return f"{was}# policy {policy_digest(policy)}\n{to_toml(policy)}"


def _as_json(policy: Policy) -> str:
    import json

    from mvm.policy.document import policy_to_json

    return json.dumps(policy_to_json(policy), ensure_ascii=False, indent=2) + "\n"


def _unfreezable(path: str) -> Finding:
    return Finding(
        code="preset-not-freezable",
        path=".network.preset",
        message="the preset `unrestricted` names no hosts that could be written out",
        hint="run it once, then let `mvmctl network suggest` name the hosts that it needs",
        source=path,
    )
