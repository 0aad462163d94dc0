"""A failure of the network or of a granted host, in words that are never those of a denial. Pure."""

from __future__ import annotations

import errno
from typing import NamedTuple

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "host unreachable",
    errno.EMFILE: "no descriptors left",
    errno.ENETUNREACH: "network unreachable",
    errno.ENFILE: "no descriptors left",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "timed out",
}
_MOST_LETTERS = 64


class Failure(NamedTuple):
    """Why a host could not be reached; `text` is for people, and never says policy."""

    text: str

    @property
    def word(self) -> str:
        """The same as one word, for the record."""
        plain = "".join(c if c.isalnum() and c.isascii() else " " for c in self.text.lower())
        return "-".join(plain.split())[:_MOST_LETTERS] or "failed"


def failure_of(error: OSError) -> Failure:
    """Put an error of a socket into words."""
    return Failure(_WORDS.get(error.errno or 0) or (error.strerror or "failed").lower())


def failure_of_code(code: int) -> Failure:
    """Put an errno into words."""
    return failure_of(OSError(code, errno.errorcode.get(code, "")))
