"""Who the workload is, for every kind of caller."""

from __future__ import annotations

import pytest

from mvm.plan.identity import UNPRIVILEGED, choose

WHOLE = "         0          0 4294967295\n"
ONLY_ROOT = "0 1000 1\n"


def test_an_ordinary_user_stays_who_they_are_in_both_namespaces() -> None:
    """Only their own id is mapped, to itself."""
    who = choose(1001, 1002, WHOLE, WHOLE)
    assert (who.outside_uid, who.inside_uid, who.outside_gid, who.inside_gid) == (1001, 1001, 1002, 1002)
    assert who.outer_uid_map == who.inner_uid_map == "1001 1001 1"
    assert who.outer_gid_map == who.inner_gid_map == "1002 1002 1"
    assert not who.may_set_groups
    assert not who.maps_root


def test_root_gives_way_to_an_unprivileged_user() -> None:
    """Outside it is `nobody`; inside, where root's files must not look like its own, it is user 1000."""
    who = choose(0, 0, WHOLE, WHOLE)
    assert (who.outside_uid, who.outside_gid) == (UNPRIVILEGED, UNPRIVILEGED)
    assert (who.inside_uid, who.inside_gid) == (1000, 1000)
    assert who.inner_uid_map == f"1000 {UNPRIVILEGED} 1"
    assert who.outer_uid_map.splitlines() == ["0 0 1", f"{UNPRIVILEGED} {UNPRIVILEGED} 1"]
    assert who.may_set_groups


@pytest.mark.parametrize(
    ("uids", "gids"), [(ONLY_ROOT, WHOLE), (WHOLE, ONLY_ROOT), (ONLY_ROOT, ONLY_ROOT), ("0 0 65534\n", WHOLE)]
)
def test_root_of_a_container_without_other_ids_is_its_own_id_under_another_name(uids: str, gids: str) -> None:
    """Where `nobody` is not known, root there is an ordinary user outside already, and is 1000 inside."""
    who = choose(0, 0, uids, gids)
    assert (who.outside_uid, who.inside_uid) == (0, 1000)
    assert who.outer_uid_map == "0 0 1"
    assert who.inner_uid_map == "1000 0 1"
    assert not who.may_set_groups


def test_a_map_of_several_rows_is_read_whole() -> None:
    """The row that holds `nobody` may be any."""
    rows = "0 1000 1\n1 100000 70000\n"
    assert choose(0, 0, rows, rows).outside_uid == UNPRIVILEGED
