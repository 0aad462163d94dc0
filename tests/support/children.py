"""Doing something in a child process that can be given up: what changes a process can't be taken back.

Owns the fork, and carrying what the act returned, or raised, back. Must never import the product.
"""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, TypeVar

from tests.support import namespaces

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Ended(Exception):
    """The child ended without an answer; `status` is -N for signal N."""

    def __init__(self, status: int) -> None:
        """Remember how."""
        super().__init__(f"the child ended with status {status}")
        self.status = status


def in_child(act: Callable[[], T]) -> T:
    """Call `act` in a forked child, and return what it returned.

    Raises Ended if the child did not live to answer, and whatever `act` raised.
    """
    answer, child_answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        try:
            outcome: tuple[T | None, BaseException | None] = (act(), None)
        except BaseException as failure:  # noqa: BLE001  carried to the parent, which raises it
            outcome = (None, failure)
        try:
            with os.fdopen(child_answer, "wb") as file:
                pickle.dump(outcome, file)
        finally:
            os._exit(0)
    os.close(child_answer)
    with os.fdopen(answer, "rb") as file:
        said = file.read()
    _, status = os.waitpid(pid, 0)
    if not said:
        raise Ended(os.waitstatus_to_exitcode(status))
    returned, raised = pickle.loads(said)  # noqa: S301  from our own child
    if raised is not None:
        raise raised
    return returned  # type: ignore[no-any-return]


def in_mount_namespace(act: Callable[[], T]) -> T:
    """As `in_child`, in a mount namespace of its own from which nothing is seen outside."""

    def inside() -> T:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        namespaces.mount(None, "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
        return act()

    return in_child(inside)


def in_user_namespace(act: Callable[[], T]) -> T:
    """As `in_child`, in a new user namespace, under the same ids and with every capability there."""

    def inside() -> T:
        namespaces.enter_user_namespace()
        return act()

    return in_child(inside)
