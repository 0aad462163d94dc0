"""`network check` and `network review` of Python files that declare: read, judged, and never imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said

_ANSWERED = 'reason="asks", sends="public", downloads="none"'


@pytest.fixture
def written(project: Path) -> Callable[..., None]:
    """Write an `app.py` with one app a grant; importing it would fail."""

    def write(*grants: str) -> None:
        apps = "".join(
            f"@mvm.app(name='a{number}', network=mvm.network(mode='bridge', dns=mvm.dns_system(), "
            f"egress=mvm.egress([\n    {grant},\n])))\ndef a{number}(): pass\n"
            for number, grant in enumerate(grants)
        )
        (project / "app.py").write_text(f"import mvm\n{apps}raise SystemExit('imported')\n")

    return write


def test_a_good_declaration_passes(type_in: Callable[..., Said], written: Callable[..., None]) -> None:
    """Nothing is wrong with it: exit 0."""
    written("mvm.host_port('api.example.com', 443)")
    assert "1 file, no finding" in type_in("network", "check", "app.py").expect(0).errors


def test_a_wrong_one_is_told_with_its_place(
    type_in: Callable[..., Said], written: Callable[..., None]
) -> None:
    """Each finding has the file, line and column of what is wrong."""
    written("mvm.host_port('*.example.com', 443)", "mvm.host_port('api.example.com', 70000)")
    findings = type_in("network", "check", "--json", "app.py").expect(65).json["findings"]
    assert [(found["code"], found["source"]) for found in findings] == [
        ("wildcard-host", "app.py:3:5"),
        ("port-out-of-range", "app.py:7:5"),
    ]


def test_warnings_pass(type_in: Callable[..., Said], written: Callable[..., None]) -> None:
    """A warning is told and refuses nothing."""
    written("mvm.host_port('10.1.2.3', 443)")
    said = type_in("network", "check", "app.py").expect(0)
    assert "[needs-private]" in said.output + said.errors


def test_review_asks_every_grant_of_every_app(
    type_in: Callable[..., Said], written: Callable[..., None]
) -> None:
    """An answered grant passes; one that isn't is a finding that names its app."""
    written(f"mvm.host_port('a.example.com', 443, {_ANSWERED})")
    type_in("network", "review", "app.py").expect(0)
    written(f"mvm.host_port('a.example.com', 443, {_ANSWERED})", "mvm.host_port('b.example.com', 443)")
    review = type_in("network", "review", "--json", "app.py").expect(65).json
    assert [grant["path"] for grant in review["grants"]] == [
        ".apps[0].policy.network.allow[0]",
        ".apps[1].policy.network.allow[0]",
    ]
    assert {found["code"] for found in review["findings"]} == {
        "no-reason",
        "sends-not-stated",
        "downloads-not-stated",
    }
