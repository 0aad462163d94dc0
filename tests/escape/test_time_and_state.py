"""What was allowed ends when it is to end, and no state carries leave or secrets further (ATTACKS 48-58)."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.escape.first_acts import expect_shut, first_acts
from tests.support import addresses
from tests.support.clock import DAY_S, SteppingClock
from tests.support.disk import fill, small_disk
from tests.support.mvmctl import await_watching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.escape.inside import Start
    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.escape

API, OTHER, ECHO = "api.example.test", "other.example.test", "echo.example.test"
_HELD = (
    "import socket, sys\n"
    "def talk(s):\n"
    "    try: s.sendall(b'x'); return s.recv(1) or b'end'\n"
    "    except OSError as error: return error.__class__.__name__\n"
    "held = socket.create_connection(('{host}', {port})); print(talk(held), flush=True)\n"
    "for line in sys.stdin:\n"
    "    kind, _, host = line.strip().partition(' ')\n"
    "    try: said = talk(held if kind == 'held' else socket.create_connection((host, 7), 5))\n"
    "    except OSError as error: said = error.__class__.__name__\n"
    "    print(kind, said, flush=True)\n"
)


def _get(host: str) -> str:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"


def _holding(mvmctl: Mvmctl, *grants: str, env: dict[str, str] | None = None) -> Running:
    """A sandbox named `held` whose command holds a connection to the echo host open."""
    allows = [word for grant in grants for word in ("--network-allow", grant)]
    code = _HELD.format(host=ECHO, port=7)
    words = ("run", "--name", "held", *allows, "--", "/usr/bin/python3", "-c", code)
    running = mvmctl.start(*words, env=env)
    running.until("b'x'\n")
    return running


def _ask(running: Running, line: str, answer: str) -> None:
    running.send(f"{line}\n".encode())
    running.until(f"{line.partition(' ')[0]} {answer}\n")


# ---- 48: what is revoked ends


def test_a_revoked_flow_is_reset_amid_its_keep_alive(
    sandbox: Start, mvmctl: Mvmctl, internet: Internet
) -> None:
    """48: no second request of a connection rides on a policy that is gone; another grant's host answers."""
    api = internet.host("api")

    def revoke(watching: Running, name: str) -> None:
        watching.until("flow.opened")
        mvmctl("network", "revoke", name, f"{API}:80").expect(0)

    with sandbox(f"{API}:80", f"{OTHER}:443") as inside:
        given = inside.act("resolve", host=API).addresses[0]
        watching = mvmctl.start("network", "watch", inside.name)
        await_watching(mvmctl, inside.name, watching)
        revoking = threading.Thread(target=revoke, args=(watching, inside.name))
        revoking.start()
        turns = [(_get(API), "hello"), ("", None), (_get(API), "hello")]
        said = inside.allowed("talk", at=api, host=API, port=80, turns=turns)
        revoking.join()
        assert said.outcome == "reset"
        assert said.data.count("200 OK") == 1
        again = inside.denied("connect", host=given, port=80)
        assert again.errno == "ECONNREFUSED"
        assert inside.denied("resolve", host=API).outcome == "no-name"
        other = internet.host("other")
        assert inside.allowed("tls", at=other, host=OTHER, name=OTHER).outcome == "answered"
    assert {denial["reason"] for denial in inside.result["denials"]} == {"revoked", "host-not-granted"}


def test_a_flow_that_stays_granted_is_not_reset(mvmctl: Mvmctl, internet: Internet) -> None:
    """48, the twin: edits around it leave a flow and its grant alone."""
    assert internet.pid
    running = _holding(mvmctl, f"{ECHO}:7", f"{API}:443")
    mvmctl("network", "revoke", "held", f"{API}:443").expect(0)
    mvmctl("network", "allow", "held", f"{OTHER}:443").expect(0)
    _ask(running, "held", "b'x'")
    mvmctl("network", "revoke", "held", f"{ECHO}:7").expect(0)
    _ask(running, "held", "ConnectionResetError")
    running.finish().expect(0)


# ---- 50: no start inherits leave


@pytest.mark.parametrize("way", ["run", "up -d"])
def test_a_name_that_is_used_again_has_no_grant_of_before(
    mvmctl: Mvmctl, internet: Internet, way: str
) -> None:
    """50: neither from the start before it nor from an edit while that ran."""
    places = (f"{API}/443", f"{OTHER}/443")
    mvmctl("up", "-d", "--name", "again", "--network-allow", f"{API}:443").expect(0)
    mvmctl("network", "allow", "again", f"{OTHER}:443").expect(0)
    assert mvmctl("exec", "again", *first_acts(*places)).stdout.startswith(f"open {places[0]}\n")
    mvmctl("down", "--time", "0", "again").expect(0)
    with internet.watch() as outside:
        if way == "run":
            ended = mvmctl("run", "--name", "again", "--", *first_acts(*places))
        else:
            mvmctl("up", "-d", "--name", "again").expect(0)
            ended = mvmctl("exec", "again", *first_acts(*places))
            mvmctl("down", "--time", "0", "again").expect(0)
    expect_shut(ended, *places)
    assert outside.packets == {}


# ---- 54: no record, no connection


def test_with_its_disk_full_a_run_opens_nothing_more(
    mvmctl: Mvmctl, internet: Internet, leftovers: Leftovers
) -> None:
    """54: a flow that was recorded stood; then none opens, the run ends with 74, and the log verifies."""
    with small_disk(mvmctl.state) as small:
        running = _holding(mvmctl, f"{ECHO}:7")
        fill(small)
        before = internet.arrivals(ECHO).connections
        for _ in range(60):  # what is left of the log's last page has room for a few lines
            if running.process.poll() is None:
                running.send(f"new {ECHO}\n".encode())
        running.finish().expect(74)
        assert internet.arrivals(ECHO).connections - before < 20
        mvmctl("audit", "verify", "--all").expect(0)
    leftovers.expect_none()


# ---- 55: the wall clock


@pytest.fixture
def clock(tmp_path: Path) -> SteppingClock:
    """A wall clock that the test steps."""
    return SteppingClock(tmp_path)


@pytest.mark.parametrize("step_s", [-DAY_S, DAY_S])
def test_a_step_of_the_clock_moves_no_expiry(
    mvmctl: Mvmctl, internet: Internet, clock: SteppingClock, step_s: int
) -> None:
    """55: set back by a day, a grant of five seconds ends in time; set forward, one of an hour stays."""
    assert internet.pid
    running = _holding(mvmctl, f"{ECHO}:7,expires={'5s' if step_s < 0 else '1h'}", env=clock.env)
    clock.step(step_s)
    if step_s < 0:
        mvmctl.start("audit", "tail", "-f", "held").until("grant.expired")
        _ask(running, "held", "ConnectionResetError")
        _ask(running, f"new {ECHO}", "ConnectionRefusedError")
    else:
        _ask(running, "held", "b'x'")
        _ask(running, f"new {ECHO}", "b'x'")
    ended = running.finish().expect(0)
    assert ("expired" in ended.stderr) == (step_s < 0)
    run = mvmctl("ls", "-a", "--json").expect(0).json["sandboxes"][0]["run"]
    shown = mvmctl("audit", "show", "--json", run).expect(0).stdout
    days = {json.loads(line)["time"][:10] for line in shown.splitlines()}
    assert len(days) >= 2, "the wall clock did step for the product"


# ---- 56: two edits at once


def test_edits_at_once_leave_what_both_meant(mvmctl: Mvmctl, internet: Internet) -> None:
    """56: grants and revocations beside each other: what was revoked is shut, what was granted is open."""
    hosts = [f"h{number}.example.test:443" for number in range(6)]
    allows = [word for host in [*hosts, f"{OTHER}:443"] for word in ("--network-allow", host)]
    mvmctl("up", "-d", "--name", "edited", *allows).expect(0)
    edits = [("revoke", host) for host in [*hosts, f"{OTHER}:443"]]
    edits += [("allow", f"g{number}.example.test:443") for number in range(6)] + [("allow", f"{API}:443")]
    running = [mvmctl.start("network", verb, "edited", host) for verb, host in edits]
    for each in running:
        each.finish().expect(0)
    with internet.watch() as outside:
        said = mvmctl("exec", "edited", *first_acts(f"{API}/443", f"{OTHER}/443", "h0.example.test/443"))
    mvmctl("down", "--time", "0", "edited").expect(0)
    assert said.expect(0).stdout.splitlines()[:3] == [
        f"open {API}/443",
        f"shut {OTHER}/443",
        "shut h0.example.test/443",
    ]
    assert {packet.address for packet in outside.besides_names} <= set(internet.host("api").addresses)


# ---- 57: inbound ports

_SERVER = (
    "import socket, sys, threading\n"
    "def serve(port):\n"
    "    s = socket.create_server(('0.0.0.0', port)); print('up', port, flush=True)\n"
    "    while True:\n"
    "        c, _ = s.accept(); c.sendall(b'from %d' % port); c.close()\n"
    "threading.Thread(target=serve, args=(9090,), daemon=True).start(); serve(8080)\n"
)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _hear(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=5) as sock:
        return sock.makefile("rb").read()


@pytest.mark.parametrize("listens", ["", "0.0.0.0:"])
def test_an_inbound_port_leads_to_its_target_and_no_further(
    mvmctl: Mvmctl, internet: Internet, listens: str
) -> None:
    """57: it listens on loopback unless told otherwise, leads to one port inside, and opens no way out."""
    port = _free_port()
    running = mvmctl.start("run", "-p", f"{listens}{port}:8080", "--", "/usr/bin/python3", "-c", _SERVER)
    running.until("up 9090\n")
    running.until("up 8080\n")
    assert _hear("127.0.0.1", port) == b"from 8080"
    for inner in (8080, 9090):
        with pytest.raises(ConnectionRefusedError):
            _hear("127.0.0.1", inner)
    if listens:
        assert _hear(addresses.HOST_V4, port) == b"from 8080"
    else:
        for address in (addresses.HOST_V4, addresses.HOST_V6, "::1"):
            with pytest.raises(ConnectionRefusedError):
                _hear(address, port)
    running.kill()
    places = (f"{API}/443", f"{internet.host('other').v4}/443", f"127.0.0.1/{port}", f"127.0.0.1/{port + 1}")
    with internet.watch() as outside:
        expect_shut(mvmctl("run", "-p", f"{port}:8080", "--", *first_acts(*places)), *places)
    assert outside.packets == {}


# ---- 58: nothing of the content in what is kept or said

_SECRET = "s3cr3t-of-the-workload"  # noqa: S105  what is looked for


def _everything_kept(mvmctl: Mvmctl) -> bytes:
    files = [path for place in (mvmctl.state, mvmctl.runtime) for path in place.rglob("*") if path.is_file()]
    assert any(path.name == "log.jsonl" for path in files)
    return b"\n".join(path.read_bytes() for path in files)


_TRAFFIC: dict[str, dict[str, Any]] = {
    "a path": {"port": 80, "turns": [(f"GET /{_SECRET} HTTP/1.1\r\nHost: {API}\r\n\r\n", "200 OK")]},
    "a query": {"port": 80, "turns": [(f"GET /?q={_SECRET} HTTP/1.1\r\nHost: {API}\r\n\r\n", "200 OK")]},
    "a header": {
        "port": 80,
        "turns": [(f"GET / HTTP/1.1\r\nHost: {API}\r\nCookie: {_SECRET}\r\n\r\n", "200 OK")],
    },
    "a body": {
        "port": 80,
        "turns": [
            (f"POST / HTTP/1.1\r\nHost: {API}\r\nContent-Length: {len(_SECRET)}\r\n\r\n{_SECRET}", "HTTP")
        ],
    },
}
_REFUSED_TRAFFIC: dict[str, dict[str, Any]] = {
    "a path to another host": {
        "port": 80,
        "turns": [(f"GET /{_SECRET} HTTP/1.1\r\nHost: {OTHER}\r\n\r\n", None)],
    },
    "an absolute target": {
        "port": 80,
        "turns": [(f"GET http://{OTHER}/{_SECRET} HTTP/1.1\r\nHost: {API}\r\n\r\n", None)],
    },
    "a broken head": {"port": 80, "turns": [(f"GET / HTTP/1.1\r\n{_SECRET}\r\n\r\n", None)]},
    "a user in Host": {
        "port": 80,
        "turns": [(f"GET / HTTP/1.1\r\nHost: {_SECRET}:x@{API}\r\n\r\n", None)],
    },
    "no TLS": {"port": 443, "turns": [(_SECRET, None)]},
}


@pytest.mark.parametrize("what", [*_TRAFFIC, *_REFUSED_TRAFFIC])
def test_no_content_is_kept_or_told(sandbox: Start, mvmctl: Mvmctl, internet: Internet, what: str) -> None:
    """58: of what passes or is refused, log, result and page of the sandbox tell host, port and counts."""
    with sandbox(f"{API}:80", f"{API}:443") as inside:
        if what in _TRAFFIC:
            inside.allowed("talk", at=internet.host("api"), host=API, **_TRAFFIC[what])
        else:
            inside.denied("talk", host=API, **_REFUSED_TRAFFIC[what])
        request = "GET / HTTP/1.1\r\nHost: policy.mvm.internal\r\n\r\n"
        told = inside.denied("talk", host="policy.mvm.internal", port=80, turns=[(request, None)])
        assert "mvm.portal/1" in told.data
    assert _SECRET not in told.data
    assert _SECRET not in json.dumps(inside.result)
    kept = _everything_kept(mvmctl)
    assert _SECRET.encode() not in kept
    assert API.encode() in kept


def test_what_is_passed_in_is_not_kept(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """58: values of variables, stdin and output of a command are its own; the name of its run is kept."""
    words = ("run", "--name", "quiet", "-e", f"TOKEN={_SECRET}", "--", "sh", "-c", 'cat; echo "$TOKEN"')
    ended = mvmctl(*words, stdin=_SECRET.encode()).expect(0)
    assert ended.stdout.count(_SECRET) == 2
    assert _SECRET not in ended.stderr
    kept = _everything_kept(mvmctl)
    assert _SECRET.encode() not in kept
    assert b"quiet" in kept
    leftovers.expect_none()


def test_an_error_tells_no_secret_of_what_it_refuses(mvmctl: Mvmctl) -> None:
    """58: a proxy URL with a password is refused without the password in what is said."""
    proxy = f"socks5://user:{_SECRET}@{API}:443"
    ended = mvmctl("run", "--network-allow", proxy, "--", "true").expect(65)
    assert _SECRET not in ended.stderr
    assert "proxy-url" in ended.stderr
