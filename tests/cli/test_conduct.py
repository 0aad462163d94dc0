"""Errors as a user sees them, and the exit status of each (SPEC section 2)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from mvm import errors
from mvm.cli import verbs
from mvm.cli.conduct import conduct

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Said

_SOURCE = Path(__file__).parents[2] / "src"

_raising: list[BaseException] = []


@click.command("fail")
def command() -> None:
    """Fail as the test wants."""
    raise _raising[0]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, type_in: Callable[..., Said]) -> Callable[[BaseException], Said]:
    """Give what is said where a verb raises an error; the verb is one of this module's own."""
    table = {**verbs.VERBS, "fail": verbs.Verb(__name__, "Fail.")}
    monkeypatch.setattr(verbs, "PROGRAM", verbs.PROGRAM._replace(verbs=table))

    def fail(error: BaseException) -> Said:
        _raising[:] = [error]
        return type_in("fail")

    return fail


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.UsageError, 64),
        (errors.BackendUnavailable, 69),
        (errors.AuditError, 74),
        (errors.TransportError, 75),
        (errors.PolicyDenied, 77),
        (errors.SandboxTimeout, 124),
    ],
)
def test_an_error_is_two_lines_and_its_status(
    kind: type[errors.MvmError], status: int, failing: Callable[[BaseException], Said]
) -> None:
    """What happened, and what to do next, on stderr; nothing on stdout."""
    said = failing(kind("it broke", hint="mend it")).expect(status)
    assert said.errors == "mvmctl: it broke\n  hint: mend it\n"
    assert said.output == ""


def test_an_error_without_a_hint_is_one_line(failing: Callable[[BaseException], Said]) -> None:
    """No empty hint is shown."""
    assert failing(errors.UsageError("it broke")).expect(64).errors == "mvmctl: it broke\n"


def test_a_refused_policy_tells_every_finding(failing: Callable[[BaseException], Said]) -> None:
    """Each finding has its severity, source, path, code and hint; the status is 65."""
    found = [
        errors.Finding(code="one", path=".a", message="first", hint="mend it", source="mvm.toml:3"),
        errors.Finding(code="two", path="--dns", message="second", hint="", severity="warning"),
    ]
    said = failing(errors.PolicyRefused(found)).expect(65)
    assert said.errors == (
        "mvmctl: error: mvm.toml:3: .a: first [one]\n  hint: mend it\nmvmctl: warning: --dns: second [two]\n"
    )


def test_what_is_refused_does_not_speak_to_the_terminal(failing: Callable[[BaseException], Said]) -> None:
    """What a hostile file has in a name is spelled out: no control character, and no line of its own."""
    name = "\x1b[2Ja\nmvmctl: all is well\x07"
    found = errors.Finding(code="no", path=f".{name}", message=name, hint=name, source=f"{name}:1")
    for error in (errors.PolicyRefused([found]), errors.UsageError(name, hint=name)):
        said = failing(error).errors
        assert len(said.splitlines()) == 2
        assert said.replace("\n", "").isprintable()
        assert "\\x1b[2Ja\\nmvmctl: all is well\\x07" in said


def test_a_bug_is_told_as_one_without_its_text(
    failing: Callable[[BaseException], Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error exits 70 with its type and place, not its text; MVM_DEBUG=1 shows all of it."""
    said = failing(ValueError("a secret")).expect(70)
    assert "bug" in said.errors
    assert "ValueError at test_conduct.py:" in said.errors
    assert "a secret" not in said.errors
    monkeypatch.setenv("MVM_DEBUG", "1")
    assert "a secret" in failing(ValueError("a secret")).expect(70).errors


def test_an_interrupt_is_quiet(failing: Callable[[BaseException], Said]) -> None:
    """Ctrl-C ends with 130 and not a word."""
    said = failing(KeyboardInterrupt()).expect(130)
    assert said.errors == said.output == ""


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`mvmctl … | head -0`: nobody reads the output any more, and nothing is said of it on stderr."""
    words = [sys.executable, "-m", "mvm.cli", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    env = {**os.environ, "PYTHONPATH": str(_SOURCE)}
    done = subprocess.run(words, env=env, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.parametrize(
    "words", [["--help"], ["claims"], ["network", "presets", "agent", "--json"], ["compile"]]
)
def test_a_full_disk_is_told_as_one(words: list[str], tmp_path: Path) -> None:
    """`mvmctl … > FILE` without room: 74 and the reason, neither a traceback nor a bug."""
    if words == ["compile"]:
        (tmp_path / "app.py").write_text(
            "import mvm\n\n\n@mvm.func(network=mvm.network(mode='none'))\ndef f(): ...\n"
        )
        words = ["compile", str(tmp_path / "app.py")]
    env = {**os.environ, "PYTHONPATH": str(_SOURCE)}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mvm.cli", *words],
            env=env,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.stderr == (
        b"mvmctl: the output can't be written: no space left on device\n"
        b"  hint: free some room, or send it elsewhere\n"
    )
    assert done.returncode == 74


def test_a_missing_choice_is_told_on_one_line(type_in: Callable[..., Said]) -> None:
    """Click writes the choices on a line each; an error is two lines here."""
    assert len(type_in("completion").expect(64).errors.splitlines()) == 2


def test_main_exits_with_the_status() -> None:
    """The process's status is what the command came to."""
    words = [sys.executable, "-m", "mvm.cli", "network", "explain", "a.example:443"]
    env = {**os.environ, "PYTHONPATH": str(_SOURCE)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 77, done.stderr


def test_a_closed_stdout_is_survived() -> None:
    """Words that print nothing do not need a stdout."""
    assert conduct(["completion"]) == 64
