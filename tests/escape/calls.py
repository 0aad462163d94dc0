"""What a workload may try against its confinement, one function an act; a program for inside a sandbox.

Its one argument is a JSON list of acts, each a list of a name and words. Each is tried in a process of its
own, so that none disturbs the next, whatever it does. A JSON list of what came of them is printed:

    ok           it worked
    EPERM, …     the error it met
    SIGSYS, …    the signal that ended it
    exit N       the program is broken
    other words  what the act found

Needs nothing but Python's own library. Must never judge an outcome: tests do.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import socket
import stat
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Numbers on x86_64 and aarch64; written here anew, so that a slip in the product's table is no slip here.
NUMBERS = {
    "acct": (163, 89), "add_key": (248, 217), "adjtimex": (159, 171), "bpf": (321, 280), "chroot": (161, 51),
    "clock_settime": (227, 112), "clone": (56, 220), "clone3": (435, 435), "delete_module": (176, 106),
    "fanotify_init": (300, 262), "finit_module": (313, 273), "fsopen": (430, 430), "fspick": (433, 433),
    "getpid": (39, 172), "init_module": (175, 105), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "io_uring_setup": (425, 425), "ioctl": (16, 29), "kcmp": (312, 272),
    "kexec_file_load": (320, 294), "kexec_load": (246, 104), "keyctl": (250, 219), "kill": (62, 129),
    "landlock_create_ruleset": (444, 444), "landlock_restrict_self": (446, 446), "mount": (165, 40),
    "mount_setattr": (442, 442), "move_mount": (429, 429), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "perf_event_open": (298, 241),
    "personality": (135, 92), "pidfd_getfd": (438, 438), "pidfd_open": (434, 434), "pivot_root": (155, 41),
    "prctl": (157, 167), "process_madvise": (440, 440), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60), "reboot": (169, 142),
    "request_key": (249, 218), "setdomainname": (171, 162), "setns": (308, 268),
    "sethostname": (170, 161), "settimeofday": (164, 170), "socket": (41, 198), "socketpair": (53, 199),
    "swapoff": (168, 225), "swapon": (167, 224), "syslog": (103, 116), "umount2": (166, 39),
    "unshare": (272, 97), "userfaultfd": (323, 282), "vhangup": (153, 58),
}  # fmt: skip
_COLUMN = ("x86_64", "aarch64").index(platform.machine())
_MOST_LAYERS = 64
_PATIENCE_S = 5.0
_MOST_TEXT = 1 << 14
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Try the acts of the first argument."""
    sys.stdout.write(json.dumps([_apart(words) for words in json.loads(sys.argv[1])]))


def _apart(words: list[object]) -> str:
    """Try one act in a process of its own."""
    ours, childs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(childs, _tried(words).encode())
        os._exit(0)
    os.close(childs)
    with os.fdopen(ours) as said:
        found = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status < 0:
        return signal.Signals(-status).name
    return found if status == 0 else f"exit {status}"


def _tried(words: list[object]) -> str:
    name, *rest = words
    try:
        found = ACTS[str(name)](*rest)
    except OSError as problem:
        return errno.errorcode.get(problem.errno or 0, str(problem))
    return found if isinstance(found, str) else "ok"


def call(name: str | int, *words: int | str) -> None:
    """Make a system call, by name or number; a text is the address of its bytes."""
    _call(name, *words)


def _call(name: str | int, *words: int | str | bytes) -> int:
    number = name if isinstance(name, int) else NUMBERS[name][_COLUMN]
    given = [
        ctypes.c_long(word)
        if isinstance(word, int)
        else ctypes.c_char_p(word if isinstance(word, bytes) else word.encode("latin-1"))
        for word in (*words, *[0] * 6)
    ]
    result = int(_libc.syscall(ctypes.c_long(number), *given[:6]))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def clone(flags: int) -> None:
    """Make a process, with flags (clone(2))."""
    pid = _call("clone", flags | signal.SIGCHLD)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def enter(path: str, kind: int = 0) -> None:
    """Enter a namespace by its file, a pid's descriptor for `pid:N`."""
    opened = os.pidfd_open(int(path[4:])) if path.startswith("pid:") else os.open(path, os.O_RDONLY)
    _call("setns", opened, kind)


def owner(path: str, request: int) -> None:
    """Ask a namespace for the one that owns it (0xb701), or that it lies in (0xb702)."""
    fcntl.ioctl(os.open(path, os.O_RDONLY), request)


def trace(pid: int, request: int = 16) -> None:
    """Attach to a process (PTRACE_ATTACH 16, PTRACE_SEIZE 0x4206), to a new child for 0."""
    own = _sleeper() if pid == 0 else 0
    try:
        _call("ptrace", request, pid or own, 0, 0)
    finally:
        if own:
            os.kill(own, signal.SIGKILL)


def look_into(pid: int, by: str) -> None:
    """Read or write a byte of a process's memory where this one has one; of a new child for 0."""
    here = ctypes.create_string_buffer(b"x", 8)
    there = ctypes.addressof(here)
    own = _sleeper() if pid == 0 else 0
    vector = struct.pack("QQ", there, 1)
    try:
        _call(by, pid or own, vector, 1, vector, 1, 0)
    finally:
        if own:
            os.kill(own, signal.SIGKILL)


def _sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def by_handle(pid: int) -> None:
    """Send nothing (signal 0) by way of a process's descriptor."""
    signal.pidfd_send_signal(os.pidfd_open(pid), 0)


def do(way: str, *words: object) -> None:
    """Call a function of `os`."""
    getattr(os, way)(*words)


def processes() -> str:
    """Find the names of all processes that there are."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            found.append(file.read().partition("(")[2].rpartition(")")[0])
    return " ".join(sorted(found))


def status(pid: str, *names: str) -> str:
    """Read lines of a process's status, by name."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        lines = dict(line.split(":", 1) for line in file)
    return " ".join(",".join(lines[name].split()) for name in names)


def descriptors() -> str:
    """Find what was open when this program began, by number."""
    return " ".join(map(str, sorted(_BEQUEATHED)))


def _open_now() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")}


def read(path: str) -> str:
    """Read a file, not too much of it, without the NUL bytes at its ends."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip("\0")[:_MOST_TEXT] or "empty"


def write(path: str, text: str = "x", flags: int = os.O_WRONLY) -> None:
    """Write to a file that is there."""
    os.write(os.open(path, flags), text.encode())


def make(path: str, text: str = "x") -> None:
    """Make a file of one's own."""
    write(path, text, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def names(place: str) -> str:
    """List a directory."""
    return " ".join(sorted(os.listdir(place))) or "none"


def reopened(flags: int) -> None:
    """Open a file of one's own that is open for reading anew, and write to it."""
    place = f"/tmp/reopened-{os.getpid()}"
    make(place)
    write(f"/proc/self/fd/{os.open(place, os.O_RDONLY)}", "x", flags)


def find(kind: str, *below: str) -> str:
    """Find all sockets (`s`) or block devices (`b`) below some places, /proc left out."""
    test = {"s": stat.S_ISSOCK, "b": stat.S_ISBLK}[kind]
    found = []
    for place in below:
        for directory, inner, others in os.walk(place):
            inner[:] = [name for name in inner if os.path.join(directory, name) != "/proc"]
            paths = [os.path.join(directory, name) for name in others]
            found += [path for path in paths if os.path.lexists(path) and test(os.lstat(path).st_mode)]
    return " ".join(sorted(found)) or "none"


def layers() -> str:
    """Count how often this process can still restrict itself by Landlock, of at most 16 times."""
    _call("prctl", 38, 1, 0, 0, 0)
    attributes = struct.pack("=QQQ", 1 << 1, 0, 0)
    rules = _call("landlock_create_ruleset", attributes, 8, 0)
    for count in range(_MOST_LAYERS):
        try:
            _call("landlock_restrict_self", rules, 0)
        except OSError as problem:
            return f"{count} {errno.errorcode[problem.errno or 0]}"
    return "no end"


def unix(name: str, kind: int = socket.SOCK_STREAM) -> None:
    """Connect to a UNIX socket: `@NAME` is an abstract one."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.settimeout(_PATIENCE_S)
        sock.connect(_address(name))
        sock.send(b"x")


def own_unix(name: str, kind: int = socket.SOCK_STREAM) -> None:
    """Make a UNIX socket, and connect to it."""
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(_address(name))
        if kind != socket.SOCK_DGRAM:
            server.listen()
        unix(name, kind)


def _address(name: str) -> str:
    return f"\0{name[1:]}" if name.startswith("@") else name


def tcp(host: str, port: int) -> None:
    """Connect by TCP."""
    socket.create_connection((host, port), _PATIENCE_S).close()


def own_tcp(port: int) -> None:
    """Make a server at a port, and connect to it."""
    with socket.create_server(("127.0.0.1", port)):
        tcp("127.0.0.1", port)


def queues(key: int) -> str:
    """Look for System V shared memory, a queue and a semaphore that somebody has made."""
    looks = (("shmget", key, 1, 0), ("msgget", key, 0), ("semget", key, 1, 0))
    return " ".join(_result(getattr(_libc, name)(*words)) for name, *words in looks)


def _result(result: int) -> str:
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def option(level: int, name: int, value: str, family: int = socket.AF_INET) -> None:
    """Set an option of a datagram socket; the value in hexadecimal."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(level, name, bytes.fromhex(value))


def interface(request: int, text: str) -> None:
    """Make an ioctl on a socket with an interface's or a route's description, in hexadecimal."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, request, bytes.fromhex(text).ljust(128, b"\0"))


def route(kind: int, flags: int, text: str) -> None:
    """Say something to the kernel by a routing socket, and take its first answer; the text in hexadecimal."""
    body = bytes.fromhex(text)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(_PATIENCE_S)
        sock.bind((0, 0))
        sock.send(struct.pack("=IHHII", 16 + len(body), kind, 1 | flags, 1, 0) + body)
        answer = sock.recv(1 << 16)
    if struct.unpack_from("=H", answer, 4)[0] == 2 and (code := struct.unpack_from("=i", answer, 16)[0]):
        raise OSError(-code, "")


def listen(route_groups: int) -> None:
    """Join multicast groups of the routing socket."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, route_groups))


def type_in(request: int) -> None:
    """Put a byte into a terminal of one's own, as if it were typed there (TIOCSTI 0x5412)."""
    import pty

    os.setsid()
    _, follower = pty.openpty()
    fcntl.ioctl(follower, 0x540E, 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _call("ioctl", follower, request, b"x")


ACTS: dict[str, Callable[..., object]] = {
    act.__name__: act
    for act in (
        by_handle, call, clone, descriptors, do, enter, find, interface, layers, listen, look_into,
        make, names, option, own_tcp, own_unix, owner, processes, queues, read, reopened, route,
        status, tcp, trace, type_in, unix, write,
    )
}  # fmt: skip

if __name__ == "__main__":
    _BEQUEATHED = _open_now()
    main()
