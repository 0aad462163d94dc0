"""A receipt is exactly what was signed, or it is refused; others' programs read and verify it as ours do."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # its __all__ is for readers

from mvm.audit.chain import link, sign_seal, verify_lines
from mvm.audit.keys import PublicKey, SigningKey, signing_key
from mvm.audit.log import Log
from mvm.audit.receipt import (
    PAYLOAD_TYPE,
    PREDICATE,
    SealedLog,
    check_log,
    make_statement,
    pae,
    read_receipt,
    sign_receipt,
    verify_receipt,
)
from mvm.audit.run_id import make_run_id
from mvm.canonical import encode
from mvm.supervisor.receipt import read_sealed

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))
PUBLIC = PublicKey(KEY.public)
DIGEST = "sha256:" + "ab" * 32
_RUN = make_run_id(1_750_000_000_000, bytes(10))
_STARTED = {
    "run": _RUN,
    "name": "sample",
    "version": "0.1.0",
    "time": "2025-01-31T23:59:59.000001Z",
    "backend": "namespace",
    "isolation": "shared kernel; namespaces",
    "policy": DIGEST,
}
_ENDED = {
    "time": "2025-01-31T23:59:59.500001Z",
    "duration_s": 0.5,
    "outcome": "failed",
    "cause": "policy",
    "exit_code": 6,
    "flows": 1,
    "denials": 3,
    "up": 100,
    "down": 2000,
}
_DENIAL = {
    "seq": 1,
    "time": "2025-01-31T23:59:59.200001Z",
    "layer": "dns",
    "host": "evil.example",
    "address": None,
    "port": None,
    "protocol": None,
    "reason": "host-not-granted",
    "count": 3,
    "remedy": {"kind": "allow-host", "text": "grant it", "flag": "--network-allow evil.example:443"},
}
_RESULT = {
    "image": {"kind": "host", "digest": None},
    "policy": {"digest": DIGEST, "grants": [], "requested": ["dns", "host-port"], "achieved": ["dns"]},
    "denials": [_DENIAL],
    "failures": [{"host": "a.example", "port": 443, "error": "timeout", "count": 2}],
}


def statement_of(digest: str = "cd" * 32, head: str = DIGEST) -> dict[str, object]:
    """State what came of a made-up run."""
    return make_statement(SealedLog(digest, _STARTED, _ENDED, {"prev": head, "seq": 7}), _RESULT)


FILE = sign_receipt(statement_of(), KEY)


def with_payload(payload: bytes, *, kind: str = PAYLOAD_TYPE, key: SigningKey = KEY) -> bytes:
    """Sign any payload as a receipt would be."""
    signature = {"keyid": key.identity, "sig": b64encode(key.sign(pae(kind, payload))).decode()}
    envelope = {"payload": b64encode(payload).decode(), "payloadType": kind, "signatures": [signature]}
    return encode(envelope) + b"\n"


def theirs(key: SigningKey = KEY) -> SSlibKey:
    """Give the public key as securesystemslib has it."""
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(key.public), keyid=key.identity)


def test_what_is_signed_is_dsse_s() -> None:
    """The pre-authentication encoding is that of the DSSE protocol's own example, lengths in bytes."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("é", b"\xff\n") == b"DSSEv1 2 \xc3\xa9 2 \xff\n"


def test_a_receipt_is_read_back() -> None:
    """Its predicate says what the log and the result said, and of a denial no remedy and no time."""
    said = verify_receipt(FILE, PUBLIC)
    assert said == read_receipt(FILE)
    assert said.log_digest == "cd" * 32
    predicate: dict[str, Any] = said.predicate
    assert (predicate["run"], predicate["outcome"], predicate["cause"]) == (_RUN, "failed", "policy")
    assert predicate["counts"] == {"flows": 1, "denials": 3, "failures": 2, "up": 100, "down": 2000}
    assert predicate["enforcement"] == {"requested": ["dns", "host-port"], "achieved": ["dns"]}
    (denial,) = predicate["denials"]
    assert set(denial) == {"layer", "host", "address", "port", "protocol", "reason", "count"}
    assert predicate["log"] == {"head": DIGEST, "records": 7}


def test_another_key_is_refused() -> None:
    """Signed by another key, under its own name or under ours, it is refused."""
    with pytest.raises(ValueError, match="another key"):
        verify_receipt(sign_receipt(statement_of(), OTHER), PUBLIC)
    forged = json.loads(sign_receipt(statement_of(), OTHER))
    forged["signatures"][0]["keyid"] = KEY.identity
    with pytest.raises(ValueError, match="changed"):
        verify_receipt(encode(forged) + b"\n", PUBLIC)


def test_securesystemslib_verifies_it() -> None:
    """An independent implementation of DSSE accepts the receipt with the key, and not with another one."""
    envelope = Envelope.from_dict(json.loads(FILE))
    assert set(envelope.verify([theirs()], 1)) == {KEY.identity}
    assert envelope.pae() == pae(PAYLOAD_TYPE, envelope.payload)
    stranger = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(OTHER.public), keyid=KEY.identity)
    with pytest.raises(VerificationError):
        envelope.verify([stranger], 1)


def test_securesystemslib_refuses_what_we_refuse() -> None:
    """With one bit of its payload changed it verifies neither there nor here."""
    words = json.loads(FILE)
    payload = bytearray(b64decode(words["payload"]))
    payload[payload.index(b'"outcome":"failed"') + 12] ^= 1
    words["payload"] = b64encode(payload).decode()
    changed = encode(words) + b"\n"
    with pytest.raises(ValueError, match="changed"):
        verify_receipt(changed, PUBLIC)
    with pytest.raises(VerificationError):
        Envelope.from_dict(words).verify([theirs()], 1)


def test_in_toto_reads_it() -> None:
    """The in-toto project's own library takes the payload for a valid Statement v1 of our predicate."""
    payload = b64decode(json.loads(FILE)["payload"])
    parsed = json_format.Parse(payload, statement_pb2.Statement())
    statement = Statement.copy_from_pb(parsed)
    statement.validate()
    assert statement.pb.predicate_type == PREDICATE
    (subject,) = statement.pb.subject
    assert (subject.name, dict(subject.digest)) == (f"runs/{_RUN}/log.jsonl", {"sha256": "cd" * 32})


def refused(data: bytes) -> bool:
    """Tell whether bytes are refused in words; whatever else is raised fails the test."""
    try:
        verify_receipt(data, PUBLIC)
    except ValueError as wrong:
        return bool(str(wrong))
    return False


@pytest.mark.slow
def test_every_bit_flip_is_refused() -> None:
    """Whichever bit of the file is flipped, it is no receipt any more."""
    assert not refused(FILE)
    for place in range(len(FILE)):
        for bit in range(8):
            changed = FILE[:place] + bytes([FILE[place] ^ 1 << bit]) + FILE[place + 1 :]
            assert refused(changed), (place, bit)


def test_every_removal_doubling_swap_and_cut_is_refused() -> None:
    """A byte taken out, doubled or swapped with the next one, and a cut at either end, are refused."""
    for place in range(len(FILE)):
        assert refused(FILE[:place] + FILE[place + 1 :]), place
        assert refused(FILE[:place] + FILE[place : place + 1] + FILE[place:]), place
        assert refused(FILE[:place]), place
        assert refused(FILE[place + 1 :]), place
        pair = FILE[place : place + 2]
        if len(set(pair)) == 2:
            assert refused(FILE[:place] + pair[::-1] + FILE[place + 2 :]), place


@given(
    start=st.integers(0, len(FILE)),
    length=st.integers(0, len(FILE)),
    put=st.one_of(st.binary(max_size=40), st.integers(0, len(FILE)).map(lambda at: FILE[at : at + 40])),
)
def test_every_splice_is_refused(start: int, length: int, put: bytes) -> None:
    """Any piece replaced by any other, its own pieces included, is refused unless nothing changed."""
    changed = FILE[:start] + put + FILE[start + length :]
    assert refused(changed) is (changed != FILE)


@given(st.binary(max_size=400))
def test_any_bytes_are_answered_in_words(data: bytes) -> None:
    """Whatever a file holds, it is refused with words, and nothing else is raised."""
    assert refused(data)


_STATEMENT: dict[str, Any] = statement_of()
_PREDICATE: dict[str, Any] = _STATEMENT["predicate"]


def without(member: str) -> dict[str, Any]:
    """The predicate without one member."""
    return {name: value for name, value in _PREDICATE.items() if name != member}


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ({**_STATEMENT, "_type": "https://in-toto.io/Statement/v0.1"}, "no in-toto Statement v1"),
        ({**_STATEMENT, "more": 1}, "no in-toto Statement v1"),
        ({**_STATEMENT, "predicateType": "urn:other:1"}, "its predicate is not"),
        ({**_STATEMENT, "predicate": []}, "its predicate is not"),
        ({**_STATEMENT, "subject": []}, "its subject"),
        ({**_STATEMENT, "subject": _STATEMENT["subject"] * 2}, "its subject"),
        ({**_STATEMENT, "predicate": without("outcome")}, "does not have the members"),
        ({**_STATEMENT, "predicate": {**_PREDICATE, "path": "/etc"}}, "does not have the members"),
        ({**_STATEMENT, "predicate": {**_PREDICATE, "exit_code": True}}, "exit_code"),
        ({**_STATEMENT, "predicate": {**_PREDICATE, "schema": "mvm.receipt/2"}}, "not mvm.receipt/1"),
        ({**_STATEMENT, "predicate": {**_PREDICATE, "denials": [_DENIAL]}}, "not mvm.receipt/1"),
        ({**_STATEMENT, "predicate": {**_PREDICATE, "denials": [1]}}, "not an object"),
        ({**_STATEMENT, "predicate": {**_PREDICATE, "log": {"head": 1, "records": 1}}}, "head"),
    ],
)
def test_a_well_signed_statement_that_is_no_receipt_is_refused(statement: dict[str, Any], says: str) -> None:
    """What the same key signed and is not of this form is no receipt; the form itself passes."""
    with pytest.raises(ValueError, match=says):
        verify_receipt(with_payload(encode(statement)), PUBLIC)
    assert verify_receipt(with_payload(encode(_STATEMENT)), PUBLIC).predicate == _PREDICATE


def test_a_payload_in_another_spelling_or_of_another_type_is_refused() -> None:
    """Spaces in the statement, or another payload type, are refused though well signed."""
    spaced = json.dumps(_STATEMENT).encode()
    with pytest.raises(ValueError, match="canonical"):
        verify_receipt(with_payload(spaced), PUBLIC)
    with pytest.raises(ValueError, match="payload is not"):
        verify_receipt(with_payload(encode(_STATEMENT), kind="application/json"), PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        lambda words: words.update(more=1),
        lambda words: words["signatures"].append(words["signatures"][0]),
        lambda words: words["signatures"].clear(),
        lambda words: words["signatures"][0].update(cert="x"),
        lambda words: words.update(payload=words["payload"] + "===="),
        lambda words: words.update(payload=""),
        lambda words: words["signatures"][0].update(sig=""),
        lambda words: words.update(payload=7),
    ],
    ids=["member", "signatures", "no-signature", "certificate", "padding", "no-payload", "no-sig", "number"],
)
def test_another_envelope_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    """More members, more or no signatures, or other base64 are refused: a receipt has one spelling."""
    words = json.loads(FILE)
    change(words)
    assert refused(encode(words) + b"\n")


# ---- with its log


class Kept:
    """A log that was sealed, and its receipt."""

    def __init__(self, state: str, name: str, denied: str) -> None:
        """Write both."""
        self.key = signing_key(state)
        run = make_run_id(1_750_000_000_000, name.encode().ljust(10)[:10])
        with Log.create(state, run) as log:
            log.append(
                "run.started", **{key: _STARTED[key] for key in _STARTED if key not in {"run", "time"}}
            )
            log.append("flow.denied", layer="tcp", host=denied, port=443, reason="host-not-granted", count=1)
            log.append("run.ended", **{key: _ENDED[key] for key in _ENDED if key != "time"})
            self.head = log.seal(self.key)
            self.path = Path(log.path)
        self.data = self.path.read_bytes()
        self.receipt = sign_receipt(make_statement(read_sealed(log.path), _RESULT), self.key)

    def check(self, data: bytes | None = None) -> str:
        """Compare bytes with the receipt."""
        public = PublicKey(self.key.public)
        lines = (self.data if data is None else data).splitlines(keepends=True)
        return check_log(verify_receipt(self.receipt, public), lines, public)


def test_a_receipt_and_its_log_belong_together(state: str) -> None:
    """The receipt names the head that `seal` gave and the file's digest; another run's log is refused."""
    one, other = Kept(state, "one", "a.example"), Kept(state, "two", "b.example")
    assert one.check() == ""
    assert read_receipt(one.receipt).predicate["log"] == {"head": one.head, "records": 4}
    assert "another run" in one.check(other.data)
    assert other.check() == ""


@pytest.mark.slow
def test_every_changed_byte_of_the_log_is_refused(state: str) -> None:
    """Whichever byte of the log changes, or is missing, the two do not belong together any more."""
    kept = Kept(state, "one", "a.example")
    for place in range(len(kept.data)):
        changed = kept.data[:place] + bytes([kept.data[place] ^ 1]) + kept.data[place + 1 :]
        assert kept.check(changed), place
        assert kept.check(kept.data[:place] + kept.data[place + 1 :]), place
        assert kept.check(kept.data[:place]), place


def test_a_log_sealed_anew_with_the_same_key_is_refused(state: str, tmp_path: Path) -> None:
    """Whoever has the key can seal another history of the same run, but not make it this receipt's."""
    kept = Kept(state, "one", "a.example")
    elsewhere = str(tmp_path / "elsewhere")
    run = str(read_receipt(kept.receipt).predicate["run"])
    with Log.create(elsewhere, run) as log:
        log.append("run.started", name="sample")
        log.append("run.ended", outcome="completed")
        log.seal(kept.key)
    forged = Path(log.path).read_bytes()
    assert verify_lines(forged.splitlines(keepends=True), PublicKey(kept.key.public)).sealed
    assert "the receipt says another" in kept.check(forged)


def test_a_log_sealed_once_more_is_refused(state: str) -> None:
    """The same history under another good seal of the same key is another file than the receipt is about."""
    kept = Kept(state, "one", "a.example")
    lines = kept.data.splitlines(keepends=True)
    seal = {name: value for name, value in json.loads(lines[-1]).items() if name not in {"prev", "signature"}}
    line, _ = link(kept.head, sign_seal(kept.head, {**seal, "time": "2099-01-01T00:00:00.000001Z"}, kept.key))
    again = b"".join([*lines[:-1], line])
    assert verify_lines(again.splitlines(keepends=True), PublicKey(kept.key.public)).sealed
    assert "digest" in kept.check(again)


def test_a_log_without_a_seal_has_no_receipt(state: str, run: str) -> None:
    """An unsealed log is not read for a receipt, and is not taken for one's."""
    kept = Kept(state, "one", "a.example")
    unsealed = b"".join(kept.data.splitlines(keepends=True)[:-1])
    assert "not sealed" in kept.check(unsealed)
    with Log.create(state, run) as log:
        log.append("run.started", name="sample")
    with pytest.raises(ValueError, match="not sealed"):
        read_sealed(log.path)
