"""Who is asked for a granted name, and what of an answer is believed: against a name server that lies."""

from __future__ import annotations

import resource
import socket
import time
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.gateway.failure import Failure
from mvm.gateway.loop import READ, Loop
from mvm.gateway.resolve import HostResolver, SystemThreads, interleaved
from mvm.policy.addresses import AddressClass
from mvm.policy.model import Dns
from mvm.terms import DnsMode, HostName
from tests.policy.strategies import addresses as any_addresses
from tests.support import addresses
from tests.support.answers import Answer
from tests.support.children import in_child

if TYPE_CHECKING:
    from mvm.gateway.resolve import Found
    from mvm.terms import Address
    from tests.support.internet import Internet

SYSTEM = Dns(mode=DnsMode.SYSTEM)
SERVER = Dns(mode=DnsMode.RESOLVER, resolver=(ip_address(addresses.OTHER_NAME_SERVERS[0]), 53))
A4, A6 = "93.184.215.77", "2606:2800:220:1::77"


def ask(dns: Dns, *names: str, limit: float = 10.0) -> tuple[list[Found], float]:
    """Resolve names one after the other in one resolver; and the seconds that took."""

    def act() -> tuple[list[Found], float]:
        loop = Loop()
        resolver = HostResolver(loop, dns, SystemThreads())
        found: list[Found] = []
        began = time.monotonic()

        def got(answer: Found) -> None:
            found.append(answer)
            if len(found) == len(names):
                loop.stop()
            else:
                resolver.resolve(HostName(names[len(found)]), got)

        loop.after(limit, loop.stop)
        loop.soon(lambda: resolver.resolve(HostName(names[0]), got))
        loop.run()
        return found, time.monotonic() - began

    return in_child(act)


def texts(found: Found) -> list[str]:
    """The addresses as text, or the failure's."""
    return [found.text] if isinstance(found, Failure) else [str(candidate.address) for candidate in found]


def _end_with(loop: Loop, found: list[Found], answer: Found) -> None:
    found.append(answer)
    loop.stop()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second family is waited for however busy this machine is; how long is no matter of the test."""
    monkeypatch.setattr("mvm.gateway.question._OTHER_FAMILY_SECONDS", 5.0)


pytestmark = pytest.mark.kernel


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("dns", [SYSTEM, SERVER], ids=["system", "server"])
def test_both_families_are_found(internet: Internet, dns: Dns) -> None:
    """IPv6 in front, IPv4 behind it, each classed."""
    internet.answer("both.example.test", Answer(a=(A4,), aaaa=(A6,)))
    (found,), _ = ask(dns, "both.example.test")
    assert set(texts(found)) == {A4, A6}
    assert not isinstance(found, Failure)
    assert {candidate.kind for candidate in found} == {AddressClass.PUBLIC}


@pytest.mark.parametrize("dns", [SYSTEM, SERVER], ids=["system", "server"])
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(code="NXDOMAIN"), "no such host"),
        (Answer(code="SERVFAIL"), ""),
        (Answer(txt=("x",)), ""),
    ],
)
def test_what_is_no_address_is_a_failure(internet: Internet, dns: Dns, answer: Answer, text: str) -> None:
    """A failed look-up is never taken for an answer, and says nothing of policy."""
    internet.answer("fails.example.test", answer)
    (found,), seconds = ask(dns, "fails.example.test", limit=20)
    assert isinstance(found, Failure)
    assert text in found.text
    assert found.word
    assert "policy" not in found.text
    assert seconds < 9


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("manner", "expected"),
    [
        ("truncated", [A6, A4]),
        ("wrong-then-right", [A6, A4]),
        ("foreign", [A6, A4]),
        ("no-tcp", ["the name server: connection reset"]),
    ],
)
def test_a_server_that_behaves_oddly(internet: Internet, manner: str, expected: list[str]) -> None:
    """Cut answers are fetched by TCP, forged ones passed over, and of others only what was asked is taken."""
    internet.answer("odd.example.test", Answer(a=(A4,), aaaa=(A6,), manner=manner))  # type: ignore[arg-type]
    (found,), _ = ask(SERVER, "odd.example.test")
    assert texts(found) == expected


@pytest.mark.parametrize("manner", ["silent", "wrong-id", "wrong-question", "garbage", "cut", "loop"])
def test_nothing_is_made_of_what_is_no_answer(
    internet: Internet, manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forged and broken messages are as good as silence: after three tries the look-up fails."""
    monkeypatch.setattr("mvm.gateway.question._TRY_SECONDS", 0.2)
    name = f"no-answer-{manner}.example.test"
    internet.answer(name, Answer(a=(A4,), aaaa=(A6,), manner=manner))  # type: ignore[arg-type]
    (found,), seconds = ask(SERVER, name)
    assert texts(found) == ["the name server did not answer in time"]
    assert 0.5 < seconds < 3
    assert len(internet.questions(name)) == 6


def test_one_family_waits_for_the_other_only_a_moment() -> None:
    """RFC 8305 section 3: a server that answers for one family only holds nobody up."""

    def act() -> tuple[list[str], float]:
        loop = Loop()
        found: list[Found] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))

            def serve(_events: int) -> None:
                query, asker = server.recvfrom(512)
                question = query[12 : query.index(b"\0", 12) + 5]
                if question[-3] == 1:  # type A
                    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(A4)
                    server.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record, asker)

            loop.watch(server.fileno(), READ, serve)
            here = Dns(mode=DnsMode.RESOLVER, resolver=(ip_address("127.0.0.1"), server.getsockname()[1]))
            began = time.monotonic()
            resolver = HostResolver(loop, here, SystemThreads())
            resolver.resolve(HostName("half.example.test"), partial(_end_with, loop, found))
            loop.after(10, loop.stop)
            loop.run()
            return texts(found[0]), time.monotonic() - began

    found, seconds = in_child(act)
    assert found == [A4]
    assert seconds < 1.5


@pytest.mark.usefixtures("patient")
def test_an_old_server_is_asked_without_edns(internet: Internet) -> None:
    """A server that knows no EDNS says so, and is asked again without it (RFC 6891 section 7)."""
    internet.answer("old.example.test", Answer(code="FORMERR"), Answer(a=(A4,), aaaa=(A6,)))
    (found,), _ = ask(SERVER, "old.example.test")
    assert set(texts(found)) == {A4, A6}
    sizes = [question.udp_size for question in internet.questions("old.example.test")]
    assert None in sizes


def test_a_burst_asks_once_and_an_answer_is_kept_a_second(internet: Internet) -> None:
    """Names that rebind are seen as they are a second later, whatever time to live they had."""
    internet.answer("rebinds.example.test", Answer(a=(A4,), ttl=3600), Answer(a=("10.0.0.1",), ttl=3600))
    (found, again), _ = ask(SERVER, "rebinds.example.test", "rebinds.example.test")
    assert texts(found) == texts(again) == [A4]
    assert len(internet.questions("rebinds.example.test")) == 2


def test_who_waits_through_an_edit_is_answered_by_the_new_policy(internet: Internet) -> None:
    """A look-up under way when the DNS policy changes is done again by the one in force."""
    internet.answer("waits.example.test", Answer(a=(A4,), aaaa=(A6,), delay_s=0.2))

    def act() -> list[str]:
        loop = Loop()
        resolver = HostResolver(loop, SERVER, SystemThreads())
        found: list[Found] = []
        name = HostName("waits.example.test")
        resolver.resolve(name, partial(_end_with, loop, found))
        fixed: tuple[Address, ...] = (ip_address("10.9.9.9"),)
        resolver.use(Dns(mode=DnsMode.NONE, static=((name, fixed),)))
        loop.after(5, loop.stop)
        loop.run()
        return texts(found[0])

    assert in_child(act) == ["10.9.9.9"]


def test_this_machines_own_addresses_are_known(internet: Internet) -> None:
    """The address of the machine's own link is marked, by the kernel's own routing."""
    internet.answer("own.example.test", Answer(a=(addresses.HOST_V4, A4), aaaa=(addresses.HOST_V6,)))
    (found,), _ = ask(SYSTEM, "own.example.test")
    assert not isinstance(found, Failure)
    own = {str(candidate.address) for candidate in found if candidate.own}
    assert own == {addresses.HOST_V4, addresses.HOST_V6}


def test_what_can_not_be_told_from_this_machines_own_is_a_failure() -> None:
    """Where the kernel can't be asked, for want of a descriptor, a public address is not dialled on trust."""

    def act() -> list[Found]:
        resolver = HostResolver(Loop(), SYSTEM, SystemThreads())
        found: list[Found] = []
        resolver.resolve(ip_address(A4), found.append)
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        resolver.resolve(ip_address(A6), found.append)
        return found

    told, untold = in_child(act)
    assert texts(told) == [A4]
    assert untold == Failure("no descriptors left")


def test_each_question_has_a_number_and_a_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5452: a forger has to guess both, for each try anew."""
    monkeypatch.setattr("mvm.gateway.question._TRY_SECONDS", 0.05)

    def act() -> list[tuple[bytes, int]]:
        loop = Loop()
        asked: list[tuple[bytes, int]] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))

            def take(_events: int) -> None:
                query, asker = server.recvfrom(512)
                asked.append((query[:2], asker[1]))

            loop.watch(server.fileno(), READ, take)
            here = Dns(mode=DnsMode.RESOLVER, resolver=(ip_address("127.0.0.1"), server.getsockname()[1]))
            resolver = HostResolver(loop, here, SystemThreads())
            resolver.resolve(HostName("silent.example.test"), lambda _found: loop.stop())
            loop.run()
            return asked

    asked = in_child(act)
    assert len(asked) >= 4
    assert (
        len({number for number, _ in asked}) >= 3
    )  # of 65536: two that are equal are rare enough, more never
    assert len({port for _, port in asked}) >= 3


@given(st.lists(any_addresses, max_size=12).map(tuple))
def test_families_take_turns(found: tuple[Address, ...]) -> None:
    """RFC 8305 section 4: nothing lost, the first stays first, families alternate while they can."""
    ordered = interleaved(found)
    assert sorted(map(str, ordered)) == sorted(map(str, found))
    assert ordered[:1] == list(found[:1])
    for version in (4, 6):
        assert [a for a in ordered if a.version == version] == [a for a in found if a.version == version]
    short = 2 * min(sum(a.version == 4 for a in found), sum(a.version == 6 for a in found))
    for first, second in zip(ordered[:short:2], ordered[1:short:2], strict=True):
        assert first.version != second.version
