"""The hosts of the fake internet do what their names say, and count what arrives."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import subprocess
import sys
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.internet import Packet
from tests.support.skips import Skips

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel


def _greet(
    ca_file: Path, address: str, name: str | None, *, trusted_name: str | None = None
) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(ca_file))
    context.check_hostname = name is not None
    raw = socket.create_connection((address, 443), timeout=5)
    made = context.wrap_socket(raw, server_hostname=name)
    assert trusted_name is None or trusted_name in str(made.getpeercert())
    return made


def _until_end(sock: socket.socket) -> bytes:
    with sock, sock.makefile("rb") as stream:
        return stream.read()


def _connect(name: str, port: int, *, timeout_s: float = 5) -> socket.socket:
    return socket.create_connection((name, port), timeout=timeout_s)


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_tls_host_has_a_certificate_for_its_name(internet: Internet, ca_file: Path, family: str) -> None:
    """The certificate verifies against the test authority, over IPv4 and IPv6, and the host sees its name."""
    host = internet.serve("http", transport="tls")
    with _greet(ca_file, getattr(host, family), host.name) as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {host.name}\r\nConnection: close\r\n\r\n".encode())
        assert f"hello from {host.name}".encode() in _until_end(tls)
    seen = internet.wait_for_arrivals(host.name, connections=1, open_at_most=0)
    assert (seen.connections, seen.names) == (1, (host.name, host.name))
    assert seen.bytes > 0


def test_a_certificate_is_not_for_another_name(internet: Internet, ca_file: Path) -> None:
    """A client that checks refuses a host that is not the one it asked for; the host notes the name asked."""
    host = internet.serve("http", transport="tls")
    with pytest.raises(ssl.SSLCertVerificationError):
        _greet(ca_file, host.v4, "other.example.test")
    assert internet.wait_for_arrivals(host.name, connections=1, open_at_most=0).names == (
        "other.example.test",
    )


def test_a_shared_address_tells_its_names_apart(internet: Internet, ca_file: Path) -> None:
    """Names at one address have their own certificates, and their own counts."""
    first, second = internet.host("cdn-a"), internet.host("cdn-b")
    before = internet.arrivals(first.name), internet.arrivals(second.name)
    assert first.addresses == second.addresses
    _greet(ca_file, first.v4, second.name, trusted_name=second.name).close()
    after = internet.wait_for_arrivals(second.name, connections=before[1].connections + 1)
    assert after.connections == before[1].connections + 1
    assert internet.arrivals(first.name) == before[0]


def test_arrived_bytes_are_counted_exactly(internet: Internet) -> None:
    """What a client sends in plain is what the host counts."""
    host = internet.serve("discard", port=9)
    with _connect(host.name, host.port) as sock:
        sock.sendall(bytes(100_000))
        assert internet.wait_for_arrivals(host.name, bytes=100_000).open == 1
    assert internet.wait_for_arrivals(host.name, open_at_most=0).bytes == 100_000


def test_a_wait_for_what_does_not_arrive_ends(internet: Internet) -> None:
    """Nothing arrived: the wait says so, and the counts are still zero."""
    host = internet.serve("discard", port=9)
    with pytest.raises(TimeoutError):
        internet.wait_for_arrivals(host.name, connections=1, timeout_s=0.05)
    assert internet.arrivals(host.name).connections == 0


def test_raw_services_do_what_they_are_called(internet: Internet) -> None:
    """Echo, source, greeting and half-close, over TCP."""
    assert internet.pid
    with _connect("echo.example.test", 7) as sock:
        sock.sendall(b"abc")
        assert sock.recv(10) == b"abc"
    with _connect("echo.example.test", 19) as sock, sock.makefile("rb") as stream:
        assert stream.read(1 << 20) == bytes(1 << 20)
    with _connect("ssh.example.test", 22) as sock:
        assert sock.recv(100) == b"SSH-2.0-test\r\n"
    with _connect("bad.example.test", 1006) as sock:
        sock.sendall(b"abc")
        sock.shutdown(socket.SHUT_WR)
        assert _until_end(sock) == b"received 3\n"


def test_bad_peers_are_bad(internet: Internet) -> None:
    """Drip gives a byte, mute and stuck nothing, the two resets an error."""
    assert internet.pid
    with _connect("bad.example.test", 1001) as sock:
        assert sock.recv(100) == b"."
    for port in (1002, 1003):
        with _connect("bad.example.test", port, timeout_s=0.1) as sock, pytest.raises(TimeoutError):
            sock.recv(1)
    with _connect("bad.example.test", 1004) as sock:
        sock.sendall(b"abc")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    with _connect("bad.example.test", 1005) as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)


def test_a_stuck_peer_pushes_back(internet: Internet) -> None:
    """A peer that does not read makes the sender wait after some kilobytes."""
    assert internet.pid
    with _connect("bad.example.test", 1003, timeout_s=0.2) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(10 << 20))


def test_a_reset_by_the_client_is_told_from_an_end(internet: Internet) -> None:
    """The host knows how its connections ended."""
    host = internet.serve("discard", port=9)
    _connect(host.name, host.port).close()
    assert internet.wait_for_arrivals(host.name, connections=1, open_at_most=0).resets == 0
    sock = _connect(host.name, host.port)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    assert internet.wait_for_arrivals(host.name, connections=2, open_at_most=0).resets == 1


def test_a_host_can_be_cut_and_withdrawn(internet: Internet) -> None:
    """Cutting resets what is open; withdrawing refuses what comes."""
    host = internet.serve("echo", port=7)
    with _connect(host.name, host.port) as sock:
        internet.wait_for_arrivals(host.name, connections=1)
        internet.cut(host.name)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    internet.withdraw(host.name)
    with pytest.raises(ConnectionRefusedError):
        _connect(host.name, host.port)


def test_datagrams_are_echoed_and_counted(internet: Internet) -> None:
    """UDP echo answers from the address asked; discard answers nothing, and both count."""
    for family, at in ((socket.AF_INET, "v4"), (socket.AF_INET6, "v6")):
        host = internet.serve("echo", port=7, transport="udp")
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect((getattr(host, at), 7))
            sock.send(b"abc")
            assert sock.recv(10) == b"abc"
        seen = internet.arrivals(host.name)
        assert (seen.datagrams, seen.bytes, seen.connections) == (1, 3, 0)


def test_the_sink_counts_what_nobody_serves(internet: Internet) -> None:
    """TCP, UDP, ICMP and other protocols are counted at any address, and nothing else is."""
    with internet.watch() as outside:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"abc", ("1.2.3.4", 443))
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"abc", ("2001:db8::1", 53))
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
            sock.sendto(b"\x08\0\xf7\xff\0\0\0\0", ("1.2.3.4", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 132) as sock:
            sock.sendto(bytes(12), ("1.2.3.4", 0))
        with pytest.raises(ConnectionRefusedError):
            _connect("10.0.0.1", 25)
    assert outside.packets == {
        Packet("udp", "1.2.3.4", 443): 1,
        Packet("udp", "2001:db8::1", 53): 1,
        Packet("icmp", "1.2.3.4", 0): 1,
        Packet("ip-132", "1.2.3.4", 0): 1,
        Packet("tcp", "10.0.0.1", 25): 1,
    }


def test_the_sink_counts_nothing_when_nothing_is_sent(internet: Internet) -> None:
    """An empty watch is empty, data is no attempt, and questions for names can be left out."""
    with _connect("echo.example.test", 7) as sock:
        with internet.watch() as outside:
            sock.sendall(b"abc")
            assert sock.recv(10) == b"abc"
        assert not outside.packets
    with internet.watch() as outside:
        socket.getaddrinfo("api.example.test", 443)
    assert outside.packets
    assert not outside.besides_names


def test_silent_and_unreachable_hosts(internet: Internet) -> None:
    """One never answers, the other is answered for by ICMP, the third refuses."""
    assert internet.pid
    with pytest.raises(TimeoutError):
        socket.create_connection((internet.host("silent").v4, 443), timeout=0.2)
    with pytest.raises(OSError, match="No route to host"):
        socket.create_connection((internet.host("unreachable").v4, 443), timeout=5)
    with pytest.raises(ConnectionRefusedError):
        _connect("refused.example.test", 443)


def test_websocket_echo(internet: Internet) -> None:
    """After the upgrade a masked frame comes back unmasked."""
    host = internet.serve("http", port=80)
    with _connect(host.name, 80) as sock, sock.makefile("rb") as stream:
        key = base64.b64encode(bytes(16)).decode()
        lines = ["GET /chat HTTP/1.1", f"Host: {host.name}", "Upgrade: websocket", "Connection: Upgrade"]
        sock.sendall("\r\n".join([*lines, f"Sec-WebSocket-Key: {key}", "", ""]).encode())
        head = b"".join(iter(stream.readline, b"\r\n"))
        assert b" 101 " in head
        assert b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=" in head
        sock.sendall(
            b"\x81\x83\x01\x02\x03\x04" + bytes(a ^ b for a, b in zip(b"abc", b"\1\2\3", strict=True))
        )
        assert stream.read(5) == b"\x81\x03abc"


def test_several_requests_on_one_connection(internet: Internet) -> None:
    """Each Host is noted, and bodies sent in chunks are measured."""
    host = internet.serve("http", port=80)
    with _connect(host.name, 80) as sock, sock.makefile("rb") as stream:
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        assert b"".join(iter(stream.readline, b"\r\n")) == b"Content-Length: 11\r\n"
        assert stream.readline() == b"received 3\n"
        sock.sendall(b"GET /bytes/100000 HTTP/1.1\r\nHost: two.test:80\r\nConnection: close\r\n\r\n")
        assert stream.read().endswith(b"\r\n\r\n" + bytes(100_000))
    assert internet.arrivals(host.name).names == ("one.test", "two.test")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_speaks_http2(internet: Internet, ca_file: Path) -> None:
    """A real client gets an answer over HTTP/2."""
    assert internet.pid
    words = [
        "curl",
        "-sS",
        "--http2",
        "-w",
        "%{http_version}",
        "--cacert",
        str(ca_file),
        "https://h2.example.test/",
    ]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    if "HTTP2" not in subprocess.run(["curl", "-V"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this curl has no HTTP/2")
    assert ended.stdout == "hello over HTTP/2\n2", ended.stderr


def test_pip_downloads_from_the_package_index(internet: Internet, ca_file: Path, tmp_path: Path) -> None:
    """The real pip finds the pages on one host and fetches the file from another."""
    before = internet.arrivals("files.index.test").connections
    words = [sys.executable, "-m", "pip", "--isolated", "download", "--no-cache-dir", "--cert", str(ca_file)]
    words += ["-i", "https://index.test/simple/", "-d", str(tmp_path), "sample"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert "sample.py" in zipfile.ZipFile(wheel).namelist()
    assert internet.arrivals("files.index.test").connections == before + 1


def test_a_thousand_connections_at_once(internet: Internet) -> None:
    """The hosts hold a thousand open connections and still answer."""
    host = internet.serve("echo", port=7)
    open_now = [_connect(host.v4, host.port) for _ in range(500)]
    open_now += [_connect(host.v6, host.port) for _ in range(500)]
    assert internet.wait_for_arrivals(host.name, connections=1000).open == 1000
    for sock in open_now:
        sock.sendall(b"x")
    assert {sock.recv(2) for sock in open_now} == {b"x"}
    for sock in open_now:
        sock.close()
    internet.wait_for_arrivals(host.name, open_at_most=0)


def test_the_command_line_is_run_in_directories_of_its_own(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Status, streams and JSON come back; the runtime directory is short enough for UNIX sockets."""
    (tmp_path / "own").mkdir()
    kind = type(mvmctl)
    word = "import json, os, sys; print(json.dumps(sys.stdin.read()));"
    word += "sys.stderr.write(os.environ['MVM_STATE_DIR']); sys.exit(3)"
    with closing(kind(tmp_path / "own", command=[sys.executable, "-c", word])) as tried:
        ended = tried(stdin=b"abc").expect(3)
    assert ended.json == "abc"
    assert ended.stderr == str(tried.state)
    assert len(os.fsencode(mvmctl.runtime)) < 60


def test_a_command_that_never_ends_is_killed(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """The time limit ends it with its children, and tells what it said."""
    (tmp_path / "own").mkdir()
    with closing(
        type(mvmctl)(tmp_path / "own", command=["sh", "-c", "echo begun; sleep 60 & wait"])
    ) as tried:
        running = tried.start()
        assert running.until("begun") == "begun\n"
        with pytest.raises(TimeoutError, match="begun"):
            running.finish(timeout_s=0.1)
        assert running.process.returncode == -9


def test_a_skip_that_must_not_be_fails_the_run(tmp_path: Path) -> None:
    """A skip of a test marked `must_run_here` fails the run; any other is counted with its reason."""
    (tmp_path / "conftest.py").write_text(
        f"from {Skips.__module__} import Skips\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(Skips())\n"
        "    config.addinivalue_line('markers', 'must_run_here: x')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.must_run_here\n"
        "def test_must(): pytest.skip('no kernel')\n"
        "def test_may(): pytest.skip('no kernel')\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    both = subprocess.run([*words, str(tmp_path)], capture_output=True, text=True, env=env, check=False)
    words.append(f"{tmp_path}/test_it.py::test_may")
    may = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert both.returncode == 1
    assert "    2  no kernel" in both.stdout
    assert "test_must had to run here and was skipped: no kernel" in both.stdout
    assert may.returncode == 0
