"""`mvmctl network explain`: whether a host would be reached, by which grant, and if not what to change."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mvm.cli import names
from mvm.cli.policy_options import PolicyWords, policy_options, resolve_policy
from mvm.cli.printing import out, print_json, printable, styled
from mvm.cli.verbs import HELP, examples
from mvm.errors import PolicyDenied, UsageError

if TYPE_CHECKING:
    from typing import Unpack

    from mvm.policy.explain import Explanation
    from mvm.policy.model import Grant, Policy


@click.command(
    "explain",
    context_settings=HELP,
    epilog=examples(
        "mvmctl network explain api.example.com:443",
        "mvmctl network explain --name agent-sandbox github.com:22",
        "mvmctl network explain --network-preset dev 10.0.0.5:5432",
    ),
)
@click.option(
    "--name", metavar="NAME", help="Ask of a running sandbox's policy.", shell_complete=names.running
)
@policy_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@click.argument("place", metavar="HOST:PORT[/udp]")
def command(place: str, *, name: str | None, as_json: bool, **words: Unpack[PolicyWords]) -> int:
    """Say whether a sandbox would reach a host, by which grant, and if not why and what to change.

    Asked is the policy that `mvmctl run` would have with the same options, here (mvm.toml too), or that
    of a running sandbox. Nothing is resolved or connected to. Exits 0 if it is allowed, 77 if denied.
    """
    from mvm.policy.explain import explain
    from mvm.policy.parse import parse_grant

    asked = parse_grant(place, source="HOST:PORT")
    policy = _policy(name, words)
    answer = explain(policy, asked.host, asked.port, asked.protocol)
    if as_json:
        print_json(_to_json(asked, answer))
    else:
        _print(asked, answer, name)
    return 0 if answer.grant is not None else PolicyDenied.exit_code


def _policy(name: str | None, words: PolicyWords) -> Policy:
    if name is None:
        return resolve_policy(words)[0].policy
    if any(words.values()):
        raise UsageError(
            "--name asks of a running sandbox, and the other options of another policy",
            hint="leave --name out, or the others",
        )
    from mvm.supervisor.client import Client

    with Client(name, os.environ) as client:
        return client.policy()[0]


def _to_json(asked: Grant, answer: Explanation) -> dict[str, object]:
    from mvm.policy.parse import grant_to_json

    grant = answer.grant
    return {
        "schema": "mvm.explanation/1",
        "host": str(asked.host),
        "port": asked.port,
        "protocol": str(asked.protocol),
        "verdict": "denied" if grant is None else "allowed",
        "grant": None if grant is None else {**grant_to_json(grant), "source": grant.source},
        "reason": None if answer.reason is None else str(answer.reason),
        "remedy": None if answer.remedy is None else answer.remedy.to_json(),
    }


def _print(asked: Grant, answer: Explanation, name: str | None) -> None:
    from mvm.policy.parse import format_grant

    place = format_grant(asked).partition(",")[0]
    if answer.grant is not None:
        out(styled(f"allowed: {place}", "green"))
        out(f"  by {printable(format_grant(answer.grant))}")
        out(f"  from {printable(answer.grant.source)}")
        return
    out(styled(f"denied: {place} [{answer.reason}]", "red"))
    if answer.remedy is not None:
        out(f"  {printable(answer.remedy.text)}")
        if answer.remedy.flag is not None:
            from mvm.supervisor.notices import how_to_allow

            out(f"  {how_to_allow(answer.remedy.flag, name)}")
