"""One command that runs in a sandbox, as `subprocess.Popen` is one outside.

Owns its streams and the conversation that it was started in; when that ends, so does it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mvm.errors import CommandFailed, SandboxTimeout, UsageError

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from typing import Self

    from mvm.supervisor.client import Client

_READ_BYTES = 1 << 16
_KILL, _TERM = 9, 15


class Popen:
    """One command that runs in a sandbox, as `subprocess.Popen` is one outside.

    Attributes:
        stdin, stdout, stderr: its streams, binary, unbuffered; stderr is empty where it goes elsewhere.
        returncode: its status once it has ended, else None.
    """

    def __init__(self, client: Client, message: dict[str, Any], *, stderr: int | None = None) -> None:
        self._client = client
        self.returncode: int | None = None
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = pipes
        self.stdin: io.FileIO = os.fdopen(ours_in, "wb", buffering=0)
        self.stdout: io.FileIO = os.fdopen(ours_out, "rb", buffering=0)
        self.stderr: io.FileIO = os.fdopen(ours_err, "rb", buffering=0)
        try:
            answer = client.ask(message, [theirs_in, theirs_out, theirs_err if stderr is None else stderr])
            if "not_started" in answer:
                from mvm.supervisor.client import not_started_text

                text, _ = not_started_text(answer)
                raise UsageError(f"{text} (in the sandbox)", hint="is it installed, and on PATH there?")
        except BaseException:
            self.close()
            raise
        finally:
            for descriptor in (theirs_in, theirs_out, theirs_err):
                os.close(descriptor)
        self._number = answer["started"]

    def poll(self) -> int | None:
        """Its status, or None while it runs."""
        if self.returncode is None and self._is_told(0):
            self.wait()
        return self.returncode

    def _is_told(self, timeout: float | None) -> bool:
        """Wait until its end is told, or may be: it can have come together with its beginning."""
        import select

        if self._client.has_more:
            return True
        poll = select.poll()
        poll.register(self._client, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            SandboxTimeout: the time ran out first; it runs on.
        """
        if self.returncode is None:
            if not self._is_told(timeout):
                msg = f"the command still runs after {timeout} s"
                raise SandboxTimeout(msg)
            try:
                answer = self._client.hear()
            except UsageError:
                answer = {}  # the sandbox has ended, and the command with it
            status = answer.get("exited", 128 + _KILL)
            assert isinstance(status, int), "the supervisor is of this version"
            self.returncode = status
        return self.returncode

    def communicate(
        self, stdin: bytes = b"", *, timeout: float | None = None, most: int | None = None
    ) -> tuple[bytes, bytes]:
        """Feed it, read all that it writes, and wait for its end.

        Args:
            stdin: what it is fed.
            timeout: seconds that it may take.
            most: how many bytes it may write, to both together.

        Raises:
            CommandFailed: it wrote more than `most`; it is killed.
            SandboxTimeout: the time ran out first; it runs on.
        """
        import selectors
        import time

        deadline = None if timeout is None else time.monotonic() + timeout
        said: dict[Any, list[bytes]] = {self.stdout: [], self.stderr: []}
        left, room = memoryview(stdin), most
        with selectors.DefaultSelector() as selector:
            for stream in said:
                selector.register(stream, selectors.EVENT_READ)
            if stdin:
                os.set_blocking(self.stdin.fileno(), False)
                selector.register(self.stdin, selectors.EVENT_WRITE)
            else:
                self.stdin.close()
            while selector.get_map():
                patience = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = selector.select(patience)
                if not ready and deadline is not None and time.monotonic() >= deadline:
                    msg = f"the command still runs after {timeout} s"
                    raise SandboxTimeout(msg)
                for key, _ in ready:
                    if key.fileobj is self.stdin:
                        left = self._feed(left, selector.unregister)
                        continue
                    data = os.read(key.fd, _READ_BYTES)
                    said[key.fileobj].append(data)
                    if room is not None and (room := room - len(data)) < 0:
                        self.kill()
                        msg = f"the command wrote more than {most} bytes"
                        raise CommandFailed(msg, returncode=self.wait())
                    if not data:
                        selector.unregister(key.fileobj)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return b"".join(said[self.stdout]), b"".join(said[self.stderr])

    def _feed(self, left: memoryview, done: Callable[[Any], object]) -> memoryview:
        try:
            left = left[os.write(self.stdin.fileno(), left[:_READ_BYTES]) :]
        except BrokenPipeError:
            left = left[:0]
        if not left:
            done(self.stdin)
            self.stdin.close()
        return left

    def send_signal(self, signum: int) -> None:
        """Send it a signal."""
        self._client.say({"do": "signal", "number": self._number, "signal": int(signum)})

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(_TERM)

    def kill(self) -> None:
        """End it, and its process group."""
        self._client.say({"do": "signal", "number": self._number, "signal": _KILL, "group": True})

    def close(self) -> None:
        """Close its streams and let go of it; if it runs still, it ends."""
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()
        self._client.close()

    def __enter__(self) -> Self:
        """Give the process itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        self.close()
