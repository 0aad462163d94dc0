"""ClientHellos of real clients are read, ambiguous ones refused, and OpenSSL never sees another name."""

from __future__ import annotations

import ssl
import timeit
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mvm.wire.client_hello import MAX_HELLO, ClientHello, NotTls, read_client_hello
from mvm.wire.outcome import Malformed
from tests.wire.vectors import grown, load, name_of

HELLOS = load("client_hellos.json")
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
REFUSED = load("client_hellos_refused.json")
NEVER_CALLED = object()


def expected(vector: dict[str, Any]) -> ClientHello:
    """What a vector says that its hello says."""
    name = vector["server_name"]
    return ClientHello(
        server_name=None if name is None else name.encode(),
        ech=vector["ech"],
        alpn=tuple(text.encode() for text in vector["alpn"]),
        size=len(vector["data"]),
    )


def seen_by_openssl(data: bytes) -> object:
    """The name that an OpenSSL server sees: text, None for "no name", `NEVER_CALLED` where it gives up.

    Names that are not ASCII count as giving up: Python cannot hand them over, and warns.
    """
    seen: list[object] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.sni_callback = lambda _connection, name, _context: seen.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(data)
    with pytest.raises(ssl.SSLError):
        server.do_handshake()
    return seen[0] if seen else NEVER_CALLED


def ours(data: bytes) -> object:
    """Our name as text, None for "no name", `NEVER_CALLED` where we refuse, `...` where we want more."""
    try:
        hello = read_client_hello(data)
    except Malformed:
        return NEVER_CALLED
    if hello is None:
        return ...
    return None if hello.server_name is None else hello.server_name.decode()


def assert_no_other_name(data: bytes) -> None:
    """Where OpenSSL goes on, we see what it sees or refuse."""
    theirs = seen_by_openssl(data)
    if theirs is not NEVER_CALLED:
        assert ours(data) in (theirs.lower() if isinstance(theirs, str) else None, NEVER_CALLED)


@pytest.mark.parametrize("vector", HELLOS, ids=name_of)
def test_a_whole_hello_is_read(vector: dict[str, Any]) -> None:
    """Name, ALPN, ECH and size are those of the client that made it."""
    assert read_client_hello(vector["data"]) == expected(vector)


@pytest.mark.parametrize("vector", HELLOS, ids=name_of)
def test_a_hello_byte_by_byte_is_read_at_its_last(vector: dict[str, Any]) -> None:
    """Every prefix asks for more, and the whole gives the value."""
    assert grown(read_client_hello, vector["data"]) == expected(vector)


@pytest.mark.parametrize("vector", HELLOS, ids=name_of)
@pytest.mark.parametrize(
    "behind", [b"\x14\x03\x03\x00\x01\x01", b"\x17\x03\x03\x00\x05early", b"\0", b"\x16"]
)
def test_bytes_behind_a_hello_are_left_alone(vector: dict[str, Any], behind: bytes) -> None:
    """Early data and other records behind the hello change nothing."""
    assert read_client_hello(vector["data"] + behind) == expected(vector)


@pytest.mark.parametrize("vector", [vector for vector in HELLOS if vector["records"] == 1], ids=name_of)
@pytest.mark.parametrize("size", [1, 3, 4, 5, 39, 512])
def test_a_hello_in_several_records_reads_the_same(vector: dict[str, Any], size: int) -> None:
    """Splitting over records changes only the size, up to 64 records; beyond them it is refused."""
    message = vector["data"][5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    split = b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    if len(pieces) > 64:
        with pytest.raises(Malformed):
            grown(read_client_hello, split)
        return
    hello = grown(read_client_hello, split)
    assert hello is not None
    assert hello.server_name == expected(vector).server_name
    assert hello.size == len(split)


@pytest.mark.parametrize("vector", REFUSED, ids=name_of)
def test_a_broken_or_ambiguous_hello_is_refused(vector: dict[str, Any]) -> None:
    """Whole and byte by byte, with the error that the vector names and never a value."""
    error = NotTls if vector["error"] == "NotTls" else Malformed
    for read in (read_client_hello, lambda data: grown(read_client_hello, data)):
        with pytest.raises(error) as raised:
            read(vector["data"])
        assert raised.type is error


def test_a_hello_of_16_kib_is_read_and_one_more_byte_is_refused() -> None:
    """The bound counts record headers too, and holds as soon as the length is announced."""
    base: bytes = next(vector for vector in HELLOS if vector["id"] == "python-ssl")["data"]
    body, extensions = base[9:], 2 + 32 + 1 + base[43] + 2
    extensions += (base[9 + extensions - 2] << 8 | base[9 + extensions - 1]) + 2

    def padded(extra: int) -> bytes:
        longer = body[:extensions] + (len(body) - extensions - 2 + 4 + extra).to_bytes(2, "big")
        longer += body[extensions + 2 :] + b"\x12\x34" + extra.to_bytes(2, "big") + bytes(extra)
        message = b"\x01" + len(longer).to_bytes(3, "big") + longer
        return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message

    room = MAX_HELLO - len(padded(0))
    assert read_client_hello(padded(room)) is not None
    with pytest.raises(Malformed):
        read_client_hello(padded(room + 1)[:9])


@pytest.mark.parametrize("vector", HELLOS, ids=name_of)
def test_openssl_sees_the_same_name(vector: dict[str, Any]) -> None:
    """On hellos of real clients our name is the one that an OpenSSL server sees."""
    theirs = seen_by_openssl(vector["data"])
    assert ours(vector["data"]) == (theirs.lower() if isinstance(theirs, str) else theirs)


@pytest.mark.parametrize("vector", REFUSED, ids=name_of)
def test_openssl_sees_no_name_that_we_took_for_another(vector: dict[str, Any]) -> None:
    """On refused hellos too, whatever OpenSSL makes of them."""
    assert_no_other_name(vector["data"])


mutations = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "repeat"]), st.integers(0, 2000), st.binary(max_size=6)
    ),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """A hello with bytes set, put in, taken out or repeated, and its two outer lengths put right again."""
    body = bytearray(data[9:])
    for kind, where, what in changes:
        at = where % (len(body) + 1)
        match kind:
            case "set":
                body[at : at + len(what)] = what
            case "insert":
                body[at:at] = what
            case "delete":
                del body[at : at + len(what)]
            case _:
                body[at:at] = body[at : at + 4 * len(what)]
    return (
        b"\x16\x03\x01" + (len(body) + 4).to_bytes(2, "big") + b"\x01" + len(body).to_bytes(3, "big") + body
    )


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([vector["data"] for vector in HELLOS if vector["records"] == 1]), mutations)
def test_openssl_sees_no_other_name_in_mutated_hellos(
    data: bytes, changes: list[tuple[str, int, bytes]]
) -> None:
    """Where an OpenSSL server goes on after a mutation, we see its name or refuse."""
    assert_no_other_name(mutated(data, changes))


names = st.one_of(
    st.from_regex(rb"[A-Za-z0-9-]{1,20}(\.[A-Za-z0-9-]{1,20}){0,3}", fullmatch=True), st.binary(max_size=12)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(names, max_size=3), st.integers(0, 3), st.integers(-2, 2))
@example([b"a.example", b"b.example"], 0, 0)
def test_openssl_sees_no_other_name_in_built_extensions(entries: list[bytes], kind: int, off: int) -> None:
    """Server name extensions of any entries, types and wrong lengths: its name or a refusal."""
    base = next(vector for vector in HELLOS if vector["id"] == "by-hand-no-extensions-but-their-length")[
        "data"
    ][9:-2]
    listed = b"".join(bytes((kind,)) + len(entry).to_bytes(2, "big") + entry for entry in entries)
    extension = max(0, len(listed) + off).to_bytes(2, "big") + listed
    extension = b"\0\0" + len(extension).to_bytes(2, "big") + extension
    body = base + len(extension).to_bytes(2, "big") + extension
    assert_no_other_name(mutated(bytes(9) + body, []))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda tail: b"\x16\x03\x01\x01\x00\x01\0" + tail),
    )
)
def test_any_bytes_give_one_of_the_three_outcomes(data: bytes) -> None:
    """A value, None, or `Malformed`; nothing else is ever raised."""
    with suppress(Malformed):
        assert isinstance(read_client_hello(data), ClientHello | None)


def test_reading_a_usual_hello_stays_fast() -> None:
    """Well under 100 microseconds even on a busy machine (7 are usual): each new connection pays for it."""
    data = next(vector for vector in HELLOS if vector["id"] == "openssl-4.0-post-quantum")["data"]
    assert min(timeit.repeat(lambda: read_client_hello(data), number=200, repeat=5)) / 200 < 100e-6


def test_the_worst_unfinished_hello_stays_cheap() -> None:
    """Asking again after each byte of a hello in 64 tiny records takes less than half a millisecond."""
    pieces = b"\x01\x00\x30" + bytes(60)
    data = b"".join(b"\x16\x03\x01\x00\x01" + bytes((piece,)) for piece in pieces) + b"\x16\x03\x01\x40"
    assert read_client_hello(data) is None
    assert min(timeit.repeat(lambda: read_client_hello(data), number=100, repeat=5)) / 100 < 500e-6
