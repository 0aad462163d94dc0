"""Names of running sandboxes: taken, refused, swept."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from mvm.errors import AuditError, UsageError
from mvm.supervisor import registry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A runtime directory of this test's own, not made yet, with a path too long for a socket's."""
    return {"MVM_RUNTIME_DIR": str(tmp_path / ("long" * 30) / "run")}


def test_a_taken_name_is_listed_and_can_be_connected_to_by_its_owner_only(environ: dict[str, str]) -> None:
    """The directory is 0700, whatever the umask."""
    place = registry.take("box", environ)
    with place.listener:
        assert registry.names(environ) == ["box"]
        with registry.connect("box", environ):
            place.listener.accept()[0].close()
        assert stat.S_IMODE(os.stat(f"{environ['MVM_RUNTIME_DIR']}/box").st_mode) == 0o700


def test_a_name_is_taken_once(environ: dict[str, str]) -> None:
    """The second asks for another name, and the first stays."""
    with registry.take("box", environ).listener:
        with pytest.raises(UsageError, match="is running"):
            registry.take("box", environ)
        assert registry.names(environ) == ["box"]


def test_the_name_of_a_dead_sandbox_is_swept_by_whoever_meets_it(environ: dict[str, str]) -> None:
    """A socket that nobody answers is no sandbox: listing removes it, and taking takes it over."""
    for meet in (registry.names, lambda environ: registry.take("dead", environ).listener.close()):
        registry.take("dead", environ).listener.close()
        meet(environ)
    assert registry.names(environ) == []
    assert os.listdir(environ["MVM_RUNTIME_DIR"]) == []


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", ".", "a b", "x" * 64, "a\n", "ä", "a_b"])
def test_a_name_that_is_no_label_is_refused(name: str, environ: dict[str, str]) -> None:
    """Names are host names inside, and directories here: one alphabet that is safe for both."""
    with pytest.raises(UsageError, match="no name of a sandbox"):
        registry.check_name(name)
    with pytest.raises(UsageError):
        registry.connect(name, environ)


@pytest.mark.parametrize("name", ["a", "0", "agent-sandbox", "x" * 63])
def test_a_label_is_a_name(name: str) -> None:
    """And stays as it is."""
    assert registry.check_name(name) == name


def test_connecting_to_nothing_says_so(environ: dict[str, str]) -> None:
    """Whether or not the runtime directory is there."""
    for _ in range(2):
        with pytest.raises(UsageError, match="no sandbox called 'box' is running"):
            registry.connect("box", environ)
        registry.take("other", environ).listener.close()


def test_a_runtime_directory_that_others_can_write_is_refused(environ: dict[str, str]) -> None:
    """Somebody else's socket must never be taken for a sandbox's."""
    os.makedirs(environ["MVM_RUNTIME_DIR"])
    os.chmod(environ["MVM_RUNTIME_DIR"], 0o777)  # noqa: S103  that is the point
    with pytest.raises(AuditError, match="written by others"):
        registry.take("box", environ)
