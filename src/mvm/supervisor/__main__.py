"""The helper process of the Python library: `python -m mvm.supervisor DESCRIPTOR`.

Must never let the text of an unexpected exception out, as `cli.conduct`: its stderr is the library's user's.
"""

from __future__ import annotations

import os
import socket
import sys

from mvm.errors import describe_bug
from mvm.supervisor.daemon import serve

_EXIT_BUG = 70


def main() -> int:
    """Serve until the library lets go; returns the exit status."""
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except Exception as error:  # whatever it is, it is our bug, and is told as one
        if os.environ.get("MVM_DEBUG") == "1":
            raise
        sys.stderr.write(f"mvm: {describe_bug(error)}\n")
        return _EXIT_BUG
    return 0


if __name__ == "__main__":
    sys.exit(main())
