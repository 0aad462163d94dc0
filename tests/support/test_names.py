"""The fake name server answers truly, and lies exactly as it is told."""

from __future__ import annotations

import itertools
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support import addresses
from tests.support.answers import Answer

if TYPE_CHECKING:
    from tests.support.answers import Manner
    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

_A, _AAAA = 1, 28
_NAMES = (f"n{number}.names.test" for number in itertools.count())


class _Reply(NamedTuple):
    id: int
    code: int
    is_truncated: bool
    answers: int
    size: int
    data: bytes


def _query(name: str, kind: int, *, edns: int | None = None) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    extra = b"" if edns is None else struct.pack("!BHHIH", 0, 41, edns, 0, 0)
    return (
        struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, int(edns is not None))
        + labels
        + struct.pack("!HH", kind, 1)
        + extra
    )


def _ask(
    name: str,
    kind: int = _A,
    *,
    edns: int | None = None,
    server: str = addresses.NAME_SERVERS[0],
    patience_s: float = 5.0,
) -> _Reply:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(patience_s)
        sock.connect((server, 53))
        sock.send(_query(name, kind, edns=edns))
        return _read(sock.recv(65535))


def _ask_tcp(name: str, kind: int = _A) -> _Reply:
    with socket.create_connection((addresses.NAME_SERVERS[0], 53), timeout=5) as sock:
        query = _query(name, kind)
        sock.sendall(len(query).to_bytes(2, "big") + query)
        stream = sock.makefile("rb")
        return _read(stream.read(int.from_bytes(stream.read(2), "big")))


def _read(message: bytes) -> _Reply:
    ident, flags, _, answers, _, _ = struct.unpack_from("!HHHHHH", message)
    return _Reply(ident, flags & 15, bool(flags & 0x0200), answers, len(message), message)


def _holds(reply: _Reply, address: str) -> bool:
    return ip_address(address).packed in reply.data


def test_a_host_has_its_addresses(internet: Internet) -> None:
    """The C library finds both families of a host."""
    found = socket.getaddrinfo("api.example.test", 443, type=socket.SOCK_STREAM)
    assert {info[4][0] for info in found} == set(internet.host("api").addresses)


def test_a_name_that_nobody_has_does_not_exist(internet: Internet) -> None:
    """Unknown names are NXDOMAIN, and the question is in the log."""
    assert _ask("nobody.names.test", edns=1232).code == 3
    (question,) = internet.questions("nobody.names.test")
    assert (question.type, question.transport, question.server) == (_A, "udp", addresses.NAME_SERVERS[0])
    assert question.udp_size == 1232


def test_the_n_th_question_gets_the_n_th_answer(internet: Internet) -> None:
    """A name can be rebound between two questions; the last answer stays."""
    name = next(_NAMES)
    internet.answer(name, Answer(a=("93.184.215.1",), ttl=0), Answer(a=("10.0.0.1",)))
    assert _holds(_ask(name), "93.184.215.1")
    assert _holds(_ask(name), "10.0.0.1")
    assert _holds(_ask(name), "10.0.0.1")


def test_an_alias_is_followed(internet: Internet) -> None:
    """The answer holds the alias and the addresses of its target."""
    name = next(_NAMES)
    internet.answer(name, Answer(cname="api.example.test"))
    reply = _ask(name)
    assert reply.answers == 2
    assert _holds(reply, internet.host("api").v4)


def test_four_thousand_records_come_over_tcp_only(internet: Internet) -> None:
    """What does not fit a datagram is cut off with TC, and whole over TCP."""
    name = next(_NAMES)
    internet.answer(name, Answer(a=tuple(f"93.184.{128 + at // 256}.{at % 256}" for at in range(4000))))
    over_udp, over_tcp = _ask(name), _ask_tcp(name)
    assert (over_udp.is_truncated, over_udp.answers) == (True, 0)
    assert (over_tcp.is_truncated, over_tcp.answers) == (False, 4000)


@pytest.mark.parametrize("code", [("SERVFAIL", 2), ("REFUSED", 5), ("NXDOMAIN", 3)])
def test_a_name_can_fail(internet: Internet, code: tuple[str, int]) -> None:
    """Each response code can be had, without records."""
    name = next(_NAMES)
    internet.answer(name, Answer.from_json({**Answer(a=("1.1.1.1",)).as_json(), "code": code[0]}))
    reply = _ask(name)
    assert (reply.code, reply.answers) == (code[1], 0)


def test_a_name_without_records_of_a_type_exists(internet: Internet) -> None:
    """No records of the asked type is NOERROR without answers, not NXDOMAIN."""
    assert internet.pid
    reply = _ask("v4only.example.test", _AAAA)
    assert (reply.code, reply.answers) == (0, 0)


@pytest.mark.parametrize(
    ("manner", "udp"),
    [
        ("plain", (7, False, 1)),
        ("truncated", (7, True, 0)),
        ("wrong-id", (7 ^ 0x5555, False, 1)),
        ("wrong-question", (7, False, 1)),
        ("wrong-then-right", (7 ^ 0x5555, False, 1)),
        ("foreign", (7, False, 2)),
        ("loop", (7, False, 1)),
    ],
)
def test_a_name_can_be_answered_in_bad_manner(
    internet: Internet, manner: Manner, udp: tuple[int, bool, int]
) -> None:
    """Each manner of answering gives what its name says."""
    name = next(_NAMES)
    internet.answer(name, Answer(a=("93.184.215.1",), manner=manner))
    reply = _ask(name)
    assert (reply.id, reply.is_truncated, reply.answers) == udp


def test_a_name_can_stay_silent(internet: Internet) -> None:
    """No answer comes, and the question is in the log."""
    name = next(_NAMES)
    internet.answer(name, Answer(manner="silent"))
    with pytest.raises(TimeoutError):
        _ask(name, patience_s=0.3)
    assert len(internet.questions(name)) == 1


def test_a_truncated_name_may_reset_tcp(internet: Internet) -> None:
    """The manner `no-tcp` gives neither the datagram's records nor a connection."""
    name = next(_NAMES)
    internet.answer(name, Answer(a=("93.184.215.1",), manner="no-tcp"))
    assert _ask(name).is_truncated
    with pytest.raises(ConnectionResetError):
        _ask_tcp(name)


def test_garbage_and_halves_are_no_message(internet: Internet) -> None:
    """The manners `garbage` and `cut` send bytes that do not parse."""
    name = next(_NAMES)
    whole = _ask("api.example.test")
    internet.answer(name, Answer(manner="garbage"), Answer(a=("93.184.215.1",), manner="cut"))
    assert _ask(name).data == b"\xff" * 40
    assert _ask(name).size < whole.size


@pytest.mark.parametrize("server", [*addresses.NAME_SERVERS, *addresses.OTHER_NAME_SERVERS])
def test_every_name_server_answers(internet: Internet, server: str) -> None:
    """The servers share their zones, and the log says which one was asked."""
    name = next(_NAMES)
    internet.answer(name, Answer(aaaa=("2606:2800:220:1::1",)))
    assert _holds(_ask(name, _AAAA, server=server), "2606:2800:220:1::1")
    assert [question.server for question in internet.questions(name)] == [server]
