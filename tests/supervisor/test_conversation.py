"""What a caller says on the control socket and should not have: answered, and the sandbox goes on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from mvm.supervisor.frames import Inbox, encode

if TYPE_CHECKING:
    from mvm.supervisor.frames import Message
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_EXEC: Message = {"do": "exec", "argv": ["true"]}


def test_what_no_caller_means_is_answered_and_ends_nothing(mvmctl: Mvmctl) -> None:
    """Numbers that init or a timer could not take, and shapes that nobody asks in; then a command runs."""
    asked: tuple[Message, ...] = (
        {**_EXEC, "terminal": []},
        {**_EXEC, "terminal": [1, 2, 3]},
        {**_EXEC, "terminal": [1 << 16, 80]},
        {**_EXEC, "terminal": [-1, 80]},
        {**_EXEC, "terminal": [float("inf"), 80]},
        {"do": "signal", "number": 1, "signal": 105},
        {"do": "signal", "number": 1, "signal": -15},
        {"do": "signal", "number": 1, "signal": 1 << 40},
        {"do": "signal", "number": 1 << 40, "signal": 15},
        {"do": "stop", "grace": float("nan")},
        {"do": "stop", "grace": float("inf")},
    )
    running = mvmctl.start("up", "--name", "spoken-to", "--", "sh", "-c", "echo ready; cat")
    running.until("ready\n")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(mvmctl.runtime / "spoken-to" / "control"))
        inbox = Inbox(sock)
        for message in asked:
            sock.sendall(encode(message))
            answers = inbox.read()
            assert answers, message
            assert str(answers[0]["error"]).startswith("not understood"), message
    assert mvmctl("exec", "spoken-to", "--", "echo", "on").expect(0).stdout == "on\n"
    running.finish().expect(0)
