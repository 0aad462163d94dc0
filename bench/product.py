"""mvm itself as a subject: the command line as people type it, a real sandbox, the record on.

Owns `mvmctl up -d` with the load generator as the workload of `mvmctl exec`, and the patched copy that
writes no record. Must never reach into the product: what is measured is what is typed.
"""

from __future__ import annotations

import ast
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
        """Patch a copy. Raises LeftOut where there is nothing to patch."""
        copy = layout.directory / "unrecorded"
        if not copy.exists():
            shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
            log = copy / "mvm" / "audit" / "log.py"
            log.write_text(without_record(log.read_text("utf-8")), "utf-8")
        super().__init__(layout, copy)


def without_record(text: str) -> str:
    """The source of the log's module, each method that appends returning at once. Raises LeftOut.

    What is left out is all of it: putting a line together, chaining it, and the system calls.
    """
    lines = text.splitlines(keepends=True)
    found = [
        method
        for kind in ast.parse(text).body
        if isinstance(kind, ast.ClassDef) and kind.name == "Log"
        for method in kind.body
        if isinstance(method, ast.FunctionDef) and method.name.startswith("append")
    ]
    if not found:
        raise LeftOut("audit/log.py has no Log that appends: nothing to patch")
    for method in reversed(found):
        at = method.body[1 if ast.get_docstring(method) is not None else 0].lineno - 1
        lines.insert(at, " " * (method.col_offset + 4) + "return\n")
    return "".join(lines)


def environment(source: Path = SOURCE) -> dict[str, str]:
    """For `python -m mvm.cli`: byte code is kept, as where it is installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(source)}
