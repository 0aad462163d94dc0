"""`mvmctl receipt show`: what a receipt says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mvm.cli.printing import err, out, print_json, printable
from mvm.cli.verbs import HELP, examples

if TYPE_CHECKING:
    from mvm.audit.receipt import Receipt

EXIT_BAD = 65


@click.command(
    "show",
    context_settings=HELP,
    epilog=examples("mvmctl receipt show run.receipt.json", "mvmctl receipt show --json run.receipt.json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print the in-toto statement as JSON.")
@click.argument("file", metavar="FILE")
def command(file: str, *, as_json: bool) -> int:
    """Show what a receipt says, without asking whether it is genuine: `receipt verify` does.

    Exits 65 if the file is no receipt.
    """
    from mvm.audit.receipt import read_receipt
    from mvm.cli.receipt.reading import read_file

    try:
        receipt = read_receipt(read_file(file))
    except ValueError as wrong:
        err(f"mvmctl: {printable(file)}: no receipt: {printable(str(wrong))}")
        return EXIT_BAD
    if as_json:
        print_json(receipt.statement)
        return 0
    for line in describe(receipt):
        out(printable(line))
    return 0


def describe(receipt: Receipt) -> list[str]:
    """Say what a receipt says, for people."""
    said: dict[str, Any] = receipt.predicate
    counts, log = said["counts"], said["log"]
    ended = f"{said['outcome']}, status {said['exit_code']}"
    rows = [
        ("run", f"{said['run']} ({said['name']})"),
        ("ended", ended if said["cause"] is None else f"{ended}, cause {said['cause']}"),
        ("time", f"{said['started']} to {said['ended']}"),
        ("by", f"mvm {said['mvm']}, backend {said['backend']}"),
        ("isolation", said["isolation"]),
        ("image", " ".join(filter(None, [said["image"]["kind"], said["image"]["digest"]]))),
        ("policy", said["policy"]["digest"]),
        ("requested", _words(said["enforcement"]["requested"])),
        ("achieved", _words(said["enforcement"]["achieved"])),
        ("flows", f"{counts['flows']}, {counts['up']} bytes up, {counts['down']} bytes down"),
        ("failures", f"{counts['failures']} of the network"),
        ("denials", str(counts["denials"])),
        *(("", _denial(one)) for one in said["denials"]),
        ("log", f"sha256:{receipt.log_digest}"),
        ("head", f"{log['head']}, {log['records']} records"),
        ("key", receipt.key),
    ]
    if said["policy"]["at_start"] != said["policy"]["digest"]:
        rows.insert(7, ("", f"{said['policy']['at_start']} at the start"))
    return [f"{title:<10} {text}".rstrip() for title, text in rows]


def _words(words: list[object]) -> str:
    return ", ".join(map(str, words)) or "nothing"


def _denial(one: dict[str, Any]) -> str:
    host = one["host"] or one["address"] or "(unknown destination)"
    port = f":{one['port']}" if one["port"] else ""
    return f"{one['layer']} {host}{port} [{one['reason']}] {one['count']} times"
