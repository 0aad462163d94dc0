"""Files of the system, the network's tables, and what Landlock alone forbids (ATTACKS 47, 42)."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from mvm.kernel import landlock
from tests.escape.confinement import NOT_ALLOWED, program
from tests.support.children import in_child

if TYPE_CHECKING:
    from pathlib import Path

    from tests.escape.confinement import Confined
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

CLOSED = NOT_ALLOWED | {"EROFS"}
ABSENT = frozenset({"ENOENT"})

# ---- 47: files

SYSTEM = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/passwd", "/etc/hostname")
CHANGING: dict[str, tuple[object, ...]] = {
    "write": ("write", "{}"),
    "append": ("write", "{}", "x", os.O_WRONLY | os.O_APPEND),
    "cut": ("write", "{}", "x", os.O_WRONLY | os.O_TRUNC),
    "truncate": ("do", "truncate", "{}", 0),
    "remove": ("do", "unlink", "{}"),
    "rename away": ("do", "rename", "{}", "{}.old"),
    "put another in its place": ("do", "rename", "/tmp/another", "{}"),
    "link elsewhere": ("do", "symlink", "/tmp/another", "{}.new"),
    "open to all": ("do", "chmod", "{}", 0o666),
    "make one's own": ("do", "chown", "{}", 1000, 1000),
    "by way of init": ("write", "/proc/1/root{}"),
    "by way of itself": ("write", "/proc/self/root{}"),
}


@pytest.mark.parametrize("path", SYSTEM)
@pytest.mark.parametrize("way", CHANGING)
def test_the_files_that_name_and_resolve_stay_as_they_are(confined: Confined, path: str, way: str) -> None:
    """47: neither written nor replaced: they say the same afterwards. Own files can be made and written."""
    act = [word.format(path) if isinstance(word, str) else word for word in CHANGING[way]]
    own = f"/tmp/{path.replace('/', '-')}-{way.replace(' ', '-')}"
    reading = ("read", path)
    before, _, found, after, made, written = confined.tries(
        reading, ("make", "/tmp/another"), act, reading, ("make", own), ("write", own)
    )
    assert found in CLOSED | {"EBUSY", "EXDEV"}
    assert before == after
    assert (made, written) == ("ok", "ok")


KERNELS = (
    "sys/kernel/core_pattern", "sys/kernel/hostname", "sys/kernel/modprobe", "sys/kernel/domainname",
    "sys/kernel/randomize_va_space", "sys/kernel/unprivileged_userns_clone", "sys/kernel/shmmax",
    "sys/kernel/io_uring_disabled", "sys/kernel/unprivileged_bpf_disabled", "sys/kernel/ns_last_pid",
    "sys/user/max_user_namespaces", "sys/user/max_net_namespaces", "sys/vm/drop_caches",
    "sys/vm/overcommit_memory", "sys/vm/unprivileged_userfaultfd", "sys/fs/file-max",
    "sys/fs/protected_symlinks", "sys/fs/suid_dumpable", "sys/fs/binfmt_misc/register",
    "sys/fs/mqueue/msg_max", "sys/net/ipv4/ip_forward", "sys/net/ipv4/ping_group_range",
    "sys/net/ipv4/ip_unprivileged_port_start", "sys/net/ipv4/ip_nonlocal_bind",
    "sys/net/ipv4/conf/all/route_localnet", "sys/net/ipv4/conf/lo/accept_local",
    "sys/net/ipv4/conf/all/rp_filter", "sys/net/ipv4/tcp_rmem", "sys/net/ipv6/conf/all/forwarding",
    "sys/net/ipv6/conf/lo/disable_ipv6", "sys/net/ipv4/tcp_congestion_control", "sysrq-trigger", "kmsg",
    "kcore", "mtrr", "acpi/wakeup", "irq/default_smp_affinity", "timer_list", "sched_debug", "keys-of-all",
    "scsi/scsi", "1/mem", "1/oom_score_adj", "1/uid_map", "1/attr/current", "1/comm", "1/environ",
    "1/cwd/x", "1/root/etc/hosts", "1/fd/3", "self/uid_map", "self/gid_map", "self/setgroups",
    "self/projid_map", "self/timens_offsets",
)  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_no_setting_of_the_kernel_is_changed(confined: Confined, name: str) -> None:
    """47: nothing of /proc but what is the process's own takes a word."""
    refusals = (
        CLOSED | ABSENT | {"EINVAL"}
        if name in {"self/timens_offsets", "self/projid_map"}
        else CLOSED | ABSENT
    )
    own = [("write", "/proc/self/comm", "renamed"), ("write", "/proc/self/oom_score_adj", "900")]
    confined.refused("write", f"/proc/{name}", "1", by=refusals, beside=own)


def test_no_process_is_spared_when_memory_runs_out(confined: Confined) -> None:
    """47: a process may only make itself the likelier victim."""
    score = "/proc/self/oom_score_adj"
    confined.refused("write", score, "-1000", beside=[("write", score, "1000")])


MACHINES = (
    "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/kvm", "/dev/net/tun", "/dev/fuse",
    "/dev/vhost-net", "/dev/vhost-vsock", "/dev/vsock", "/dev/vda", "/dev/sda", "/dev/loop-control",
    "/dev/loop0", "/dev/console", "/dev/tty0", "/dev/tty1", "/dev/ttyS0", "/dev/input/event0",
    "/dev/dri/card0", "/dev/uinput", "/dev/rtc0", "/dev/mapper/control", "/dev/userfaultfd",
    "/dev/cpu/0/msr", "/dev/hwrng", "/dev/snapshot", "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/cgroup.subtree_control", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/bpf/x",
    "/sys/fs/selinux/enforce", "/sys/kernel/uevent_helper", "/sys/power/state",
    "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/debug/x",
    "/sys/kernel/tracing/trace_marker", "/sys/kernel/security/lsm", "/sys/module/kernel/parameters/panic",
    "/sys/class/net/lo/mtu", "/sys/devices/virtual/net/lo/mtu", "/sys/bus/pci/rescan",
    "/sys/block/vda/queue/scheduler", "/sys/devices/system/cpu/cpu1/online",
    "/sys/devices/system/cpu/smt/control", "/sys/devices/system/memory/probe",
)  # fmt: skip


@pytest.mark.parametrize("path", MACHINES)
@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR | os.O_CREAT])
def test_no_device_or_switch_of_the_machine_is_there(confined: Confined, path: str, flags: int) -> None:
    """47: of /dev a few harmless files, of /sys the processors; none takes a word or a new file."""
    confined.refused("write", path, "1", flags, by=CLOSED | ABSENT, beside=[("write", "/dev/null", "1")])


def test_only_harmless_devices_are_there(confined: Confined) -> None:
    """47: no block device, of /dev no more names than this, and no mount but these files' knows devices."""
    mounts, devices, found = confined.tries(
        ("read", "/proc/self/mountinfo"),
        ("find", "b", "/dev", "/etc", "/run", "/sys", "/tmp", "/var"),
        ("names", "/dev"),
    )
    assert devices == "none"
    assert found == "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    seen = {line.split()[4]: set(line.split()[5].split(",")) for line in mounts.splitlines()}
    assert all("nosuid" in flags for flags in seen.values())
    files = {f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero")}
    assert {place for place, flags in seen.items() if "nodev" not in flags} == {*files, "/dev/pts"}


def test_nothing_of_the_host_is_mounted_to_be_written(confined: Confined) -> None:
    """47: what is writable lies in memory, is /proc, a terminal or a harmless device."""
    lines = [line.split() for line in confined.tries(("read", "/proc/self/mountinfo"))[0].splitlines()]
    kinds = {words[4]: words[words.index("-") + 1] for words in lines if "rw" in words[5].split(",")}
    assert set(kinds.values()) == {"tmpfs", "proc", "devpts", "devtmpfs"}
    assert {place for place, kind in kinds.items() if kind == "devtmpfs"} <= {
        f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero")
    }
    assert {"/", "/dev", "/etc", "/usr", "/shown"} & set(kinds) == set()


@pytest.mark.parametrize(
    "place", ["/", "/etc", "/usr", "/usr/bin", "/dev", "/sys", "/proc", "/var", "/opt", "/etc/ssl/private"]
)
def test_nothing_new_is_laid_beside_the_system(confined: Confined, place: str) -> None:
    """47: no file, directory or link in any directory of the system; in one's own each."""
    file, directory, link, *own = confined.tries(
        ("make", f"{place}/new"),
        ("do", "mkdir", f"{place}/newer"),
        ("do", "symlink", "/tmp", f"{place}/newest"),
        *(("make", f"{own}/{place.replace('/', '-')}") for own in ("/tmp", "/run", "/var/tmp", "/dev/shm")),
    )
    assert {file, directory, link} <= CLOSED | ABSENT
    assert set(own) == {"ok"}


# ---- 47: addresses, routes, links


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


LO, OUTSIDE = 1, ipaddress.IPv4Address("192.0.2.7").packed
OUTSIDE6 = ipaddress.IPv6Address("2001:db8::7").packed
_ADDRESS = struct.pack("=BBBBI", 2, 24, 0, 0, LO) + _attribute(2, OUTSIDE) + _attribute(1, OUTSIDE)
_ADDRESS6 = struct.pack("=BBBBI", 10, 64, 0, 0, LO) + _attribute(1, OUTSIDE6)
_ROUTE = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + _attribute(4, struct.pack("=I", LO))
_ROUTE6 = struct.pack("=BBBBBBBBI", 10, 0, 0, 0, 254, 3, 0, 1, 0) + _attribute(4, struct.pack("=I", LO))
_LOCAL = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 255, 3, 254, 2, 0) + _attribute(4, struct.pack("=I", LO))
_RULE = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0)


def _link(kind: bytes) -> bytes:
    return struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(18, _attribute(1, kind))


_DOWN = struct.pack("=BxHiII", 0, 0, LO, 0, 1)
_MOVED = struct.pack("=BxHiII", 0, 0, LO, 0, 0) + _attribute(19, struct.pack("=I", 1))
_NEIGHBOUR = struct.pack("=BxxxiHBB", 2, LO, 0x80, 0, 1) + _attribute(1, OUTSIDE) + _attribute(2, b"\2" * 6)
_QUEUE = struct.pack("=BxxxiIII", 0, LO, 0, 0xFFFFFFFF, 0) + _attribute(1, b"pfifo\0")
MAKE = 0x4 | 0x400  # NLM_F_ACK, NLM_F_CREATE
TOLD: dict[str, tuple[int, int, bytes]] = {
    "an address": (20, MAKE, _ADDRESS),
    "an IPv6 address": (20, MAKE, _ADDRESS6),
    "no address": (21, 4, struct.pack("=BBBBI", 2, 8, 0, 0, LO) + _attribute(2, b"\x7f\0\0\1")),
    "a route": (24, MAKE, _ROUTE),
    "an IPv6 route": (24, MAKE, _ROUTE6),
    "not the door's route": (25, 4, _LOCAL),
    "a bridge": (16, MAKE, _link(b"bridge")),
    "a veth": (16, MAKE, _link(b"veth")),
    "a dummy": (16, MAKE, _link(b"dummy")),
    "a wireguard": (16, MAKE, _link(b"wireguard")),
    "a tunnel": (16, MAKE, _link(b"sit")),
    "a vlan": (16, MAKE, _link(b"vlan")),
    "lo down": (19, 4, _DOWN),
    "lo elsewhere": (19, 4, _MOVED),
    "no lo": (17, 4, _DOWN),
    "a rule": (32, MAKE, _RULE),
    "no rule": (33, 4, _RULE),
    "a neighbour": (28, MAKE, _NEIGHBOUR),
    "a queue": (36, MAKE, _QUEUE),
    "a namespace's number": (88, MAKE, struct.pack("=Bxxx", 0) + _attribute(2, struct.pack("=I", 1))),
}


@pytest.mark.parametrize("what", TOLD)
def test_the_network_is_not_changed_by_messages(confined: Confined, what: str) -> None:
    """47: routing messages that change anything are refused; those that ask are answered."""
    kind, flags, text = TOLD[what]
    asking = ("route", 18, 0x300, struct.pack("=BxHiII", 0, 0, 0, 0, 0).hex())
    confined.refused("route", kind, flags, text.hex(), beside=[asking])


def _request(name: bytes, rest: bytes = b"") -> str:
    return (name.ljust(16, b"\0") + rest).hex()


_OUTSIDE_HERE = struct.pack("=HH4s8x", socket.AF_INET, 0, OUTSIDE)
_NOWHERE = struct.pack("=HH4s8x", socket.AF_INET, 0, b"\0" * 4)
_BY_ROUTE = (struct.pack("=Q", 0) + _NOWHERE + _OUTSIDE_HERE + _NOWHERE + struct.pack("=H", 3)).hex()
REQUESTS = {
    "address": (0x8916, _request(b"lo", _OUTSIDE_HERE)),
    "another address": (0x8916, _request(b"lo:1", _OUTSIDE_HERE)),
    "mask": (0x891C, _request(b"lo", _OUTSIDE_HERE)),
    "peer": (0x8918, _request(b"lo", _OUTSIDE_HERE)),
    "no address": (0x8936, _request(b"lo", _OUTSIDE_HERE)),
    "down": (0x8914, _request(b"lo", struct.pack("=h", 0))),
    "promiscuous": (0x8914, _request(b"lo", struct.pack("=h", 0x149))),
    "size": (0x8922, _request(b"lo", struct.pack("=i", 1280))),
    "name": (0x8923, _request(b"lo", b"evil")),
    "hardware address": (0x8924, _request(b"lo", b"\1\0\2\2\2\2\2\2")),
    "queue": (0x8943, _request(b"lo", struct.pack("=i", 1))),
    "route": (0x890B, _BY_ROUTE),
    "no route": (0x890C, _BY_ROUTE),
    "neighbour": (0x8955, (_OUTSIDE_HERE + b"\1\0\2\2\2\2\2\2").hex()),
    "no neighbour": (0x8953, (_OUTSIDE_HERE + b"\1\0\2\2\2\2\2\2").hex()),
    "bridge": (0x89A0, _request(b"br0")),
    "time stamps": (0x89B0, _request(b"lo", struct.pack("=Q", 0))),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_the_network_is_not_changed_by_requests(confined: Confined, what: str) -> None:
    """47: nor by the older requests on any socket; the flags of lo may be asked."""
    refusals = NOT_ALLOWED | {"EOPNOTSUPP", "ENOTTY"}
    confined.refused(
        "interface", *REQUESTS[what], by=refusals, beside=[("interface", 0x8913, _request(b"lo"))]
    )


# ---- Landlock, where the mounts do not help


@pytest.fixture
def lent(tmp_path: Path) -> Path:
    """A file of the host that anybody may write, as far as its mode goes."""
    if landlock.abi() < 2:
        pytest.skip("this kernel has no Landlock that could forbid writing files")
    made = tmp_path / "lent"
    made.write_text("said\n")
    made.chmod(0o666)
    tmp_path.chmod(0o755)
    return made


REOPENING = {
    "to write": os.O_WRONLY,
    "to read and write": os.O_RDWR,
    "to append": os.O_WRONLY | os.O_APPEND,
    "to cut": os.O_WRONLY | os.O_TRUNC,
}


@pytest.mark.parametrize("way", REOPENING)
def test_a_file_lent_for_reading_is_not_written(mvmctl: Mvmctl, lent: Path, way: str) -> None:
    """42, 47: stdin opened anew by /proc lies on a mount of the host's, which only Landlock closes.

    What it says can be read, and a file of the workload's own is opened anew to write in the same way.
    """
    acts = (
        ("write", "/proc/self/fd/0", "x", REOPENING[way]),
        ("do", "truncate", "/proc/self/fd/0", 0),
        ("read", "/proc/self/fd/0"),
        ("reopened", REOPENING[way]),
    )
    with lent.open() as stdin:
        words = [*mvmctl.command, "run", "--", *program(*acts)]
        ended = subprocess.run(
            words, stdin=stdin, capture_output=True, check=False, text=True, env=mvmctl.environment()
        )
    assert ended.stdout == '["EACCES", "EACCES", "said\\n", "ok"]', ended.stderr
    assert lent.read_text() == "said\n"


def test_the_workload_is_already_restricted_once(confined: Confined, lent: Path) -> None:
    """47: of the layers of Landlock that a process can have, one is taken inside, whoever asks."""
    assert lent.exists()
    most = in_child(_layers)
    assert confined.tries(("layers",)) == [f"{int(most.split()[0]) - 1} E2BIG"]


def _layers() -> str:
    from tests.escape.calls import layers

    return layers()
