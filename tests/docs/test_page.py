"""The page as it is written: its commands are typed, its declarations declared, its JSON is a capability."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import mvm
from mvm.declare.network import document_of
from mvm.policy.document import document_to_json
from tests.docs import page, test_page_browser, test_page_review, test_page_rules
from tests.support.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from tests.support.mvmctl import Mvmctl

_COMMANDS = page.commands()
_OPENAI = {"host": "api.openai.com", "port": 443, "private": False, "protocol": "tcp", "tls": "require"}
_GITHUB = {**_OPENAI, "host": "github.com"}
_GRANTED: tuple[list[dict[str, object]] | None, ...] = ([], None, [_OPENAI, _GITHUB], [])
"""What each command grants; None for what this machine's package tools use."""
_UNNAMED = "not-named.example"
_FORWARDED: tuple[list[str], ...] = ([], [], [], ["127.0.0.1:8080:8080"])


def _name(words: tuple[str, ...]) -> str:
    return words[words.index("--name") + 1]


@pytest.mark.parametrize(
    ("words", "granted", "forwarded"), list(zip(_COMMANDS, _GRANTED, _FORWARDED, strict=True))
)
def test_a_command_says_what_it_would_do(
    words: tuple[str, ...], granted: list[object] | None, forwarded: list[str], mvmctl: Mvmctl
) -> None:
    """Each command as written, with `--dry-run`: exactly the named hosts and ports, from its flags."""
    plan = json.loads(mvmctl(*words[1:], "--dry-run", "--json").expect(0).stdout)
    network = plan["policy"]["document"]["network"]
    assert plan["flake"] == "."
    if granted is not None:
        assert network["allow"] == granted
    assert network["ports"] == forwarded
    assert network["dns"]["mode"] == ("system" if network["allow"] else "none")
    assert all(grant["source"] for grant in plan["policy"]["grants"])


@pytest.mark.kernel
@pytest.mark.parametrize(("words", "granted"), list(zip(_COMMANDS, _GRANTED, strict=True)))
def test_a_command_starts_what_it_says(
    words: tuple[str, ...], granted: list[dict[str, object]] | None, mvmctl: Mvmctl
) -> None:
    """Each command on this machine's own system: the sandbox stands, with exactly what it was granted."""
    at = words.index("--flake")
    mvmctl(*words[1:at], *words[at + 2 :], "-d").expect(0)
    shown = json.loads(mvmctl("network", "show", _name(words), "--json").expect(0).stdout)
    if granted is not None:
        stands = [(grant["host"], grant["port"]) for grant in shown["policy"]["grants"]]
        assert stands == [(grant["host"], grant["port"]) for grant in granted]
    mvmctl("exec", _name(words), "--", "curl", "-sS", f"https://{_UNNAMED}/").expect(6)
    reason = "dns-not-allowed" if granted == [] else "host-not-granted"
    last = json.loads(mvmctl("network", "show", _name(words), "--json").expect(0).stdout)["denials"]
    assert [(denial["host"], denial["reason"]) for denial in last] == [(_UNNAMED, reason)]
    mvmctl("down", _name(words)).expect(0)


@pytest.mark.parametrize("text", page.declarations())
def test_a_declaration_is_read_as_it_is_written(text: str) -> None:
    """Each declaration of the page gives a network that is acceptable, and grants what it names."""
    said: dict[str, object] = {}
    exec(f"said.update({text})", {"mvm": mvm, "said": said})  # noqa: S102  the page's own text
    made = document_to_json(document_of(said["network"], path="page"))["network"]
    assert isinstance(made, dict)
    assert made["allow"] == ([_OPENAI] if "api.openai.com" in text else [])
    assert made["mode"] == ("bridge" if "api.openai.com" in text else "none")


@pytest.mark.parametrize("text", page.declarations())
def test_a_declaration_stands_above_a_function(text: str, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Each declaration in the decorator's shape: compiled from its text, and enforced by `run --app`."""
    file = tmp_path / "app.py"
    file.write_text(
        f'import mvm\n\n@mvm.app(name="agent",\n{text},\nentrypoint=["echo", "ran"])\ndef main(): pass\n'
    )
    (app,) = json.loads(mvmctl("compile", str(file)).expect(0).stdout)["apps"]
    allowed = [_OPENAI] if "api.openai.com" in text else []
    assert app["policy"]["network"]["allow"] == allowed
    assert mvmctl("run", "--app", str(file)).expect(0).stdout == "ran\n"


def test_the_capability_is_one(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """The page's JSON is accepted as written, names its tool, and grants its one host and port."""
    file = tmp_path / "web_fetch.json"
    file.write_text(page.capability(), "utf-8")
    mvmctl("capability", "check", str(file)).expect(0)
    listed = mvmctl("capability", "list", str(file)).expect(0).stdout
    assert "web_fetch" in listed
    assert "api.openai.com:443" in listed
    words = ("run", "--capability", "web_fetch", "--capabilities", str(file), "--dry-run", "--json")
    plan = json.loads(mvmctl(*words).expect(0).stdout)
    assert [(grant["host"], grant["port"]) for grant in plan["policy"]["grants"]] == [("api.openai.com", 443)]


@pytest.mark.parametrize(
    ("title", "module"),
    [
        ("Validation rules:", test_page_rules),
        ("Before allowing egress:", test_page_review),
        ("Use a dedicated profile:", test_page_browser),
    ],
    ids=["validation", "review", "browser"],
)
def test_every_rule_has_a_test_with_its_name(title: str, module: ModuleType) -> None:
    """Each bullet of the page names a test, so that none is forgotten."""
    rules = page.rules(title)
    assert len(rules) >= 5
    assert [rule for rule in rules if not hasattr(module, f"test_{rule}")] == []


def test_the_page_is_the_one_that_was_published() -> None:
    """The copy is what lies beside this checkout, where something does."""
    published = ROOT.parent / "shared" / page.PAGE.name
    if published.exists():
        assert page.PAGE.read_bytes() == published.read_bytes()
    assert len(_COMMANDS) == 4
