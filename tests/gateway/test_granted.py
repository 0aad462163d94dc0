"""What is granted is reached, whatever it speaks, in both families and layouts; and only that is dialled."""

from __future__ import annotations

import socket
import time
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from mvm.policy.model import Grant
from mvm.terms import HostName, Tls
from tests.gateway import clients
from tests.gateway.doorway import policy
from tests.support import addresses
from tests.support.answers import Answer
from tests.support.internet import Packet

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.conftest import MakeDoorway
    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

FAMILIES = (socket.AF_INET, socket.AF_INET6)
API = "api.example.test"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_granted_tls_host_answers(
    doorway: MakeDoorway, internet: Internet, ca_file: Path, family: int
) -> None:
    """A TLS client reaches the granted host, and nothing but that host is dialled."""
    door = doorway(policy(f"{API}:443"))
    with internet.watch() as outside:
        answer = door.inside(lambda: clients.get_https(API, 443, ca_file, family))
    assert answer == f"HTTP/1.1 200 OK hello from {API}"
    assert outside.besides_names == {Packet("tcp", internet.host("api").v6, 443): 1}
    assert door.denials == []
    flow = door.records("flow.opened")[0]
    assert (flow["host"], flow["port"], flow["protocol"], flow["speaks"]) == (API, 443, "tcp", "tls")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_granted_http_host_answers(doorway: MakeDoorway, family: int) -> None:
    """Plain HTTP reaches the granted host, request after request on one connection."""
    door = doorway(policy(f"{API}:80"))

    def act() -> list[str]:
        with clients.connect(API, 80, family) as sock:
            return [clients.ask_http(sock, API) for _ in range(3)]

    assert door.inside(act) == [f"HTTP/1.1 200 OK hello from {API}"] * 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_server_that_speaks_first_is_heard_at_once(doorway: MakeDoorway, family: int) -> None:
    """On a port that is not named for TLS or HTTP nothing is waited for before the server is dialled."""
    door = doorway(policy("ssh.example.test:22"))

    def act() -> tuple[bytes, float, bytes]:
        began = time.monotonic()
        with clients.connect("ssh.example.test", 22, family) as sock:
            greeting = sock.recv(100)
            heard = time.monotonic() - began
            sock.sendall(b"a word")
            return greeting, heard, sock.recv(100)

    greeting, heard, echoed = door.inside(act)
    assert (greeting, echoed) == (b"SSH-2.0-test\r\n", b"a word")
    assert heard < 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_granted_udp_port_answers(doorway: MakeDoorway, internet: Internet, family: int) -> None:
    """Datagrams of every size come back from the address that they were sent to."""
    door = doorway(policy("echo.example.test:7/udp"))
    with internet.watch() as outside:
        assert door.inside(lambda: clients.ask_udp("echo.example.test", 7, b"x", family)) == b"x"
    assert outside.besides_names == {Packet("udp", internet.host("echo").v6, 7): 1}
    for data in (b"", bytes(1400), bytes(9000), bytes(40000)):
        assert door.inside(partial(clients.ask_udp, "echo.example.test", 7, data, family)) == data
    assert door.denials == []


@pytest.mark.parametrize(("name", "family"), [("v4only", socket.AF_INET6), ("v6only", socket.AF_INET)])
def test_the_family_inside_is_not_that_outside(
    doorway: MakeDoorway, ca_file: Path, name: str, family: int
) -> None:
    """A host with addresses of one family only is reached from the other one too."""
    host = f"{name}.example.test"
    door = doorway(policy(f"{host}:443"))
    assert "hello from" in door.inside(lambda: clients.get_https(host, 443, ca_file, family))


def test_tls_on_a_port_of_its_own_is_checked_and_passes(doorway: MakeDoorway, ca_file: Path) -> None:
    """Where anything may be spoken, TLS with the granted name goes through to the server."""
    host = "echo.example.test"
    door = doorway(policy(f"{host}:8443"))

    def act() -> bytes:
        with clients.connect(host, 8443) as plain, clients.speak_tls(plain, ca_file, host) as sock:
            sock.sendall(b"over TLS")
            return sock.recv(100)

    assert door.inside(act) == b"over TLS"


def test_http_on_a_port_of_its_own_may_leave_the_port_out(doorway: MakeDoorway, internet: Internet) -> None:
    """A Host without a port means the port that the connection goes to, and one with it is right too."""
    host = internet.serve("http", port=8080)
    door = doorway(policy(f"{host.name}:8080"))
    for header in (host.name, f"{host.name}:8080"):
        assert "hello from" in door.inside(partial(clients.get_http, host.name, 8080, header=header))


def test_the_next_address_is_tried_when_the_first_is_silent(doorway: MakeDoorway, internet: Internet) -> None:
    """RFC 8305: a quarter of a second after the first address the second is dialled, and wins."""
    host = internet.serve("greeting", port=22)
    internet.answer(host.name, Answer(a=(str(addresses.SILENT[0][9]), host.v4)))
    door = doorway(policy(f"{host.name}:22"))

    def act() -> float:
        began = time.monotonic()
        with clients.connect(host.name, 22) as sock:
            assert sock.recv(100)
        return time.monotonic() - began

    assert 0.2 < door.inside(act) < 2.0
    assert door.records("flow.opened")[0]["addresses"] == [str(addresses.SILENT[0][9]), host.v4]


def test_the_next_address_is_tried_when_the_first_refuses(doorway: MakeDoorway, internet: Internet) -> None:
    """An address that refuses costs nothing: the next is dialled at once."""
    host = internet.serve("greeting", port=22)
    internet.answer(host.name, Answer(a=(internet.host("refused").v4, host.v4)))
    door = doorway(policy(f"{host.name}:22"))

    def act() -> bytes:
        with clients.connect(host.name, 22) as sock:
            return sock.recv(100)

    assert door.inside(act) == b"SSH-2.0-test\r\n"


def test_of_very_many_addresses_the_first_are_dialled(doorway: MakeDoorway, internet: Internet) -> None:
    """A name with hundreds of addresses is judged whole, and recorded and dialled as far as is sensible."""
    host = internet.serve("greeting", port=22)
    many = tuple(str(ip_address("8.8.1.1") + at) for at in range(200))
    internet.answer(host.name, Answer(a=many))
    door = doorway(policy(f"{host.name}:22"))
    with internet.watch() as outside:
        seen = door.inside(lambda: clients.attempt(lambda: clients.connect(host.name, 22).recv(10)))
    assert seen.what == "reset"
    assert seen.seconds < 2.0
    dialled = {packet.address for packet in outside.packets if packet.port == 22}
    assert dialled == set(many[:16])
    assert door.records("flow.opened")[0]["addresses"] == list(many[:16])
    assert door.ask("failures") == [
        {"host": host.name, "port": 22, "error": "connection refused", "count": 1}
    ]


def test_names_may_be_fixed_by_the_policy(doorway: MakeDoorway, internet: Internet, ca_file: Path) -> None:
    """A name with a fixed address is reached there, and no name server is asked."""
    fixed = ((HostName(API), (ip_address(internet.host("api").v4),)),)
    door = doorway(policy(f"{API}:443", dns="none", static=fixed))
    with internet.watch() as outside:
        assert "hello from" in door.inside(lambda: clients.get_https(API, 443, ca_file))
    assert outside.packets == {Packet("tcp", internet.host("api").v4, 443): 1}


@pytest.mark.parametrize("server", addresses.OTHER_NAME_SERVERS)
def test_a_policy_may_name_its_name_server(
    local_doorway: MakeDoorway, internet: Internet, ca_file: Path, server: str
) -> None:
    """`resolver=IP` is the one that is asked, for both families, and nobody else."""
    door = local_doorway(policy(f"{API}:443", dns=f"resolver={server}"))
    before = len(internet.questions(API))
    assert "hello from" in door.inside(lambda: clients.get_https(API, 443, ca_file))
    asked = internet.questions(API)[before:]
    assert {(question.server, question.type) for question in asked} == {(server, 1), (server, 28)}


def test_an_address_may_be_granted_as_such(doorway: MakeDoorway, internet: Internet) -> None:
    """A granted address literal is reached by that address, and no other of the same host is."""
    host = internet.host("ssh")
    door = doorway(policy(f"{host.v4}:22", f"[{host.v6}]:22"))

    def act(address: str) -> bytes:
        with clients.connect(address, 22) as sock:
            return sock.recv(100)

    assert door.inside(lambda: act(host.v4)) == b"SSH-2.0-test\r\n"
    assert door.inside(lambda: act(host.v6)) == b"SSH-2.0-test\r\n"


def test_a_private_address_is_reached_where_the_grant_says_so(doorway: MakeDoorway) -> None:
    """`private` admits a name that resolves to an address that is not public."""
    door = doorway(policy("private.example.test:80,private"))
    assert "hello from" in door.inside(lambda: clients.get_http("private.example.test"))


def test_names_below_a_granted_one(doorway: MakeDoorway, internet: Internet, ca_file: Path) -> None:
    """A grant of subdomains reaches a name below it; the name itself is another matter."""
    below = Grant(host=HostName("example.test"), port=443, tls=Tls.REQUIRE, depth=1)
    door = doorway(policy(below))
    assert internet.pid
    assert "hello from" in door.inside(lambda: clients.get_https(API, 443, ca_file))
    assert door.inside(lambda: clients.ask_name("example.test")).code == 3


def test_the_answer_comes_back_after_the_clients_fin(doorway: MakeDoorway) -> None:
    """A half-closed connection carries the answer back, however much was sent before."""
    door = doorway(policy("bad.example.test:1006"))

    def act(size: int) -> bytes:
        with clients.connect("bad.example.test", 1006) as sock:
            sock.sendall(bytes(size))
            sock.shutdown(socket.SHUT_WR)
            return clients.read_all(sock)

    for size in (1, 70_000, 3_000_000):
        assert door.inside(partial(act, size)) == f"received {size}\n".encode()


def test_a_server_hears_of_a_client_that_says_nothing_more(doorway: MakeDoorway) -> None:
    """A client that closes its side without a word gets the server's last word."""
    door = doorway(policy("bad.example.test:1006"))

    def act() -> bytes:
        with clients.connect("bad.example.test", 1006) as sock:
            sock.shutdown(socket.SHUT_WR)
            return clients.read_all(sock)

    assert door.inside(act) == b"received 0\n"


def test_a_websocket_is_upgraded(doorway: MakeDoorway) -> None:
    """An upgrade to WebSocket as a connection's first request passes, and frames go both ways after it."""
    door = doorway(policy(f"{API}:80"))
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n"
    frame = b"\x81\x84\0\0\0\0ping"

    def act() -> tuple[bytes, bytes]:
        with clients.connect(API, 80) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {API}\r\n{upgrade}\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            sock.sendall(frame)
            return head.splitlines()[0], sock.recv(100)

    assert door.inside(act) == (b"HTTP/1.1 101 Switching Protocols", b"\x81\x04ping")


def test_a_long_body_goes_up_unseen_and_the_next_request_is_checked(doorway: MakeDoorway) -> None:
    """After a body of megabytes, spliced past the check, the connection goes on as HTTP."""
    door = doorway(policy(f"{API}:80"))
    size = 5_000_000

    def act() -> list[str]:
        with clients.connect(API, 80) as sock:
            sock.sendall(f"POST /up HTTP/1.1\r\nHost: {API}\r\nContent-Length: {size}\r\n\r\n".encode())
            sock.sendall(bytes(size))
            first = clients.read_http(sock)
            return [first, clients.ask_http(sock, API), clients.ask_http(sock, "other.example.test")]

    posted, fetched, refused = door.inside(act)
    assert posted == f"HTTP/1.1 200 OK received {size}"
    assert fetched == f"HTTP/1.1 200 OK hello from {API}"
    assert refused.startswith("HTTP/1.1 403 Forbidden")


def test_datagrams_to_a_granted_name_server_leave(doorway: MakeDoorway, internet: Internet) -> None:
    """Port 53 is the gateway's own, except where a grant names that very server."""
    server, other = addresses.NAME_SERVERS[0], "9.9.9.9"
    door = doorway(policy(f"{server}:53/udp", f"{API}:443"))
    true_address = internet.host("other").v4
    reached = door.inside(lambda: clients.ask_name("other.example.test", server=(server, 53)))
    assert reached.addresses == (true_address,)
    with internet.watch() as outside:
        assert door.inside(lambda: clients.ask_name("other.example.test", server=(other, 53))).code == 3
    assert not outside.packets


def test_the_sums_of_a_run(doorway: MakeDoorway) -> None:
    """Flows and bytes are summed by place, and are what the client sent and got."""
    door = doorway(policy("echo.example.test:7", "echo.example.test:7/udp"))

    def act() -> None:
        for _ in range(3):
            with clients.connect("echo.example.test", 7) as sock:
                sock.sendall(b"12345\n")
                assert sock.recv(100) == b"12345\n"
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(100) == b""
        clients.ask_udp("echo.example.test", 7, b"123")

    door.inside(act)
    place = {"host": "echo.example.test", "port": 7}
    assert sorted(door.ask("flows"), key=lambda flow: flow["protocol"]) == [
        {**place, "protocol": "tcp", "flows": 3, "up": 18, "down": 18},
        {**place, "protocol": "udp", "flows": 1, "up": 3, "down": 3},
    ]
    opened, _standing, up, down = door.ask("totals")
    assert (opened, up, down) == (4, 18, 18)
