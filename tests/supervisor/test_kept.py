"""Named workspaces by themselves: private, one user at a time, gone when their time is over."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from mvm.errors import AuditError, UsageError
from mvm.supervisor.kept import kept_path, take
from mvm.terms import Seconds

if TYPE_CHECKING:
    from pathlib import Path

_DAY = Seconds(86_400)


def _use(state: Path, name: str, retain: Seconds = _DAY, *, now: float | None = None) -> Path:
    """Take a workspace and give it back; where its files are."""
    take(str(state), name, retain, time.time() if now is None else now).close()
    return state / "workspaces" / name / "home"


def test_a_workspace_is_made_private(tmp_path: Path) -> None:
    """It, and all above it up to the state, is its owner's alone, and where `kept_path` says."""
    home = _use(tmp_path / "state", "shop")
    assert str(home) == kept_path(str(tmp_path / "state"), "shop")
    for place in (home, home.parent, home.parent.parent, tmp_path / "state"):
        assert place.stat().st_mode & 0o777 == 0o700


def test_a_workspace_is_used_by_one_at_a_time(tmp_path: Path) -> None:
    """The second is refused while the first has it, another name is not, and after the first it passes."""
    first = take(str(tmp_path), "shop", _DAY, time.time())
    with pytest.raises(UsageError, match="another sandbox"):
        take(str(tmp_path), "shop", _DAY, time.time())
    _use(tmp_path, "bank")
    first.close()
    _use(tmp_path, "shop")


def test_giving_back_counts_though_a_child_still_has_the_lock(tmp_path: Path) -> None:
    """A process that was forked meanwhile, and has not ended yet, keeps nobody waiting."""
    first = take(str(tmp_path), "shop", _DAY, time.time())
    copy = os.dup(first.rule)
    first.close()
    _use(tmp_path, "shop")
    os.close(copy)


def test_it_is_kept_until_its_time_is_over_and_not_longer(tmp_path: Path) -> None:
    """A second before the end it is whole; a second after it is gone with all that is in it."""
    home = _use(tmp_path, "shop")
    (home / "state").write_text("secret")
    used = (home.parent / "rule.json").stat().st_mtime
    _use(tmp_path, "other", now=used + _DAY - 1)
    assert (home / "state").read_text() == "secret"
    _use(tmp_path, "other", now=used + _DAY + 1)
    assert not home.parent.exists()


def test_its_time_begins_when_its_sandbox_has_ended(tmp_path: Path) -> None:
    """A long use is not counted: giving back sets the time anew."""
    kept = take(str(tmp_path), "shop", _DAY, time.time())
    os.utime(kept.rule, (1, 1))
    kept.close()
    assert (tmp_path / "workspaces" / "shop" / "rule.json").stat().st_mtime > time.time() - 60


def test_the_rule_of_the_last_use_stands(tmp_path: Path) -> None:
    """Who takes it with a shorter time shortens it, also where the old rule was longer to write."""
    _use(tmp_path, "shop", Seconds(10_000_000))
    home = _use(tmp_path, "shop", Seconds(1))
    used = (home.parent / "rule.json").stat().st_mtime
    _use(tmp_path, "other", now=used + 2)
    assert not home.exists()


def test_one_in_use_is_not_removed(tmp_path: Path) -> None:
    """However old it is: its sandbox still runs."""
    first = take(str(tmp_path), "shop", Seconds(1), time.time())
    _use(tmp_path, "other", now=time.time() + _DAY)
    assert (tmp_path / "workspaces" / "shop" / "home").exists()
    first.close()


@pytest.mark.parametrize("rule", ["", "{", "[]", "{}", '{"retain_s": "long"}', '{"retain_s": null}'])
def test_what_has_no_readable_rule_is_not_kept(rule: str, tmp_path: Path) -> None:
    """State without a clear rule is removed, not kept for ever."""
    home = _use(tmp_path, "shop")
    (home.parent / "rule.json").write_text(rule)
    _use(tmp_path, "other")
    assert not home.parent.exists()


def test_removal_follows_no_link_and_stops_at_no_mode(tmp_path: Path) -> None:
    """Links out of it and directories without rights go; what the links lead to stays."""
    home = _use(tmp_path, "shop")
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_text("mine")
    (home / "to-directory").symlink_to(outside)
    (home / "to-file").symlink_to(outside / "deep" / "file")
    (home / "closed" / "below").mkdir(parents=True)
    (home / "closed" / "below" / "to-directory").symlink_to(outside)
    (home / "closed" / "below").chmod(0)
    (home / "closed").chmod(0)
    outside.chmod(0o750)
    _use(tmp_path, "other", now=time.time() + 2 * _DAY)
    assert not home.parent.exists()
    assert (outside / "deep" / "file").read_text() == "mine"
    assert outside.stat().st_mode & 0o777 == 0o750


def test_a_place_that_is_not_ours_alone_is_refused(tmp_path: Path) -> None:
    """A link, or a directory that others can write, in the place of a workspace or of all of them."""
    _use(tmp_path, "shop")
    (tmp_path / "workspaces" / "link").symlink_to(tmp_path)
    (tmp_path / "workspaces").chmod(0o777)
    with pytest.raises(AuditError):
        take(str(tmp_path), "shop", _DAY, time.time())


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    """What a workload nests thousands deep, closed to its owner too, keeps nobody's workspace from going."""
    home = _use(tmp_path, "shop")
    place = os.open(home, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=place)
        place, above = os.open("d", os.O_RDONLY, dir_fd=place), place
        os.close(above)
    os.fchmod(place, 0)
    os.close(place)
    _use(tmp_path, "other", now=time.time() + _DAY + 60)
    assert os.listdir(tmp_path / "workspaces") == ["other"]
