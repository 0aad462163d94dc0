"""The receipt of one run: what was asked, enforced and seen, signed, and bound to the sealed log.

Owns the in-toto Statement v1 and its predicate `mvm.receipt/1` (docs/reference/receipt.md), the DSSE envelope
around it, and the judgement of both. Pure: keys come in as objects that sign and verify, files as bytes. Must
never carry more than names, ports, reasons, counts, digests and times; and must never repair what it judges.

A receipt file is one DSSE envelope with one signature, in canonical JSON and with a newline, so that every
byte of the file counts: there is no second spelling of the same receipt.

Sources: DSSE 1.0.2 (protocol and envelope), in-toto attestation framework v1 (statement), RFC 8785, RFC 8032.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.chain import verify_lines
from mvm.canonical import DIGEST_PREFIX, digest_of_bytes, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mvm.audit.chain import Signer, Verifier

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:mvm:receipt:1"
SCHEMA = "mvm.receipt/1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
LONGEST = 4 * 1024 * 1024
"""Bytes of the largest receipt: 4,096 distinct denials take a quarter of it."""

_OF_A_DENIAL = ("layer", "host", "address", "port", "protocol", "reason", "count")

_TEXT, _COUNT, _OBJECT, _LIST = (str,), (int,), (dict,), (list,)
_MEMBERS: Mapping[str, tuple[type, ...]] = {
    "backend": _TEXT,
    "cause": (str, type(None)),
    "counts": _OBJECT,
    "denials": _LIST,
    "duration_s": (int, float),
    "ended": _TEXT,
    "enforcement": _OBJECT,
    "exit_code": _COUNT,
    "image": _OBJECT,
    "isolation": _TEXT,
    "log": _OBJECT,
    "mvm": _TEXT,
    "name": _TEXT,
    "outcome": _TEXT,
    "policy": _OBJECT,
    "run": _TEXT,
    "schema": _TEXT,
    "started": _TEXT,
}
_WITHIN: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "counts": {"flows": _COUNT, "denials": _COUNT, "failures": _COUNT, "up": _COUNT, "down": _COUNT},
    "enforcement": {"requested": _LIST, "achieved": _LIST},
    "image": {"kind": _TEXT, "digest": (str, type(None))},
    "log": {"head": _TEXT, "records": _COUNT},
    "policy": {"digest": _TEXT, "at_start": _TEXT},
}


class SealedLog(NamedTuple):
    """What a receipt says of the log, and takes from it.

    Attributes:
        digest: SHA-256 of the file, hexadecimal.
        started: its first record, `run.started`.
        ended: the last before the seal, `run.ended`.
        seal: its last, `audit.sealed`.
    """

    digest: str
    started: Mapping[str, object]
    ended: Mapping[str, object]
    seal: Mapping[str, object]


class Receipt(NamedTuple):
    """A receipt as it was read; whether it is genuine only `verify_receipt` says.

    Attributes:
        statement: the in-toto statement.
        key: the identity of the key that it says signed it.
    """

    statement: Mapping[str, object]
    key: str

    @property
    def predicate(self) -> dict[str, object]:
        """What it says of the run (`mvm.receipt/1`)."""
        return _object(self.statement["predicate"])

    @property
    def log_digest(self) -> str:
        """SHA-256 of the log that it is the receipt of, hexadecimal."""
        return _subject(self.statement)[1]


def make_statement(log: SealedLog, result: Mapping[str, object]) -> dict[str, object]:
    """State what came of a run.

    Args:
        log: its sealed log.
        result: `mvm.result/1`; of it the image, the policy, the denials and the failures are taken.

    Returns:
        The statement, for `sign_receipt`.
    """
    started, ended, seal = log.started, log.ended, log.seal
    policy, failures = _object(result["policy"]), result["failures"]
    counts = {name: ended[name] for name in ("flows", "denials", "up", "down")}
    predicate: dict[str, object] = {
        "schema": SCHEMA,
        "run": started["run"],
        "name": started["name"],
        "mvm": started["version"],
        "started": started["time"],
        "ended": ended["time"],
        "duration_s": ended["duration_s"],
        "backend": started["backend"],
        "isolation": started["isolation"],
        "image": result["image"],
        "policy": {"digest": policy["digest"], "at_start": started["policy"]},
        "enforcement": {"requested": policy["requested"], "achieved": policy["achieved"]},
        "outcome": ended["outcome"],
        "cause": ended.get("cause"),
        "exit_code": ended["exit_code"],
        "counts": {**counts, "failures": sum(_count(one) for one in _list(failures))},
        "denials": [
            {name: one[name] for name in _OF_A_DENIAL} for one in map(_object, _list(result["denials"]))
        ],
        "log": {"head": seal["prev"], "records": seal["seq"]},
    }
    subject = {"name": f"runs/{started['run']}/log.jsonl", "digest": {"sha256": log.digest}}
    return {"_type": STATEMENT, "subject": [subject], "predicateType": PREDICATE, "predicate": predicate}


def pae(payload_type: str, payload: bytes) -> bytes:
    """Write what a DSSE signature is over: type and payload, each after its length in bytes.

    Args:
        payload_type: of the envelope.
        payload: its bytes, not base64.

    Returns:
        `DSSEv1 LENGTH TYPE LENGTH PAYLOAD` (DSSE protocol, "Signature Definition").
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_receipt(statement: Mapping[str, object], key: Signer) -> bytes:
    """Sign a statement.

    Args:
        statement: of `make_statement`.
        key: the signing key of the state directory that has the log.

    Returns:
        The bytes of the file.
    """
    payload = encode(statement)
    signature = {"keyid": key.identity, "sig": _base64(key.sign(pae(PAYLOAD_TYPE, payload)))}
    envelope = {"payload": _base64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return encode(envelope) + b"\n"


def read_receipt(data: bytes) -> Receipt:
    """Read a receipt without judging whether it is genuine.

    Args:
        data: of the file.

    Returns:
        What it says.

    Raises:
        ValueError: it is no receipt as `sign_receipt` writes it; the message says what is wrong.
    """
    payload, key, _ = _open(data)
    return Receipt(_statement(payload), key)


def verify_receipt(data: bytes, key: Verifier) -> Receipt:
    """Read a receipt and prove that this key signed exactly these bytes.

    Args:
        data: of the file.
        key: the public key of the state directory that it is said to come from.

    Returns:
        What it says.

    Raises:
        ValueError: it is no receipt, or not this key's; the message says what is wrong.
    """
    payload, identity, signature = _open(data)
    if identity != key.identity:
        msg = "it was signed with another key"
        raise ValueError(msg)
    if not key.verify(pae(PAYLOAD_TYPE, payload), signature):
        msg = "its signature is wrong: it was changed"
        raise ValueError(msg)
    return Receipt(_statement(payload), identity)


def check_log(receipt: Receipt, lines: Iterable[bytes], key: Verifier) -> str:
    """Compare a log with its receipt, and judge the log itself.

    Args:
        receipt: of `verify_receipt`.
        lines: of the log, each with its newline.
        key: that signed the receipt; it sealed the log too.

    Returns:
        What is wrong, or an empty string.
    """
    whole, before, last = sha256(), b"", b""

    def passing() -> Iterator[bytes]:
        nonlocal before, last
        for line in lines:
            whole.update(line)
            before, last = last, line
            yield line

    predicate = receipt.predicate
    stated = _object(predicate["log"])
    verdict = verify_lines(passing(), key, run=str(predicate["run"]))
    if not verdict.sound:
        return f"line {verdict.line} of the log: {verdict.why}"
    if not verdict.sealed:
        return "the log is not sealed, and its receipt is of one that was"
    head = digest_of_bytes(before[:-1])
    if (head, verdict.records) != (stated["head"], stated["records"]):
        return f"the log's head is {head} after {verdict.records} records, the receipt says another"
    if whole.hexdigest() != receipt.log_digest:
        return "the log's digest is not the one that the receipt is about"
    return ""


def _open(data: bytes) -> tuple[bytes, str, bytes]:
    """Take an envelope apart: payload, key identity, signature."""
    envelope = _parse(data[:-1], "the file")
    if encode(envelope) + b"\n" != data:
        msg = "the file is not in canonical form"
        raise ValueError(msg)
    match envelope:
        case {
            "payload": str(payload),
            "payloadType": str(kind),
            "signatures": [{"keyid": str(key), "sig": str(signature), **others}],
            **more,
        } if not more and not others:
            if kind != PAYLOAD_TYPE:
                msg = f"its payload is not {PAYLOAD_TYPE}"
                raise ValueError(msg)
            return _bytes_of(payload), key, _bytes_of(signature)
    msg = "it is no DSSE envelope with one signature"
    raise ValueError(msg)


def _statement(payload: bytes) -> dict[str, object]:
    statement = _parse(payload, "the statement")
    if encode(statement) != payload:
        msg = "the statement is not in canonical form"
        raise ValueError(msg)
    if statement.get("_type") != STATEMENT or set(statement) != {
        "_type",
        "subject",
        "predicateType",
        "predicate",
    }:
        msg = "it is no in-toto Statement v1"
        raise ValueError(msg)
    _subject(statement)
    predicate = statement["predicate"]
    if statement["predicateType"] != PREDICATE or not isinstance(predicate, dict):
        msg = f"its predicate is not {PREDICATE}"
        raise ValueError(msg)
    _check(predicate, _MEMBERS, "the predicate")
    for member, shapes in _WITHIN.items():
        _check(predicate[member], shapes, f"the predicate's {member}")
    if predicate["schema"] != SCHEMA or not all(
        set(_object(one)) == set(_OF_A_DENIAL) for one in predicate["denials"]
    ):
        msg = f"the predicate is not {SCHEMA}"
        raise ValueError(msg)
    return statement


def _subject(statement: Mapping[str, object]) -> tuple[str, str]:
    match statement["subject"]:
        case [{"name": str(name), "digest": {"sha256": str(digest)}}]:
            return name, digest
    msg = "its subject is not one log with its digest"
    raise ValueError(msg)


def _check(members: dict[str, object], shapes: Mapping[str, tuple[type, ...]], what: str) -> None:
    if set(members) != set(shapes):
        msg = f"{what} does not have the members of {SCHEMA}"
        raise ValueError(msg)
    for name, types in shapes.items():
        if type(members[name]) not in types:
            msg = f"{what}: {name} is not what it should be"
            raise ValueError(msg)


def _parse(data: bytes, what: str) -> dict[str, object]:
    import json  # only verification reads JSON

    if len(data) > LONGEST:
        msg = f"{what} is longer than any receipt"
        raise ValueError(msg)
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        msg = f"{what} is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004  it is the file that is wrong, not a caller
    return value


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _bytes_of(text: str) -> bytes:
    try:
        data = a2b_base64(text, strict_mode=True)
    except ValueError:
        data = b""
    if not data or _base64(data) != text:
        msg = "it is not in base64 as it should be"
        raise ValueError(msg)
    return data


def _object(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    msg = "not an object where one should be"
    raise ValueError(msg)


def _list(value: object) -> list[object]:
    assert isinstance(value, (list, tuple)), "of mvm.result/1"
    return list(value)


def _count(failure: object) -> int:
    count = _object(failure)["count"]
    assert isinstance(count, int), "of mvm.result/1"
    return count


def spell_digest(hexadecimal: str) -> str:
    """Spell the digest of a subject as all others here are."""
    return DIGEST_PREFIX + hexadecimal
