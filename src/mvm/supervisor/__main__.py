"""The helper process of the Python library: `python -m mvm.supervisor DESCRIPTOR`."""

from __future__ import annotations

import socket
import sys

from mvm.supervisor.daemon import serve

if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
