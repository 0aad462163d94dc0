"""Others' programs that judge what mvm writes: the schemas of OCSF, the libraries of DSSE and of in-toto.

Owns asking them. Must never use a reader of the product: these are to find what it would overlook.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from jsonschema import Draft202012Validator
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # its __all__ is for readers

from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


@cache
def _schema(number: int) -> Draft202012Validator:
    """The schema of one class, as the framework publishes it (tests/vectors/ocsf)."""
    return Draft202012Validator(json.loads((ROOT / f"tests/vectors/ocsf/{number}.json").read_text("utf-8")))


def wrong(event: Mapping[str, Any]) -> list[str]:
    """What the schema of its class has against an event of OCSF."""
    return [f"{error.json_path}: {error.message}" for error in _schema(event["class_uid"]).iter_errors(event)]


def statement_in(envelope: Mapping[str, Any], key: PublicKeyTypes) -> Statement:
    """The in-toto statement of a DSSE envelope that one key has signed.

    Raises VerificationError (securesystemslib) or ValueError (in-toto, protobuf).
    """
    known = SSlibKey.from_crypto(key, keyid=envelope["signatures"][0]["keyid"])
    read = Envelope.from_dict(dict(envelope))
    read.verify([known], 1)
    statement = Statement.copy_from_pb(json_format.Parse(read.payload, statement_pb2.Statement()))
    statement.validate()
    return statement
