"""The vector files of the policy language, read once.

Owns their shapes: what each row holds stands at its name below. Must never change a row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

_DIRECTORY = Path(__file__).parent.parent / "vectors" / "policy"


class Document(TypedDict):
    """A policy file that is right."""

    name: str
    path: str
    text: str
    warned: list[list[str]]
    grants: list[str]


class RefusedDocument(TypedDict):
    """A policy file that is not, with code and path of everything that is wrong with it."""

    name: str
    path: str
    text: str
    found: list[list[str]]


def _read(name: str) -> str:
    return (_DIRECTORY / name).read_text()


HOSTS: list[list[str]] = json.loads(_read("hosts.json"))
"""Text, and the host it is."""

HOSTS_REFUSED: dict[str, list[list[str]]] = json.loads(_read("hosts_refused.json"))
"""By what is refused: text, and the code."""

GRANTS: list[list[str]] = json.loads(_read("grants.json"))
"""Text of a flag, and its one spelling."""

GRANTS_REFUSED: dict[str, list[tuple[str, list[str]]]] = json.loads(_read("grants_refused.json"))
"""By what is refused: text of a flag, and the codes."""

WORDS: dict[str, list[list[str]]] = json.loads(_read("words.json"))
"""By kind (forwards, dns, dns_static, durations, sizes): text, and its one spelling."""

WORDS_REFUSED: dict[str, list[list[str]]] = json.loads(_read("words_refused.json"))
"""By the same kinds: text, and the code."""

DOCUMENTS: list[Document] = json.loads(_read("documents.json"))
DOCUMENTS_REFUSED: list[RefusedDocument] = json.loads(_read("documents_refused.json"))

ADDRESSES: list[tuple[str, str, str | None, str]] = json.loads(_read("addresses.json"))
"""Address, its class, what it wraps (itself where nothing), the envelope.

Under a prefix of 64:ff9b:1::/48 that could have several lengths the class is `not-public` for any but a
metadata service: which of the readings is shown does not matter, for none of them may be dialled.
"""


def count_refused() -> int:
    """Count the inputs that must be refused."""
    hosts, words = (sum(map(len, rows.values())) for rows in (HOSTS_REFUSED, WORDS_REFUSED))
    return hosts + words + sum(map(len, GRANTS_REFUSED.values())) + len(DOCUMENTS_REFUSED)


def count_accepted() -> int:
    """Count the inputs that must be accepted."""
    return len(HOSTS) + len(GRANTS) + sum(map(len, WORDS.values())) + len(DOCUMENTS)
