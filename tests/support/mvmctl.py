"""The command line as tests run it: words in, exit status, streams and JSON out.

Owns starting `mvmctl` in directories of its own, with a time limit, and ending whatever a test left
running. Must never call into the product: what is tried here is what a user types.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SOURCE = Path(__file__).parents[2] / "src"
_COMMAND_VARIABLE = "MVMCTL"
"""Where set, the command to try instead of the source beside these tests: an installed `mvmctl`, say."""
_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended."""

    words: tuple[str, ...]
    exit_code: int
    """As `subprocess` has it: negative for a signal."""
    output: bytes
    errors: bytes
    duration_s: float

    @property
    def stdout(self) -> str:
        """What it printed, as text."""
        return self.output.decode(errors="backslashreplace")

    @property
    def stderr(self) -> str:
        """What it printed to stderr, as text."""
        return self.errors.decode(errors="backslashreplace")

    @property
    def json(self) -> Any:  # noqa: ANN401  (whatever JSON holds)
        """What it printed, parsed. Raises ValueError."""
        return json.loads(self.output)

    def expect(self, exit_code: int = 0) -> Ended:
        """Return this, if it ended so. Raises AssertionError with everything it said."""
        if self.exit_code != exit_code:
            said = f"stdout: {self.stdout}\nstderr: {self.stderr}"
            raise AssertionError(f"{shlex.join(self.words)} ended with {self.exit_code}\n{said}")
        return self


class Running:
    """A command that has been started; `process` is its Popen, at the head of its own process group."""

    def __init__(self, words: Sequence[str], *, env: Mapping[str, str], cwd: Path | None) -> None:
        """Start it, with a pipe at each stream. Raises OSError."""
        self._words = tuple(words)
        self._began = time.monotonic()
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=cwd, start_new_session=True
        )
        self._said: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._selector = selectors.DefaultSelector()
        for name, stream in (("stdout", self.process.stdout), ("stderr", self.process.stderr)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, name)

    def until(self, text: str, *, stream: str = "stdout", timeout_s: float = _LIMIT_S) -> str:
        """Wait until it has printed `text`; returns all of that stream so far.

        Raises TimeoutError after `timeout_s` seconds, AssertionError where it ends without.
        """
        deadline = time.monotonic() + timeout_s
        while text.encode() not in self._said[stream]:
            if not self._read(deadline):
                raise AssertionError(f"{shlex.join(self._words)} ended without {text!r}: {self._both()}")
        return self._said[stream].decode(errors="backslashreplace")

    def send(self, data: bytes) -> None:
        """Write to its stdin. Raises OSError."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def feed(self, data: bytes) -> None:
        """Write to its stdin and close it, however long that takes; a reader that has gone is no error."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(data)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def finish(self, *, timeout_s: float = _LIMIT_S, closes_stdin: bool = True) -> Ended:
        """Close its stdin, unless somebody feeds it, and wait for its end.

        Raises TimeoutError after `timeout_s` seconds with what it has said, having killed it and its group.
        """
        deadline = time.monotonic() + timeout_s
        assert self.process.stdin is not None
        if closes_stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            while self._read(deadline):
                pass
            code = self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired) as problem:
            self.kill()
            raise TimeoutError(
                f"{shlex.join(self._words)} ran over {timeout_s} s: {self._both()}"
            ) from problem
        return Ended(
            words=self._words,
            exit_code=code,
            output=bytes(self._said["stdout"]),
            errors=bytes(self._said["stderr"]),
            duration_s=time.monotonic() - self._began,
        )

    def kill(self) -> None:
        """Kill its process group and wait for it; does nothing where it has ended."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Kill it and close its streams."""
        self.kill()
        self._selector.close()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _read(self, deadline: float) -> bool:
        """Read what there is; False once both streams have ended. Raises TimeoutError."""
        if not self._selector.get_map():
            return False
        ready = self._selector.select(max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"{shlex.join(self._words)} keeps silent: {self._both()}")
        for key, _ in ready:
            data = os.read(key.fd, 1 << 16)
            self._said[key.data] += data
            if not data:
                self._selector.unregister(key.fileobj)
        return True

    def _both(self) -> str:
        return "; ".join(f"{name}: {bytes(said)!r}" for name, said in self._said.items())


class Mvmctl:
    """`mvmctl` with a state, runtime and temporary directory of its own."""

    def __init__(self, directory: Path, *, command: Sequence[str] | None = None) -> None:
        """Make the three directories in `directory`, whose path must be short: UNIX sockets go there."""
        chosen = os.environ.get(_COMMAND_VARIABLE)
        self.command = command or (shlex.split(chosen) if chosen else [sys.executable, "-m", "mvm.cli"])
        self.state, self.runtime, self.temporary = (directory / name for name in ("state", "run", "tmp"))
        for made in (self.state, self.runtime, self.temporary):
            made.mkdir(mode=0o700)
        self._running: list[Running] = []

    def __call__(
        self,
        *words: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float = _LIMIT_S,
    ) -> Ended:
        """Run it to its end. Raises TimeoutError after `timeout_s` seconds."""
        running = self.start(*words, env=env, cwd=cwd)
        if not stdin:
            return running.finish(timeout_s=timeout_s)
        # Beside the reading: a command that answers while it reads would wait for us, and we for it.
        feeding = threading.Thread(target=running.feed, args=(stdin,))
        feeding.start()
        ended = running.finish(timeout_s=timeout_s, closes_stdin=False)
        feeding.join()
        return ended

    def start(self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Running:
        """Start it and come back at once; what still runs at the end of the test is killed."""
        running = Running([*self.command, *words], env={**self.environment(), **(env or {})}, cwd=cwd)
        self._running.append(running)
        return running

    def close(self) -> None:
        """End whatever still runs, detached sandboxes among it."""
        for running in self._running:
            running.close()
        if any(self.runtime.iterdir()):
            words = [*self.command, "down", "--all", "--time", "0"]
            subprocess.run(words, env=self.environment(), capture_output=True, timeout=_LIMIT_S, check=False)

    def environment(self) -> dict[str, str]:
        """The variables it runs with."""
        path = os.pathsep.join(filter(None, [str(_SOURCE), os.environ.get("PYTHONPATH")]))
        own = {
            "MVM_STATE_DIR": str(self.state),
            "MVM_RUNTIME_DIR": str(self.runtime),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": path,
            "NO_COLOR": "1",
        }
        return {**os.environ, **own}


def await_watching(mvmctl: Mvmctl, name: str, *watching: Running) -> None:
    """Edit a policy until every `network watch` tells of it: what came before a watcher is not told.

    Raises AssertionError where one never does.
    """
    for number in range(30):
        mvmctl("network", "allow", name, f"more-{number}.example.test:443").expect(0)
        with contextlib.suppress(TimeoutError):
            for each in watching:
                each.until("policy.changed", timeout_s=0.5)
            return
    raise AssertionError("no watcher tells of edits")
