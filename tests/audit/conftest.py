"""A state directory, and a small sealed log in it, for the tests of the record."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from mvm.audit.keys import signing_key
from mvm.audit.log import Log
from mvm.audit.run_id import make_run_id

if TYPE_CHECKING:
    from pathlib import Path

START = 1_750_000_000_000_000_000


@pytest.fixture
def state(tmp_path: Path) -> str:
    """The path of a state directory that is not there yet."""
    return str(tmp_path / "state")


@pytest.fixture
def run() -> str:
    """The id of a run."""
    return make_run_id(START // 1_000_000, bytes(range(10)))


@pytest.fixture
def sealed_log(state: str, run: str) -> str:
    """The path of a sealed log of five lines whose clock moves a microsecond a record."""
    ticks = itertools.count(START, 1000)
    with Log.create(state, run, clock=lambda: next(ticks)) as log:
        log.append("run.started", name="sample", backend="namespace", requested=["host-port", "dns"])
        log.append(
            "grant.decided", decision="allowed", host="api.example", port=443, protocol="tcp", reason="É"
        )
        log.append(
            "flow.denied", layer="tcp", host="evil.example", port=443, reason="host-not-granted", count=2
        )
        log.append("run.ended", outcome="completed", exit_code=0, duration_s=0.5)
        log.seal(signing_key(state))
        return log.path
