"""`mvm.func`: a function runs in its sandbox; arguments, result and exceptions cross over as JSON."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

import mvm
from mvm.sandbox.helper import Helper

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

_API, _OTHER = "api.example.test", "other.example.test"
_PROGRAM = f"""
import os, socket, sys, time
import urllib.request
import mvm

NONE = mvm.network(mode="none")

@mvm.func(network=NONE, env={{"WORD": "inside", "KEY": mvm.secret("TEST_KEY", hosts=["{_API}"])}})
def echo(*args, **named):
    print("said on the way")
    return [list(args), named, os.environ["WORD"], os.environ["KEY"], os.environ["MVM_SANDBOX"]]

@mvm.func(network=mvm.network(mode="bridge", dns=mvm.dns_system(), egress=mvm.egress([
    mvm.host_port("{_API}", 80),
])))
def get(host):
    with urllib.request.urlopen(f"http://{{host}}/") as page:
        return page.read().decode()

@mvm.func(network=NONE)
def fails(text):
    raise LookupError(text)

@mvm.func(network=NONE)
def calls_another():
    return fails.local, 1

@mvm.func(network=NONE)
def nested(number):
    return number if number == 0 else nested(number - 1) + 1

@mvm.func(network=NONE)
def leaves(status):
    sys.stdout.flush()
    os._exit(status)

@mvm.func(network=NONE)
def lies():
    sys.__stdout__.flush()
    os.write(1, b"a word on stdout")
    for number in range(3, 64):
        try:
            os.write(number, b'{{"result": "a lie", "more": 1}}')
        except OSError:
            pass
    return "the truth"

@mvm.func(network=NONE)
def floods():
    sys.__stdout__.flush()
    while True:
        os.write(number_of_stdout(), bytes(1 << 20))

def number_of_stdout():
    return next(n for n in range(3, 64) if is_pipe(n))

def is_pipe(number):
    try:
        return os.readlink(f"/proc/self/fd/{{number}}").startswith("pipe:")
    except OSError:
        return False

@mvm.func(network=NONE, ttl="3s")
def sleeps():
    time.sleep(60)

@mvm.func(network=NONE)
async def waits():
    return "waited"
"""


@pytest.fixture
def declaring(tmp_path: Path, helper: Helper, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that declares functions, imported."""
    assert isinstance(helper, Helper)
    monkeypatch.setenv("TEST_KEY", "the value")
    file = tmp_path / "declaring.py"
    file.write_text(_PROGRAM, "utf-8")
    spec = importlib.util.spec_from_file_location("declaring", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "declaring", module)
    spec.loader.exec_module(module)
    return module


def test_arguments_and_result_cross_over(declaring: ModuleType) -> None:
    """Positional and named arguments arrive, the result comes back; variables and secrets are inside."""
    told = declaring.echo(1, "zwei", [3.5, None], {"k": True}, word="ß")
    assert told[:4] == [[1, "zwei", [3.5, None], {"k": True}], {"word": "ß"}, "inside", "the value"]
    assert told[4].startswith("run-")


def test_a_secret_that_is_not_set_starts_nothing(
    declaring: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the caller does not have a declared secret, the call says so."""
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(mvm.UsageError, match="TEST_KEY, which is not set"):
        declaring.echo()


def test_what_it_prints_is_no_result(declaring: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    """What the function prints goes to the caller's stderr, and its stdout stays clean."""
    declaring.echo()
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "said on the way\n")


def test_it_reaches_what_is_granted_and_nothing_else(declaring: ModuleType, internet: Internet) -> None:
    """The granted host answers; another one is an exception that carries the denial."""
    assert declaring.get(_API) == f"hello from {_API}\n"
    before = internet.arrivals(_OTHER)
    with pytest.raises(mvm.FunctionRaised) as caught:
        declaring.get(_OTHER)
    assert caught.value.kind == "URLError"
    (denial,) = caught.value.denials
    assert (denial["host"], denial["reason"]) == (_OTHER, "host-not-granted")
    assert internet.arrivals(_OTHER) == before


def test_an_exception_is_carried_over(declaring: ModuleType) -> None:
    """Its type's name, its text and its traceback come across; the frames are the function's own."""
    with pytest.raises(mvm.FunctionRaised) as caught:
        declaring.fails("not there")
    assert (caught.value.kind, caught.value.text) == ("LookupError", "not there")
    assert 'declaring.py", line' in caught.value.traceback
    assert "callee.py" not in caught.value.traceback
    assert "LookupError: not there" in str(caught.value)


def test_a_result_that_is_no_json_is_told(declaring: ModuleType) -> None:
    """What JSON can't carry back is a TypeError of the function's, not a value made up."""
    with pytest.raises(mvm.FunctionRaised, match="not JSON serializable"):
        declaring.calls_another()


def test_an_argument_that_is_no_json_starts_nothing(declaring: ModuleType) -> None:
    """What JSON can't carry there is a TypeError at the caller's."""
    with pytest.raises(TypeError):
        declaring.echo(object())


def test_within_a_sandbox_it_runs_there(declaring: ModuleType) -> None:
    """A declared function that calls one, itself here, does so without a sandbox in the sandbox."""
    assert declaring.nested(3) == 3


def test_no_variable_of_the_callers_makes_it_run_here(
    declaring: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only `callee` says that this is the sandbox; no variable does."""
    for name in ("MVM_FUNCTION", "MVM_SANDBOX"):
        monkeypatch.setenv(name, "echo")
    assert declaring.echo()[4].startswith("run-")


@pytest.mark.parametrize("status", [0, 3])
def test_an_end_without_an_answer_is_told(declaring: ModuleType, status: int) -> None:
    """A function whose process leaves gives no result, whatever the status."""
    with pytest.raises(mvm.CommandFailed) as caught:
        declaring.leaves(status)
    assert caught.value.returncode == status


def test_an_answer_that_is_none_is_not_believed(declaring: ModuleType) -> None:
    """A function that writes into its own answer is not understood, and nothing is made of it."""
    with pytest.raises(mvm.CommandFailed):
        declaring.lies()


def test_an_answer_without_end_is_not_read(declaring: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of a stranger's answer has a bound; the call says so and its sandbox has ended."""
    monkeypatch.setattr("mvm.sandbox.function._MOST_BYTES", 4 << 20)
    with pytest.raises(mvm.CommandFailed, match="wrote more than 4194304 bytes"):
        declaring.floods()


def test_its_life_time_ends_it(declaring: ModuleType) -> None:
    """A declared `ttl` ends the call with an error of its own."""
    with pytest.raises(mvm.SandboxTimeout, match="sleeps still ran after 3 s"):
        declaring.sleeps()


def test_an_asynchronous_one_is_awaited(declaring: ModuleType) -> None:
    """An `async def` gives something to await, and is awaited in its sandbox."""
    import asyncio

    async def both() -> list[Any]:
        return list(await asyncio.gather(declaring.waits(), declaring.waits()))

    assert asyncio.run(both()) == ["waited", "waited"]


def test_it_can_be_called_here(declaring: ModuleType) -> None:
    """`local` calls the function itself, without a sandbox."""
    with pytest.raises(LookupError):
        declaring.fails.local("here")


def test_the_same_file_is_read_without_importing(declaring: ModuleType) -> None:
    """What was imported is what `mvm.compile` reads from the text."""
    from mvm.compile.module import read_program

    assert mvm.program_of(declaring).to_json() == read_program(_PROGRAM, path="declaring.py").to_json()
