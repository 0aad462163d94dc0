"""`mvmctl network diff`: what one policy allows that another does not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import click

from mvm.cli.printing import out, print_json, printable, styled
from mvm.cli.verbs import HELP, examples
from mvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mvm.policy.diff import Excess
    from mvm.policy.model import Policy
    from mvm.policy.presets import Discovery

EXIT_DIFFERENT = 1
"""As diff(1) has it."""


class Side(NamedTuple):
    """One of the two.

    Attributes:
        asked: as it was typed.
        policy: what it means.
    """

    asked: str
    policy: Policy


@click.command(
    "diff",
    context_settings=HELP,
    epilog=examples(
        "mvmctl network diff old.toml mvm.toml",
        "mvmctl network diff mvm.toml agent-sandbox",
        "mvmctl network diff --json old.toml agent-sandbox",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
@click.argument("a", metavar="A", type=click.Path())
@click.argument("b", metavar="B", type=click.Path())
def command(a: str, b: str, *, as_json: bool) -> int:
    """Say what policy A allows that B does not (-), and what B allows that A does not (+).

    A and B are policy files (presets as this machine has them), or the names of running sandboxes; a file
    that is there comes before a sandbox of the same name. Compared is what they mean: the order, spelling
    and reasons of grants are no difference. Exits 0 where both allow the same, 1 where they differ, 65 where
    one is refused.
    """
    from mvm.policy.diff import excess

    discover = _once()
    sides = Side(a, _read(a, discover)), Side(b, _read(b, discover))
    only_a, only_b = excess(sides[0].policy, sides[1].policy), excess(sides[1].policy, sides[0].policy)
    if as_json:
        print_json(_to_json(sides, only_a, only_b))
    else:
        _print(only_a, "-", "red")
        _print(only_b, "+", "green")
    return EXIT_DIFFERENT if only_a or only_b else 0


def _once() -> Callable[[], Sequence[Discovery]]:
    """Ask the package tools when first needed, and never twice: both sides mean the same machine."""
    from functools import cache

    from mvm.cli.policy_options import discover_registries

    return cache(discover_registries)


def _read(asked: str, discover: Callable[[], Sequence[Discovery]]) -> Policy:
    if not os.path.exists(asked) or os.path.isdir(asked):
        return _of_sandbox(asked)
    from mvm.cli.policy_options import read_document
    from mvm.policy.resolve import Asked, resolve

    return resolve(Asked(document=read_document(asked)), discover).policy


def _of_sandbox(name: str) -> Policy:
    from mvm.supervisor import registry
    from mvm.supervisor.client import Client

    if "/" in name or name not in registry.names(os.environ):
        raise UsageError(
            f"there is no policy file and no running sandbox {name!r}",
            hint="mvmctl ls lists the sandboxes that run",
        )
    with Client(name, os.environ) as client:
        return client.policy()[0]


def _to_json(
    sides: tuple[Side, Side], only_a: Sequence[Excess], only_b: Sequence[Excess]
) -> dict[str, object]:
    from mvm.policy.document import policy_digest

    a, b = ({"policy": side.asked, "digest": policy_digest(side.policy)} for side in sides)
    return {
        "schema": "mvm.diff/1",
        "same": not (only_a or only_b),
        "a": {**a, "allows_beyond": [one.to_json() for one in only_a]},
        "b": {**b, "allows_beyond": [one.to_json() for one in only_b]},
    }


def _print(more: Sequence[Excess], sign: str, colour: str) -> None:
    from mvm.policy.diff import as_text

    for line in as_text(more, sign).splitlines():
        out(styled(printable(line), colour))
