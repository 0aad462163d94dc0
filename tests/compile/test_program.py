"""Reading a file gives what importing it gives, byte for byte, or is refused with line and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from mvm.canonical import encode
from mvm.compile.module import read_program
from mvm.errors import PolicyRefused
from tests.compile.programs import imported, programs

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "compile" / "refused.json").read_text("utf-8")
)
_HEAD = "import mvm\n"
_NONE = 'mvm.network(mode="none")'


@given(text=programs())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_reading_is_importing(text: str) -> None:
    """What is read from a file is byte for byte what importing it declares; both refuse the same."""
    here, there = _read(text), imported(text)
    if isinstance(here, PolicyRefused) or isinstance(there, PolicyRefused):
        assert isinstance(here, PolicyRefused)
        assert isinstance(there, PolicyRefused)
        assert there.findings[0].code in {finding.code for finding in here.findings}
    else:
        assert encode(here) == encode(there)


def _read(text: str) -> dict[str, object] | PolicyRefused:
    try:
        return read_program(text, path="app.py").to_json()
    except PolicyRefused as refusal:
        return refusal


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["why"]))
def test_what_cannot_be_read_is_refused_in_its_place(vector: dict[str, Any]) -> None:
    """Each vector is refused with its code at its line and column, and with a hint."""
    with pytest.raises(PolicyRefused) as caught:
        read_program(vector["text"], path="app.py")
    found = {(finding.code, finding.source) for finding in caught.value.findings}
    assert (vector["code"], f"app.py:{vector['at']}") in found
    assert all(finding.hint and finding.message for finding in caught.value.findings)


def test_the_file_is_not_imported(tmp_path: Path) -> None:
    """A file that would leave a trace when run leaves none when read; run, it does."""
    trace = tmp_path / "trace"
    text = f"{_HEAD}open({str(trace)!r}, 'w').close()\n@mvm.app(name='a', network={_NONE})\ndef a(): pass\n"
    assert [app.name for app in read_program(text, path="app.py").apps] == ["a"]
    assert not trace.exists()
    imported(text)
    assert trace.exists()


@pytest.mark.parametrize(
    "head",
    [
        "import mvm",
        "import mvm as m",
        "from mvm import app, network",
        "from mvm import app as a, network as n",
    ],
)
def test_words_under_every_name(head: str) -> None:
    """A word is known by whatever name it was imported, and read as importing reads it."""
    names = {"import mvm": ("mvm.app", "mvm.network"), "import mvm as m": ("m.app", "m.network")}
    app, network = names.get(head, ("app", "network") if " as " not in head else ("a", "n"))
    text = f"{head}\n@{app}(name='x', network={network}(mode='none'))\ndef f(): pass\n"
    there = imported(text)
    assert not isinstance(there, PolicyRefused)
    assert encode(read_program(text, path="app.py").to_json()) == encode(there)


def test_a_grant_tells_the_line_that_states_it() -> None:
    """Each grant's source is the file and line of its word, in a constant too."""
    text = (
        f"{_HEAD}MORE = mvm.host_port('b.example.com', 443)\n@mvm.app(name='x', network=mvm.network(\n"
        "    mode='bridge', dns=mvm.dns_system(), egress=mvm.egress([\n"
        "    mvm.host_port('a.example.com', 443),\n    MORE,\n])))\ndef f(): pass\n"
    )
    (app,) = read_program(text, path="app.py").apps
    assert [(str(grant.host), grant.source) for grant in app.policy.grants] == [
        ("a.example.com", "app.py:5"),
        ("b.example.com", "app.py:2"),
    ]


def test_every_finding_is_told_at_once() -> None:
    """Several declarations that are wrong are told in one go, in the order of the file."""
    wrong = "@mvm.app(name='a b', network=mvm.network(mode='none'))\ndef a(): pass\n"
    with pytest.raises(PolicyRefused) as caught:
        read_program(_HEAD + wrong + wrong, path="app.py")
    assert [finding.source for finding in caught.value.findings] == ["app.py:2:2", "app.py:4:2"]


def test_a_file_that_declares_nothing_is_refused() -> None:
    """A file without a declaration is refused as a whole, with an example of one."""
    with pytest.raises(PolicyRefused) as caught:
        read_program("x = 1\n", path="app.py")
    (finding,) = caught.value.findings
    assert (finding.code, finding.source) == ("declares-nothing", "app.py")
    assert "@mvm.app(" in finding.hint
