"""Name servers that are silent, lie, change their mind or say too much: no address is made of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support import addresses
from tests.support.answers import Answer

if TYPE_CHECKING:
    from tests.support.answers import Manner
    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.faults

_CLIENT = (
    "import socket, sys, time\n"
    "for at, line in enumerate(sys.stdin, 1):\n"
    "    began = time.monotonic()\n"
    "    try:\n"
    "        s = socket.create_connection((line.strip(), 7), timeout=30); s.sendall(b'x'); said = s.recv(1)\n"
    "    except OSError as problem:\n"
    "        said = type(problem).__name__\n"
    "    print(said, 'late' if time.monotonic() - began > 20 else f'soon|{at}', flush=True)\n"
)
_SERVER = f"--dns=resolver={addresses.NAME_SERVERS[0]}"


class Asked:
    """A run that may reach one host, whose name server behaves as told."""

    def __init__(self, mvmctl: Mvmctl, internet: Internet, leftovers: Leftovers, *dns: str) -> None:
        """Start it; `host` serves echo."""
        self.host = internet.serve("echo", port=7)
        self._mvmctl, self._internet, self._leftovers = mvmctl, internet, leftovers
        words = ["run", f"--network-allow={self.host.name}:7", *dns, "--", "/usr/bin/python3", "-c", _CLIENT]
        self.running: Running = mvmctl.start(*words)
        self._lines = 0

    def connect(self) -> str:
        """Connect by name, and tell what came of it."""
        self.running.send(f"{self.host.name}\n".encode())
        self._lines += 1
        return self.running.until(f"|{self._lines}\n").splitlines()[-1].partition("|")[0]

    def end(self) -> None:
        """Nothing is left of it, and its record verifies."""
        self.running.finish().expect(0)
        self._leftovers.expect_none(within_s=5.0)
        self._mvmctl("audit", "verify", "--all", "--sealed").expect(0)
        self._internet.answer(self.host.name)


@pytest.fixture
def asked(mvmctl: Mvmctl, internet: Internet, leftovers: Leftovers) -> Asked:
    """A run whose names one given server resolves."""
    return Asked(mvmctl, internet, leftovers, _SERVER)


def _true(asked: Asked, manner: Manner) -> Answer:
    return Answer(a=(asked.host.v4,), aaaa=(asked.host.v6,), manner=manner)


@pytest.mark.slow
@pytest.mark.parametrize(
    "manner", ["silent", "wrong-id", "wrong-question", "garbage", "cut", "no-tcp", "loop"]
)
def test_a_server_that_is_silent_or_lies_makes_no_address(
    asked: Asked, internet: Internet, manner: Manner
) -> None:
    """The connection fails within its time and reaches nobody, the forged addresses included."""
    internet.answer(asked.host.name, _true(asked, manner))
    with internet.watch() as outside:
        said = asked.connect()
        assert said.endswith("Error soon"), said
        asked.end()
    assert outside.besides_names == {}
    assert internet.arrivals(asked.host.name).connections == 0


@pytest.mark.parametrize("manner", ["plain", "wrong-then-right", "truncated", "foreign"])
def test_a_true_answer_is_found_among_others(asked: Asked, internet: Internet, manner: Manner) -> None:
    """The twin: behind a forgery, by TCP where it was cut, beside records of a name that wasn't asked."""
    internet.answer(asked.host.name, _true(asked, manner))
    with internet.watch() as outside:
        assert asked.connect() == "b'x' soon"
        asked.end()
    assert {packet.address for packet in outside.besides_names} <= set(asked.host.addresses)
    by_tcp = [each for each in internet.questions(asked.host.name) if each.transport == "tcp"]
    assert bool(by_tcp) is (manner == "truncated")


def test_four_thousand_records_are_read_and_a_few_dialled(asked: Asked, internet: Internet) -> None:
    """The answer comes over TCP; of its addresses sixteen at most are met, and the first of them answers."""
    many = tuple(f"93.184.{at >> 8}.{at & 255}" for at in range(1, 4000))
    internet.answer(asked.host.name, Answer(a=(asked.host.v4, *many)))
    with internet.watch() as outside:
        assert asked.connect() == "b'x' soon"
        asked.end()
    met = {packet.address for packet in outside.besides_names}
    assert met <= {asked.host.v4, *many}
    assert len(met) <= 16


def test_one_private_address_among_four_thousand_refuses_them_all(asked: Asked, internet: Internet) -> None:
    """Wherever it stands among them."""
    many = tuple(f"93.184.{at >> 8}.{at & 255}" for at in range(1, 4000))
    internet.answer(asked.host.name, Answer(a=(*many, "10.1.2.3", asked.host.v4)))
    with internet.watch() as outside:
        assert asked.connect() == "ConnectionResetError soon"
        asked.end()
    assert outside.besides_names == {}


@pytest.mark.parametrize("dns", [(), (_SERVER,)], ids=["system", "resolver"])
def test_a_name_that_is_rebound_between_two_answers_reaches_nothing_private(
    mvmctl: Mvmctl, internet: Internet, leftovers: Leftovers, dns: tuple[str, ...]
) -> None:
    """First its own address, then one of this network's: the second connection is denied, and recorded so."""
    asked = Asked(mvmctl, internet, leftovers, *dns)
    private = internet.host("private")
    internet.answer(asked.host.name, Answer(a=(asked.host.v4,)), Answer(a=(private.v4,)))
    with internet.watch() as outside:
        assert asked.connect() == "b'x' soon"
        deadline = time.monotonic() + 20.0  # what was answered first is kept for a second
        while (said := asked.connect()) == "b'x' soon":
            assert time.monotonic() < deadline
        assert said == "ConnectionResetError soon"
        asked.end()
    assert {packet.address for packet in outside.besides_names} == {asked.host.v4}
    denials = mvmctl("audit", "show", "--json").expect(0).stdout
    assert "private-address" in denials
