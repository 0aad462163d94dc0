"""Reading a file gives what importing it gives, byte for byte, or is refused with line and column."""

from __future__ import annotations

import json
from itertools import count
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


_SEEN = f"@mvm.app(network={_NONE})\ndef seen(): pass\n"
_HIDDEN = 'app(network=mvm.network(mode="bridge", egress=mvm.egress_preset("dev"), dns=mvm.dns_system()))'


@pytest.mark.parametrize(
    "hidden",
    [
        f"if True:\n    import mvm as z\n@z.{_HIDDEN}\ndef f(): pass\n",
        f"import mvm.declare.registry as z\n@z.{_HIDDEN}\ndef f(): pass\n",
        f"from mvm.declare.registry import app\n@{_HIDDEN}\ndef f(): pass\n",
        f"from mvm import declare\n@declare.registry.{_HIDDEN}\ndef f(): pass\n",
        f"@mvm.declare.registry.{_HIDDEN}\ndef f(): pass\n",
        f"z = mvm\n@z.{_HIDDEN}\ndef f(): pass\n",
        f"z = getattr(mvm, 'app')\n@{_HIDDEN.replace('app', 'z', 1)}\ndef f(): pass\n",
        "z = vars(mvm)\n",
    ],
    ids=["in-if", "submodule", "from-submodule", "from-package", "by-attributes", "alias", "getattr", "vars"],
)
def test_no_declaration_is_passed_over(hidden: str) -> None:
    """One by a name that is not followed is refused, not left out of what a reviewer sees."""
    with pytest.raises(PolicyRefused) as caught:
        read_program(_HEAD + _SEEN + hidden, path="app.py")
    assert {finding.code for finding in caught.value.findings} <= {"misplaced", "unclear-name"}
    harmless = "def g():\n    import mvm as z\n    return z.Sandbox\nfrom mvm.errors import MvmError\n"
    assert len(read_program(_HEAD + _SEEN + harmless, path="app.py").apps) == 1


@pytest.mark.parametrize("line", ["# -*- coding: utf-7 -*-", "#!/bin/x\n# vim: set fileencoding=latin-1 :"])
def test_a_file_in_another_encoding_is_refused(line: str) -> None:
    """Python would read other text than is read here, where a comment may be a declaration."""
    with pytest.raises(PolicyRefused, match="UTF-8"):
        read_program(f"{line}\n{_HEAD}{_SEEN}", path="app.py")
    read_program(f"# -*- coding: utf-8 -*-\n{_HEAD}{_SEEN}", path="app.py")


_BOMB = 'a = ("x",)\n' + "".join(
    f"{name} = ({f'{before}, ' * 10})\n" for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)


@pytest.mark.parametrize(
    "words",
    [
        "mounts=l", "name=l", "env={'A': l}", "ttl=[]", "name=0x" + "f" * 6000,
        "name=f'{0x" + "f" * 6000 + "}'",
        "resources=mvm.resources(1" + "0" * 400 + ")", "resources=mvm.resources(1e999)",
        r"env={'A': '\ud800'}", r"env={'\ud800': 'A'}", r"entrypoint=['\ud800']",
        "image=mvm.directory(l)", "profile=mvm.browser_profile(workspace=l)",
    ],
    ids=count(),
)  # fmt: skip
def test_no_value_is_too_much_to_be_refused(words: str) -> None:
    """Tuples that stand for ten thousand million words, numbers, half characters: findings as any other."""
    with pytest.raises(PolicyRefused):
        read_program(f"{_HEAD}{_BOMB}@mvm.app(network={_NONE}, {words})\ndef f(): pass\n", path="app.py")
    with pytest.raises(PolicyRefused):
        read_program(f"{_HEAD}@mvm.app(network=mvm.network(mode=[]))\ndef f(): pass\n", path="app.py")
