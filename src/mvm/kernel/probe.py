"""What this machine can do for a sandbox, found out by trying it, and what would give it what it lacks.

Owns the facts that `mvmctl doctor` prints. Whatever can be tried is tried, in a child that ends at once: a
file that says so, or a device that opens, proves nothing. Must never change anything that outlives the probe.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mvm.kernel import mounts, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

_OLDEST = (5, 13)
_ALL = (
    syscalls.NEWUSER
    | syscalls.NEWNS
    | syscalls.NEWPID
    | syscalls.NEWNET
    | syscalls.NEWIPC
    | syscalls.NEWUTS
    | syscalls.NEWCGROUP
)
_MODULES = "nf_tables nft_tproxy nft_reject_inet nft_log nft_limit nfnetlink_log"
_KVM_VERSION, _GET_KVM_VERSION = 12, 0xAE00
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_INSTALLERS = {"apt-get": "install", "dnf": "install", "zypper": "install", "apk": "add", "pacman": "-S"}


class Fact(NamedTuple):
    """One thing that this machine can do, or can't.

    Attributes:
        name: a stable word.
        ok: whether it can.
        detail: what was found, for people.
        fix: the one command, or act, that gives it; empty where it is there or nothing gives it.
        serves: which backend needs it, or what is weaker without it.
    """

    name: str
    ok: bool
    detail: str
    fix: str
    serves: str


class Facts(NamedTuple):
    """All facts, in the order in which they are told."""

    kernel: Fact
    user_namespaces: Fact
    proc: Fact
    nf_tables: Fact
    door_sockets: Fact
    seccomp: Fact
    landlock: Fact
    limits: Fact
    keys: Fact
    idmapped_mounts: Fact
    tun: Fact
    kvm: Fact
    qemu: Fact
    firecracker: Fact
    runsc: Fact
    crun: Fact
    runc: Fact


def probe() -> Facts:
    """Find out all facts; takes some 150 ms, and the calling process must have one thread.

    Raises:
        OSError: no process can be started.
    """
    namespaces = _user_namespaces()
    return Facts(
        kernel=_kernel(),
        user_namespaces=namespaces,
        proc=_proc(possible=namespaces.ok),
        nf_tables=_nf_tables(possible=namespaces.ok),
        door_sockets=_door_sockets(possible=namespaces.ok),
        seccomp=_seccomp(),
        landlock=_landlock(),
        limits=_limits(),
        keys=_keys(),
        idmapped_mounts=_idmapped_mounts(),
        tun=_tun(possible=namespaces.ok),
        kvm=_kvm(),
        qemu=_program("qemu", f"qemu-system-{os.uname().machine}", "backend qemu", "qemu-system"),
        firecracker=_program("firecracker", "firecracker", "backend firecracker", ""),
        runsc=_program("runsc", "runsc", "backend oci", "runsc"),
        crun=_program("crun", "crun", "backend oci", "crun"),
        runc=_program("runc", "runc", "backend oci", "runc"),
    )


def _refusal(attempt: Callable[[], None]) -> str:
    """Make an attempt in a child process; return what it was refused with, or an empty text."""
    answer, child_answer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            attempt()
            os.write(child_answer, b"\0")
        except Exception as refusal:  # noqa: BLE001 - whatever it is, it is the answer
            os.write(child_answer, (str(refusal) or type(refusal).__name__).encode(errors="replace")[:4096])
        finally:
            os._exit(0)
    os.close(child_answer)
    said = os.read(answer, 4096)
    os.close(answer)
    _, status = os.waitpid(pid, 0)
    if not said:
        return f"the attempt ended with status {os.waitstatus_to_exitcode(status)}"
    return said.strip(b"\0").decode(errors="replace")


def _enter_namespaces() -> None:
    """Enter all namespaces of a sandbox, as the caller's own user and with every capability there."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(_ALL)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    # AppArmor may give the namespaces and withhold the capabilities: this takes one.
    mounts.make_private()


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _kernel() -> Fact:
    from mvm.kernel.cgroups import linux

    oldest = ".".join(map(str, _OLDEST))
    ok = linux() >= _OLDEST
    detail = f"Linux {os.uname().release}; {oldest} is the oldest that will do"
    return Fact("kernel", ok, detail, "" if ok else f"boot Linux {oldest} or newer", "backend namespace")


def _user_namespaces() -> Fact:
    refused = _refusal(_enter_namespaces)
    if not refused:
        return Fact("user-namespaces", True, "all of a sandbox's can be made", "", "backend namespace")
    reason, fix = _what_withholds_namespaces()
    return Fact("user-namespaces", False, f"{refused}{reason}", fix, "backend namespace")


def _what_withholds_namespaces() -> tuple[str, str]:
    """Return why user namespaces are refused, and what to do: the first of the known causes that holds."""
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
        if _read(f"/proc/sys/user/max_{kind}_namespaces") == "0":
            name = f"user.max_{kind}_namespaces"
            return f": {name} is 0", f"sudo sysctl -w {name}=15000"
    for name, refusing, wanted in (
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        if os.geteuid() != 0 and _read(f"/proc/sys/{name.replace('.', '/', 1)}") == refusing:
            return f": {name} is {refusing}", f"sudo sysctl -w {name}={wanted}"
    if "\nSeccomp:\t2" in _read("/proc/self/status"):
        what = "start the container with --security-opt seccomp=unconfined"
        return ": a filter of system calls is around this process, as in a container", what
    return "", ""


def _proc(*, possible: bool) -> Fact:
    def attempt() -> None:
        _enter_namespaces()
        refused = _refusal(lambda: mounts.proc("/proc"))  # a child: the first process of the pid namespace
        if refused:
            raise OSError(refused)

    refused = _refusal(attempt) if possible else "not tried without user namespaces"
    fix = "start the container with --security-opt systempaths=unconfined" if possible and refused else ""
    return Fact("proc", not refused, refused or "can be mounted inside", fix, "backend namespace")


def _nf_tables(*, possible: bool) -> Fact:
    def attempt() -> None:
        from mvm.kernel import nflog, nftables, rtnetlink

        _enter_namespaces()
        with rtnetlink.RouteSocket() as routes:
            routes.link_up(rtnetlink.LOOPBACK_INDEX)
            routes.commit()
        nflog.subscribe(1)
        batch = nftables.Batch("probe")
        batch.table()
        batch.counter("refused")
        batch.chain_on("prerouting", -150, "steer")
        batch.chain_on("output", 0, "refuse")
        batch.rule("steer", nftables.protocol(6), nftables.tproxy(1))
        batch.rule("refuse", nftables.count("refused"), nftables.limit(1, 1), nftables.log(1, 64))
        batch.rule("refuse", nftables.protocol(6), nftables.reject_reset())
        batch.send(nftables.open_socket())

    refused = _refusal(attempt) if possible else "not tried without user namespaces"
    fix = f"sudo modprobe -a {_MODULES}" if possible and refused else ""
    return Fact("nf_tables", not refused, refused or "rules can be set inside", fix, "backend namespace")


def _door_sockets(*, possible: bool) -> Fact:
    def attempt() -> None:
        from mvm.kernel import sockets

        _enter_namespaces()
        sockets.tcp_listener(1, 1).close()

    refused = _refusal(attempt) if possible else "not tried without user namespaces"
    fix = "boot without ipv6.disable=1" if "IPv6" in refused else ""
    return Fact("door-sockets", not refused, refused or "take any address", fix, "backend namespace")


def _seccomp() -> Fact:
    def attempt() -> None:
        from mvm.kernel import seccomp

        syscalls.set_no_new_privileges()
        seccomp.install(seccomp.program(os.uname().machine))

    refused = _refusal(attempt)
    return Fact("seccomp", not refused, refused or "the filter was taken", "", "backend namespace")


def _landlock() -> Fact:
    from mvm.kernel import landlock

    version = landlock.abi()
    held = landlock.restricted(version)
    if held:
        detail = f"version {version}: restricts {', '.join(sorted(held))}"
        return Fact("landlock", True, detail, "", "a second lock on files")
    fix = "boot Linux 5.19 or newer" if version else "add landlock to lsm= on the kernel's command line"
    detail = f"version {version} restricts nothing of use" if version else "not in this kernel, or off"
    return Fact("landlock", False, detail, fix, "a second lock on files")


def _limits() -> Fact:
    import resource

    from mvm.kernel import cgroups
    from mvm.terms import Limits

    asked = Limits(memory=1 << 30, cpus=1.0, pids=100)
    held: dict[str, str] = {}
    try:
        made = cgroups.create(f"mvm-probe-{os.getpid()}", asked)
        if made is not None:
            made.remove()
            held = dict.fromkeys(made.achieved, made.version)
    except OSError as refusal:
        return Fact("limits", False, str(refusal), "", "--memory, --cpus, --pids")
    names = {resource.RLIMIT_AS: "memory", resource.RLIMIT_NPROC: "pids"}
    rlimits = {names[kind]: "rlimit" for kind, _ in cgroups.rlimits(asked, held)}
    parts = [f"{name} by {(held | rlimits).get(name, 'nothing')}" for name in asked.asked()]
    if "memory" in rlimits:
        parts.append("that of memory holds for each process by itself")
    ok = len(held) == len(asked.asked())
    fix = "" if ok else _what_gives_cgroups()
    return Fact("limits", ok, ", ".join(parts), fix, "--memory, --cpus, --pids")


def _what_gives_cgroups() -> str:
    if os.path.exists(f"/run/user/{os.geteuid()}/systemd") and os.path.exists("/sys/fs/cgroup/cgroup.procs"):
        return 'systemd-run --user --scope -p "Delegate=cpu memory pids" mvmctl …'
    return "run mvmctl as root" if os.geteuid() != 0 else ""


def _keys() -> Fact:
    """Say how many keyrings this user has room for (keyrings(7)): each sandbox has one of its own."""
    serves = "sandboxes at once"
    for line in _read("/proc/key-users").splitlines():
        uid, _, counts = line.partition(":")
        if int(uid) == os.geteuid():
            used, _, most = counts.split()[2].partition("/")
            name = "root_maxkeys" if os.geteuid() == 0 else "maxkeys"
            left = int(most) - int(used)
            fix = "" if left else f"mvmctl down, or sudo sysctl -w kernel.keys.{name}={2 * int(most)}"
            return Fact("keys", left > 0, f"room for {left} of {most}; a sandbox takes one", fix, serves)
    return Fact("keys", True, "no key of yours is counted yet", "", serves)


def _idmapped_mounts() -> Fact:
    serves = "root: a workspace that belongs to somebody else"
    if os.geteuid() != 0:
        return Fact("idmapped-mounts", True, "not needed: the workload has your own ids", "", serves)

    def attempt() -> None:
        from mvm.kernel import user_namespaces

        namespace = user_namespaces.make("0 65534 1", "0 65534 1")
        mounts.map_ids(mounts.clone_tree("."), namespace)

    refused = _refusal(attempt)
    fix = "boot Linux 5.19 or newer, or keep the workspace on ext4, xfs or btrfs" if refused else ""
    return Fact("idmapped-mounts", not refused, refused or "the current directory can be", fix, serves)


def _tun(*, possible: bool) -> Fact:
    def attempt() -> None:
        import fcntl
        import struct

        _enter_namespaces()
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH14x", b"probe", _IFF_TAP | _IFF_NO_PI))

    refused = _refusal(attempt) if possible else "not tried without user namespaces"
    there = os.path.exists("/dev/net/tun")
    fix = "" if not refused else "sudo chmod 0666 /dev/net/tun" if there else "sudo modprobe tun"
    return Fact("tun", not refused, refused or "a TAP can be made inside", fix, "backends qemu, firecracker")


def _kvm() -> Fact:
    """KVM: opening it proves nothing (a guest's KVM may emulate each privileged instruction, and fail)."""
    import fcntl

    def attempt() -> None:
        device = os.open("/dev/kvm", os.O_RDWR)
        if fcntl.ioctl(device, _GET_KVM_VERSION) != _KVM_VERSION:
            msg = f"its interface is not version {_KVM_VERSION}"
            raise OSError(msg)

    fix = ""
    if os.path.isdir("/sys/module/kvm_pvm"):
        refused = "/dev/kvm is kvm_pvm's, which runs no stock kernel"
    elif os.uname().machine == "x86_64" and not {"vmx", "svm"} & set(_read("/proc/cpuinfo").split()):
        refused = "the processor shows neither vmx nor svm: guests' kernels fail, even where /dev/kvm opens"
    elif refused := _refusal(attempt):
        denied = os.path.exists("/dev/kvm") and not os.access("/dev/kvm", os.R_OK | os.W_OK)
        fix = "sudo usermod -aG kvm $USER, then log in again" if denied else "sudo modprobe kvm"
    return Fact("kvm", not refused, refused or "works", fix, "backend firecracker; speed of qemu")


def _program(name: str, program: str, serves: str, package: str) -> Fact:
    path = _which(program)
    if path:
        return Fact(name, True, path, "", serves)
    installer = next((word for word in _INSTALLERS if _which(word)), "")
    fix = f"sudo {installer} {_INSTALLERS[installer]} {package}" if package and installer else ""
    return Fact(name, False, f"{program} is not on PATH", fix, serves)


def _which(program: str) -> str:
    """Return where a program is on PATH, or an empty text."""
    for directory in os.get_exec_path():
        path = os.path.join(directory, program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""
