"""mvm itself as a subject: the command line as people type it, a real sandbox, the record on.

Owns `mvmctl up -d` with the load generator as the workload of `mvmctl exec`, and the patched copy that
writes no record. Must never reach into the product: what is measured is what is typed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench import layout as places
from bench.subjects import LeftOut, Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.layout import Layout

SOURCE = Path(__file__).parents[1] / "src"
INSIDE = "/bench"
"""Where the compiled programs, and `inside.py`, lie in a sandbox."""
_RECORDS = """\
        with self._lock:
            self._begin()
            lines, head, seq"""
_RECORDS_NOT = """\
        return
        with self._lock:
            self._begin()
            lines, head, seq"""


class Mvm(Subject):
    """The product."""

    name = "mvm"

    def __init__(self, layout: Layout, source: Path = SOURCE) -> None:
        """Nothing runs yet; `source` holds the package."""
        super().__init__(layout)
        self._source = source
        self._box = self.name.replace(" ", "-").replace(",", "")

    def start(self) -> None:
        """Bring a sandbox up, and learn the address that stands for the server's name in it."""
        grants = [f"{places.NAME}:{port},private" for port in (*places.TCP_PORTS, f"{places.ECHO}/udp")]
        words = ["up", "-d", "--json", "--name", self._box, "--dns-static", f"{places.NAME}={places.UP}"]
        words += [word for grant in grants for word in ("--network-allow", grant)]
        words += ["-v", f"{self.layout.programs}:{INSIDE}:ro"]
        try:
            self.mvmctl(*words)
            (listed,) = (
                each
                for each in json.loads(self.mvmctl("ls", "--json"))["sandboxes"]
                if each["name"] == self._box
            )
            self.address = self.run(["getent", "ahostsv4", places.NAME]).split()[0]
        except subprocess.CalledProcessError as problem:
            raise LeftOut(f"mvmctl: {problem.stderr.strip()[:300]}") from None
        self.gateway = int(listed["pid"])  # not its children: the load generator is one

    def close(self) -> None:
        """Take it down."""
        self.mvmctl("down", self._box)

    def mvmctl(self, *words: str, limit_s: float = 60) -> str:
        """What the command prints. Raises subprocess.SubprocessError.

        Into files and not pipes: a command in the sandbox may hold its end of a pipe for longer than
        `mvmctl` lives.
        """
        command = [sys.executable, "-m", "mvm.cli", *words]
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            ended = subprocess.run(
                command,
                env=environment(self._source),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                check=False,
                timeout=limit_s,
            )
            output.seek(0)
            errors.seek(0)
            said, complained = output.read(), errors.read()
        if ended.returncode:
            raise subprocess.CalledProcessError(ended.returncode, command, said, complained)
        return said

    def run(self, words: Sequence[str], *, limit_s: float = 60) -> str:
        """In the sandbox."""
        return self.mvmctl("exec", self._box, "--", *words, limit_s=limit_s)

    def bench(self, program: str) -> str:
        """Below the volume."""
        return f"{INSIDE}/{program}"


class Unrecorded(Mvm):
    """A copy of the product that was patched not to write its record: what the record costs."""

    name = "mvm, unrecorded"

    def __init__(self, layout: Layout) -> None:
        """Patch a copy. Raises LeftOut where the line to patch isn't there."""
        copy = layout.directory / "unrecorded"
        if not copy.exists():
            shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
            log = copy / "mvm" / "audit" / "log.py"
            text = log.read_text("utf-8")
            if text.count(_RECORDS) != 1:
                raise LeftOut("audit/log.py does not read as this bench knows it: nothing to patch")
            log.write_text(text.replace(_RECORDS, _RECORDS_NOT), "utf-8")
        super().__init__(layout, copy)


def environment(source: Path = SOURCE) -> dict[str, str]:
    """For `python -m mvm.cli`: byte code is kept, as where it is installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(source)}
