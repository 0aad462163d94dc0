"""Live edits, expiry and budgets: recorded first, in force at once, and felt by open flows within 100 ms."""

from __future__ import annotations

import contextlib
import socket
import time
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from mvm.errors import AuditError
from mvm.gateway.door import DoorSockets
from mvm.policy.model import Grant
from mvm.policy.parse import parse_grant
from mvm.terms import HostName, Reason
from tests.gateway import clients
from tests.gateway.doorway import policy
from tests.support import addresses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.gateway.conftest import MakeDoorway
    from tests.gateway.doorway import Talk
    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

SSH, ECHO, API = "ssh.example.test", "echo.example.test", "api.example.test"
SOON_S = 0.1
_ROUNDS = 30


def hold_open(talk: Talk, flows: int = 1) -> float:
    """Open connections to a server that speaks first, wait until all are reset, and say when that was."""
    socks = [clients.connect(SSH, 22) for _ in range(flows)]
    for sock in socks:
        assert sock.recv(100)
    talk.say("open")
    assert all(clients.was_reset(sock) for sock in socks)
    return time.monotonic()


def keep(talk: Talk) -> bytes:
    """Open a connection to an echo, and use it again when told."""
    with clients.connect(ECHO, 7) as sock:
        sock.sendall(b"hello\n")
        talk.say("open" if sock.recv(100) else "closed")
        talk.hear()
        sock.sendall(b"still here\n")
        return sock.recv(100)


def soon(measure: Callable[[], float]) -> None:
    """The best of a few rounds is within 100 ms: others share this machine."""
    taken: list[float] = []
    while not taken or taken[-1] > SOON_S:
        assert len(taken) < _ROUNDS, taken
        taken.append(measure())


@pytest.mark.parametrize("flows", [1, 500])
def test_a_revoked_grant_resets_its_flows_within_100_ms(doorway: MakeDoorway, flows: int) -> None:
    """However many are open; and flows of other grants are untouched."""
    door = doorway(policy(f"{SSH}:22", f"{ECHO}:7"))

    kept = door.start(keep)
    assert kept.talk.hear() == "open"

    def measure() -> float:
        door.ask("replace", policy(f"{SSH}:22", f"{ECHO}:7"))
        held = door.start(lambda talk: hold_open(talk, flows))
        assert held.talk.hear() == "open"
        began = time.monotonic()
        door.ask("replace", policy(f"{ECHO}:7"))
        taken: float = held.result() - began
        return taken

    soon(measure)
    kept.talk.say()
    assert kept.result() == b"still here\n"


def test_a_revoked_name_keeps_its_address_and_is_refused(doorway: MakeDoorway) -> None:
    """Asked again it does not exist; its address is refused at once; granted again it is the same address."""
    door = doorway(policy(f"{SSH}:22", f"{ECHO}:7"))
    address = door.inside(lambda: clients.address_of(SSH))
    assert door.ask("replace", policy(f"{ECHO}:7")) == (0, 1)
    assert door.inside(lambda: clients.ask_name(SSH)) == (3, 18, ())
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(address, 22))).what == "refused"
    tcp = next(denial for denial in door.denials if denial["layer"] == "tcp")
    assert (tcp["reason"], tcp["host"], tcp["port"]) == ("revoked", SSH, 22)
    assert door.ask("replace", policy(f"{ECHO}:7", f"{SSH}:22")) == (1, 0)
    assert door.inside(lambda: clients.address_of(SSH)) == address
    assert door.inside(lambda: clients.connect(address, 22).recv(5)) == b"SSH-2"


def test_a_host_granted_live_is_reached_without_asking_again(doorway: MakeDoorway) -> None:
    """An address that was given out for one port leads to another as soon as that is granted."""
    door = doorway(policy(f"{ECHO}:9"))
    address = door.inside(lambda: clients.address_of(ECHO))
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(address, 7))).what == "refused"
    door.ask("replace", policy(f"{ECHO}:9", f"{ECHO}:7"))
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(address, 7))).what.startswith("ok")


def test_an_edit_is_recorded_before_it_is_felt(doorway: MakeDoorway) -> None:
    """policy.changed and every grant's line stand before the line of the first flow that they end."""
    door = doorway(policy(f"{SSH}:22", f"{ECHO}:7,expires=1h"))
    held = door.start(hold_open)
    assert held.talk.hear() == "open"
    before = door.ask("digest")
    assert door.ask("replace", policy(f"{ECHO}:7,expires=2h", f"{API}:443"), "allow") == (2, 1)
    held.result()
    kinds = [line["kind"] for line in door.records()]
    edit = kinds.index("policy.changed")
    assert kinds[edit:] == [
        "policy.changed",
        "grant.revoked",
        "grant.decided",
        "grant.decided",
        "flow.closed",
        "flow.denied",
    ]
    changed = door.records("policy.changed")[0]
    assert (changed["before"], changed["after"]) == (before, door.ask("digest"))
    assert (changed["by"], changed["grants"], changed["added"], changed["removed"]) == ("allow", 2, 2, 1)
    closed = door.records("flow.closed")[0]
    assert (closed["cause"], closed["reason"]) == ("policy", "revoked")


def test_a_long_reason_is_recorded_as_far_as_a_record_takes_it(local_doorway: MakeDoorway) -> None:
    """What is recorded of an edit is within the record's bounds, whatever was written."""
    door = local_doorway(policy())
    door.ask("replace", policy(f"{SSH}:22,reason={'because ' * 200}"))
    assert len(door.records("grant.decided")[0]["reason"]) == 500


@pytest.mark.parametrize(
    ("changed", "goes_on"),
    [
        (f"{SSH}:22,reason=another", True),
        (f"{SSH}:22,expires=1h", True),
        (f"{SSH}:22,max-down=1MB", True),
        (f"{SSH}:22,private", False),
        (f"{SSH}:22,tls=off", False),
    ],
)
def test_what_a_changed_grant_means_for_its_flows(
    local_doorway: MakeDoorway, changed: str, goes_on: bool
) -> None:
    """A flow goes on where what it may be is the same, and is reset where that is another thing."""
    door = local_doorway(policy(f"{SSH}:22"))

    def act(talk: Talk) -> bool:
        with clients.connect(SSH, 22) as sock:
            assert sock.recv(100)
            talk.say("open")
            talk.hear()
            with contextlib.suppress(ConnectionResetError):
                sock.sendall(b"x\n")
                return sock.recv(10) == b"x\n"
            return False

    held = door.start(act)
    assert held.talk.hear() == "open"
    door.ask("replace", policy(changed))
    held.talk.say()
    assert held.result() is goes_on


def test_an_expired_grant_resets_its_flows_within_100_ms(doorway: MakeDoorway) -> None:
    """At its time, recorded; afterwards it is refused at once, for that reason, until it is granted anew."""
    grant = f"{SSH}:22,expires=3s"

    def measure() -> float:
        door.ask("replace", policy())
        begun = time.monotonic()
        door.ask("replace", policy(grant))
        held = door.start(hold_open)
        assert held.talk.hear() == "open"
        taken: float = held.result() - begun - 3.0
        assert taken > -0.01
        return taken

    door = doorway(policy())
    soon(measure)
    address = door.inside(lambda: clients.address_of(SSH))
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(address, 22))).what == "refused"
    denied = door.denials[-1]
    assert (denied["layer"], denied["reason"], denied["host"]) == ("quota", "expired", SSH)
    expired = door.records("grant.expired")[-1]
    assert (expired["host"], expired["port"], expired["flows"]) == (SSH, 22, 1)
    assert door.ask("replace", policy(grant)) == (0, 0)
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(address, 22))).what == "refused"
    assert door.ask("replace", policy(grant), "allow", (parse_grant(grant),)) == (1, 0)
    assert door.inside(lambda: clients.connect(address, 22).recv(5)) == b"SSH-2"


def test_a_used_up_budget_ends_all_flows_of_its_grant(doorway: MakeDoorway) -> None:
    """Not a byte beyond it arrives; another flow of the grant is reset with it; new ones are refused."""
    most = 300_000
    door = doorway(policy(f"{ECHO}:7,max-down={most}B", f"{SSH}:22"))

    def idle(talk: Talk) -> bool:
        with clients.connect(ECHO, 7) as sock:
            sock.sendall(b"x\n")
            talk.say("open" if sock.recv(10) else "closed")
            return clients.was_reset(sock)

    def drain() -> int:
        got = 0
        with clients.connect(ECHO, 7) as sock:
            try:
                while True:
                    sock.sendall(bytes(10_000))
                    got += len(sock.recv(1 << 16))
            except OSError:
                return got

    waiting = door.start(idle)
    assert waiting.talk.hear() == "open"
    assert 0 < door.inside(drain) <= most
    assert waiting.result()
    (flows,) = [flow for flow in door.ask("flows") if flow["host"] == ECHO]
    assert flows["down"] <= most
    (denied,) = door.denials
    assert (denied["layer"], denied["reason"], denied["count"]) == ("quota", "budget-exceeded", 2)
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(ECHO, 7))).what == "refused"
    assert door.denials[0]["count"] == 3
    assert door.inside(lambda: clients.connect(SSH, 22).recv(5)) == b"SSH-2"


@pytest.mark.parametrize(("size", "passes"), [(10, True), (11, False)])
def test_a_budget_is_exact(local_doorway: MakeDoorway, internet: Internet, size: int, passes: bool) -> None:
    """As many bytes as it has go up and the flow ends cleanly; one more is refused, and not sent."""
    host = internet.serve("half-close", port=77)
    door = local_doorway(policy(f"{host.name}:77,max-up=10B"))

    def act() -> bytes:
        with clients.connect(host.name, 77) as sock:
            sock.sendall(bytes(size))
            sock.shutdown(socket.SHUT_WR)
            return clients.read_all(sock)

    seen = door.inside(lambda: clients.attempt(act))
    assert seen.what == ("ok b'received 10\\n'" if passes else "reset")
    assert internet.arrivals(host.name).bytes == (10 if passes else 0)


@pytest.mark.parametrize(("port", "end"), [(443, "alert 49"), (80, "ok 'HTTP/1.1 403")])
def test_a_budget_below_the_first_bytes_lets_none_of_them_pass(
    local_doorway: MakeDoorway, internet: Internet, ca_file: Path, port: int, end: str
) -> None:
    """A hello or head that is larger than all that may be sent is refused in its own words, and not sent."""
    host = internet.serve("http", port=port)
    door = local_doorway(policy(f"{host.name}:{port},max-up=10B"))
    secure = partial(clients.get_https, host.name, 443, ca_file)
    act = secure if port == 443 else partial(clients.get_http, host.name)
    assert door.inside(lambda: clients.attempt(act)).what.startswith(end)
    assert internet.arrivals(host.name).bytes == 0
    (denied,) = door.denials
    assert (denied["layer"], denied["reason"]) == ("quota", "budget-exceeded")


def test_an_upward_budget_bounds_what_arrives(local_doorway: MakeDoorway, internet: Internet) -> None:
    """Of megabytes that are sent, no more than the budget reaches the host."""
    host = internet.serve("discard", port=9)
    most = 1_000_000
    door = local_doorway(policy(f"{host.name}:9,max-up={most}B"))

    def act() -> None:
        with clients.connect(host.name, 9) as sock:
            sock.sendall(bytes(3 * most))
            sock.recv(1)

    assert door.inside(lambda: clients.attempt(act)).what in {"reset", "EPIPE"}
    assert internet.wait_for_arrivals(host.name, resets=1).bytes <= most
    assert door.denials[0]["reason"] == Reason.BUDGET_EXCEEDED


def test_datagrams_end_with_their_grant(doorway: MakeDoorway) -> None:
    """A UDP flow is answered by a closed port as soon as its grant is revoked, expired or used up."""
    door = doorway(policy(f"{ECHO}:7/udp,max-up=100B"))

    def talk_on(talk: Talk) -> str:
        place = socket.getaddrinfo(ECHO, 7, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(clients.WAIT_S)
            sock.connect(place)
            sock.send(bytes(60))
            assert sock.recv(100) == bytes(60)
            talk.say("open")
            talk.hear()
            return clients.attempt(lambda: sock.send(bytes(60)) and sock.recv(100)).what

    def expect_end(reason: str, act: Callable[[], object]) -> None:
        held = door.start(talk_on)
        assert held.talk.hear() == "open"
        act()
        held.talk.say()
        assert held.result() in {"refused", "EPERM"}
        assert reason in {denial["reason"] for denial in door.denials}

    expect_end("budget-exceeded", lambda: None)
    door.ask("replace", policy(f"{ECHO}:7/udp"))
    expect_end("revoked", lambda: door.ask("replace", policy()))
    door.ask("replace", policy(f"{ECHO}:7/udp,expires=3s"))
    expect_end("expired", lambda: door.await_record("grant.expired"))


def _send_on(talk: Talk) -> list[bytes]:
    """Have a datagram echoed, and another when told; what was heard."""
    place = socket.getaddrinfo(ECHO, 7, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
    heard = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(clients.WAIT_S)
        sock.connect(place)
        for data in (b"first", b"second"):
            sock.send(data)
            heard.append(sock.recv(100))
            talk.say("heard")
            talk.hear()
    return heard


def test_only_the_granted_host_answers_a_datagram(local_doorway: MakeDoorway) -> None:
    """What another host sends to where the flow comes from, outside, is not carried in."""
    door = local_doorway(policy(f"{ECHO}:7/udp"))
    held = door.start(_send_on)
    assert held.talk.hear() == "heard"
    (place,) = door.ask("upstream_places")
    version = 6 if ":" in place[0] else 4
    family, own = (
        (socket.AF_INET6, addresses.HOST_V6) if version == 6 else (socket.AF_INET, addresses.HOST_V4)
    )
    with socket.socket(family, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"forged", (own, place[1]))
    for _ in range(2):
        held.talk.say()
    assert held.talk.hear() == "heard"
    assert held.result() == [b"first", b"second"]


def test_a_revoked_udp_flow_is_closed_outside_too(local_doorway: MakeDoorway) -> None:
    """Its socket goes at once, and the record says why; until then it was there."""
    door = local_doorway(policy(f"{ECHO}:7/udp"))
    held = door.start(_send_on)
    assert held.talk.hear() == "heard"
    assert len(door.ask("upstream_places")) == 1
    door.ask("replace", policy())
    assert door.ask("upstream_places") == []
    (closed,) = door.records("flow.closed")
    assert (closed["cause"], closed["reason"], closed["protocol"]) == ("policy", "revoked", "udp")


def test_every_host_may_be_granted_and_taken_back_live(doorway: MakeDoorway) -> None:
    """A live edit opens every public host, and closes them again with the flows that used it."""
    door = doorway(policy(f"{ECHO}:7"))
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(SSH, 22))).what == "no such name"
    door.ask("replace", policy(f"{ECHO}:7", unrestricted=True))
    held = door.start(hold_open)
    assert held.talk.hear() == "open"
    assert door.inside(lambda: clients.ask_udp(ECHO, 7, b"x")) == b"x"
    address = door.inside(lambda: clients.address_of(SSH))
    door.ask("replace", policy(f"{ECHO}:7"))
    held.result()
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(address, 22))).what == "refused"
    seen = door.inside(lambda: clients.attempt(lambda: clients.ask_udp(ECHO, 7, b"x")))
    assert seen.what in {"refused", "EPERM"}
    assert door.records("policy.changed")[-1]["unrestricted"] is False


def test_who_resolves_may_be_edited(local_doorway: MakeDoorway, internet: Internet) -> None:
    """From the edit on names are resolved by the new DNS policy; what was answered before is forgotten."""
    host = internet.host("ssh")
    fixed = ((HostName(SSH), (ip_address("10.9.9.9"),)),)
    door = local_doorway(policy(f"{SSH}:22"))
    assert door.inside(lambda: clients.connect(SSH, 22).recv(5)) == b"SSH-2"
    door.ask("replace", policy(f"{SSH}:22", static=fixed))
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(SSH, 22).recv(5))).what == "reset"
    assert door.denials[0]["address"] == "10.9.9.9"
    assert host.v4


def test_many_edits_in_a_row(local_doorway: MakeDoorway, internet: Internet) -> None:
    """A day's worth of edits in a moment: each in force when it returns, none left in the kernel."""
    door = local_doorway(policy(f"{SSH}:22"))
    address = door.inside(lambda: clients.address_of(SSH))
    for at in range(200):
        literal = Grant(host=ip_address("8.8.0.0") + at, port=80 + at % 7)
        door.ask("replace", policy(literal, *([f"{SSH}:22"] if at % 2 else [])))
    assert door.inside(lambda: clients.connect(address, 22).recv(5)) == b"SSH-2"
    door.ask("replace", policy())
    assert door.inside(lambda: clients.attempt(lambda: clients.connect(address, 22))).what == "refused"
    assert len(door.records("policy.changed")) == 201
    assert internet.pid


# ---- the record


@pytest.mark.parametrize("first", ["name", "flow", "datagram"])
def test_where_nothing_can_be_recorded_nothing_opens(
    doorway: MakeDoorway, internet: Internet, first: str
) -> None:
    """On a full disk no name is answered and no flow opened; who watches is told once; flows go on."""
    door = doorway(policy(f"{SSH}:22", f"{ECHO}:7", f"{ECHO}:7/udp", f"{API}:443"))
    address = door.inside(lambda: clients.address_of(SSH))
    echo = door.inside(lambda: clients.address_of(ECHO))

    kept = door.start(keep)
    assert kept.talk.hear() == "open"
    door.ask("break_record")
    with internet.watch() as outside:
        if first == "name":
            assert door.inside(lambda: clients.ask_name(API)) == (3, 18, ())
        elif first == "datagram":
            seen = door.inside(lambda: clients.attempt(lambda: clients.ask_udp(echo, 7, b"x")))
            assert seen.what == "refused"
        else:
            assert door.inside(lambda: clients.attempt(lambda: clients.hear(echo, 7))).what == "reset"
    assert not outside.besides_names
    with internet.watch() as outside:
        tried = [
            door.inside(lambda: clients.attempt(lambda: clients.hear(address, 22))),
            door.inside(lambda: clients.attempt(lambda: clients.hear(echo, 7))),
            door.inside(lambda: clients.attempt(lambda: clients.ask_udp(echo, 7, b"x"))),
        ]
        assert door.inside(lambda: clients.ask_name(API)) == (3, 18, ())
    assert [each.what for each in tried] == ["reset", "reset", "refused"]
    assert max(each.seconds for each in tried) < 1.0
    assert not outside.packets  # nor is a name server asked any more
    kept.talk.say()
    assert kept.result() == b"still here\n"
    assert [kind for kind, _ in door.ask("heard")].count("unrecorded") == 1


def test_an_edit_that_can_not_be_recorded_grants_nothing(doorway: MakeDoorway) -> None:
    """What it would have taken away is taken away all the same, and the caller is told."""
    door = doorway(policy(f"{SSH}:22"))
    held = door.start(hold_open)
    assert held.talk.hear() == "open"
    before = door.ask("digest")
    door.ask("break_record")
    with pytest.raises(AuditError):
        door.ask("replace", policy(f"{ECHO}:7"))
    held.result()
    assert door.ask("digest") == before
    assert door.inside(lambda: clients.ask_name(ECHO)).code == 3


def test_the_end_of_a_gateway_ends_everything(doorway: MakeDoorway) -> None:
    """Closed, it has reset every flow, recorded that, and given back every descriptor; twice does nothing."""
    door = doorway(policy(f"{SSH}:22", f"{ECHO}:7/udp", f"{API}:80"))
    before = door.ask("sockets")

    def hold_other(talk: Talk) -> tuple[bool, bool, bool]:
        places = (("9.9.9.9", 53), ("policy.mvm.internal", 80), (API, 80))
        clients.ask_udp(ECHO, 7, b"x")
        socks = [clients.connect(*place) for place in places]
        talk.say("open")
        first, second, third = (clients.was_reset(sock) for sock in socks)
        return first, second, third

    held, other = door.start(hold_open), door.start(hold_other)
    assert (held.talk.hear(), other.talk.hear()) == ("open", "open")
    door.ask("end")
    held.result()
    assert other.result() == (True, True, True)
    assert door.ask("sockets") == before - len(DoorSockets._fields)
    closed = [line for line in door.records("flow.closed") if line["host"] == SSH]
    assert [line["cause"] for line in closed] == ["sandbox"]
