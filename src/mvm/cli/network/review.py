"""`mvmctl network review`: the six questions before egress is allowed, for every grant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.printing import out, print_json, printable
from mvm.cli.verbs import HELP, examples
from mvm.errors import PolicyRefused

if TYPE_CHECKING:
    from mvm.policy.resolve import Document
    from mvm.policy.review import Review

_EXAMPLE = (
    "mvmctl network review mvm.toml",
    "mvmctl network review --format markdown tools.json > review.md",
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
@click.argument("path", metavar="FILE", type=click.Path())
def command(path: str, *, shape: str, as_json: bool) -> int:
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
    if is_json:
        print_json(made.to_json())
    else:
        write = review.as_markdown if shape == "markdown" else review.as_text
        for line in write(made).splitlines():
            out(printable(line))
    return PolicyRefused.exit_code if count_errors(made.findings) else 0


def _reviewed(document: Document) -> Review:
    if document.path.endswith(".py"):
        from mvm.compile.judge import review_program

        return review_program(document.text, document.path)
    from mvm.policy.review import review_text

    return review_text(document.text, document.path)
