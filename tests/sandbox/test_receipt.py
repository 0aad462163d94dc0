"""The receipt of a sandbox of the Python API: there once it is closed, checked with the public key alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import mvm
from tests.sandbox.reaching import get, open_to

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.conftest import Start
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_API, _OTHER = "api.example.test", "other.example.test"


def test_a_closed_sandbox_has_a_receipt(
    box: Start, mvmctl: Mvmctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was reached and denied stands in it, and it verifies; a relative path is the caller's."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.json"
    one = box(open_to(f"{_API}:80"), receipt="run.json")
    one.run(get(_API), check=True)
    one.run(get(_OTHER))
    assert not file.exists()
    result = one.close()
    assert result is not None
    assert result["receipt"] == str(file)
    log = mvmctl.state / "runs" / one.run_id / "log.jsonl"
    mvmctl("receipt", "verify", str(file), "--log", str(log)).expect(0)
    shown = mvmctl("receipt", "show", str(file)).expect(0).stdout
    assert "\nflows      1, " in shown
    assert "\ndenials    0\n" not in shown
    assert _OTHER in shown


def test_a_receipt_that_can_not_be_is_an_error(box: Start, tmp_path: Path) -> None:
    """Of the start where the file is there, of the end where its directory has gone."""
    (tmp_path / "there").write_text("mine")
    with pytest.raises(mvm.AuditError, match="there"):
        box(receipt=tmp_path / "there")
    place = tmp_path / "place"
    place.mkdir()
    one = box(receipt=place / "run.json")
    place.rmdir()
    with pytest.raises(mvm.AuditError, match="receipt"):
        one.close()
    assert one.close() is not None
