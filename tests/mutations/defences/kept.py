"""Defences of what is kept: the chain of a log, its seal, receipts, keys, and the directory they are in.

Owns their part of the table; none needs a sandbox but the writing of a receipt. Must never take out what
says when something is recorded.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_CHAIN = "audit/chain.py"
_KEYS = "audit/keys.py"
_RECEIPT = "audit/receipt.py"
_STATE = "audit/state.py"

_CHAINED = "tests/audit/test_chain.py::"
_KEPT = "tests/audit/test_keys.py::"
_RECEIPTS = "tests/audit/test_receipt.py::"
_STATES = "tests/audit/test_state.py::"

KEPT: dict[str, Defence] = {
    "a log belongs to its run": Defence(
        (Edit(_CHAIN, 'if run is not None and record["run"] != run:', "if False:"),),
        (f"{_CHAINED}test_a_log_of_another_run_is_detected",),
    ),
    "a line says which it is": Defence(
        (Edit(_CHAIN, 'if record["seq"] != seq:', "if False:"),),
        (f"{_CHAINED}test_a_line_that_says_another_number_is_bad",),
    ),
    "a line has one spelling": Defence(
        (Edit(_CHAIN, 'if encode(checked) + b"\\n" != line:', "if False:"),),
        (f"{_CHAINED}test_lines_are_canonical",),
    ),
    "a seal is by this machine's key": Defence(
        (Edit(_CHAIN, ' or record.get("key") != key.identity:', ":"),),
        (f"{_CHAINED}test_a_log_sealed_anew_is_detected",),
    ),
    "nothing follows a seal": Defence(
        (
            Edit(
                _CHAIN,
                "            if sealed:\n                msg",
                "            if False:\n                msg",
            ),
        ),
        (f"{_CHAINED}test_nothing_may_follow_the_seal",),
    ),
    "a seal is the one that was kept": Defence(
        (Edit(_CHAIN, "if sealed and seal is not None and seal != last:", "if False:"),),
        (f"{_CHAINED}test_a_seal_kept_from_elsewhere_is_detected",),
    ),
    "a log that was sealed is not cut": Defence(
        (Edit(_CHAIN, "    if seal is None:\n", "    if True:\n"),),
        (f"{_CHAINED}test_every_cut_is_detected",),
    ),
    "a receipt is signed": Defence(
        (Edit(_RECEIPT, "if not key.verify(pae(PAYLOAD_TYPE, payload), signature):", "if False:"),),
        (f"{_RECEIPTS}test_another_key_is_refused",),
    ),
    "a receipt has one spelling": Defence(
        (Edit(_RECEIPT, 'if encode(envelope) + b"\\n" != data:', "if False:"),),
        (f"{_RECEIPTS}test_every_removal_doubling_swap_and_cut_is_refused",),
    ),
    "a receipt is of its run": Defence(
        (Edit(_RECEIPT, 'key, run=str(predicate["run"]))', "key)"),),
        (f"{_RECEIPTS}test_a_receipt_and_its_log_belong_together",),
    ),
    "a receipt names the end of its log": Defence(
        (Edit(_RECEIPT, 'if (head, verdict.records) != (stated["head"], stated["records"]):', "if False:"),),
        (f"{_RECEIPTS}test_a_log_sealed_anew_with_the_same_key_is_refused",),
    ),
    "a receipt names all of its log": Defence(
        (Edit(_RECEIPT, "if whole.hexdigest() != receipt.log_digest:", "if False:"),),
        (f"{_RECEIPTS}test_a_log_sealed_once_more_is_refused",),
    ),
    "a receipt takes no file's place": Defence(
        (
            Edit(
                "supervisor/receipt.py",
                "place_file(self.directory, self.name, content, mode=_MODE)",
                "place_file(self.directory, self.name, content, mode=_MODE, replace=True)",
            ),
        ),
        ("tests/cli/test_receipt.py::test_a_workload_cannot_take_the_place_of_its_receipt",),
    ),
    "directories above the record are private": Defence(
        (
            Edit(
                _STATE,
                "            os.mkdir(path, 0o700)\n        except FileExistsError:",
                "            os.mkdir(path, 0o777)\n        except FileExistsError:",
            ),
        ),
        (f"{_STATES}test_directories_are_made_private",),
    ),
    "directories of the record are private": Defence(
        (Edit(_STATE, "os.mkdir(path, 0o700, dir_fd=below)", "os.mkdir(path, 0o777, dir_fd=below)"),),
        (f"{_STATES}test_directories_are_made_private",),
    ),
    "a log is private": Defence(
        (
            Edit(
                "audit/log.py",
                "os.open(state.LOG_FILE, _CREATE | os.O_APPEND, 0o600, dir_fd=own)",
                "os.open(state.LOG_FILE, _CREATE | os.O_APPEND, 0o666, dir_fd=own)",
            ),
        ),
        ("tests/audit/test_log.py::test_the_files_are_ones_own",),
    ),
    "keys and seals are private": Defence(
        (Edit(_STATE, "mode: int = 0o600", "mode: int = 0o666"),),
        ("tests/audit/test_log.py::test_the_files_are_ones_own",),
    ),
    "the record is in nobody else's directory": Defence(
        (Edit(_STATE, "if found.st_uid != os.geteuid():", "if False:"),),
        (f"{_STATES}test_directories_of_others_are_refused",),
    ),
    "the record is where nobody else can write": Defence(
        (Edit(_STATE, "if found.st_mode & _OTHERS_MAY_WRITE:", "if False:"),),
        (f"{_STATES}test_directories_that_others_can_write_are_refused",),
    ),
    "no link leads the record elsewhere": Defence(
        (
            Edit(
                _STATE,
                "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
                "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
            ),
        ),
        (f"{_STATES}test_links_and_files_are_refused",),
    ),
    "a key that others can reach is none": Defence(
        (Edit(_KEYS, "if private and (os.fstat", "if False and (os.fstat"),),
        (f"{_KEPT}test_a_key_that_others_can_reach_is_refused",),
    ),
    "no link stands for a key": Defence(
        (Edit(_KEYS, "_READ = os.O_RDONLY | os.O_NOFOLLOW", "_READ = os.O_RDONLY"),),
        (f"{_KEPT}test_links_are_refused",),
    ),
}
