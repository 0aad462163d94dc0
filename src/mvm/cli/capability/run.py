"""`mvmctl capability run`: a command that reaches what a tool stands for, and nothing else.

Owns the two words in front. All else is `mvmctl run`, of whose options it has those that open nothing: what a
tool reaches stands in the file alone, not in a policy file of the directory either.
"""

from __future__ import annotations

import click

from mvm.cli import run
from mvm.cli.verbs import HELP, examples

_KEPT = {
    "name", "image", "flake", "backend", "port", "volume", "workspace", "workdir", "env", "memory", "cpus",
    "pids", "timeout", "ttl", "on_denied", "profile", "as_json", "dry_run", "capture",
}  # fmt: skip
"""Options of `run` that open nothing outward; one that comes to be is left out until it is named here."""


class _ToolFirst(click.Command):
    """FILE and TOOL come first; options follow, and end at the first word of the command, as with `run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first: list[str] = []
        while len(first) < 2 and args and not args[0].startswith("-"):
            first.append(args.pop(0))
        left = super().parse_args(ctx, args)
        if len(first) < 2 and not ctx.resilient_parsing:
            ctx.fail("FILE and TOOL come first")
        absent = [option for option in run.command.params if isinstance(option, click.Option)]
        ctx.params |= {str(o.name): () if o.multiple else None for o in absent if o.name not in _KEPT}
        ctx.params |= {"network_preset": "none", "alone": True}
        ctx.params |= dict(zip(("capabilities", "capability"), first, strict=False))
        return left


command = _ToolFirst(
    "run",
    callback=run.command.callback,
    params=[
        *(option for option in run.command.params if option.name in _KEPT),
        click.Argument(["argv"], nargs=-1, metavar="FILE TOOL [OPTIONS] [--] CMD..."),
    ],
    help="""Run one command in a fresh sandbox that reaches what FILE fixes for TOOL, and nothing else.

    It is `mvmctl run --capability TOOL --capabilities FILE` without a word that could open more: no preset,
    no grant, no policy file, no other resolver. The decision is recorded before the command starts; a TOOL
    that FILE does not have is recorded too, and the exit status is 77.
    """,
    context_settings={**HELP, "allow_interspersed_args": False},
    epilog=examples(
        "mvmctl capability run tools.json web_fetch -- curl https://api.example.com/",
        "mvmctl capability run tools.json web_fetch --json --timeout 30s -- ./fetch page",
    ),
    options_metavar="",
)
