"""A watch tells of every growth of its file, also of one that came before it was asked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from mvm.audit.keys import signing_key
from mvm.audit.log import Log
from mvm.audit.report import follow_records
from mvm.kernel.inotify import FileWatch

if TYPE_CHECKING:
    from pathlib import Path


def test_growth_is_told_once(tmp_path: Path) -> None:
    """Growth before the question is not missed, is told once, and another file's growth is not told."""
    log, other = tmp_path / "log", tmp_path / "other"
    log.write_text("")
    other.write_text("")
    with FileWatch(str(log)) as watch:
        assert not watch.wait(0)
        other.write_text("x")
        assert not watch.wait(0)
        with log.open("a") as file:
            file.write("x")
            file.flush()
            file.write("y")
        assert watch.wait(5)
        assert not watch.wait(0)
        log.unlink()
        assert watch.wait(5)


def test_what_cannot_be_watched(tmp_path: Path) -> None:
    """A file that is not there raises OSError with what was tried."""
    with pytest.raises(FileNotFoundError, match="inotify_add_watch"):
        FileWatch(str(tmp_path / "nothing"))


def test_a_log_is_followed_while_it_is_written(tmp_path: Path) -> None:
    """A reader that follows by a watch sees every record of a writer, and ends at the seal."""
    state = str(tmp_path)
    with Log.create(state, "0" * 26) as log, FileWatch(log.path) as watch:

        def write() -> None:
            for number in range(500):
                log.append("flow.opened", flow=number)
            log.seal(signing_key(state))

        writer = threading.Thread(target=write)
        writer.start()
        records = list(follow_records(log.path, wait=lambda: watch.wait(10)))
        writer.join()
    assert [record.get("flow") for record in records] == [*range(500), None]
