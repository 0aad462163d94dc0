"""The object that `--json` prints where nothing was started.

Owns the members that `mvm.result/1` has then: all that a started run has, and `error` and `findings`.
"""

from __future__ import annotations

from mvm.cli.conduct import show
from mvm.cli.printing import print_json
from mvm.errors import MvmError, PolicyDenied, PolicyRefused, TransportError
from mvm.policy.report import finding_to_json


def print_refused(error: MvmError) -> int:
    """Print a refusal as `mvm.result/1` on stdout, and for people on stderr.

    Returns:
        The exit status.
    """
    show(error)
    print_json(to_json(error))
    return error.exit_code


def to_json(error: MvmError) -> dict[str, object]:
    """Give a refusal as `mvm.result/1`."""
    causes = {PolicyRefused: "policy", PolicyDenied: "policy", TransportError: "transport"}
    cause = causes.get(type(error))
    findings = error.findings if isinstance(error, PolicyRefused) else ()
    return {
        "schema": "mvm.result/1",
        "run": error.run if isinstance(error, PolicyDenied) else None,
        "name": None,
        "backend": None,
        "isolation": None,
        "policy": None,
        "outcome": "refused",
        "cause": cause,
        "exit_code": error.exit_code,
        "duration_s": 0,
        "denials": [],
        "flows": [],
        "failures": [],
        "receipt": None,
        "error": {"message": error.message, "hint": error.hint},
        "findings": [finding_to_json(finding) for finding in findings],
    }
