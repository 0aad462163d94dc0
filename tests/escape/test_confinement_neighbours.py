"""What else lives on the host: its UNIX sockets, other sandboxes, what mvm steers by (ATTACKS 41, 43, 45)."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.escape.confinement import program
from tests.escape.unix_sockets import KINDS, HostSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.escape.confinement import Confined
    from tests.escape.conftest import HostService
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

PORT, HOST_PORT = 18080, 18082
ABSENT = frozenset({"ENOENT", "EACCES"})


# ---- 41: UNIX sockets of the host

PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run", "home", "state", "runtime", "world")


def _place(word: str, confined: Confined) -> Path:
    named = {
        "home": Path.home(),
        "state": confined.mvmctl.state,
        "runtime": confined.mvmctl.runtime,
        "world": confined.mvmctl.state.parent,
    }
    found = named.get(word, Path(word))
    if not os.access(found, os.W_OK):
        pytest.skip(f"means something only as root: this user can make no socket in {found}")
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_socket_file_of_the_host_is_not_there(confined: Confined, place: str, kind: str) -> None:
    """41: wherever it lies, by its path and by init's and the own root: not found; an own one answers."""
    directory = Path(tempfile.mkdtemp(prefix="mvm-", dir=_place(place, confined)))
    directory.chmod(0o755)
    host = HostSocket(f"{directory}/agent.sock", KINDS[kind])
    try:
        roots = (
            "",
            "/proc/1/root",
            "/proc/self/root",
            "/proc/1/cwd/../../../..",
            "/proc/self/cwd/../../../..",
        )
        *found, own = confined.tries(
            *(("unix", root + host.name, int(KINDS[kind])) for root in roots),
            ("own_unix", f"/tmp/{directory.name}", int(KINDS[kind])),
        )
        assert set(found) <= ABSENT
        assert own == "ok"
        assert host.arrived() == 0
        host.knock()
        assert host.arrived() == 1
    finally:
        host.close()
        directory.rmdir()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["@mvm-test/{}", "@/tmp/.X11-unix/X{}", "@/tmp/dbus-{}", "@\0{}", "@{}\0\0"])
def test_an_abstract_socket_of_the_host_is_another_name_inside(
    confined: Confined, name: str, kind: str
) -> None:
    """41: the host's is not found under its name, and the name is free for an own one, which answers."""
    host = HostSocket(name.format(os.getpid()), KINDS[kind])
    try:
        found, own, shown = confined.tries(
            ("unix", host.name, int(KINDS[kind])),
            ("own_unix", host.name, int(KINDS[kind])),
            ("read", "/proc/net/unix"),
        )
        assert found == "ECONNREFUSED"
        assert own == "ok"
        assert str(os.getpid()) not in "".join(line.split()[-1] for line in shown.splitlines())
        assert host.arrived() == 0
        host.knock()
        assert host.arrived() == 1
    finally:
        host.close()


def test_no_socket_file_is_seen_anywhere(confined: Confined) -> None:
    """41: in all directories but those of programs no file is a socket of others."""
    found = confined.tries(("find", "s", "/run", "/tmp", "/var", "/dev", "/etc", "/sys", str(Path.home())))
    own = [path for path in found[0].split() if not path.startswith("/tmp/")]
    assert own in ([], ["none"])


# ---- 43: the control sockets


@pytest.fixture(scope="module")
def other(confined: Confined) -> Iterator[str]:
    """Another sandbox of the same user, detached, with servers of every kind in it and a file in its /tmp."""
    server = f"""
import os, socket, time
tcp, path, abstract = socket.create_server(("0.0.0.0", {PORT})), socket.socket(1), socket.socket(1)
six = socket.create_server(("::", {PORT} + 1), family=socket.AF_INET6)
path.bind("/tmp/other.sock"), abstract.bind("\\0other"), path.listen(), abstract.listen()
udp = socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", {PORT}))
open("/tmp/other", "w").write("said")
print("ready", flush=True)
time.sleep(600)
"""
    words = ("up", "-d", "--name", "other", "-p", f"127.0.0.1:{HOST_PORT}:{PORT}")
    confined.mvmctl(*words, "--", "python3", "-c", server).expect(0)
    confined.mvmctl.start("logs", "-f", "other").until("ready\n")
    yield "other"
    confined.mvmctl("down", "other").expect(0)


@pytest.mark.parametrize("whose", ["own", "other"])
@pytest.mark.parametrize("root", ["", "/proc/1/root", "/proc/self/root"])
def test_no_control_socket_is_reached(confined: Confined, other: str, whose: str, root: str) -> None:
    """43: neither the run's own nor that of a sandbox made by `up`, by no path; on the host each answers."""
    name = other if whose == "other" else confined.inside.name
    path = confined.mvmctl.runtime / name / "control"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    found, shown, listed = confined.tries(
        ("unix", f"{root}{path}"), ("read", "/proc/net/unix"), ("names", f"{root}{path.parent.parent}")
    )
    assert found in ABSENT
    assert "control" not in shown
    assert listed in ABSENT
    assert name in confined.mvmctl("ls").expect(0).stdout


def _volume_words(mvmctl: Mvmctl, mode: str, *acts: tuple[object, ...]) -> list[str]:
    above = mvmctl.state.parent
    return [*mvmctl.command, "run", "--name", "seen", "-v", f"{above}:/above:{mode}", "--", *program(*acts)]


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_a_volume_above_mvms_own_places_does_not_show_them(mvmctl: Mvmctl, mode: str) -> None:
    """43: records, keys and control sockets are covered; what lies beside them in the volume is seen."""
    (mvmctl.state.parent / "beside").write_text("said")
    runtime, state = mvmctl.runtime.name, mvmctl.state.name
    acts = (
        ("unix", f"/above/{runtime}/seen/control"),
        ("names", f"/above/{runtime}"),
        ("names", f"/above/{state}"),
        ("make", f"/above/{state}/new"),
        ("read", "/above/beside"),
    )
    words = _volume_words(mvmctl, mode, *acts)
    ended = subprocess.run(words, capture_output=True, check=False, text=True, env=mvmctl.environment())
    found = ended.stdout.strip('[]"').split('", "')
    assert found[:3] == ["ENOENT", "none", "none"], ended.stderr
    assert found[3] in {"EROFS", "EACCES"}
    assert found[4] == "said"
    assert mvmctl("ls").expect(0).stdout == ""


@pytest.mark.parametrize("place", ["state", "runtime", "state/runs", "runtime/x"])
def test_mvms_own_places_are_no_volume(mvmctl: Mvmctl, place: str) -> None:
    """43: nor anything below them; another directory beside is one."""
    word, _, below = place.partition("/")
    source = {"state": mvmctl.state, "runtime": mvmctl.runtime}[word] / below
    source.mkdir(exist_ok=True)
    assert "mvm's own" in mvmctl("run", "-v", f"{source}:/x:ro", "--", "true").expect(65).stderr
    mvmctl("run", "-v", f"{mvmctl.temporary}:/x:ro", "--", "true").expect(0)


def test_a_control_socket_hears_nobody_in_a_sandbox(mvmctl: Mvmctl) -> None:
    """43: even where one is mounted by mischance, it closes at once on a peer from a sandbox."""
    mvmctl("up", "-d", "--name", "heard").expect(0)
    moved = mvmctl.temporary / "shown"
    moved.mkdir(mode=0o755)
    mvmctl.temporary.chmod(0o755)
    os.link(mvmctl.runtime / "heard/control", moved / "deep")
    (moved / "deep").chmod(0o777)
    asking = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect('/above/shown/deep')\n"
        'm = b\'{"do": "describe"}\'\n'
        "try: s.send(len(m).to_bytes(4, 'big') + m); print(s.recv(100))\n"
        "except OSError as problem: print(type(problem).__name__)\n"
    )
    words = ("run", "-v", f"{mvmctl.temporary}:/above:ro", "--", "python3", "-c", asking)
    assert mvmctl(*words).expect(0).stdout in {"b''\n", "BrokenPipeError\n", "ConnectionResetError\n"}
    assert "heard" in mvmctl("ls").expect(0).stdout
    mvmctl("down", "heard").expect(0)


# ---- 45: another sandbox on the same host

ADDRESSES = ("127.0.0.1", "127.0.0.2", "::1", "198.18.0.1", "0.0.0.0", "10.0.0.1")  # noqa: S104


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("port", [PORT, PORT + 1, HOST_PORT])
def test_the_servers_of_another_sandbox_do_not_answer(
    confined: Confined, other: str, address: str, port: int
) -> None:
    """45: at no address, and not by the port of the host that leads to it; an own server answers itself."""
    confined.reasons.add("address-literal")
    found, own = confined.tries(("tcp", address, port), ("own_tcp", port))
    assert found in {"ECONNREFUSED", "ENETUNREACH"}
    assert own == "ok"
    with socket.create_connection(("127.0.0.1", HOST_PORT), timeout=10):
        assert other in confined.mvmctl("ls").stdout


def test_the_files_of_another_sandbox_are_not_there(confined: Confined, other: str) -> None:
    """45: each /tmp is its own, with the sockets and files in it; the other sees its own."""
    absent, sock, abstract = confined.tries(
        ("read", "/tmp/other"), ("unix", "/tmp/other.sock"), ("unix", "@other")
    )
    assert (absent, sock, abstract) == ("ENOENT", "ENOENT", "ECONNREFUSED")
    assert confined.mvmctl("exec", other, "--", "cat", "/tmp/other").expect(0).stdout == "said"
    words = program(("unix", "/tmp/other.sock"), ("unix", "@other"), ("tcp", "127.0.0.1", PORT))
    assert confined.mvmctl("exec", other, "--", *words).expect(0).stdout == '["ok", "ok", "ok"]'


def test_queues_and_memory_are_not_shared(confined: Confined, other: str) -> None:
    """45: System V and POSIX names of the other mean nothing here, nor do the host's; its own work there."""
    making = "import ctypes; c = ctypes.CDLL(None); print(c.shmget(4711, 4096, 0o1666) >= 0, flush=True)"
    making += "; print(c.msgget(4711, 0o1666) >= 0, c.semget(4711, 1, 0o1666) >= 0)"
    assert "False" not in confined.mvmctl("exec", other, "--", "python3", "-c", making).expect(0).stdout
    assert confined.tries(("queues", 4711)) == ["ENOENT ENOENT ENOENT"]
    again = confined.mvmctl("exec", other, "--", *program(("queues", 4711))).expect(0).stdout
    assert again == '["ok ok ok"]'


def test_the_processes_of_another_sandbox_are_not_there(confined: Confined, other: str) -> None:
    """45: a workload sees its own processes and init, no more; no signal goes further."""
    (found,) = confined.tries(("processes",))
    assert found.split().count("mvm-init") <= 1
    assert len(found.split()) == 4, found  # init, what is told, what tries, and its child
    pid = confined.mvmctl("ls", "--json").expect(0).json
    assert other in str(pid)


def test_the_hosts_listeners_do_not_answer(confined: Confined, host_service: HostService) -> None:
    """45: a service on all addresses of the host hears nothing; from the host it answers."""
    addresses = ("127.0.0.1", "::1", "localhost", "0.0.0.0")  # noqa: S104
    confined.reasons.add("address-literal")
    found = confined.tries(*(("tcp", address, host_service.port) for address in addresses))
    assert set(found) == {"ECONNREFUSED"}
    assert host_service.arrived() == 0
    socket.create_connection(("127.0.0.1", host_service.port)).close()
    assert host_service.arrived() == 1
