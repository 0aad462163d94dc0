"""`mvmctl network review`: the six questions before egress is allowed, for every grant."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from mvm.cli.printing import out, print_json, printable
from mvm.cli.verbs import HELP, examples
from mvm.errors import PolicyRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mvm.errors import Finding
    from mvm.policy.model import Grant
    from mvm.policy.resolve import Document
    from mvm.policy.review import Review

_EXAMPLE = (
    "mvmctl network review mvm.toml",
    "mvmctl network review --format markdown tools.json > review.md",
    "mvmctl network review --image dir:./tree mvm.toml",
    "",
    "A grant that answers all of them:",
    "  [network]",
    '  mode = "bridge"',
    '  dns = "system"',
    "  allow = [",
    '      {host = "api.example.com", port = 443, reason = "asks the model",',
    '       sends = "user-data", downloads = "none"},',
    "  ]",
)


@click.command("review", context_settings=HELP, epilog=examples(*_EXAMPLE))
@click.option(
    "--format",
    "shape",
    type=click.Choice(("text", "markdown", "json")),
    default="text",
    show_default=True,
    help="How the answers are printed; markdown is for a pull request.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--image", metavar="REF", help="Tell also what this image asks to reach and FILE does not grant."
)
@click.option("--flake", metavar="REF", help="The same of a flake, which is built.")
@click.argument("path", metavar="FILE", type=click.Path())
def command(path: str, *, image: str | None, flake: str | None, shape: str, as_json: bool) -> int:
    """Answer six questions for every grant of a policy or capability file, or of a file that declares.

    Which exact host and port? Why does the workload need it? Is DNS needed? May it receive secrets or user
    data? Are logs and receipts free of payload data? What happens to downloaded files?

    Answers come from the file and are never guessed. Exits 65 while one is missing, while a preset stands
    for hosts that the file does not name, and where the file is refused.
    """
    from mvm.cli.policy_options import read_document
    from mvm.policy import review
    from mvm.policy.report import count_errors

    document = read_document(path)
    is_json = as_json or shape == "json"
    try:
        made = _reviewed(document)
    except PolicyRefused as refusal:
        if not is_json:
            raise
        made = review.Review(path=path, grants=(), findings=refusal.findings)
    else:
        asked = _asked(image, flake, (one.grant for one in made.grants))
        made = replace(made, findings=(*made.findings, *asked))
    if is_json:
        print_json(made.to_json())
    else:
        write = review.as_markdown if shape == "markdown" else review.as_text
        for line in write(made).splitlines():
            out(printable(line))
    return PolicyRefused.exit_code if count_errors(made.findings) else 0


def _asked(image: str | None, flake: str | None, grants: Iterable[Grant]) -> tuple[Finding, ...]:
    if image is None and flake is None:
        return ()
    if image is not None and flake is not None:
        raise UsageError("--image and --flake both name an image", hint="leave one of them out")
    import os

    from mvm.cli.policy_options import working_directory
    from mvm.cli.progress import told
    from mvm.supervisor.prepare import asked_by_image

    return asked_by_image(image or "host", flake, grants, os.environ, working_directory(), told=told)


def _reviewed(document: Document) -> Review:
    if document.path.endswith(".py"):
        from mvm.compile.judge import review_program

        return review_program(document.text, document.path)
    from mvm.policy.review import review_text

    return review_text(document.text, document.path)
