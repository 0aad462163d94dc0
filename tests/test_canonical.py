"""RFC 8785: the vectors of the RFC, Node's own answers where Node is there, and what is refused."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.canonical import digest, encode, number

VECTORS = Path(__file__).parent / "vectors" / "canonical"
NUMBERS = [
    line.split() for line in (VECTORS / "numbers.txt").read_text().splitlines() if not line.startswith("#")
]
DOCUMENTS = json.loads((VECTORS / "documents.json").read_text())
LARGEST = 2**53 - 1

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGEST, LARGEST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def double(bits: str) -> float:
    """Make the double that has these bits, given as 16 hexadecimal digits."""
    value: float = struct.unpack(">d", bytes.fromhex(bits))[0]
    return value


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_numbers_of_the_rfc(bits: str, text: str) -> None:
    """Each double of RFC 8785 appendix B is written as there, and NaN and infinities are refused."""
    if text == "-":
        with pytest.raises(ValueError, match="not a JSON number"):
            encode(double(bits))
    else:
        assert encode(double(bits)) == text.encode()


def test_documents_of_the_rfc() -> None:
    """The two sample documents of RFC 8785 come out byte for byte, and in UTF-16 key order."""
    whole, order = DOCUMENTS
    assert encode(whole["value"]).hex() == whole["hex"]
    assert list(json.loads(encode(order["value"])).values()) == order["values_in_order"]


def test_order_is_utf16_not_code_points() -> None:
    """A key outside the basic plane comes before U+FB33, as no sort of Python strings would have it."""
    assert encode({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()
    assert encode({"b": 1, "a": 2}) == b'{"a":2,"b":1}'


@pytest.mark.skipif(
    shutil.which("node") is None, reason="Node is the reference; the vectors stand without it"
)
def test_numbers_as_node_writes_them() -> None:
    """Twenty thousand random doubles, and all powers of two and ten, are written as Node writes them."""
    source = random.Random(8785)
    patterns = [source.getrandbits(64).to_bytes(8, "big") for _ in range(20_000)]
    patterns += [struct.pack(">d", float(f"{m}e{e}")) for e in range(-323, 309) for m in ("1", "1.5", "9.75")]
    patterns += [struct.pack(">d", 2.0**e) for e in range(-1074, 1024)]
    finite = [p for p in patterns if p[0] & 0x7F != 0x7F or p[1] < 0xF0]
    script = (
        "const b=Buffer.from(require('fs').readFileSync(0,'latin1').trim(),'hex');"
        "const o=[];for(let i=0;i<b.length;i+=8)o.push(JSON.stringify(b.readDoubleBE(i)));"
        "console.log(o.join('\\n'))"
    )
    node = subprocess.run(
        ["node", "-e", script], input=b"".join(finite).hex().encode(), capture_output=True, check=True
    )
    ours = [number(struct.unpack(">d", p)[0]) for p in finite]
    assert ours == node.stdout.decode().split()


def read(data: bytes) -> object:
    """Parse JSON as a reader for whom all numbers are doubles would."""
    return json.loads(data, parse_int=lambda text: int(text) if abs(int(text)) <= LARGEST else float(text))


@given(json_values)
def test_reads_back_and_is_stable(value: object) -> None:
    """What is written reads back as the same value, and writing that again gives the same bytes."""
    data = encode(value)
    again = read(data)
    assert again == value
    assert encode(again) == data


@given(
    st.dictionaries(st.text(st.characters(max_codepoint=0xD7FF)), st.integers(-LARGEST, LARGEST) | st.text())
)
def test_equals_json_dumps_where_that_is_exact(value: dict[str, object]) -> None:
    """Without floats and without keys from beyond U+D7FF, the standard library agrees."""
    reference = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert encode(value) == reference.encode()


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc00\ud800"])
def test_lone_surrogates_are_refused(text: str) -> None:
    """A lone surrogate is refused in a value and in a key, without the text in the message."""
    for value in (text, {text: 1}, [{"a": text}]):
        with pytest.raises(ValueError, match="lone surrogate") as caught:
            encode(value)
        assert caught.value.__cause__ is None
        assert not isinstance(caught.value, UnicodeError)
    assert encode("\U0001f600") == b'"\xf0\x9f\x98\x80"'


@pytest.mark.parametrize("value", [LARGEST + 1, -LARGEST - 1, 10**40])
def test_integers_beyond_a_double_are_refused(value: int) -> None:
    """Integers up to 2^53 - 1 are written, the next one is refused."""
    with pytest.raises(ValueError, match="not exact"):
        encode(value)
    assert encode([LARGEST, -LARGEST]) == b"[9007199254740991,-9007199254740991]"


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), {1: 2}, {"a": {None: 1}}, {1: 2, "a": 3}])
def test_other_types_are_refused(value: object) -> None:
    """Only what JSON has is written, and keys are never turned into strings in silence."""
    with pytest.raises(TypeError):
        encode(value)
    assert encode({"a": (1, [2])}) == b'{"a":[1,[2]]}'


def test_booleans_and_enumerations() -> None:
    """A bool is never a number, and a member of a string enumeration is its value."""

    class Word(StrEnum):
        TCP = "tcp"

    assert encode([True, False, None, Word.TCP, {Word.TCP: 1}]) == b'[true,false,null,"tcp",{"tcp":1}]'


def test_digest() -> None:
    """A digest is SHA-256 over the canonical bytes, whatever order the keys had."""
    empty_object = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest({}) == empty_object
    assert digest({"b": 1, "a": 2.0}) == digest({"a": 2, "b": 1}) != digest({"a": 1, "b": 2})


def test_what_is_nested_too_deeply_is_refused_like_any_other_value() -> None:
    """A reader of JSON goes deeper than the writer can: a forged receipt must not end the program."""
    assert encode(json.loads("[" * 100 + "]" * 100)) == b"[" * 100 + b"]" * 100
    with pytest.raises(ValueError, match="nested too deeply"):
        encode(json.loads("[" * 800 + "]" * 800))
