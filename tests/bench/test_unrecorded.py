"""The copy that writes no record, with which the record's cost is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.product import SOURCE, without_record
from bench.subjects import LeftOut

if TYPE_CHECKING:
    from pathlib import Path

_RUN = "01J9ZZZZZZZZZZZZZZZZZZZZZZ"


def written(text: str, directory: Path) -> int:
    """Bytes in the log after one record, by a log module of this source."""
    names: dict[str, object] = {"__name__": "mvm.audit.log"}
    exec(compile(text, "log.py", "exec"), names)  # noqa: S102  our own source, patched
    made = names["Log"]
    assert isinstance(made, type)
    with made.create(str(directory), _RUN) as log:  # type: ignore[attr-defined]
        log.append("flow.closed", flow=1, up=1, down=2)
    return (directory / "runs" / _RUN / "log.jsonl").stat().st_size


def test_the_patched_log_writes_nothing_and_the_real_one_does(tmp_path: Path) -> None:
    """One method call, by the same source with and without the patch."""
    text = (SOURCE / "mvm" / "audit" / "log.py").read_text("utf-8")
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "patched").mkdir(mode=0o700)
    assert written(text, tmp_path / "real") > 0
    assert written(without_record(text), tmp_path / "patched") == 0


def test_a_source_that_cannot_be_patched_is_left_out() -> None:
    """A log that is no longer known is never taken for one that costs nothing."""
    with pytest.raises(LeftOut, match="nothing to patch"):
        without_record("class Log:\n    def write(self) -> None:\n        pass\n")
