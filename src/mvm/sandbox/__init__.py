r"""The Python API: a sandbox as a context manager, commands in it, and its policy while it runs.

    with mvm.Sandbox(network=mvm.network(mode="none")) as box:
        result = box.run(["python3", "-c", "print(6 * 7)"])
        assert (result.returncode, result.stdout) == (0, b"42\n")

Owns the names users write. The gateway lives in a helper process that the first sandbox starts and all
sandboxes of this process share: the caller's threads never hold up a byte, and if the caller dies,
everything in its sandboxes does.
"""

from __future__ import annotations

from mvm.errors import (
    AuditError,
    BackendUnavailable,
    CommandFailed,
    MvmError,
    PolicyDenied,
    PolicyRefused,
    SandboxTimeout,
    TransportError,
)
from mvm.sandbox.asynchronous import AsyncSandbox
from mvm.sandbox.process import Popen
from mvm.sandbox.result import Result
from mvm.sandbox.sandbox import Sandbox

__all__ = [
    "AsyncSandbox",
    "AuditError",
    "BackendUnavailable",
    "CommandFailed",
    "MvmError",
    "PolicyDenied",
    "PolicyRefused",
    "Popen",
    "Result",
    "Sandbox",
    "SandboxTimeout",
    "TransportError",
]
