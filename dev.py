#!/usr/bin/env python3
"""What people who work on mvm type: one command each for the demo, the tests, the checks and the lock files.

Owns the environment `.venv` beside this file: made from hash-pinned requirements, made anew when they, the
interpreter or the place of the checkout change, reused otherwise. Needs nothing but Python's own library.
Must never print or keep the host name of a package registry, and starts no shell.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

USAGE = """\
usage: python3 dev.py COMMAND

  demo            one sandbox, a granted host, a denied one, the record: shown and checked, without root
  test [ARGS]     every test; ARGS go to pytest (python3 dev.py test tests/policy -x)
  fuzz [SECONDS]  every reader tried with made-up inputs, on all processors; --help tells more
  check           format, lint, types, import rules, guard and pure tests; quick, without root
  bench [ARGS]    how fast it is beside its peers, into docs/explanation/benchmarks.md (--quick, --install)
  setup           make .venv, or say that it is there
  reference [F…]  write docs/reference, schema/ and the page of evidence; F: what `test --evidence F` found
  lock [ARGS]     pin the newest releases in requirements/ anew; ARGS go to uv (--upgrade)
"""

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
STAMP = VENV / "made-from"
REQUIREMENTS = ROOT / "requirements"

PURE_TESTS = (
    "tests/guard",
    "tests/policy",
    "tests/wire",
    "tests/plan",
    "tests/test_canonical.py",
    "tests/docs",
)
NOT_QUICK = "not kernel and not escape and not faults and not slow"


# ------------------------------------------------------------------------------------------ the environment


def make_environment(wanted: str) -> None:
    """Make `.venv` hold what `requirements/{wanted}.txt` pins, and mvm itself from `src`.

    `dev` pins all that `run` does, so an environment made for it serves both.
    """
    made_from = STAMP.read_text("utf-8") if STAMP.exists() else ""
    if made_from in {_origin(wanted), _origin("dev")}:
        return
    print(f"making .venv from requirements/{wanted}.txt (once) …", flush=True)
    _quietly(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], hint="Debian: apt-get install python3-venv"
    )
    pip = [str(BIN / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    pins = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
    _quietly([*pip, *pins, "-r", str(REQUIREMENTS / f"{wanted}.txt")], hint="is a package index reachable?")
    (packages,) = VENV.glob("lib/python*/site-packages")
    (packages / "mvm-source.pth").write_text(f"{ROOT / 'src'}\n", "utf-8")
    command = BIN / "mvmctl"
    command.write_text(f"#!{BIN / 'python'}\nfrom mvm.cli import main\n\nmain()\n", "utf-8")
    command.chmod(0o755)
    STAMP.write_text(_origin(wanted), "utf-8")


def _origin(wanted: str) -> str:
    """All that an environment depends on, as one word."""
    pins = (REQUIREMENTS / f"{wanted}.txt").read_bytes()
    facts = [wanted, sys.version, sys.base_exec_prefix, str(ROOT), hashlib.sha256(pins).hexdigest()]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def _quietly(words: Sequence[str], *, hint: str) -> None:
    """Run a command that should say nothing; if it fails, end with what it said, without host names."""
    ended = _run(words)
    if ended.returncode:
        said = re.sub(r"(?<=://)[^/\s'\"]+|(?<=host=['\"])[^'\"]+", "…", ended.stdout)
        sys.exit(f"{said}\n{Path(words[0]).name} {' '.join(words[1:4])} … failed\n  hint: {hint}")


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command here, in the environment, and keep both its streams as one."""
    return subprocess.run(
        words,
        cwd=ROOT,
        env=_surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _surroundings() -> dict[str, str]:
    """The environment of what runs in `.venv`: its programs come first."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "VIRTUAL_ENV": str(VENV), "PATH": path}


def _become(*words: str) -> NoReturn:
    """Go on as a Python program of `.venv`; its exit status is ours, and its last line is the last one."""
    os.chdir(ROOT)
    sys.stdout.flush()
    python = str(BIN / "python")
    os.execve(python, [python, *words], _surroundings())


# ----------------------------------------------------------------------------------------------- the checks


class Ended(NamedTuple):
    """One check that has ended."""

    name: str
    exit_code: int
    said: str
    duration_s: float


CHECKS: dict[str, tuple[str, ...]] = {
    "types": ("-m", "mypy"),
    "pure tests": ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", NOT_QUICK, *PURE_TESTS),
    "import rules": (str(BIN / "lint-imports"), "--no-logo"),
    "format": ("-m", "ruff", "format", "--check", "--quiet", "--output-format", "concise"),
    "lint": ("-m", "ruff", "check", "--quiet", "--output-format", "concise"),
}
"""What each check runs; the long ones first, since two run at a time."""


def _check(name: str) -> Ended:
    began = time.monotonic()
    words = [str(BIN / "python"), *CHECKS[name]]
    ended = _run(words)
    return Ended(name, ended.returncode, ended.stdout.strip(), time.monotonic() - began)


# --------------------------------------------------------------------------------------------- the commands


def setup(_: list[str]) -> int:
    """Make the environment and say where it is."""
    make_environment("dev")
    print(f".venv is ready: {BIN.relative_to(ROOT)}/mvmctl --help")
    return 0


def demo(_: list[str]) -> int:
    """Show and check the main job; needs what mvm needs to run and nothing more."""
    make_environment("run")
    _become("-m", "tests.support.demo")


def test(words: list[str]) -> int:
    """Run pytest with `words`."""
    make_environment("dev")
    _become("-m", "pytest", *words)


def fuzz(words: list[str]) -> int:
    """Try every reader; `docs/explanation/fuzzing.md` tells of the last long run."""
    make_environment("dev")
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    _become("-m", "tests.fuzz.long", *words)


def check(_: list[str]) -> int:
    """Run every check, two at a time; print what failed, and one line for each."""
    make_environment("dev")
    failed = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        for each in as_completed(pool.submit(_check, name) for name in CHECKS):
            ended = each.result()
            if ended.exit_code:
                failed.append(ended.name)
                print(f"\n{ended.said}\n")
            word = "FAILED" if ended.exit_code else "ok"
            print(f"{ended.name:13} {word:6} {ended.duration_s:5.1f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def bench(words: list[str]) -> int:
    """Measure; `words` are those of `bench/__main__.py`."""
    make_environment("run")
    _become("-m", "bench", *words)


def reference(words: list[str]) -> int:
    """Write the help of every command, the findings, the schemas, and the evidence of the runs in `words`."""
    make_environment("dev")
    _become("-m", "tests.docs.reference", *(str(Path(word).resolve()) for word in words))


def lock(words: list[str]) -> int:
    """Pin the dependencies in `pyproject.toml`, for every Python and machine that mvm runs on."""
    make_environment("dev")
    shape = ["--universal", "--python-version", "3.11", "--generate-hashes"]
    silence = ["--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--quiet"]
    made_by = ["--custom-compile-command", "python3 dev.py lock"]
    for name, group in (("run", []), ("dev", ["--group", "dev"])):
        target = ["--output-file", f"requirements/{name}.txt"]
        command = ["pip", "compile", "pyproject.toml", *group, *shape, *silence, *made_by, *target, *words]
        _quietly([str(BIN / "uv"), *command], hint="is a package index reachable?")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": demo,
    "test": test,
    "fuzz": fuzz,
    "check": check,
    "bench": bench,
    "setup": setup,
    "reference": reference,
    "lock": lock,
}


def main(words: list[str]) -> int:
    """Do what `words` say; the exit status is returned."""
    if sys.version_info < (3, 11):  # noqa: UP036  whoever types python3 may have an older one
        print(f"mvm needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
        return 69
    if words[:1] in (["-h"], ["--help"], ["help"]):
        print(USAGE, end="")
        return 0
    if not words or words[0] not in COMMANDS:
        if words:
            print(f"there is no command {words[0]!r}", file=sys.stderr)
        print(USAGE, end="", file=sys.stderr)
        return 64
    return COMMANDS[words[0]](words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
