"""`mvmctl completion`: the script by which a shell completes our words."""

from __future__ import annotations

import click

from mvm.cli.printing import out
from mvm.cli.verbs import HELP, examples


@click.command(
    "completion",
    context_settings=HELP,
    epilog=examples(
        'eval "$(mvmctl completion bash)"',
        "mvmctl completion fish > ~/.config/fish/completions/mvmctl.fish",
    ),
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def command(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from mvm.cli.conduct import COMPLETE
    from mvm.cli.verbs import program

    made = get_completion_class(shell)
    assert made is not None, "each of the choices has one"
    out(made(program(), {}, "mvmctl", COMPLETE).source())
