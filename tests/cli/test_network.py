"""`network presets`, `check` and `explain`: what a policy means, asked without a sandbox."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said

_GOOD = (
    '[network]\nmode = "bridge"\ndns = "system"\nallow = [{host = "a.example", port = 443, reason = "x"}]\n'
)


# ---- check


def test_a_file_that_is_not_there_is_told_by_the_words_of_the_command(type_in: Callable[..., Said]) -> None:
    """No option is advised that the command does not have."""
    said = type_in("network", "check", "gone.toml").expect(64)
    assert "--policy" not in said.errors
    assert "gone.toml" in said.errors


# ---- explain


def test_a_granted_host_is_allowed_by_its_grant(type_in: Callable[..., Said]) -> None:
    """Allowed: exit 0, the grant and its source."""
    words = ("network", "explain", "a.example:443", "--network-allow", "a.example:443,reason=models")
    assert type_in(*words).expect(0).output.splitlines() == [
        "allowed: a.example:443",
        "  by a.example:443,reason=models",
        "  from --network-allow",
    ]
    answer = type_in(*words, "--json").expect(0).json
    assert (answer["schema"], answer["verdict"], answer["reason"]) == ("mvm.explanation/1", "allowed", None)
    assert answer["grant"]["source"] == "--network-allow"


def test_a_host_that_is_not_granted_is_denied_with_the_flag(type_in: Callable[..., Said]) -> None:
    """Denied: exit 77, the reason's stable word, and the exact flag that would allow it."""
    said = type_in("network", "explain", "b.example:443", "--network-allow", "a.example:443").expect(77)
    assert said.output.startswith("denied: b.example:443 [host-not-granted]\n")
    assert said.output.endswith("  --network-allow b.example:443\n")
    answer = type_in("network", "explain", "b.example:443", "--json").expect(77).json
    assert answer["verdict"] == "denied"
    assert answer["grant"] is None
    assert answer["remedy"]["flag"] == "--network-allow b.example:443"


@pytest.mark.parametrize("place", ["169.254.169.254:80", "127.0.0.1:80", "metadata.google.internal:80"])
def test_metadata_and_loopback_are_never_offered(place: str, type_in: Callable[..., Said]) -> None:
    """A metadata or loopback address is denied without any flag."""
    answer = type_in("network", "explain", place, "--json").expect(77).json
    assert answer["remedy"]["kind"] == "never"
    assert answer["remedy"]["flag"] is None


def test_the_policy_file_is_asked(type_in: Callable[..., Said], project: Path) -> None:
    """mvm.toml of the project is what `run` would use, and so what is explained; --policy names another."""
    (project / "mvm.toml").write_text(_GOOD)
    (project / "closed.toml").write_text('[network]\nmode = "none"\n')
    assert "from mvm.toml:4" in type_in("network", "explain", "a.example:443").expect(0).output
    type_in("network", "explain", "a.example:443", "--policy", "closed.toml").expect(77)


def test_the_protocol_counts(type_in: Callable[..., Said]) -> None:
    """A UDP question is not answered by a TCP grant."""
    words = ("--network-allow", "a.example:53", "--json")
    type_in("network", "explain", "a.example:53", *words).expect(0)
    answer = type_in("network", "explain", "a.example:53/udp", *words).expect(77).json
    assert answer["reason"] == "protocol-not-granted"


def test_what_is_no_place_is_refused(type_in: Callable[..., Said]) -> None:
    """A wildcard or a missing port in the question is refused like anywhere else."""
    type_in("network", "explain", "*.example.com:443").expect(65)
    type_in("network", "explain", "example.com").expect(65)


def test_a_sandbox_that_does_not_run_can_not_be_asked(type_in: Callable[..., Said]) -> None:
    """--name of nothing is usage, and so is --name together with another policy."""
    type_in("network", "explain", "--name", "nobody", "a.example:443").expect(64)
    said = type_in("network", "explain", "--name", "x", "--dns", "none", "a.example:443").expect(64)
    assert "another policy" in said.errors


# ---- check


def test_good_files_pass(type_in: Callable[..., Said], project: Path) -> None:
    """A good policy and a good capability file: exit 0, nothing on stdout."""
    (project / "mvm.toml").write_text(_GOOD)
    tool = {"tool": "web_fetch", "network": {"mode": "bridge", "allow": [{"host": "a.example", "port": 443}]}}
    tool["network"]["dns"] = "system"  # type: ignore[index]
    (project / "tools.json").write_text(json.dumps(tool))
    said = type_in("network", "check", "mvm.toml", "tools.json").expect(0)
    assert said.output == ""
    assert said.errors == "2 files, no finding\n"


def test_findings_have_place_code_and_hint(type_in: Callable[..., Said], project: Path) -> None:
    """A bad file: exit 65 and two lines a finding."""
    (project / "bad.toml").write_text(_GOOD.replace("a.example", "*.example"))
    first, second = type_in("network", "check", "bad.toml").expect(65).output.splitlines()
    assert first.startswith("bad.toml:4: error: .network.allow[0].host: ")
    assert first.endswith("[wildcard-host]")
    assert second.startswith("  hint: ")


def test_warnings_do_not_refuse(type_in: Callable[..., Said], project: Path) -> None:
    """A broad preset is a warning: it is shown, and exits 0."""
    (project / "broad.toml").write_text('[network]\nmode = "bridge"\ndns = "system"\npreset = "dev"\n')
    assert "warning" in type_in("network", "check", "broad.toml").expect(0).output


@pytest.mark.parametrize("words", [("--json",), ("--format", "json")])
def test_findings_as_json(words: tuple[str, ...], type_in: Callable[..., Said], project: Path) -> None:
    """`mvm.findings/1` with every file's findings and their counts."""
    (project / "bad.toml").write_text(_GOOD.replace("443", "0"))
    (project / "mvm.toml").write_text(_GOOD)
    answer = type_in("network", "check", *words, "bad.toml", "mvm.toml").expect(65).json
    assert (answer["schema"], answer["errors"]) == ("mvm.findings/1", 1)
    assert answer["findings"][0]["source"] == "bad.toml:4"


def test_findings_as_sarif(type_in: Callable[..., Said], project: Path) -> None:
    """SARIF 2.1.0 with the finding at its file and line."""
    (project / "bad.toml").write_text(_GOOD.replace("443", "0"))
    log = type_in("network", "check", "--format", "sarif", "bad.toml").expect(65).json
    assert log["version"] == "2.1.0"
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("bad.toml", 4)


def test_check_wants_files_that_are_there(type_in: Callable[..., Said]) -> None:
    """No file, and a file that is not there, are usage."""
    type_in("network", "check").expect(64)
    assert "no such file" in type_in("network", "check", "absent.toml").expect(64).errors


# ---- presets


@pytest.fixture
def mirror(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A made-up package index that this machine's pip is configured with; its host."""
    (project.parent / "home" / ".config" / "pip").mkdir(parents=True)
    config = project.parent / "home" / ".config" / "pip" / "pip.conf"
    config.write_text("[global]\nindex-url = https://user:hush@mirror.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    return "mirror.example"


def test_a_preset_is_what_the_tools_are_configured_with(mirror: str, type_in: Callable[..., Said]) -> None:
    """`network presets registries` has the made-up mirror with its source, and never its credentials."""
    said = type_in("network", "presets", "registries").expect(0)
    assert f"{mirror}:443" in said.output
    assert "pip.conf" in said.output
    assert "hush" not in said.output


def test_presets_as_json(mirror: str, type_in: Callable[..., Said]) -> None:
    """All five presets with their grants and sources, and each tool with what is to be said of it."""
    answer = type_in("network", "presets", "--json").expect(0).json
    assert answer["schema"] == "mvm.presets/1"
    presets = {preset["name"]: preset for preset in answer["presets"]}
    assert list(presets) == ["none", "registries", "dev", "agent", "unrestricted"]
    assert presets["none"]["grants"] == []
    assert presets["none"]["warning"] is None
    assert presets["unrestricted"]["unrestricted"] is True
    of_dev = {grant["host"]: grant["source"] for grant in presets["dev"]["grants"]}
    assert of_dev[mirror].startswith("preset dev: pip: ")
    assert "pip" in {tool["tool"] for tool in answer["tools"]}


def test_agent_and_none_ask_no_tool(type_in: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets without registries are answered without starting anything: an empty PATH changes nothing."""
    before = type_in("network", "presets", "agent").expect(0).output
    monkeypatch.setenv("PATH", "")
    assert type_in("network", "presets", "agent").expect(0).output == before
    assert "api.github.com:443" in before
    assert type_in("network", "presets", "none").expect(0).output == "none\n  nothing\n"


def test_a_preset_that_is_not_there_is_usage(type_in: Callable[..., Said]) -> None:
    """The presets have five names."""
    type_in("network", "presets", "most").expect(64)


# ---- the live verbs, where nothing runs


@pytest.mark.parametrize(
    "words",
    [
        ("network", "show", "nobody"),
        ("network", "allow", "nobody", "a.example:443"),
        ("network", "revoke", "nobody", "a.example:443"),
        ("network", "watch", "nobody"),
        ("exec", "nobody", "true"),
        ("down", "nobody"),
        ("logs", "nobody"),
    ],
    ids=" ".join,
)
def test_a_name_that_does_not_run_is_usage(words: tuple[str, ...], type_in: Callable[..., Said]) -> None:
    """Every verb that takes a name exits 64 where there is none, names it, and says what to do."""
    said = type_in(*words).expect(64)
    assert "nobody" in said.errors
    assert "  hint: mvmctl ls" in said.errors


def test_wrong_grants_are_refused_before_anybody_is_asked(type_in: Callable[..., Said]) -> None:
    """`network allow` and `revoke` tell every finding about their words, with 65."""
    said = type_in("network", "allow", "nobody", "*.a.example:443", "b").expect(65)
    assert "[wildcard-host]" in said.errors
    assert "[missing-port]" in said.errors
    type_in("network", "revoke", "nobody", "b").expect(65)


def test_down_wants_to_know_what(type_in: Callable[..., Said]) -> None:
    """Neither names nor --all, and both, are usage; --all of nothing is nothing."""
    type_in("down").expect(64)
    type_in("down", "--all", "x").expect(64)
    assert type_in("down", "--all").expect(0).output == ""


def test_doctor_tells_facts_and_backends(type_in: Callable[..., Said]) -> None:
    """`doctor --json`: each fact with what was found, and per backend what it enforces."""
    said = type_in("doctor", "--json")
    answer = said.json
    assert answer["schema"] == "mvm.doctor/1"
    assert said.status == (0 if answer["ok"] else 69)
    facts = {fact["name"]: fact for fact in answer["facts"]}
    assert set(facts["user-namespaces"]) == {"name", "ok", "detail", "fix", "serves"}
    backends = {backend["name"]: backend for backend in answer["backends"]}
    assert list(backends) == ["namespace", "oci", "qemu", "firecracker"]
    assert backends["qemu"]["usable"] is False
    if answer["ok"]:
        assert {"host-port", "dns", "sni", "no-egress", "live-revoke"} <= set(
            backends["namespace"]["enforces"]
        )


def test_doctor_for_people_names_each_fact(type_in: Callable[..., Said]) -> None:
    """`doctor` has a line a fact, and one a backend."""
    said = type_in("doctor")
    for word in ("kernel", "user-namespaces", "seccomp", "landlock", "namespace: ", "qemu: "):
        assert word in said.output
