"""What is not granted: what the workload sees, how soon, what is recorded, and that nothing left.

Each act is tried where it is denied; its twin where it is granted is in `test_granted`, or beside it here.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway import clients
from tests.gateway.doorway import policy, try_at_once
from tests.support import addresses
from tests.support.answers import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.conftest import MakeDoorway
    from tests.gateway.doorway import Doorway
    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

API, OTHER = "api.example.test", "other.example.test"


def _denial(layer: str, reason: str, **known: str | int) -> dict[str, Any]:
    """A denial as `Doorway.denials` gives it."""
    nothing: dict[str, Any] = {"host": None, "address": None, "port": None, "protocol": None, "count": 1}
    return {**nothing, "layer": layer, "reason": reason, **known}


def _key(line: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    known = ("layer", "reason", "host", "address", "port", "protocol")
    return tuple((name, line[name]) for name in known if line.get(name) is not None)


def _expect(door: Doorway, *denials: dict[str, Any]) -> None:
    """Exactly these denials, each told once, and with the same counts in the record."""
    assert door.denials == list(denials)
    assert [kind for kind, _ in door.ask("heard")].count("denied") == len(denials)
    recorded: Counter[tuple[tuple[str, Any], ...]] = Counter()
    for line in (*door.records("flow.denied"), *door.records("dns.denied")):
        recorded[_key(line)] += line["count"]
    assert recorded == {_key(denial): denial["count"] for denial in denials}


# ---- names


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("kind", [clients.A, clients.AAAA, clients.HTTPS])
def test_a_name_that_is_not_granted_does_not_exist(
    doorway: MakeDoorway, internet: Internet, kind: int, tcp: bool
) -> None:
    """NXDOMAIN with extended error 18, by UDP and TCP, from any server, and nobody is asked outside."""
    door = doorway(policy(f"{API}:443"))
    for server in ("8.8.4.4", addresses.NAME_SERVERS[0], "2001:4860:4860::8844"):
        with internet.watch() as outside:
            reply = door.inside(partial(clients.ask_name, OTHER, kind, server=(server, 53), tcp=tcp))
        assert reply == (3, 18, ())
        assert not outside.packets
    _expect(door, _denial("dns", "host-not-granted", host=OTHER, count=3))


def test_a_program_hears_that_there_is_no_such_name(doorway: MakeDoorway, internet: Internet) -> None:
    """Getaddrinfo says so at once, and counts as two questions."""
    door = doorway(policy(f"{API}:443"))
    what, outside = try_at_once(door, internet, lambda: socket.getaddrinfo(OTHER, 443))
    assert what == "no such name"
    assert not outside.packets
    assert [denial["host"] for denial in door.denials] == [OTHER]


def test_where_the_policy_has_no_dns_no_name_exists(doorway: MakeDoorway, internet: Internet) -> None:
    """Without a DNS policy every name is refused for that, except the policy's own page."""
    door = doorway(policy(f"{internet.host('ssh').v4}:22", dns="none"))
    assert door.inside(lambda: clients.ask_name(API)) == (3, 18, ())
    assert door.inside(lambda: clients.ask_name("policy.mvm.internal")).addresses == ("198.18.0.3",)
    _expect(door, _denial("dns", "dns-not-allowed", host=API))


def test_a_granted_name_has_no_address_hints(doorway: MakeDoorway) -> None:
    """HTTPS questions about a granted name are answered empty, and are no denial."""
    door = doorway(policy(f"{API}:443"))
    assert door.inside(lambda: clients.ask_name(API, clients.HTTPS)) == (0, None, ())
    assert door.denials == []


def test_an_answer_is_recorded_before_it_is_given(
    doorway: MakeDoorway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is in the record by the time the workload has it; later ones are counted."""
    monkeypatch.setattr("mvm.gateway.gateway._FLUSH_SECONDS", 60.0)  # counts are told when asked for below
    door = doorway(policy(f"{API}:443"))

    def act() -> list[str]:
        return [clients.address_of(API) for _ in range(4)]

    assert len(set(door.inside(act))) == 1
    (answered,) = door.records("dns.answered")
    assert (answered["host"], answered["count"]) == (API, 1)
    door.ask("flush")
    assert [line["count"] for line in door.records("dns.answered")] == [1, 3]


@pytest.mark.parametrize("tcp", [False, True])
def test_garbage_on_port_53_is_recorded(doorway: MakeDoorway, tcp: bool) -> None:
    """What is no question is counted as malformed, and the next question is answered."""
    door = doorway(policy(f"{API}:443"))

    def act() -> object:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
            sock.settimeout(clients.WAIT_S)
            sock.connect(("9.9.9.9", 53))
            sock.send((b"\0\x0c" if tcp else b"") + b"\x12\x34\x01\0\0\x07garbage"[:12])
            return sock.recv(100)

    assert door.inside(act)
    assert door.inside(lambda: clients.ask_name(API)).code == 0
    _expect(door, _denial("dns", "malformed"))


# ---- destinations


@pytest.mark.parametrize("address", ["93.184.215.10", "2606:2800:220:1::a", "10.1.2.3", "169.254.169.254"])
def test_an_address_that_is_not_granted_is_refused(
    doorway: MakeDoorway, internet: Internet, address: str
) -> None:
    """A connection to an address is refused at once, whoever is there."""
    door = doorway(policy(f"{API}:443"))
    what, outside = try_at_once(door, internet, lambda: clients.connect(address, 443))
    assert what == "refused"
    assert not outside.packets
    _expect(door, _denial("tcp", "address-literal", address=address, port=443, protocol="tcp"))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_another_port_of_a_granted_host_is_refused(
    doorway: MakeDoorway, internet: Internet, family: int
) -> None:
    """The port is part of the grant."""
    door = doorway(policy(f"{API}:443"))
    what, outside = try_at_once(door, internet, lambda: clients.connect(API, 80, family))
    assert what == "refused"
    assert not outside.packets
    _expect(door, _denial("tcp", "port-not-granted", host=API, port=80, protocol="tcp"))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("granted", [True, False])
def test_udp_to_what_is_granted_for_tcp_is_refused(
    doorway: MakeDoorway, internet: Internet, family: int, granted: bool
) -> None:
    """QUIC to a host that is granted for TLS is refused at once; where it is granted for UDP it leaves."""
    door = doorway(policy("echo.example.test:7" + ("/udp" if granted else "")))
    act = lambda: clients.ask_udp("echo.example.test", 7, b"hello", family)  # noqa: E731
    what, outside = try_at_once(door, internet, act)
    if granted:
        assert what == "ok b'hello'"
        assert door.denials == []
        return
    # In the door itself the datagram does not even leave (EPERM); behind a wire it is answered by ICMP.
    assert what == ("EPERM" if door.layout == "local" else "refused")
    assert not outside.besides_names
    denied = _denial("udp", "protocol-not-granted", host="echo.example.test", port=7, protocol="udp")
    _expect(door, denied)


def test_nothing_else_of_ip_leaves(doorway: MakeDoorway, internet: Internet) -> None:
    """ICMP, SCTP and an unknown protocol are refused, counted and recorded, each for what it is."""
    door = doorway(policy(f"{API}:443"))

    def act() -> None:
        for number in (1, 132, 253):
            # In the door itself it is refused in the act of sending.
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, number) as sock, suppress(PermissionError):
                sock.sendto(b"\x08\0\0\0\0\0\0\0" * 2, ("93.184.215.10", 0))

    with internet.watch() as outside:
        door.inside(act, privileged=True)
    assert not outside.packets
    known = {"address": "93.184.215.10"}
    _expect(
        door,
        _denial("icmp", "protocol-not-granted", protocol="icmp", **known),
        _denial("icmp", "protocol-not-granted", protocol="ip-132", **known),
        _denial("icmp", "protocol-not-granted", protocol="ip-253", **known),
    )


@pytest.mark.parametrize("layer", ["tcp", "udp"])
def test_no_count_is_lost_in_a_flood(doorway: MakeDoorway, layer: str) -> None:
    """Far more refusals than are reported one by one: every one of them is counted and recorded."""
    door = doorway(policy(f"{API}:443"))
    count = 3000

    def act() -> int:
        tried = 0
        for at in range(count):
            kind = socket.SOCK_STREAM if layer == "tcp" else socket.SOCK_DGRAM
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.setblocking(False)
                place = ("93.184.215.10", 1000 + at % 50)
                if layer == "tcp":
                    sock.connect_ex(place)
                else:
                    with suppress(OSError):
                        sock.sendto(b"x", place)
                tried += 1
        return tried

    assert door.inside(act) == count
    assert sum(denial["count"] for denial in door.denials) == count
    assert {denial["layer"] for denial in door.denials} == {layer}
    door.ask("end")
    assert sum(line["count"] for line in door.records("flow.denied")) == count


def test_what_is_reported_late_is_counted_once(doorway: MakeDoorway, internet: Internet) -> None:
    """Reports that lie unread when the kernel's counters are read are not taken for unreported ones."""
    door = doorway(policy(f"{API}:443"))
    address = internet.host("api").v4

    def act() -> int:
        seen = [clients.attempt(lambda: clients.connect(address, 22)).what for _ in range(150)]
        return seen.count("refused")

    (denied,) = door.ask_after_pause(lambda: door.inside(act), "denials")
    assert (denied["count"], denied["address"]) == (150, address)
    assert door.denials[0]["count"] == 150


# ---- who a connection is for


@pytest.mark.parametrize(
    ("name", "reason", "host"), [(OTHER, "sni-mismatch", OTHER), (None, "sni-missing", API)]
)
def test_tls_for_another_name_is_refused_by_alert_49(  # noqa: PLR0917
    doorway: MakeDoorway, internet: Internet, ca_file: Path, name: str | None, reason: str, host: str
) -> None:
    """A hello that names another host, or none, meets the alert access_denied, and nothing is dialled."""
    door = doorway(policy(f"{API}:443", "echo.example.test:8443"))

    def act(at: str, port: int) -> object:
        with clients.connect(at, port) as plain, clients.speak_tls(plain, ca_file, name):
            return None

    what, outside = try_at_once(door, internet, lambda: act(API, 443))
    assert what == "alert 49"
    assert not outside.packets
    _expect(door, _denial("tls", reason, host=host, port=443, protocol="tcp"))
    seen = door.inside(lambda: clients.attempt(lambda: act("echo.example.test", 8443)))
    assert (
        seen.what == "alert 49"
    )  # where anything may be spoken, the server has been dialled, and got nothing
    assert internet.arrivals("echo.example.test").names.count(OTHER) == 0


@pytest.mark.parametrize(
    ("first", "what"),
    [(b"SSH-2.0-x\r\n", "reset"), (f"GET / HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(), "ok 'HTTP/1.1 403")],
)
def test_what_is_not_tls_where_tls_is_required(
    doorway: MakeDoorway, internet: Internet, first: bytes, what: str
) -> None:
    """Another protocol on a port that requires TLS is refused in its own words, and nothing is dialled."""
    door = doorway(policy(f"{API}:443"))

    def act() -> object:
        with clients.connect(API, 443) as sock:
            sock.sendall(first)
            return clients.read_all(sock).decode()

    seen, outside = try_at_once(door, internet, act)
    assert seen.startswith(what)
    assert not outside.packets
    _expect(door, _denial("tls", "not-tls", host=API, port=443, protocol="tcp"))


@pytest.mark.parametrize("port", [80, 8080])
def test_a_request_for_another_host_is_answered_403(
    doorway: MakeDoorway, internet: Internet, port: int
) -> None:
    """The header says why, the body is JSON, and the granted host never hears of it."""
    host = internet.serve("http", port=port)
    door = doorway(policy(f"{host.name}:{port}"))

    def act(header: str) -> str:
        with clients.connect(host.name, port) as sock:
            sock.sendall(f"GET /secret HTTP/1.1\r\nHost: {header}\r\n\r\n".encode())
            return clients.read_all(sock).decode()

    page = door.inside(lambda: act(OTHER))
    assert page.startswith("HTTP/1.1 403 Forbidden\r\nX-Mvm-Denied: host-header-mismatch\r\n")
    assert f'"host": "{OTHER}"' in page
    assert "secret" not in page
    assert internet.arrivals(host.name).bytes == 0
    _expect(door, _denial("http", "host-header-mismatch", host=OTHER, port=port, protocol="tcp"))
    assert door.inside(lambda: clients.get_http(host.name, port)).startswith("HTTP/1.1 200")


def test_the_second_request_of_a_connection_is_checked_too(doorway: MakeDoorway, internet: Internet) -> None:
    """A connection that has been good is refused at its first request for another host."""
    host = internet.serve("http", port=80)
    door = doorway(policy(f"{host.name}:80"))

    def act() -> list[str]:
        with clients.connect(host.name, 80) as sock:
            return [clients.ask_http(sock, header) for header in (host.name, host.name, OTHER)]

    good, again, refused = door.inside(act)
    assert (good, again) == (f"HTTP/1.1 200 OK hello from {host.name}",) * 2
    assert refused.startswith("HTTP/1.1 403 Forbidden")
    assert OTHER not in internet.arrivals(host.name).names


_CHUNKED = "Transfer-Encoding: chunked\r\n"
_SMUGGLED = f"GET /x HTTP/1.1\r\nHost: {OTHER}\r\n\r\n"


@pytest.mark.parametrize(
    "request_head",
    [
        f"POST / HTTP/1.1\r\nHost: {API}\r\nContent-Length: 4\r\nContent-Length: 50\r\n\r\n{_SMUGGLED}",
        f"POST / HTTP/1.1\r\nHost: {API}\r\nContent-Length: 4\r\n{_CHUNKED}\r\n{_SMUGGLED}",
        f"GET http://{OTHER}/ HTTP/1.1\r\nHost: {API}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {API}\r\n folded\r\n\r\n{_SMUGGLED}",
        f"CONNECT {OTHER}:443 HTTP/1.1\r\nHost: {API}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {API}\r\nHost: {OTHER}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_two_readers_could_read_differently_is_refused(
    local_doorway: MakeDoorway, internet: Internet, request_head: str
) -> None:
    """Smuggling, tunnels and other protocols in the clear are refused with 403, and nothing is dialled."""
    door = local_doorway(policy(f"{API}:80"))

    def act() -> str:
        with clients.connect(API, 80) as sock:
            sock.sendall(request_head.encode())
            return clients.read_all(sock).decode()

    what, outside = try_at_once(door, internet, act)
    assert what.startswith("ok 'HTTP/1.1 403 Forbidden")
    assert not outside.packets
    (denied,) = door.denials
    assert (denied["layer"], denied["host"]) == ("http", API)
    assert denied["reason"] in {"malformed", "protocol-not-granted"}


def test_tls_on_the_port_of_http_is_refused(doorway: MakeDoorway, internet: Internet, ca_file: Path) -> None:
    """Port 80 is for HTTP/1 in the clear and nothing else: a TLS client gets an alert."""
    door = doorway(policy(f"{API}:80"))

    def act() -> None:
        with clients.connect(API, 80) as plain, clients.speak_tls(plain, ca_file, API):
            pass

    what, outside = try_at_once(door, internet, act)
    assert what == "alert 49"
    assert not outside.packets
    _expect(door, _denial("http", "protocol-not-granted", host=API, port=80, protocol="tcp"))


def test_a_hello_in_single_bytes_is_read_whole(doorway: MakeDoorway, internet: Internet) -> None:
    """A hello that comes a byte at a time is judged like one that comes at once."""
    door = doorway(policy(f"{API}:443"))
    context = ssl.create_default_context()

    def act(name: str) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        with clients.connect(API, 443) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in outgoing.read():
                sock.send(bytes([byte]))
            return sock.recv(7)

    assert door.inside(lambda: act(API))[:1] == b"\x16"
    assert door.inside(lambda: act(OTHER)) == b"\x15\x03\x01\0\x02\x02\x31"
    assert internet.pid


# ---- where a granted name leads


@pytest.mark.parametrize("name", ["private", "loopback", "metadata", "mapped", "cgnat", "linklocal"])
def test_a_name_that_leads_to_no_public_address_is_refused(
    local_doorway: MakeDoorway, internet: Internet, name: str
) -> None:
    """A granted name is judged by where it leads, in any spelling, when it is dialled."""
    host = f"{name}.example.test"
    door = local_doorway(policy(f"{host}:80", f"{host}:7/udp"))
    what, outside = try_at_once(door, internet, lambda: clients.get_http(host))
    assert what.startswith("ok 'HTTP/1.1 403 Forbidden")
    assert not outside.besides_names
    with internet.watch() as outside:
        seen = door.inside(lambda: clients.attempt(lambda: clients.ask_udp(host, 7, b"x")))
    assert seen.what == "refused"
    assert not outside.besides_names
    tcp, udp = door.denials
    assert (tcp["reason"], tcp["host"], tcp["layer"]) == ("private-address", host, "tcp")
    assert (udp["reason"], udp["host"], udp["layer"]) == ("private-address", host, "udp")


def test_one_private_address_among_public_ones_refuses_them_all(
    local_doorway: MakeDoorway, internet: Internet
) -> None:
    """An answer that mixes is not picked from."""
    host = internet.serve("http", port=80)
    internet.answer(host.name, Answer(a=(host.v4, "10.1.2.3")))
    door = local_doorway(policy(f"{host.name}:80"))
    what, outside = try_at_once(door, internet, lambda: clients.get_http(host.name))
    assert what.startswith("ok 'HTTP/1.1 403")
    assert not outside.besides_names
    denied = _denial("tcp", "private-address", address="10.1.2.3", port=80, protocol="tcp", host=host.name)
    _expect(door, denied)


def test_the_hosts_own_address_is_refused(local_doorway: MakeDoorway, internet: Internet) -> None:
    """A name that leads to this very machine, though it looks public, is refused; `private` admits it."""
    host = internet.serve("greeting", port=2222)
    internet.answer(host.name, Answer(a=(addresses.HOST_V4,), aaaa=(addresses.HOST_V6,)))
    with socket.create_server((addresses.HOST_V6, 2222), family=socket.AF_INET6, backlog=5) as server:
        server.settimeout(5)
        door = local_doorway(policy(f"{host.name}:2222"))
        act = lambda: clients.connect(host.name, 2222).recv(10)  # noqa: E731
        assert try_at_once(door, internet, act)[0] == "reset"
        assert door.denials[0]["reason"] == "private-address"
        door = local_doorway(policy(f"{host.name}:2222,private"))

        def reach() -> bytes:
            with clients.connect(host.name, 2222) as sock:
                return sock.recv(10)

        running = door.start(lambda _talk: reach())
        accepted, _ = server.accept()
        accepted.sendall(b"mine")
        accepted.close()
        assert running.result() == b"mine"


# ---- failures of the network are not denials


@pytest.mark.parametrize(
    ("name", "error"),
    [("refused", "connection refused"), ("gone", "no such host")],
)
def test_a_host_that_fails_is_no_denial(
    doorway: MakeDoorway, internet: Internet, name: str, error: str
) -> None:
    """A granted host that can't be reached ends the connection, and is told as a failure of the network."""
    host = f"{name}.example.test"
    door = doorway(policy(f"{host}:22", f"{host}:80"))
    what, _ = try_at_once(door, internet, lambda: clients.connect(host, 22).recv(10))
    assert what == "reset"
    what, _ = try_at_once(door, internet, lambda: clients.get_http(host))
    assert what.startswith("ok 'HTTP/1.1 502 Bad Gateway")
    assert error in what
    assert door.denials == []
    failed = [words for kind, words in door.ask("heard") if kind == "failed"]
    assert failed == [(host, 22, error), (host, 80, error)]
    assert {failure["error"] for failure in door.ask("failures")} == {error}
    assert [line["error"] for line in door.records("flow.closed")] == (
        ["connection-refused"] * 2 if name == "refused" else []
    )


def test_a_name_server_that_is_silent_fails_in_time(local_doorway: MakeDoorway) -> None:
    """A resolver that never answers is a failure of the network after its tries, not a hang for ever."""
    door = local_doorway(policy("ssh.example.test:22", dns=f"resolver={addresses.SILENT[0][7]}"))
    began = time.monotonic()
    seen = door.inside(lambda: clients.attempt(lambda: clients.connect("ssh.example.test", 22).recv(10)))
    assert seen.what == "reset"
    assert time.monotonic() - began < 8
    assert door.ask("failures")[0]["error"] == "the name server did not answer in time"


def test_a_name_server_that_refuses_fails_at_once(local_doorway: MakeDoorway, internet: Internet) -> None:
    """Where nobody listens, the failure comes without waiting for a time-out."""
    door = local_doorway(policy("ssh.example.test:22", dns=f"resolver={internet.host('refused').v4}"))
    what, _ = try_at_once(door, internet, lambda: clients.connect("ssh.example.test", 22).recv(10))
    assert what == "reset"
    assert door.ask("failures")[0]["error"] == "the name server: connection refused"
