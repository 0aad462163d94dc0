"""The file of a receipt, read for the verbs that show and verify it.

Owns what is said where there is no such file, or one too large to be a receipt.
"""

from __future__ import annotations

from mvm.audit.receipt import LONGEST
from mvm.errors import UsageError


def read_file(path: str) -> bytes:
    """Read a receipt's file; of one that is too large, no more than shows that it is.

    Raises:
        UsageError: it can't be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(2 * LONGEST)
    except OSError as error:
        msg = f"{path} can't be read: {(error.strerror or str(error)).lower()}"
        raise UsageError(msg, hint="name the file that --receipt wrote") from error
