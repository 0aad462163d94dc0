"""The command line `mvmctl`: words in, calls to the supervisor and the policy, text or JSON out.

Owns spelling and exit statuses. Decides nothing: what a policy means, what a sandbox is and what was
denied is asked of the layers below. One module a verb, imported when the verb is called, so that
`mvmctl --help` and `mvmctl run -- true` pay for nothing else.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Be `mvmctl`: obey this process's command line and exit with the status that SPEC section 2 gives it."""
    from mvm.cli.conduct import conduct

    sys.exit(conduct(sys.argv[1:]))
