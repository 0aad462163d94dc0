"""The sandbox's /etc: the host's, with its own users, names and resolver in it."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from mvm.images.etc import Identity, add_etc, generated_files
from mvm.images.tree import Tree
from mvm.plan.view import Bind, File, Link, Tmpfs

if TYPE_CHECKING:
    from pathlib import Path

ALICE = Identity("alice", 1000, 1000, "/home/alice", "sandbox")
FILES = generated_files(ALICE, (ip_address("198.18.0.1"), ip_address("fd00::1")))


@pytest.fixture
def etc(tmp_path: Path) -> str:
    """Make a made-up /etc with what every machine has."""
    path = os.path.realpath(tmp_path) + "/etc"
    os.makedirs(f"{path}/ssl/private")
    for name in ("passwd", "group", "hosts", "resolv.conf", "hostname", "shadow", "profile"):
        put(f"{path}/{name}")
    os.chmod(f"{path}/shadow", 0o640)
    os.chmod(f"{path}/ssl/private", 0o700)
    return path


def put(path: str, text: str = "the host's") -> None:
    """Write a small file."""
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)


def made(etc: str, tree: Tree) -> dict[str, tuple[bytes, bool]]:
    """Return the generated files of a tree by their path relative to /etc."""
    files = (entry for entry in tree.entries if isinstance(entry, File))
    return {os.path.relpath(entry.target, etc): (entry.content, entry.over) for entry in files}


def test_users_names_and_resolvers_are_the_sandboxs_own() -> None:
    """The workload's user is found by whoami; nobody of the host is listed."""
    assert FILES["passwd"].decode().splitlines() == [
        "root:x:0:0:root:/root:/bin/sh",
        "alice:x:1000:1000:alice:/home/alice:/bin/sh",
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
    ]
    assert FILES["group"].decode().splitlines() == ["root:x:0:", "alice:x:1000:", "nogroup:x:65534:"]
    assert FILES["resolv.conf"] == b"nameserver 198.18.0.1\nnameserver fd00::1\n"
    assert b"hosts: files dns\n" in FILES["nsswitch.conf"]
    assert FILES["machine-id"] == b""


@pytest.mark.parametrize(("uid", "name"), [(0, "root"), (65534, "sandbox")])
def test_no_user_id_is_listed_twice(uid: int, name: str) -> None:
    """Also where the workload is root or nobody inside."""
    files = generated_files(Identity(name, uid, uid, "/h", "s"), ())
    for listing in ("passwd", "group"):
        ids = [line.split(":")[2] for line in files[listing].decode().splitlines()]
        assert len(ids) == len(set(ids)) >= 2


def test_generated_files_cover_the_hosts(etc: str) -> None:
    """Each that the host has is laid over, never written into; one that it lacks is left out."""
    tree = Tree()
    add_etc(tree, FILES, etc=etc)
    assert tree.entries[0] == Bind(etc, etc, writable=False, optional=False, reason="system configuration")
    files = made(etc, tree)
    assert all(over for _, over in files.values())
    assert files["resolv.conf"] == (FILES["resolv.conf"], True)
    assert "machine-id" not in files


def test_what_is_not_the_worlds_to_read_is_covered(etc: str) -> None:
    """A file by an empty one, a directory by an empty one; the world's stays."""
    tree = Tree()
    add_etc(tree, FILES, etc=etc)
    assert made(etc, tree)["shadow"] == (b"", True)
    assert [e.target for e in tree.entries if isinstance(e, Tmpfs)] == [f"{etc}/ssl/private"]
    assert "profile" not in made(etc, tree)


@pytest.mark.parametrize("there", [True, False])
def test_a_resolver_file_that_is_a_link_appears_where_it_leads(etc: str, *, there: bool) -> None:
    """That of systemd-resolved lies in /run: the sandbox's own gets it, be the host's there now or not."""
    run = os.path.dirname(etc) + "/run"
    os.unlink(f"{etc}/resolv.conf")
    os.symlink("../run/resolve/stub-resolv.conf", f"{etc}/resolv.conf")
    if there:
        os.makedirs(f"{run}/resolve")
        put(f"{run}/resolve/stub-resolv.conf")
    tree = Tree()
    tree.tmpfs(run, mode=0o755)
    add_etc(tree, FILES, etc=etc)
    assert File(f"{run}/resolve/stub-resolv.conf", FILES["resolv.conf"], 0o444, over=False) in tree.entries
    assert "resolv.conf" not in made(etc, tree)


@pytest.mark.parametrize("name", ["passwd", "group", "hosts", "resolv.conf"])
@pytest.mark.parametrize("dangling", [True, False])
def test_a_file_that_the_host_lacks_is_there_all_the_same(etc: str, name: str, *, dangling: bool) -> None:
    """Nothing can be made below a bind: then /etc is put together, entry by entry, without private ones."""
    os.unlink(f"{etc}/{name}")
    if dangling:
        os.symlink("ssl/gone", f"{etc}/{name}")
    os.symlink("../usr/lib/os-release", f"{etc}/os-release")
    tree = Tree()
    add_etc(tree, FILES, etc=etc)
    files = made(etc, tree)
    assert files[name] == (FILES[name], False)
    assert set(FILES) <= set(files)
    assert Link(f"{etc}/os-release", "../usr/lib/os-release") in tree.entries
    binds = {e.source for e in tree.entries if isinstance(e, Bind)}
    assert binds == {f"{etc}/profile", f"{etc}/ssl"}
    assert [e.target for e in tree.entries if isinstance(e, Tmpfs)] == [etc, f"{etc}/ssl/private"]
