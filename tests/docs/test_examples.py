"""Every example that says it runs, run as it stands, in a little internet of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.examples import Example, examples, pattern
from tests.support import namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl
    from tests.support.world import World

pytestmark = pytest.mark.kernel

_TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
_EXAMPLES = tuple(examples())


@pytest.fixture(scope="module", autouse=True)
def hosts(internet: Internet, world: World) -> Iterator[None]:
    """The hosts that the pages speak of; this machine trusts their authority while these tests run."""
    for name, address in (("api.example.com", "93.184.215.90"), ("files.example.com", "93.184.215.91")):
        internet.serve("http", port=443, transport="tls", name=name, addresses=(address,))
    bundle = world.directory / "trusted.pem"
    bundle.write_bytes(internet.ca_file.read_bytes())
    bundle.chmod(0o644)
    trusted = str(_TRUSTED.resolve(strict=True))
    namespaces.mount(str(bundle), trusted, None, namespaces.MS_BIND)
    yield
    namespaces.unmount(trusted)


def test_there_are_examples_of_both_kinds() -> None:
    """Commands and programs are found in the pages, so that none is passed over by a slip of the pen."""
    assert {example.language for example in _EXAMPLES} == {"console", "python"}


@pytest.mark.parametrize("example", _EXAMPLES, ids=lambda example: example.place)
def test_an_example_runs_as_it_stands(example: Example, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """What it prints, and how it ends, is what the page says."""
    for name, text in example.files.items():
        (tmp_path / name).write_text(text, "utf-8")
    if example.language == "python":
        status, printed = _python(["-c", example.text], mvmctl, tmp_path)
        assert status == 0, printed
        return
    for text in example.before:
        _typed(text, mvmctl, tmp_path)
    status, printed = _typed(example.text, mvmctl, tmp_path)
    assert (status, bool(re.fullmatch(pattern(example.prints), printed))) == (example.status, True), printed


def _typed(text: str, mvmctl: Mvmctl, directory: Path) -> tuple[int, str]:
    """Type a command of a page; gives its status, and all that it printed."""
    program, *words = shlex.split(text, comments=True)
    if program == "python3":
        return _python(words, mvmctl, directory)
    assert program == "mvmctl"
    ended = mvmctl(*words, cwd=directory)
    return ended.exit_code, ended.stdout + ended.stderr


def _python(words: list[str], mvmctl: Mvmctl, directory: Path) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, *words],
        cwd=directory,
        env=mvmctl.environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ran.returncode, (ran.stdout + ran.stderr).decode()
