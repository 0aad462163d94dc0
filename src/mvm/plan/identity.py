"""Who the workload is: its ids outside, inside, and on the way.

    caller ─outer user namespace─► owns the sandbox's namespaces ─inner user namespace─► the workload

Owns the choice. Pure: the caller's ids and maps are handed in. Must never let the workload be root outside
where another id can be had.
"""

from __future__ import annotations

from typing import NamedTuple

UNPRIVILEGED = 65534
"""The user `nobody`: who the workload is outside when root runs mvm."""

_INSIDE = 1000


class Identity(NamedTuple):
    """The ids of one workload.

    Attributes:
        outside_uid, outside_gid: as the host sees it.
        inside_uid, inside_gid: as it sees itself.
        outer_uid_map, outer_gid_map: for the user namespace that owns the sandbox.
        inner_uid_map, inner_gid_map: for the nested one, in which the workload is.
        may_set_groups: whether supplementary groups can be dropped (setgroups(2)).
        maps_root: whether the host's root is known in the outer namespace.
    """

    outside_uid: int
    outside_gid: int
    inside_uid: int
    inside_gid: int
    outer_uid_map: str
    outer_gid_map: str
    inner_uid_map: str
    inner_gid_map: str
    may_set_groups: bool
    maps_root: bool

    def describe(self) -> str:
        """Say it in one line."""
        return (
            f"user {self.inside_uid} inside, {self.outside_uid} outside; no capabilities, no new privileges"
        )


def choose(
    uid: int, gid: int, uid_map: str, gid_map: str, *, inside: tuple[int, int] | None = None
) -> Identity:
    """Choose the workload's ids.

    Args:
        uid: the caller's effective user id.
        gid: its effective group id.
        uid_map: the text of /proc/self/uid_map: which users the caller's namespace knows.
        gid_map: the same of groups.
        inside: user and group as an image has them, or None for an ordinary user's.

    Returns:
        An ordinary user stays who they are. Root gives way to `UNPRIVILEGED`, or, where the caller's own
        namespace does not know it (a container without root outside), to its own id under another name.
    """
    chosen = _choose(uid, gid, uid_map, gid_map)
    if inside is None:
        return chosen
    inside_uid, inside_gid = inside
    return chosen._replace(
        inside_uid=inside_uid,
        inside_gid=inside_gid,
        inner_uid_map=f"{inside_uid} {chosen.outside_uid} 1",
        inner_gid_map=f"{inside_gid} {chosen.outside_gid} 1",
    )


def _choose(uid: int, gid: int, uid_map: str, gid_map: str) -> Identity:
    if uid != 0:
        return _same(uid, gid)
    if not (_knows(uid_map, UNPRIVILEGED) and _knows(gid_map, UNPRIVILEGED)):
        return _same(uid, gid)._replace(
            inside_uid=_INSIDE,
            inside_gid=_INSIDE,
            inner_uid_map=f"{_INSIDE} {uid} 1",
            inner_gid_map=f"{_INSIDE} {gid} 1",
            maps_root=True,
        )
    outer = f"0 0 1\n{UNPRIVILEGED} {UNPRIVILEGED} 1"
    inner = f"{_INSIDE} {UNPRIVILEGED} 1"
    return Identity(
        outside_uid=UNPRIVILEGED,
        outside_gid=UNPRIVILEGED,
        inside_uid=_INSIDE,
        inside_gid=_INSIDE,
        outer_uid_map=outer,
        outer_gid_map=outer,
        inner_uid_map=inner,
        inner_gid_map=inner,
        may_set_groups=True,
        maps_root=True,
    )


def _same(uid: int, gid: int) -> Identity:
    return Identity(
        outside_uid=uid,
        outside_gid=gid,
        inside_uid=uid,
        inside_gid=gid,
        outer_uid_map=f"{uid} {uid} 1",
        outer_gid_map=f"{gid} {gid} 1",
        inner_uid_map=f"{uid} {uid} 1",
        inner_gid_map=f"{gid} {gid} 1",
        may_set_groups=False,
        maps_root=False,
    )


def _knows(id_map: str, number: int) -> bool:
    """Tell whether an id is mapped (user_namespaces(7): first inside, first outside, how many)."""
    rows = (line.split() for line in id_map.splitlines())
    return any(int(first) <= number < int(first) + int(count) for first, _, count in rows)
