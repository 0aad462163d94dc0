"""The command line `mvmctl`: words in, calls to the supervisor and the policy, text or JSON out.

Owns spelling and exit statuses. Decides nothing: what a policy means, what a sandbox is and what was
denied is asked of the layers below. One module a verb, imported when the verb is called, so that
`mvmctl --help` and `mvmctl run -- true` pay for nothing else.
"""

from __future__ import annotations

import gc
import os
import sys

_ALLOCATIONS_BETWEEN_COLLECTIONS = 100_000


def main() -> None:
    """Be `mvmctl`: obey this process's command line and exit with the status that SPEC section 2 gives it.

    A fifth of the time of `mvmctl run -- true` went into looking for garbage among modules that were just
    imported, and into taking them apart again at the end; so neither is done. What must be undone has been
    by then: `conduct` has flushed what was printed, and a run closes what it opened.
    """
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS)
    if None in {sys.stdin, sys.stdout, sys.stderr}:
        _open_streams()
    try:
        from mvm.cli.conduct import conduct
    except KeyboardInterrupt:
        os._exit(130)  # as `conduct` has it, which is not there yet
    os._exit(conduct(sys.argv[1:]))


def _open_streams() -> None:
    """Put nothing where the caller closed a stream, before another file gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # It gets the lowest free number, which need not be this one: a stream may be there and unusable.
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            opened = open(number, "r" if number == 0 else "w", closefd=False)  # noqa: SIM115  to the very end
            setattr(sys, name, opened)
