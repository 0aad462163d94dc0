"""A copy is what its edit says, and of its tests only those count as failed that could begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mutations import copies
from tests.mutations.defences import Edit

if TYPE_CHECKING:
    from pathlib import Path

_TESTS = """\
import pytest

@pytest.fixture
def not_set_up():
    raise OSError

@pytest.fixture
def not_put_away():
    yield
    raise OSError

def test_that_can_not_begin(not_set_up): pass
def test_that_can_not_end(not_put_away): pass
def test_that_fails(): assert False
@pytest.mark.parametrize("at", [0, 1])
def test_of_which_one_case_fails(at): assert at
def test_that_passes(): pass
def test_that_is_skipped(): pytest.skip("here")
"""


def test_what_can_not_begin_has_not_failed(tmp_path: Path) -> None:
    """An error in set-up is no failure: a copy in which nothing starts proves nothing. One at the end is."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/test_it.py").write_text(_TESTS, "utf-8")
    told = copies.run(tmp_path / "copy", ["test_it.py"], tmp_path / "report.xml")
    fails, ends = {"that_fails", "of_which_one_case_fails"}, {"that_can_not_end"}
    assert told.failed == {f"test_it.py::test_{name}" for name in fails | ends}
    assert told.passed == {"test_it.py::test_that_passes"}
    assert told.skipped == {"test_it.py::test_that_is_skipped"}
    assert "test_that_can_not_begin" in told.said


_AT_FIRST = """\
from pathlib import Path

def test_that_fails_at_first():
    marker = Path(__file__).with_name("marker")
    tried_before = marker.exists()
    marker.touch()
    assert tried_before
def test_that_fails(): assert False
def test_that_passes(): pass
"""


def test_what_is_to_pass_is_tried_once_more(tmp_path: Path) -> None:
    """To fail once beside others is forgiven, twice is not; what is to fail is not tried again."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/test_it.py").write_text(_AT_FIRST, "utf-8")
    first, fails, passes = (f"test_it.py::test_that_{what}" for what in ("fails_at_first", "fails", "passes"))
    lanes, report = copies.Lanes(2), tmp_path / "report.xml"
    told = lanes.run(tmp_path / "copy", [first, fails, passes], report, passing=[fails, passes])
    assert told.failed == {first, fails}
    assert told.passed == {passes}
    (tmp_path / "copy/marker").unlink()
    told = lanes.run(tmp_path / "copy", [first, fails, passes], report, passing=[first, passes])
    assert told.failed == {fails}
    assert told.passed == {first, passes}


def test_what_can_not_be_loaded_has_not_failed(tmp_path: Path) -> None:
    """A copy that is no Python any more is no proof either."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/test_it.py").write_text("def test_that_fails() assert False\n", "utf-8")
    told = copies.run(tmp_path / "copy", ["test_it.py::test_that_fails"], tmp_path / "report.xml")
    assert not told.failed | told.passed | told.skipped


@pytest.mark.parametrize(("text", "refused"), [("here\n", False), ("far\n", True), ("here\nhere\n", True)])
def test_an_edit_finds_its_text_once_or_is_refused(tmp_path: Path, text: str, refused: bool) -> None:
    """What was lent from the base stays as it is there."""
    base, file = tmp_path / "base", "src/mvm/one.py"
    (base / file).parent.mkdir(parents=True)
    (base / file).write_text(text, "utf-8")
    copy = copies.lend(base, tmp_path / "copy")
    if refused:
        with pytest.raises(copies.EditRefused):
            copies.edit(copy, [Edit("one.py", "here", "gone")])
    else:
        copies.edit(copy, [Edit("one.py", "here", "gone")])
        assert (copy / file).read_text("utf-8") == "gone\n"
    assert (base / file).read_text("utf-8") == text
