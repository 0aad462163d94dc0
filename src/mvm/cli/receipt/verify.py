"""`mvmctl receipt verify`: whether a receipt is genuine, with nothing but the public key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mvm.cli.printing import out, print_json, printable, styled
from mvm.cli.verbs import HELP, examples
from mvm.errors import UsageError

if TYPE_CHECKING:
    from mvm.audit.keys import PublicKey
    from mvm.audit.receipt import Receipt

EXIT_BAD = 65


@click.command(
    "verify",
    context_settings=HELP,
    epilog=examples(
        "mvmctl receipt verify run.receipt.json",
        "mvmctl receipt verify run.receipt.json --key verify.pem --log log.jsonl",
    ),
)
@click.option(
    "--key", metavar="FILE", help="The public key (PEM) to check with, not this machine's own verify.pem."
)
@click.option("--log", metavar="FILE", help="The log that it should be the receipt of; it is verified too.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.argument("file", metavar="FILE")
def command(file: str, *, key: str | None, log: str | None, as_json: bool) -> int:
    """Check that a receipt is exactly what was signed, and with --log that it is that log's.

    Needs the public key and nothing else: no network, no state. Exits 0, or 65 with what is wrong.
    """
    from mvm.audit.receipt import verify_receipt
    from mvm.cli.receipt.reading import read_file

    data, public = read_file(file), _key(key)
    receipt, wrong = None, ""
    try:
        receipt = verify_receipt(data, public)
        wrong = "" if log is None else _check(receipt, log, public)
    except ValueError as error:
        wrong = str(error)
    if as_json:
        print_json(_to_json(receipt, wrong, log=log))
    elif receipt is None or wrong:
        out(styled(f"{printable(file)}: BAD: {printable(wrong)}", "red"))
    else:
        with_log = "" if log is None else ", and so is its log"
        out(
            printable(
                f"{file}: verified, run {receipt.predicate['run']}, {receipt.predicate['outcome']}{with_log}"
            )
        )
    return EXIT_BAD if wrong else 0


def _key(path: str | None) -> PublicKey:
    from mvm.audit.keys import public_key, read_public_key
    from mvm.audit.state import state_directory

    found = public_key(state_directory(os.environ)) if path is None else read_public_key(path)
    if found is None:
        where = "of this machine" if path is None else path
        raise UsageError(
            f"there is no public key {where}",
            hint="--key FILE names it; it is keys/verify.pem of the state directory where the run was",
        )
    return found


def _check(receipt: Receipt, path: str, key: PublicKey) -> str:
    from mvm.audit.chain import LONGEST_LINE
    from mvm.audit.receipt import check_log

    try:
        with open(path, "rb") as log:
            return check_log(receipt, iter(lambda: log.readline(LONGEST_LINE + 1), b""), key)
    except OSError as error:
        msg = f"{path} can't be read: {(error.strerror or str(error)).lower()}"
        raise UsageError(msg, hint="it is runs/RUN/log.jsonl of the state directory") from error


def _to_json(receipt: Receipt | None, wrong: str, *, log: str | None) -> dict[str, object]:
    return {
        "schema": "mvm.receipt-verification/1",
        "ok": not wrong,
        "why": wrong,
        "log": log is not None,
        "statement": None if receipt is None else receipt.statement,
    }
