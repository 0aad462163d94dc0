"""The readers of words, documents, archives, messages and records, each with what it writes read back.

Owns what must hold of each; `readers` has the table.
"""

from __future__ import annotations

import base64
import json
import socket
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from mvm.audit.chain import Verdict, verify_lines
from mvm.audit.receipt import read_receipt, sign_receipt, verify_receipt
from mvm.canonical import encode
from mvm.compile.module import read_program
from mvm.errors import MvmError, PolicyRefused
from mvm.policy.capability_file import read_capabilities, tools_to_json
from mvm.policy.check import check_text
from mvm.policy.document import read_policy
from mvm.policy.parse import (
    format_grant,
)
from mvm.policy.validate import policy_of
from mvm.policy.write import to_toml
from mvm.supervisor.frames import Inbox
from mvm.terms import Preset
from tests.fuzz.wire import cuts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# ------------------------------------------------------------------------------------- words and documents


def _text(data: bytes) -> str:
    """Bytes as a command line gives them: what is no UTF-8 comes as lone surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


Value = TypeVar("Value")


def word_of(
    read: Callable[[str], Value], write: Callable[[Value], str] | None = None
) -> Callable[[bytes], object]:
    """A word of the command line: refused, or a value that is read back from what is written of it."""

    def run(data: bytes) -> object:
        try:
            value = read(_text(data))
        except PolicyRefused as refusal:
            return [finding.code for finding in refusal.findings]
        if write is not None:
            written = write(value)
            assert read(written) == value, f"written as {written!r}"
        return type(value)

    return run


def document_in(path: str) -> Callable[[bytes], object]:
    """A policy file under a name: refused, or a policy that is written and read back with the same grants."""

    def run(data: bytes) -> object:
        text = data.decode("utf-8", "replace")
        check_text(text, path)
        try:
            read = read_policy(text, path=path)
            policy, _ = policy_of(
                grants=read.grants,
                dns=read.dns,
                preset=read.preset,
                unrestricted=read.preset is Preset.UNRESTRICTED,
                forwards=read.forwards,
                ttl=read.ttl,
            )
        except PolicyRefused as refusal:
            return [finding.code for finding in refusal.findings]
        again = read_policy(to_toml(policy), path="again.toml")
        assert {format_grant(grant) for grant in again.grants} == {
            format_grant(grant) for grant in policy.grants
        }
        return len(policy.grants)

    return run


def capabilities(data: bytes) -> object:
    """A capability document: refused, or tools that are written and read back as the same."""
    try:
        tools = read_capabilities(data.decode("utf-8", "replace"), path="tools.json")
    except PolicyRefused as refusal:
        return [finding.code for finding in refusal.findings]
    written = tools_to_json(tools)
    again = read_capabilities(json.dumps(written), path="again.json")
    assert tools_to_json(again) == written
    return True


def program(data: bytes) -> object:
    """A Python file: refused, or what it declares."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's own reader, about what it reads
            return str(read_program(data.decode("utf-8", "replace"), path="program.py").to_json())
    except PolicyRefused as refusal:
        return [finding.code for finding in refusal.findings]


def canonical(data: bytes) -> object:
    """JSON: refused by the canonical writer, or written the same once it is read back."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    try:
        written = encode(value)
    except ValueError:
        return ValueError
    try:
        assert encode(json.loads(written)) == written
    except ValueError:
        # A double of more than 2^53 is written without a point: read back it is an integer, and refused.
        assert any(abs(each) > 2**53 - 1 for each in _numbers(json.loads(written)))
    return True


def receipt(data: bytes) -> object:
    """As the file, and as the statement in a file that is whole."""
    envelope = json.loads(sign_receipt({}, NobodysKey()))
    envelope["payload"] = base64.b64encode(data).decode()
    said: list[object] = []
    for file in (data, encode(envelope) + b"\n"):
        try:
            said.append(read_receipt(file).statement)
        except ValueError:
            said.append(ValueError)
        try:
            verify_receipt(file, NobodysKey())
        except ValueError:
            continue
        raise AssertionError("a signature of nobody's was good")
    return said


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)


def image_config(data: bytes) -> object:
    """What an image says of itself, as a tree has it and as an OCI image does."""
    from mvm.images.config import config_from_document, config_from_oci, parse_object

    said: list[object] = []
    for of_a_tree in (True, False):
        try:
            if of_a_tree:
                said.append(config_from_document(data, "image"))
            else:
                said.append(config_from_oci(parse_object(data, "image", what="the config"), "image"))
        except PolicyRefused as refusal:
            said.append([finding.code for finding in refusal.findings])
    return said


def archive(data: bytes) -> object:
    """A tar, packed or not: refused, or entries."""
    from mvm.images.inflate import Bounds, Inflated, OpenFile, Spent
    from mvm.images.tar_entries import Entries

    bounds = Bounds(entries=1000, bytes=1 << 20)
    try:
        stream = Inflated(OpenFile(BytesIO(data)), bounds=bounds, spent=Spent(), progress=lambda _count: None)
        kinds = [entry.kind for entry in Entries(stream, may_lack_end=False)]
    except MvmError as refusal:
        return type(refusal)
    return kinds


# ------------------------------------------------------------------------------------- conversation, record


@contextmanager
def _talk() -> Iterator[tuple[socket.socket, Inbox]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, Inbox(theirs)


def frames(data: bytes) -> object:
    """What comes on the control socket: refused, or messages, however it is cut."""
    outcomes = []
    for came in ([data], cuts(data)):
        with _talk() as (ours, inbox):
            said: list[object] = []
            try:
                for piece in came:
                    ours.sendall(piece)
                    said += (piece and inbox.read()) or ()
            except ValueError:
                said = [ValueError]
            outcomes.append(said)
    assert (outcomes[0] == [ValueError]) == (outcomes[1] == [ValueError])
    if outcomes[0] != [ValueError]:
        # As text: NaN, which Python's reader of JSON takes, is not equal to itself.
        assert str(outcomes[0]) == str(outcomes[1])
    return len(outcomes[0])


class NobodysKey:
    """A key under which no signature is right."""

    identity = "sha256:" + "0" * 64

    def sign(self, message: bytes) -> bytes:
        """Sign with what is no signature."""
        return bytes(64) if message else b""

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell that it is not: Ed25519 itself is not what is tried here."""
        return not (message or signature)


def chain(data: bytes) -> object:
    """A log: a verdict, whatever stands in it, and never sealed by nobody."""
    lines = data.splitlines(keepends=True)
    verdict = verify_lines(lines, NobodysKey())
    assert isinstance(verdict, Verdict)
    assert verdict.records <= len(lines)
    assert not verdict.sealed
    return verdict.records, verdict.why
