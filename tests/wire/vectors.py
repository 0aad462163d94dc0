"""The vector files of `wire`, and the three ways each is fed to a reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")

FOLDER = Path(__file__).parent.parent / "vectors" / "wire"


def load(name: str) -> list[dict[str, Any]]:
    """The vectors of one file; where one has text in `bytes` or `cleared`, each character is one byte."""
    vectors: list[dict[str, Any]] = json.loads((FOLDER / name).read_text())
    for vector in vectors:
        if "hex" in vector:
            vector["data"] = bytes.fromhex(vector["hex"])
        else:
            vector["data"] = vector["bytes"].encode("latin-1")
    return vectors


def name_of(vector: dict[str, Any]) -> str:
    """What pytest calls a vector."""
    return str(vector["id"])


def grown(read: Callable[[bytes], Value | None], data: bytes) -> Value | None:
    """Feed a reader one byte more each time, until it gives a value or raises."""
    for size in range(len(data) + 1):
        value = read(data[:size])
        if value is not None:
            return value
    return None
