"""The record of what was refused before anything started: a run of its own, whose outcome is `refused`.

Owns that log. It has no `run.started` and no name, since nothing started: the name that was asked for may be
that of a sandbox that runs, and goes on meaning that one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from mvm.audit.keys import signing_key
from mvm.audit.log import Log
from mvm.audit.record import Kind
from mvm.audit.run_id import make_run_id
from mvm.audit.state import state_directory
from mvm.supervisor.result import EXIT_DENIED
from mvm.terms import Cause, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def record_refusal(decided: Sequence[Mapping[str, object]], environ: Mapping[str, str]) -> str:
    """Record a decision that let nothing start.

    Args:
        decided: the fields of each `grant.decided`.
        environ: the caller's environment, for the state directory.

    Returns:
        The id of the run that has the record, sealed.

    Raises:
        AuditError: it can't be recorded.
    """
    state = state_directory(environ)
    run = make_run_id(time.time_ns() // 1_000_000, os.urandom(10))
    with Log.create(state, run) as log:
        for fields in decided:
            log.append(Kind.GRANT_DECIDED, **fields)
        log.append(
            Kind.RUN_ENDED, outcome=Outcome.REFUSED, cause=Cause.POLICY, exit_code=EXIT_DENIED, duration_s=0
        )
        log.seal(signing_key(state))
    return run
