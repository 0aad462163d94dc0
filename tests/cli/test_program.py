"""The program as a whole: its table of verbs, its help, and what it costs to ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from mvm.cli.doctor import is_of_use
from mvm.cli.verbs import Family, Verb, program
from mvm.kernel.probe import Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Said

_SOURCE = Path(__file__).parents[2] / "src"


def all_verbs() -> Iterator[tuple[str, ...]]:
    """Name every command, as it is typed."""

    def below(path: tuple[str, ...], family: Family) -> Iterator[tuple[str, ...]]:
        for name, verb in family.verbs.items():
            yield (*path, name)
            if isinstance(verb, Family):
                yield from below((*path, name), verb)

    from mvm.cli.verbs import PROGRAM

    return below((), PROGRAM)


def command_of(path: tuple[str, ...]) -> click.Command:
    """Find a command by what is typed."""
    command: click.Command = program()
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


def in_a_process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type a command line into a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(_SOURCE), **environment}
    return subprocess.run(
        [sys.executable, "-m", "mvm.cli", *words], env=env, capture_output=True, text=True, check=False
    )


def test_help_lists_every_verb_of_the_table(type_in: Callable[..., Said]) -> None:
    """`mvmctl --help` names each verb with its line, and exits 0."""
    said = type_in("--help").expect(0)
    for name in ("run", "up", "exec", "ls", "logs", "down", "network", "audit", "doctor", "completion"):
        assert f"\n  {name} " in said.output


@pytest.mark.parametrize(
    ("serves", "wanted"),
    [
        ("backend namespace", True),
        ("--memory, --cpus, --pids", True),
        ("backend oci", False),
        ("backends qemu, firecracker", False),
        ("backends namespace, qemu", True),
    ],
)
def test_nothing_is_advised_for_a_backend_that_is_not_there(serves: str, wanted: bool) -> None:
    """Doctor gives no command that would change the machine for what this version can't use."""
    fact = Fact("a", ok=False, detail="", fix="sudo change", serves=serves)
    assert is_of_use(fact, {"oci", "qemu", "firecracker"}) is wanted


@pytest.mark.parametrize("path", list(all_verbs()), ids=" ".join)
def test_every_verb_has_help_with_an_example(path: tuple[str, ...], type_in: Callable[..., Said]) -> None:
    """`--help` and `-h` of each verb say what it does and give an example that begins with mvmctl."""
    said = type_in(*path, "--help").expect(0)
    assert said.output == type_in(*path, "-h").output
    assert f"Usage: mvmctl {' '.join(path)}" in said.output
    assert "\n    mvmctl " in said.output.partition("Example")[2]


@pytest.mark.parametrize("path", list(all_verbs()), ids=" ".join)
def test_every_example_is_accepted_by_the_parser(path: tuple[str, ...]) -> None:
    """The words of each example parse: none of them has an option that is not there."""
    import shlex

    epilog = command_of(path).epilog or ""
    for line in epilog.splitlines():
        words = shlex.split(line.partition(" > ")[0]) if line.strip().startswith("mvmctl ") else []
        if not words:
            continue
        command: click.Command = program()
        rest = words[1:]
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, line
            command, rest = found, rest[1:]
        command.make_context(line, rest)


@pytest.mark.parametrize("path", list(all_verbs()), ids=" ".join)
def test_every_verb_says_in_a_sentence_what_it_does(path: tuple[str, ...]) -> None:
    """The first paragraph of each help text is one or two whole sentences."""
    first = (command_of(path).help or "").strip().split("\n\n")[0]
    assert first[:1].isupper()
    assert first.rstrip().endswith(".")


def test_a_verb_that_is_not_there_is_usage_and_the_nearest_is_told(type_in: Callable[..., Said]) -> None:
    """`mvmctl rnu` exits 64 and asks whether `run` was meant; so does a family."""
    said = type_in("rnu").expect(64)
    assert "Did you mean run?" in said.errors
    assert said.output == ""
    assert "Did you mean explain?" in type_in("network", "expalin").expect(64).errors


def test_no_words_show_the_help_as_a_usage_error(type_in: Callable[..., Said]) -> None:
    """Bare `mvmctl` and bare `mvmctl network` show their help on stderr and exit 64."""
    assert "Commands:" in type_in().expect(64).errors
    assert "Commands:" in type_in("network").expect(64).errors


def test_an_unknown_option_is_usage_with_the_help_to_read(type_in: Callable[..., Said]) -> None:
    """An option that is not there exits 64 in two lines: what, and where to read on."""
    said = type_in("run", "--network-alow", "x:1", "--", "true").expect(64)
    first, second = said.errors.splitlines()
    assert first.startswith("mvmctl: No such option")
    assert second == "  hint: mvmctl run --help"


def test_version_is_the_packages(type_in: Callable[..., Said]) -> None:
    """`mvmctl --version` says the version of the package."""
    from mvm import __version__

    assert type_in("--version").expect(0).output == f"mvmctl {__version__}\n"


def test_a_family_imports_no_member(type_in: Callable[..., Said]) -> None:
    """`mvmctl network --help` is answered from the table too."""
    before = {name for name in sys.modules if name.startswith("mvm.cli.network.")}
    assert "revoke" in type_in("network", "--help").expect(0).output
    assert {name for name in sys.modules if name.startswith("mvm.cli.network.")} == before


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str) -> None:
    """`mvmctl completion SHELL` prints what the shell is to read, and nothing else."""
    done = in_a_process("completion", shell)
    assert done.returncode == 0
    assert "_MVMCTL_COMPLETE" in done.stdout
    assert done.stderr == ""


def test_completion_of_another_shell_is_usage(type_in: Callable[..., Said]) -> None:
    """A shell that is not supported exits 64."""
    assert "'tcsh'" in type_in("completion", "tcsh").expect(64).errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mvmctl net", ["network"]),
        ("mvmctl network ex", ["explain"]),
        ("mvmctl run --network-pre", ["--network-preset"]),
        ("mvmctl run --network-preset re", ["registries"]),
    ],
)
def test_words_are_completed(words: str, expected: list[str]) -> None:
    """The shell is told verbs, members of families, options and their choices."""
    count = str(len(words.split()) - 1)
    done = in_a_process(_MVMCTL_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=count)
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == expected


def test_the_table_holds_verbs_and_families_only() -> None:
    """Each entry of the table leads to a command."""
    from mvm.cli.verbs import VERBS

    assert all(isinstance(entry, Verb | Family) for entry in VERBS.values())
