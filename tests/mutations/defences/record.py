"""Defences of the record and of the policy: what is written before what, and what is checked anew.

Owns their part of the table. Must never take out what carries traffic.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_DECIDE = "policy/decide.py"
_DIAL = "gateway/dial.py"
_STANDING = "gateway/standing.py"
_DOOR = "gateway/door.py"

_DESTINATIONS = "tests/escape/test_destinations.py::"
_STANDS = "tests/gateway/test_standing.py::"
_DENIED = "tests/gateway/test_denied.py::"

RECORD: dict[str, Defence] = {
    "a flow is recorded before it is dialled": Defence(
        (
            Edit(
                _DIAL,
                "        if self._record(self._queue):\n            self._attempt()\n",
                "        queue = list(self._queue)\n        self._attempt()\n"
                "        if self._record(queue):\n            pass\n",
            ),
        ),
        (f"{_STANDS}test_where_nothing_can_be_recorded_nothing_opens",),
    ),
    "an edit is recorded before it takes effect": Defence(
        (
            Edit(
                _STANDING,
                "        try:\n            self._record(change, by)\n",
                "        self.authority.apply(change, monotonic())\n        self._steer()\n"
                "        try:\n            self._record(change, by)\n",
            ),
        ),
        (f"{_STANDS}test_an_edit_that_can_not_be_recorded_grants_nothing",),
    ),
    "an answer is recorded before it is given": Defence(
        (
            Edit(
                _STANDING,
                "if not self._book.answered(host, [str(address) for address in pair]):",
                "if False:",
            ),
        ),
        (f"{_DENIED}test_an_answer_is_recorded_before_it_is_given",),
    ),
    "a denial is recorded": Defence(
        (
            Edit(
                "gateway/listener.py",
                "            gateway.refusals.add(verdict)\n            reset(client)\n",
                "            reset(client)\n",
            ),
            Edit(_DOOR, '        batch.rule("no", first, report)\n', ""),
        ),
        (f"{_DESTINATIONS}test_an_address_instead_of_a_name_is_refused[93.184.215.11]",),
    ),
    "each record follows from the one before": Defence(
        (Edit("audit/chain.py", 'if record["prev"] != prev:', "if False:"),),
        ("tests/audit/test_chain.py::test_an_unsealed_log_detects_all_but_its_last_line",),
    ),
    "a seal is checked": Defence(
        (
            Edit(
                "audit/chain.py",
                "if not key.verify(_seal_message(unsigned), bytes.fromhex(str(signature))):",
                "if False:",
            ),
        ),
        ("tests/audit/test_chain.py::test_a_log_sealed_anew_is_detected",),
    ),
    "an expired grant opens nothing": Defence(
        (
            Edit(
                _DECIDE,
                "if self.expires is not None and now - self.since >= self.expires:",
                "if False:",
            ),
        ),
        ("tests/policy/test_decide.py::test_an_expiry_counts_from_when_the_grant_took_effect",),
    ),
    "a record that failed once is not tried again": Defence(
        (Edit("gateway/book.py", "            self.broken = error\n", ""),),
        (f"{_STANDS}test_where_nothing_can_be_recorded_nothing_opens[local-name]",),
    ),
    "without a record nothing is decided but no": Defence(
        (Edit(_STANDING, "        if self._book.broken is None:\n", "        if True:\n"),),
        (f"{_STANDS}test_where_nothing_can_be_recorded_nothing_opens[local-name]",),
    ),
}
