"""The third outcome of every reader in `wire`.

A reader returns a value, returns None (more bytes may make it whole), or raises `Malformed` or one of
its named kinds. Owns that one word; must never grow a behaviour: what a fault leads to is decided by
whoever asked.
"""

from __future__ import annotations


class Malformed(ValueError):
    """The bytes can never become a valid message, however many follow.

    The text says what is wrong by position or kind and never quotes payload: it may end in a record.
    """
