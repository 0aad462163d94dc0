"""Claims and evidence as texts, and the verdict on them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mvm import claims
from tests.support.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_CLAIM = """
[[claim]]
id = "one"
sentence = "It holds."
status = "proven"
backends = ["namespace"]
tests = ["tests/a.py::test_a", "tests/a.py::test_b"]
"""


def _evidence(backend: str = "namespace", **tests: str) -> claims.Evidence:
    named = {f"tests/a.py::test_{name}": outcome for name, outcome in tests.items()}
    return claims.Evidence("c0ffee", "2026-01-01T00:00:00Z", "Linux 6.1", "3.11.2", 0, backend, named)


def test_a_claim_is_read() -> None:
    """As it stands; on a backend that it does not list it is pending."""
    (claim,) = claims.read_claims(_CLAIM)
    assert (claim.id, claim.sentence, len(claim.tests)) == ("one", "It holds.", 2)
    assert (claim.status_on("namespace"), claim.status_on("qemu")) == ("proven", "pending")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('status = "proven"', 'status = "sure"'),
        ('status = "proven"', 'status = "pending"'),
        ('status = "proven"', 'status = "partial"'),
        ('status = "proven"', 'status = "proven"\nlimit = "but"'),
        ('["namespace"]', "[]"),
        ('["namespace"]', '["docker"]'),
        ('["tests/a.py::test_a", "tests/a.py::test_b"]', "[]"),
        ('id = "one"', 'name = "one"'),
        ('id = "one"', 'id = "one"\ncolour = "red"'),
    ],
)
def test_a_claim_that_says_too_much_or_too_little_is_refused(old: str, new: str) -> None:
    """Unknown words, nothing to show it by, proven with a limit or partial without one."""
    with pytest.raises(ValueError, match="claim"):
        claims.read_claims(_CLAIM.replace(old, new))
    with pytest.raises(ValueError, match="same id"):
        claims.read_claims(_CLAIM * 2)


def test_evidence_comes_out_as_it_went_in() -> None:
    """And what is not evidence is refused."""
    evidence = _evidence(a="passed")
    text = claims.write_evidence(evidence)
    assert claims.read_evidence(text) == evidence
    for other in (
        "[]",
        "{}",
        text.replace("mvm.evidence/1", "mvm.evidence/2"),
        text.replace('"uid"', '"id"'),
    ):
        with pytest.raises(ValueError, match=r"members|mvm\.evidence"):
            claims.read_evidence(other)


@pytest.mark.parametrize(
    ("runs", "found"),
    [
        ([_evidence(a="passed", b="passed")], []),
        ([_evidence(a="passed", b="failed")], ["failed"]),
        ([_evidence(a="passed", b="skipped")], ["skipped"]),
        ([_evidence(a="passed")], ["not run"]),
        ([_evidence("qemu", a="passed", b="passed")], ["not run", "not run"]),
        ([_evidence(a="passed", b="skipped"), _evidence(a="passed", b="passed")], []),
        ([_evidence(a="passed", b="failed"), _evidence(a="passed", b="passed")], ["failed"]),
        ([], ["not run", "not run"]),
    ],
)
def test_only_tests_that_passed_on_that_backend_count(runs: list[claims.Evidence], found: list[str]) -> None:
    """Red, skipped, left out or run elsewhere is each named; one red run outweighs a green one."""
    listed = claims.unmet(claims.read_claims(_CLAIM), "namespace", runs)
    assert [outcome for _, _, outcome in listed] == found
    assert claims.unmet(claims.read_claims(_CLAIM), "qemu", runs) == []


_SUITE = """
import pytest
def test_a(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_b(n): {body}
"""


@pytest.mark.parametrize(
    ("body", "asked", "status", "outcome"),
    [
        ("pass", "", 0, "passed"),
        ("assert n == 1", "", 1, "failed"),
        ("pytest.skip('no')", "", 1, "skipped"),
        ("pytest.skip('means something only as root')", "", 0, None),
        ("pytest.skip('no')", "-k test_", 0, "skipped"),
    ],
)
def test_a_whole_run_by_which_a_claim_does_not_hold_fails(
    tmp_path: Path, body: str, asked: str, status: int, outcome: str | None
) -> None:
    """Red or skipped: the claim is named. A run of some tests writes what it found, and judges nothing."""
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\ntestpaths = ["suite"]\n')
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "test_x.py").write_text(_SUITE.format(body=body))
    (tmp_path / "claims.toml").write_text(_CLAIM.replace("tests/a.py", "suite/test_x.py"))
    (tmp_path / "suite" / "conftest.py").write_text(
        "from pathlib import Path\n"
        "from tests.support import evidence\n"
        "evidence.PRODUCT = Path(__file__).parents[1]\n"
        "def pytest_addoption(parser): parser.addoption('--evidence')\n"
        "def pytest_configure(config): evidence.register(config)\n"
    )
    file = tmp_path / "evidence.json"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    ended = subprocess.run(
        [*words, f"--evidence={file}", *asked.split()],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "MVM_COMMIT": "c0ffee", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == status, ended.stdout
    found = claims.read_evidence(file.read_text())
    assert (found.commit, found.tests["suite/test_x.py::test_a"]) == ("c0ffee", "passed")
    assert found.tests.get("suite/test_x.py::test_b") == outcome
    told = outcome in {"failed", "skipped"} and not asked
    assert (f"FAILED claim one: suite/test_x.py::test_b {outcome}" in ended.stdout) == told
