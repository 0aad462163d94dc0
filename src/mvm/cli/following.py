"""Waiting for a file of a run to grow, until its sandbox has ended.

Owns the two things that are waited for at once: the file (inotify(7)) and the sandbox's own word that it
has ended, or the silence of one that crashed. No polling, no sleeping.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Self

from mvm.errors import MvmError, UsageError
from mvm.kernel.inotify import FileWatch

if TYPE_CHECKING:
    from mvm.audit.state import Run
    from mvm.supervisor.client import Client
    from mvm.supervisor.frames import Message


class Following:
    """One file being followed; a context manager.

    Args:
        path: of a file of the run.
        run: whose end ends it.

    Raises:
        UsageError: the file can't be watched.
    """

    def __init__(self, path: str, run: Run) -> None:
        try:
            self._watch = FileWatch(path)
        except OSError as error:
            msg = f"{path} can't be followed: {error.strerror}"
            raise UsageError(
                msg, hint="leave out what asks to follow it, to see what is there now"
            ) from error
        self._client = _listen(run)
        self._heard: list[Message] = []
        self._poll = select.poll()
        self._poll.register(self._watch.fileno(), select.POLLIN)
        if self._client is not None:
            self._poll.register(self._client.fileno(), select.POLLIN)

    def __enter__(self) -> Self:
        """Give the following itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop following."""
        self._watch.__exit__()
        if self._client is not None:
            self._client.close()

    def wait(self) -> bool:
        """Wait until there may be more to read; False once the sandbox has ended and nothing more will come.

        So: read to the end, wait, read on. After the sandbox's end it says True one last time.
        """
        if self._client is None:
            return False
        ready = dict(self._poll.poll())
        if self._watch.fileno() in ready:
            self._watch.wait(0)
        if self._client.fileno() in ready and not self._hear(self._client):
            self._client.close()
            self._client = None
        return True

    @property
    def has_ended(self) -> bool:
        """Whether the sandbox had ended when this was last asked to wait, or made."""
        return self._client is None

    def take_heard(self) -> list[Message]:
        """Take what the sandbox has told since: denials and failures, as `supervisor.control` has them."""
        heard, self._heard = self._heard, []
        return heard

    def _hear(self, client: Client) -> bool:
        """Take what was said; False where it was that the sandbox has ended, or it fell silent."""
        try:
            self._heard.append(client.hear())
            while client.has_more:
                self._heard.append(client.hear())
        except MvmError:
            return False
        return not any("ended" in message for message in self._heard)


def _listen(run: Run) -> Client | None:
    """Ask a run's sandbox to tell its end; None where it has ended already."""
    from mvm.supervisor.client import Client

    try:
        client = Client(run.name, os.environ)
    except MvmError:
        return None
    try:
        if client.describe()["run"] == run.id:
            client.ask({"do": "watch"})
            return client
    except MvmError:
        pass  # it ended meanwhile
    client.close()
    return None
