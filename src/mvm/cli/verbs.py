"""The table of verbs, and the group that imports a verb's module when the verb is called.

Owns each verb's place and its one line in the help of the group; the module's `command` says the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from click.shell_completion import CompletionItem


class Verb(NamedTuple):
    """One command.

    Attributes:
        module: where its `command` is.
        line: what it does, for the list of the group it is in.
    """

    module: str
    line: str


class Family(NamedTuple):
    """A group of commands.

    Attributes:
        line: what they have in common, for the list of the group it is in.
        text: the same at more length, for its own help.
        verbs: its members, in the order in which they are listed.
        example: one line that somebody may type.
    """

    line: str
    text: str
    verbs: Mapping[str, Verb | Family]
    example: str


NETWORK = Family(
    "What may be reached: presets, checks, and the live policy of a sandbox.",
    "Ask what a policy means, and see or change what a running sandbox may reach.",
    {
        "presets": Verb("mvm.cli.network.presets", "Show what each preset opens on this machine, and why."),
        "check": Verb("mvm.cli.network.check", "Validate policy files."),
        "explain": Verb(
            "mvm.cli.network.explain", "Say whether a host would be reached, and by which grant."
        ),
        "review": Verb("mvm.cli.network.review", "Answer six questions for every grant of a file."),
        "suggest": Verb("mvm.cli.network.suggest", "Propose the smallest policy for what a run did."),
        "diff": Verb("mvm.cli.network.diff", "Say what one policy allows that another does not."),
        "freeze": Verb("mvm.cli.network.freeze", "Write a preset out as explicit grants."),
        "show": Verb("mvm.cli.network.show", "Show what a running sandbox may reach."),
        "allow": Verb("mvm.cli.network.allow", "Grant a running sandbox more."),
        "revoke": Verb("mvm.cli.network.revoke", "Take grants from a running sandbox."),
        "watch": Verb("mvm.cli.network.watch", "Show what a running sandbox is denied, as it happens."),
    },
    "mvmctl network explain api.example.com:443",
)

AUDIT = Family(
    "The record of runs.",
    "Read the record of runs, and prove that nobody has changed it.",
    {
        "show": Verb("mvm.cli.audit.show", "Show the record of a run."),
        "tail": Verb("mvm.cli.audit.tail", "Show the end of a run's record, and follow it."),
        "verify": Verb("mvm.cli.audit.verify", "Check the chain and the seal of records."),
        "export": Verb("mvm.cli.audit.export", "Print records for other programs: JSON lines, or OCSF."),
    },
    "mvmctl audit verify --all",
)

RECEIPT = Family(
    "The signed receipt of one run.",
    "Show and verify the receipt that `run --receipt FILE` wrote; offline, with the public key only.",
    {
        "show": Verb("mvm.cli.receipt.show", "Show what a receipt says."),
        "verify": Verb(
            "mvm.cli.receipt.verify", "Check that a receipt is genuine, and that a log is its log."
        ),
    },
    "mvmctl receipt verify run.receipt.json --key verify.pem",
)

CAPABILITY = Family(
    "Tools with fixed grants: no model chooses a destination.",
    "Check, list and use files in which each tool has its fixed grants.",
    {
        "check": Verb("mvm.cli.capability.check", "Validate capability files."),
        "list": Verb("mvm.cli.capability.list", "List the tools of a file, and where each leads."),
        "run": Verb("mvm.cli.capability.run", "Run a command that reaches what a tool stands for."),
    },
    "mvmctl capability run tools.json web_fetch -- curl https://api.example.com/",
)

IMAGE = Family(
    "The cache of images.",
    "See and clear the cache of what sandboxes are made of: archives and OCI images, unpacked once.",
    {
        "ls": Verb("mvm.cli.image.ls", "List the images in the cache."),
        "inspect": Verb("mvm.cli.image.inspect", "Show one image."),
        "rm": Verb("mvm.cli.image.rm", "Remove images."),
        "prune": Verb("mvm.cli.image.prune", "Remove what no sandbox uses."),
    },
    "mvmctl image ls",
)

VERBS: Mapping[str, Verb | Family] = {
    "run": Verb("mvm.cli.run", "Run one command in a fresh sandbox."),
    "up": Verb("mvm.cli.up", "Start a named sandbox."),
    "exec": Verb("mvm.cli.exec", "Run another command in a running sandbox."),
    "ls": Verb("mvm.cli.ls", "List sandboxes."),
    "logs": Verb("mvm.cli.logs", "Show the console output of a sandbox."),
    "down": Verb("mvm.cli.down", "Stop sandboxes."),
    "network": NETWORK,
    "capability": CAPABILITY,
    "image": IMAGE,
    "audit": AUDIT,
    "receipt": RECEIPT,
    "compile": Verb("mvm.cli.compile", "Print what a Python file declares, without importing it."),
    "claims": Verb("mvm.cli.claims", "Say what is claimed, and the evidence for it."),
    "doctor": Verb("mvm.cli.doctor", "Say what this machine can enforce, and how to get what is missing."),
    "completion": Verb("mvm.cli.completion", "Print the completion script of a shell."),
}

PROGRAM = Family(
    "",
    "Run code that you do not trust, and let it reach exactly the hosts that you named.",
    VERBS,
    "mvmctl run --network-allow api.example.com:443 -- curl https://api.example.com/",
)

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Context settings of every command."""


class LazyGroup(click.Group):
    """A family of verbs, of which only the one that is called gets imported.

    Args:
        name: what is typed.
        family: the table.
    """

    def __init__(self, name: str, family: Family) -> None:
        super().__init__(name, help=family.text, epilog=examples(family.example), context_settings=dict(HELP))
        self._family = family

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Name the verbs in the table's order."""
        return list(self._family.verbs)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import a verb; None where there is none of that name."""
        verb = self._family.verbs.get(name)
        if verb is None:
            return None
        if isinstance(verb, Family):
            return LazyGroup(name, verb)
        from importlib import import_module

        command = import_module(verb.module).command
        assert isinstance(command, click.Command), "every verb's module has a command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb that was typed.

        Raises:
            click.UsageError: there is none of that name; the nearest one is told.
        """
        if args and not args[0].startswith("-") and args[0] not in self._family.verbs:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self._family.verbs, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"There is no command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.line) for name, verb in self._family.verbs.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a verb from the table."""
        from click.shell_completion import CompletionItem

        verbs = self._family.verbs.items()
        found = [CompletionItem(name, help=verb.line) for name, verb in verbs if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def examples(*lines: str) -> str:
    """Write the examples that end a help text, each line as it would be typed."""
    title = "Example" if len(lines) == 1 else "Examples"
    return "\n".join(["\b", f"{title}:", *(f"  {line}" for line in lines)])


def program() -> LazyGroup:
    """Make the whole command line."""
    group = LazyGroup("mvmctl", PROGRAM)
    group.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Say the version.",
        )
    )
    return group


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  click's call
    if wanted and not ctx.resilient_parsing:
        from mvm import __version__

        click.echo(f"mvmctl {__version__}")
        ctx.exit()
