"""The filter as a program: every system call, with good and bad arguments, by an interpreter of BPF."""

from __future__ import annotations

import errno
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.errors import BackendUnavailable
from mvm.kernel import syscall_table
from mvm.kernel.seccomp import program
from tests.kernel import classic_bpf
from tests.kernel.classic_bpf import Call, Verdict

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
FOREIGN = {"i386": 0x40000003, "arm": 0x40000028, "ppc64le": 0xC0000015, "none": 0}
HIGH = 1 << 32
X32_BIT = 0x40000000
VERDICTS = (syscall_table.ALLOWED, syscall_table.RULED, syscall_table.FORBIDDEN, syscall_table.MISSING)

# Not from the table: what must stay shut, and what programs can't do without, said once more by hand.
MUST_BE_REFUSED = (
    "unshare:clone-flags setns mount umount2 pivot_root open_tree move_mount fsopen fsconfig fsmount fspick "
    "mount_setattr bpf perf_event_open userfaultfd keyctl add_key request_key init_module finit_module "
    "delete_module kexec_load kexec_file_load reboot swapon swapoff acct syslog open_by_handle_at "
    "name_to_handle_at quotactl quotactl_fd vhangup settimeofday clock_settime adjtimex clock_adjtime "
    "lookup_dcookie fanotify_init io_uring_setup io_uring_enter io_uring_register clone3 kcmp pidfd_getfd "
    "process_madvise move_pages migrate_pages mbind chroot sethostname setdomainname openat2 open_tree_attr "
    "fanotify_mark set_mempolicy get_mempolicy set_mempolicy_home_node lsm_set_self_attr"
).split()[1:]
MUST_BE_REFUSED_ON = {"x86_64": ("iopl", "ioperm", "modify_ldt"), "aarch64": ()}
MUST_BE_ALLOWED = (
    "read write openat close mmap munmap brk execve wait4 exit_group futex rt_sigreturn restart_syscall "
    "clock_gettime getrandom rseq set_robust_list getrlimit ppoll epoll_pwait eventfd2 statx newfstatat "
    "connect bind listen accept4 sendmsg recvmsg ptrace process_vm_readv seccomp landlock_create_ruleset "
    "landlock_add_rule landlock_restrict_self memfd_create memfd_secret prctl kill pidfd_open close_range"
).split()


def _numbers(machine: str) -> dict[str, int]:
    return {
        n: number for verdict in VERDICTS for n, number in syscall_table.numbers(machine, verdict).items()
    }


def _ask(machine: str, name: str, *arguments: int) -> str:
    verdict = _run(machine, _numbers(machine)[name], *arguments)
    return errno.errorcode[verdict.errno] if verdict.action == "errno" else verdict.action


def _run(machine: str, number: int, *arguments: int) -> Verdict:
    return classic_bpf.run(program(machine), Call(number, arguments, MACHINES[machine]))


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    """Each machine that the filter is made for."""
    name: str = request.param
    return name


def test_the_program_passes_the_kernels_check(machine: str) -> None:
    """It is short, jumps only forward and within itself, and ends with an answer."""
    classic_bpf.check(program(machine))
    assert len(program(machine)) // 8 < 512


def test_every_number_gets_its_answer(machine: str) -> None:
    """Every call of the table is answered as its group says, and every other number as an unknown call."""
    allowed = set(syscall_table.numbers(machine, syscall_table.ALLOWED).values())
    ruled = set(syscall_table.numbers(machine, syscall_table.RULED).values())
    forbidden = set(syscall_table.numbers(machine, syscall_table.FORBIDDEN).values())
    for number in [*range(2048), 0x3FFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]:
        verdict = _run(machine, number)
        if number in allowed:
            assert verdict.action == "allow", number
        elif number in forbidden:
            assert (verdict.action, verdict.errno) == ("errno", errno.EPERM), number
        elif number not in ruled:
            assert (verdict.action, verdict.errno) == ("errno", errno.ENOSYS), number


def test_what_must_stay_shut_is_shut_and_what_programs_need_is_open(machine: str) -> None:
    """Two lists by hand, apart from the table that the filter is made of."""
    numbers = _numbers(machine)
    for name in (*MUST_BE_REFUSED, *MUST_BE_REFUSED_ON[machine]):
        assert _run(machine, numbers[name]).action == "errno", name
    for name in MUST_BE_ALLOWED:
        assert _run(machine, numbers[name]).action == "allow", name


def test_clone3_is_missing_so_that_libc_falls_back_to_clone(machine: str) -> None:
    """After ENOSYS glibc uses clone, whose flags the filter sees; programs with io_uring do without it."""
    assert _ask(machine, "clone3") == "ENOSYS"
    assert _ask(machine, "io_uring_setup") == "ENOSYS"


@pytest.mark.parametrize("foreign", FOREIGN)
def test_another_machines_call_ends_the_process(machine: str, foreign: str) -> None:
    """Any number, by the entry of another machine, is death; by the own entry it is judged by number."""
    for number in (0, 1, 11, 39, 102, 359, 500):
        assert classic_bpf.run(program(machine), Call(number, (), FOREIGN[foreign])).action == "kill"
        assert _run(machine, number).action != "kill"


def test_x32_calls_are_missing() -> None:
    """With the x32 bit every number is unknown, also one that is allowed without."""
    for number in [*range(1024), 0x3FFFFFFF]:
        verdict = _run("x86_64", X32_BIT | number)
        assert (verdict.action, verdict.errno) == ("errno", errno.ENOSYS)
    assert _ask("x86_64", "getpid") == "allow"


STREAM, DGRAM, RAW, RDM, SEQPACKET, DCCP, PACKET = 1, 2, 3, 4, 5, 6, 10
CLOEXEC, NONBLOCK = socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK
INET = [socket.AF_INET, socket.AF_INET6]
SOCKETS_ALLOWED = [
    *[(socket.AF_UNIX, kind, 0) for kind in (STREAM, DGRAM, SEQPACKET, STREAM | CLOEXEC, DGRAM | NONBLOCK)],
    *[(family, STREAM | flag, protocol) for family in INET for flag in (0, CLOEXEC) for protocol in (0, 6)],
    *[(family, DGRAM | flag, protocol) for family in INET for flag in (0, NONBLOCK) for protocol in (0, 17)],
    (socket.AF_INET, DGRAM, 1),
    (socket.AF_INET6, DGRAM, 58),
    (socket.AF_NETLINK, RAW | CLOEXEC, 0),
    (socket.AF_NETLINK, DGRAM, 0),
    (HIGH | socket.AF_INET, HIGH | STREAM, HIGH),
]
SOCKETS_REFUSED = [
    *[(family, RAW | flag, 1, "EPERM") for family in INET for flag in (0, CLOEXEC)],
    *[(family, PACKET, 0x300, "EPERM") for family in INET],
    *[(HIGH | family, HIGH | RAW, 255, "EPERM") for family in INET],
    *[(family, kind, 0, "ESOCKTNOSUPPORT") for family in INET for kind in (RDM, SEQPACKET, DCCP, 0, 9, 15)],
    *[
        (family, STREAM, protocol, "EPROTONOSUPPORT")
        for family in INET
        for protocol in (132, 33, 262, 17, 255)
    ],
    *[(family, DGRAM, protocol, "EPROTONOSUPPORT") for family in INET for protocol in (136, 6, 33, 115)],
    *[(socket.AF_NETLINK, RAW, protocol, "EPROTONOSUPPORT") for protocol in range(1, 24)],
    (HIGH | socket.AF_NETLINK, RAW, HIGH | 16, "EPROTONOSUPPORT"),
    *[(f, STREAM, 0, "EAFNOSUPPORT") for f in [0, *range(3, 10), *range(11, 16), *range(17, 64)]],
    (HIGH | 40, STREAM, 0, "EAFNOSUPPORT"),
    (socket.AF_PACKET, RAW, 0x300, "EAFNOSUPPORT"),
]


def test_sockets_of_the_three_families(machine: str) -> None:
    """UNIX, TCP, UDP and echo over IPv4 and IPv6, and listing links by netlink: these can be made."""
    for arguments in SOCKETS_ALLOWED:
        assert _ask(machine, "socket", *arguments) == "allow", arguments


def test_sockets_of_every_other_family_kind_and_protocol(machine: str) -> None:
    """Raw and packet sockets, vsock, key, alg, xdp, Bluetooth, TIPC, SCTP, MPTCP, other netlinks: none."""
    for *arguments, refusal in SOCKETS_REFUSED:
        assert _ask(machine, "socket", *arguments) == refusal, arguments


def test_pairs_of_sockets_are_unix_only(machine: str) -> None:
    """A pair of any other family would load its protocol into the host's kernel before it is refused."""
    assert _ask(machine, "socketpair", socket.AF_UNIX, STREAM, 0) == "allow"
    for family in [0, *range(2, 64), HIGH | 30]:
        assert _ask(machine, "socketpair", family, STREAM, 0) == "EAFNOSUPPORT"


NAMESPACE_FLAGS = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
THREAD_FLAGS = 0x003D0F00
SIGCHLD, NEWTIME = 17, 0x80


def test_no_new_namespace_by_clone(machine: str) -> None:
    """Threads and children are made; with the flag of a new namespace among the others, they are not."""
    assert _ask(machine, "clone", THREAD_FLAGS) == "allow"
    assert _ask(machine, "clone", 0x4111) == "allow"  # as for posix_spawn: CLONE_VM, CLONE_VFORK, SIGCHLD
    for flag in NAMESPACE_FLAGS:
        for beside in (0, SIGCHLD, THREAD_FLAGS, HIGH):
            assert _ask(machine, "clone", flag | beside) == "EPERM"


def test_no_new_namespace_by_unshare(machine: str) -> None:
    """What a process shares with its threads can be unshared, but no namespace be made, of time neither."""
    for flag in (0, 0x200, 0x400, 0x40000):
        assert _ask(machine, "unshare", flag) == "allow"
        for namespace in [*NAMESPACE_FLAGS, NEWTIME]:
            assert _ask(machine, "unshare", flag | namespace) == "EPERM"


def test_terminals_are_not_typed_into(machine: str) -> None:
    """TIOCSTI, TIOCLINUX, TIOCSETD are refused, also with bits that the kernel drops; other ioctls pass."""
    for request in (0x5412, 0x541C, 0x5423):
        for spelling in (request, HIGH | request, 0xFFFFFFFF_00000000 | request):
            assert _ask(machine, "ioctl", 0, spelling, 0) == "EPERM"
    for request in (0x5401, 0x5413, 0x5410, 0x540E, 0x5411, 0x541B, 0x5421, 0, 0x5412_0000, 0x15412):
        assert _ask(machine, "ioctl", 0, request, 0) == "allow"


def test_personalities_that_change_more_than_names(machine: str) -> None:
    """Asking, and the ones that change what uname says, pass; switching off random addresses does not."""
    for persona in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, HIGH | 0):
        assert _ask(machine, "personality", persona) == "allow"
    for persona in (0x40000, 0x0400000, 0x0100000, 0x0040008, 1, 0xFFFFFFFE):
        assert _ask(machine, "personality", persona) == "EPERM"


@given(number=st.integers(0, 0xFFFFFFFF), arguments=st.lists(st.integers(0, (1 << 64) - 1), max_size=6))
def test_any_call_ends_in_few_steps(number: int, arguments: list[int]) -> None:
    """No number and no arguments keep the filter busy for more than 24 instructions, or break it."""
    for machine in MACHINES:
        assert _run(machine, number, *arguments).steps <= 24


def test_a_machine_without_a_table_is_refused() -> None:
    """There is no filter for a machine whose numbers are not known; the refusal says for which there is."""
    with pytest.raises(BackendUnavailable, match="riscv64") as refusal:
        program("riscv64")
    assert "x86_64, aarch64" in refusal.value.hint


def test_no_call_is_in_two_groups() -> None:
    """Each name, and on each machine each number, stands once in the table."""
    names = [call.split(":")[0] for group in syscall_table.GROUPS for call in group.calls.split()]
    assert len(names) == len(set(names))
    for machine in MACHINES:
        numbers = _numbers(machine).values()
        assert len(numbers) == len(set(numbers))


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
KERNELS_OWN = {"syscalls", "arch_specific_syscall", "sync_file_range2"}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_linux(machine: str) -> None:
    """Every call in the kernel's headers on this machine is in the table, with the same number."""
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"no kernel headers at {header}")
    text = header.read_text()
    # asm-generic has `__NR3264_fstat`, and later what 64-bit machines call it; 32-bit calls are left out.
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)\n", text))
    numbers = _numbers(machine)
    for name, number in found.items():
        if name not in KERNELS_OWN and not re.search(r"_time64$|^clock_\w+64$|^timer\w*64$|^fstatat$", name):
            assert numbers.get(name, -1) == int(number), name
    assert len(found) > 300
