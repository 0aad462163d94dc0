"""Each mount call, tried in a mount namespace of its own, with its absence beside it."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from mvm.kernel import mounts, syscalls, user_namespaces
from tests.support.children import in_child, in_mount_namespace

pytestmark = pytest.mark.kernel

_SHARED = 1 << 20
_IDS = {"uid": os.getuid(), "gid": os.getgid()}


def _tmpfs(target: Path, mode: int = 0o755, size: int | None = None) -> None:
    target.mkdir(exist_ok=True)
    mounts.tmpfs(str(target), mode=mode, uid=os.getuid(), gid=os.getgid(), size=size)


def _options(target: Path) -> set[str]:
    """What the kernel says of the topmost mount at a place."""
    rows = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return set([row[5] for row in rows if row[4] == str(target)][-1].split(","))


def _refusal(path: Path) -> str:
    """Write a file; return the name of what refuses it, or `ok`."""
    try:
        path.write_text("x")
    except OSError as refusal:
        return errno.errorcode[refusal.errno or 0]
    return "ok"


def test_a_tmpfs_is_empty_owned_and_bounded(tmp_path: Path) -> None:
    """It has the mode and owner that were asked for, takes what fits, and refuses what doesn't."""

    def act() -> tuple[list[str], int, tuple[int, int], set[str], str]:
        (tmp_path / "covered").touch()
        _tmpfs(tmp_path, 0o1777, 64 << 10)
        (tmp_path / "small").write_bytes(bytes(32 << 10))
        told = tmp_path.stat()
        try:
            (tmp_path / "large").write_bytes(bytes(64 << 10))
        except OSError as refusal:
            full = errno.errorcode[refusal.errno or 0]
        else:
            full = "ok"
        return (
            os.listdir(tmp_path),
            told.st_mode & 0o7777,
            (told.st_uid, told.st_gid),
            _options(tmp_path),
            full,
        )

    names, mode, owner, options, full = in_mount_namespace(act)
    assert sorted(names) == ["large", "small"]
    assert mode == 0o1777
    assert owner == (os.getuid(), os.getgid())
    assert {"nosuid", "nodev"} <= options
    assert full == "ENOSPC"


@pytest.mark.parametrize("recursive", [True, False])
def test_read_only_reaches_what_is_mounted_below(tmp_path: Path, recursive: bool) -> None:
    """A tree made read-only refuses writes; recursively, on what is mounted in it too, else not."""

    def act() -> list[str]:
        _tmpfs(tmp_path)
        _tmpfs(tmp_path / "below")
        files = [tmp_path / "file", tmp_path / "below" / "file"]
        before = [_refusal(file) for file in files]
        mounts.set_attributes(str(tmp_path), readonly=True, recursive=recursive)
        return before + [_refusal(file) for file in files]

    assert in_mount_namespace(act) == ["ok", "ok", "EROFS", "EROFS" if recursive else "ok"]


def test_attributes_are_added_and_none_taken_back(tmp_path: Path) -> None:
    """Each word sets its own attribute; a later call with another word keeps the earlier ones."""

    def act() -> list[set[str]]:
        told = []
        tmp_path.mkdir(exist_ok=True)
        mounts.tmpfs(str(tmp_path), mode=0o755, **_IDS, flags=0)
        for words in ({}, {"nosuid": True}, {"nodev": True}, {"noexec": True}, {"readonly": True}):
            mounts.set_attributes(str(tmp_path), **words)
            told.append(_options(tmp_path) & {"nosuid", "nodev", "noexec", "ro"})
        return told

    assert in_mount_namespace(act) == [
        set(),
        {"nosuid"},
        {"nosuid", "nodev"},
        {"nosuid", "nodev", "noexec"},
        {"nosuid", "nodev", "noexec", "ro"},
    ]


@pytest.mark.parametrize("recursive", [True, False])
def test_a_bind_shows_the_same_files(tmp_path: Path, recursive: bool) -> None:
    """What is written at one place is read at the other; what is mounted below is seen only recursively."""

    def act() -> tuple[str, list[str]]:
        _tmpfs(tmp_path)
        source, target = tmp_path / "source", tmp_path / "target"
        source.mkdir()
        target.mkdir()
        _tmpfs(source / "below")
        (source / "below" / "deep").touch()
        mounts.bind(str(source), str(target), recursive=recursive)
        (source / "file").write_text("said")
        return (target / "file").read_text(), os.listdir(target / "below")

    assert in_mount_namespace(act) == ("said", ["deep"] if recursive else [])


def test_a_file_is_bound_over_a_file(tmp_path: Path) -> None:
    """One file can be seen in the place of another, and the other is untouched when it is gone again."""

    def act() -> list[str]:
        old, new = tmp_path / "old", tmp_path / "new"
        old.write_text("old")
        new.write_text("new")
        mounts.bind(str(new), str(old))
        seen = old.read_text()
        mounts.unmount(str(old))
        return [seen, old.read_text()]

    assert in_mount_namespace(act) == ["new", "old"]


@pytest.mark.parametrize("private", [True, False])
def test_private_mounts_are_not_seen_elsewhere(tmp_path: Path, private: bool) -> None:
    """A mount made in a copy of the namespace appears in the first, unless the copy was made private."""

    def act() -> list[str]:
        _tmpfs(tmp_path)
        (tmp_path / "point").mkdir()
        mounts.mount(None, str(tmp_path), None, _SHARED)

        def in_a_copy() -> None:
            syscalls.unshare(syscalls.NEWNS)
            if private:
                mounts.make_private()
            _tmpfs(tmp_path / "point")
            (tmp_path / "point" / "made-there").touch()

        in_child(in_a_copy)
        return os.listdir(tmp_path / "point")

    assert in_mount_namespace(act) == ([] if private else ["made-there"])


def test_a_busy_mount_is_detached_only_if_asked(tmp_path: Path) -> None:
    """While a file in it is open an ordinary unmount is refused, and a detaching one done."""

    def act() -> tuple[str, list[str]]:
        (tmp_path / "beneath").touch()
        _tmpfs(tmp_path)
        with (tmp_path / "open").open("w"):
            with pytest.raises(OSError, match=f"unmount {tmp_path}: Device or resource busy"):
                mounts.unmount(str(tmp_path), detach=False)
            mounts.unmount(str(tmp_path))
        return "detached", os.listdir(tmp_path)

    assert in_mount_namespace(act) == ("detached", ["beneath"])


def test_terminals_are_the_sandboxs_own(tmp_path: Path) -> None:
    """A new devpts has none of the terminals outside, and numbers its own from 0."""

    def act() -> tuple[list[str], list[str]]:
        mounts.devpts(str(tmp_path))
        before = os.listdir(tmp_path)
        os.open(tmp_path / "ptmx", os.O_RDWR | os.O_NOCTTY)
        return before, sorted(os.listdir(tmp_path))

    assert in_mount_namespace(act) == (["ptmx"], ["0", "ptmx"])


def test_proc_shows_the_pid_namespace_it_is_mounted_in(tmp_path: Path) -> None:
    """The first process of a pid namespace sees itself alone in a /proc of its own; others in the old."""

    def act() -> tuple[list[str], bool]:
        syscalls.unshare(syscalls.NEWPID)

        def first() -> tuple[list[str], bool]:
            mounts.proc(str(tmp_path))
            numbers = [name for name in os.listdir(tmp_path) if name.isdigit()]
            return numbers, len([name for name in os.listdir("/proc") if name.isdigit()]) > 1

        return in_child(first)

    assert in_mount_namespace(act) == (["1"], True)


def test_a_mount_is_moved(tmp_path: Path) -> None:
    """It is gone where it was, and there where it was moved to."""

    def act() -> tuple[list[str], list[str]]:
        _tmpfs(tmp_path)
        _tmpfs(tmp_path / "from")
        (tmp_path / "from" / "file").touch()
        (tmp_path / "to").mkdir()
        mounts.make_private(str(tmp_path))
        mounts.move(str(tmp_path / "from"), str(tmp_path / "to"))
        return os.listdir(tmp_path / "from"), os.listdir(tmp_path / "to")

    assert in_mount_namespace(act) == ([], ["file"])


def test_a_tree_is_cloned_whole_and_attached_elsewhere(tmp_path: Path) -> None:
    """The copy has what is mounted below, is seen nowhere before it is attached, and is not inherited."""

    def act() -> tuple[list[str], list[str], bool]:
        _tmpfs(tmp_path)
        _tmpfs(tmp_path / "source")
        _tmpfs(tmp_path / "source" / "below")
        (tmp_path / "source" / "below" / "deep").touch()
        (tmp_path / "target").mkdir()
        descriptor = mounts.clone_tree(str(tmp_path / "source"))
        before = os.listdir(tmp_path / "target")
        mounts.attach(descriptor, str(tmp_path / "target"))
        return before, os.listdir(tmp_path / "target" / "below"), os.get_inheritable(descriptor)

    assert in_mount_namespace(act) == ([], ["deep"], False)


def test_a_cloned_file_is_attached_over_a_file(tmp_path: Path) -> None:
    """The tree may be a single file."""

    def act() -> str:
        old, new = tmp_path / "old", tmp_path / "new"
        old.write_text("old")
        new.write_text("new")
        mounts.attach(mounts.clone_tree(str(new)), str(old))
        return old.read_text()

    assert in_mount_namespace(act) == "new"


@pytest.mark.root_only
@pytest.mark.parametrize("mapped", [True, False])
def test_ids_are_mapped_in_both_directions(tmp_path: Path, mapped: bool) -> None:
    """Root's directory belongs to user 65534 through the mount, who writes there; on disk root owns it."""
    source = tmp_path / "source"
    source.mkdir(mode=0o755)
    (source / "file").touch(mode=0o644)

    def act() -> tuple[int, str]:
        target = tmp_path / "target"
        target.mkdir()
        tree = mounts.clone_tree(str(source))
        if mapped:
            mounts.map_ids(tree, user_namespaces.make("0 65534 1", "0 65534 1"))
        mounts.attach(tree, str(target))
        owner = (target / "file").stat().st_uid
        os.chdir(target)
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        return owner, _refusal(Path("made"))

    owner, wrote = in_mount_namespace(act)
    if mapped:
        assert (owner, wrote) == (65534, "ok")
        assert (source / "made").stat().st_uid == 0
    else:
        assert (owner, wrote) == (0, "EACCES")


def test_a_user_namespace_by_descriptor_leaves_no_process() -> None:
    """The namespace is another than the caller's, has the maps asked for, and nobody is left in it."""
    own = (os.getuid(), os.getgid())

    def act() -> tuple[bool, str]:
        descriptor = user_namespaces.make(f"0 {own[0]} 1", f"0 {own[1]} 1")
        other = os.fstat(descriptor).st_ino != os.stat("/proc/self/ns/user").st_ino
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        syscalls.enter(descriptor, syscalls.NEWUSER)
        return other, Path("/proc/self/uid_map").read_text()

    other, uid_map = in_child(act)
    assert other
    assert uid_map.split()[0::2] == ["0", "1"]


def test_a_user_namespace_that_is_withheld_is_told() -> None:
    """Where none may be made the refusal is raised in the caller, not lost in the child."""

    def act() -> None:
        syscalls.unshare(syscalls.NEWUSER)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        user_namespaces.make("0 0 1", "0 0 1")

    with pytest.raises(OSError, match=r"unshare\(user\)") as refusal:
        in_child(act)
    assert refusal.value.errno == errno.ENOSPC


def test_the_child_in_a_user_namespace_ends_with_its_parent() -> None:
    """If the caller is killed while the namespace is made, the helping process ends too."""
    alive, alive_in_child = os.pipe()

    def act() -> None:
        # Maps that the caller may not write stop it while the child waits.
        try:
            user_namespaces.make("0 0 4000000000\n5 5 5", "0 0 1")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(Exception, match="status -9"):
        in_child(act)
    os.close(alive_in_child)
    assert os.read(alive, 1) == b""
    os.close(alive)


def test_refusals_say_what_was_tried(tmp_path: Path) -> None:
    """Each call names itself and its place in the error."""
    gone = str(tmp_path / "gone")
    attempts = {
        f"mount tmpfs on {gone}": lambda: mounts.tmpfs(gone, mode=0o755, **_IDS),
        f"mount {gone} on {gone}": lambda: mounts.bind(gone, gone),
        f"mount_setattr {gone}": lambda: mounts.set_attributes(gone, readonly=True),
        f"open_tree {gone}": lambda: mounts.clone_tree(gone),
        f"move_mount to {gone}": lambda: mounts.attach(0, gone),
        f"unmount {gone}": lambda: mounts.unmount(gone),
        "mount_setattr 0": lambda: mounts.map_ids(0, 0),
    }
    for said, attempt in attempts.items():
        with pytest.raises(OSError, match=said):
            in_mount_namespace(attempt)
