"""The probe tells what is, and why something is withheld and what gives it: each is withheld for real."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.kernel import mounts, probe, seccomp, syscalls
from mvm.kernel.probe import Fact, Facts
from tests.support.children import in_child, in_mount_namespace, in_user_namespace

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.kernel

_ALLOW, _ERRNO_EPERM = 0x7FFF0000, 0x00050001


def _withheld(act: Callable[[], None], *, user: bool = False) -> Facts:
    """Probe in a child that has first done something to itself."""

    def inside() -> Facts:
        act()
        return probe.probe()

    return in_user_namespace(inside) if user else in_mount_namespace(inside)


def _refusing(*numbers: int) -> bytes:
    """A filter that answers these calls EPERM, as a container's does, and lets the rest pass."""
    load, equal, give = 0x20, 0x15, 0x06
    rows = [(load, 0, 0, 0)]
    rows += [(equal, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    rows += [(give, 0, 0, _ALLOW), (give, 0, 0, _ERRNO_EPERM)]
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def test_facts_say_what_was_found_and_are_told_apart() -> None:
    """Each has a name of its own, a detail, whom it serves, and a fix only where it isn't so already."""
    facts = in_child(probe.probe)
    assert len({fact.name for fact in facts}) == len(facts)
    for fact in facts:
        assert isinstance(fact, Fact)
        assert fact.detail
        assert fact.serves
        assert "\n" not in fact.detail + fact.fix
        assert not (fact.ok and fact.fix)


@pytest.mark.must_run_here
def test_what_the_tests_themselves_use_is_there() -> None:
    """On a machine on which these tests run there are namespaces, and whatever they need is found."""
    facts = in_child(probe.probe)
    assert facts.kernel.ok
    assert facts.user_namespaces.ok
    assert facts.proc.ok
    assert facts.nf_tables.ok
    assert facts.seccomp.ok


def test_nothing_outlives_the_probe() -> None:
    """No child, no descriptor, no mount and no cgroup of its own is left."""

    def act() -> tuple[bool, bool, bool]:
        before = (os.listdir("/proc/self/fd"), Path("/proc/self/mountinfo").read_text())
        probe.probe()
        after = (os.listdir("/proc/self/fd"), Path("/proc/self/mountinfo").read_text())
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            childless = True
        else:
            childless = False
        own = f"mvm-probe-{os.getpid()}"  # other cgroups go while this looks
        left = [folder for folder, below, _ in os.walk("/sys/fs/cgroup") if own in below]
        return before == after, childless, not left

    assert in_child(act) == (True, True, True)


@pytest.mark.parametrize("kind", ["user", "net", "pid", "mnt", "ipc", "uts", "cgroup"])
def test_a_limit_of_no_namespaces(kind: str) -> None:
    """Where a user may have none of one kind, that sysctl is named with the command that raises it."""

    def act() -> None:
        Path(f"/proc/sys/user/max_{kind}_namespaces").write_text("0")

    fact = _withheld(act, user=True).user_namespaces
    assert not fact.ok
    assert f"user.max_{kind}_namespaces is 0" in fact.detail
    assert fact.fix == f"sudo sysctl -w user.max_{kind}_namespaces=15000"


def test_what_needs_namespaces_is_not_blamed() -> None:
    """Where there are none, /proc, rules and TAPs are told as not tried, with no fix of their own."""
    facts = _withheld(lambda: _write("/proc/sys/user/max_net_namespaces", "0"), user=True)
    for fact in (facts.proc, facts.nf_tables, facts.tun):
        assert (fact.ok, fact.detail) == (False, "not tried without user namespaces")
    assert facts.proc.fix == facts.nf_tables.fix == ""


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


def test_the_filter_of_a_container() -> None:
    """Where a filter of system calls refuses namespaces, the option that takes it away is named."""
    unshare = {"x86_64": 272, "aarch64": 97}[os.uname().machine]

    def act() -> None:
        syscalls.set_no_new_privileges()
        seccomp.install(_refusing(unshare))

    fact = _withheld(act).user_namespaces
    assert not fact.ok
    assert "a filter of system calls" in fact.detail
    assert "seccomp=unconfined" in fact.fix


@pytest.mark.parametrize(
    ("path", "value", "fix"),
    [
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
@pytest.mark.user_only
def test_what_distributions_withhold_from_ordinary_users(
    monkeypatch: pytest.MonkeyPatch, path: str, value: str, fix: str
) -> None:
    """Debian's and Ubuntu's own sysctls, which only their kernels have, are named with what undoes them."""
    real = probe._read  # noqa: SLF001  these files can't be made on another kernel
    monkeypatch.setattr(probe, "_read", lambda asked: value if asked == path else real(asked))

    def act() -> None:
        syscalls.set_no_new_privileges()
        seccomp.install(_refusing({"x86_64": 272, "aarch64": 97}[os.uname().machine]))

    fact = _withheld(act).user_namespaces
    assert not fact.ok
    assert fact.fix == fix


def test_a_masked_proc() -> None:
    """Where a part of /proc is covered, as in a container, no new one may be mounted; the option is named."""

    def act() -> None:
        mounts.tmpfs("/proc/bus", mode=0o555, uid=os.getuid(), gid=os.getgid())

    facts = _withheld(act)
    assert facts.user_namespaces.ok
    assert not facts.proc.ok
    assert "mount proc on /proc" in facts.proc.detail
    assert "systempaths=unconfined" in facts.proc.fix


def test_netfilter_that_is_withheld() -> None:
    """Where no socket to nf_tables can be made, the modules that give it are named."""
    socket_call, netlink, netfilter = {"x86_64": 41, "aarch64": 198}[os.uname().machine], 16, 12
    load, equal, give = 0x20, 0x15, 0x06
    rows = [
        (load, 0, 0, 0),
        (equal, 0, 5, socket_call),
        (load, 0, 0, 16),
        (equal, 0, 3, netlink),
        (load, 0, 0, 32),
        (equal, 0, 1, netfilter),
        (give, 0, 0, 0x00050000 | 93),
        (give, 0, 0, _ALLOW),
    ]

    def act() -> None:
        syscalls.set_no_new_privileges()
        seccomp.install(b"".join(struct.pack("=HBBI", *row) for row in rows))

    facts = _withheld(act)
    assert facts.user_namespaces.ok
    assert not facts.nf_tables.ok
    assert facts.nf_tables.fix.startswith("sudo modprobe -a nf_tables nft_tproxy")


def test_a_kernel_without_landlock() -> None:
    """Without it nothing is claimed, and the word for the kernel's command line is named."""

    def act() -> None:
        syscalls.set_no_new_privileges()
        seccomp.install(_refusing(444))

    fact = _withheld(act).landlock
    assert not fact.ok
    assert "lsm=" in fact.fix


def test_kvm_is_not_believed_because_it_opens() -> None:
    """Without the processor's virtualisation, or with kvm_pvm, it is not there for guests; else it is."""
    fact = in_child(probe.probe).kvm
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if os.path.isdir("/sys/module/kvm_pvm") or (
        os.uname().machine == "x86_64" and not {"vmx", "svm"} & flags
    ):
        assert not fact.ok
        assert fact.fix == ""
    else:
        assert fact.ok is os.access("/dev/kvm", os.R_OK | os.W_OK)


def test_programs_are_found_on_the_path(tmp_path: Path) -> None:
    """One on PATH is told with its place; one that isn't, or can't be run, is told as missing."""
    for program, mode in (("crun", 0o755), ("runc", 0o644)):
        (tmp_path / program).touch()
        (tmp_path / program).chmod(mode)
    (tmp_path / "apt-get").touch(mode=0o755)

    def act() -> None:
        os.environ["PATH"] = str(tmp_path)

    facts = _withheld(act)
    assert (facts.crun.ok, facts.crun.detail) == (True, str(tmp_path / "crun"))
    assert (facts.runc.ok, facts.runc.fix) == (False, "sudo apt-get install runc")
    assert (facts.runsc.ok, facts.runsc.detail) == (False, "runsc is not on PATH")


@pytest.mark.parametrize(("left", "fix"), [(3, ""), (0, "maxkeys=400")])
def test_how_many_keys_are_left_is_told(tmp_path: Path, left: int, fix: str) -> None:
    """A sandbox takes one of the keys that the kernel lets a user have; what gives more is named."""
    users = tmp_path / "key-users"
    users.write_text(f"    9: 1 1/1 1/200 9/20000\n{os.geteuid():5}: 7 7/7 {200 - left}/200 900/20000\n")
    told = _withheld(lambda: mounts.bind(str(users), "/proc/key-users")).keys
    assert (told.ok, told.detail) == (left > 0, f"room for {left} of 200; a sandbox takes one")
    assert told.fix.endswith(fix)
    assert bool(told.fix) is bool(fix)


@pytest.mark.root_only
def test_mapped_ids_depend_on_the_file_system() -> None:
    """As root, a directory on a file system that can't map ids is told, and one that can is."""
    plain = in_child(probe.probe).idmapped_mounts

    def on_proc() -> None:
        os.chdir("/proc")

    told = _withheld(on_proc).idmapped_mounts
    assert not told.ok
    assert "mount_setattr" in told.detail
    assert plain.ok or plain.fix
