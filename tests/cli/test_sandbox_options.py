"""The options of `run` and `up`: what is refused, with which status, before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said

_BRIDGE = '[network]\nmode = "bridge"\ndns = "system"\n'


def grants(said: Said) -> list[str]:
    """Name the hosts that a dry run grants."""
    return [grant["host"] for grant in said.expect(0).json["policy"]["grants"]]


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["run"], 64, "there is no command to run"),
        (["run", "--capture", "--", "true"], 64, "--json"),
        (["run", "--on-denied", "ask", "--", "true"], 64, "holds a connection"),
        (["run", "--memory", "512m", "--", "true"], 64, "--memory"),
        (["run", "--memory", "0", "--", "true"], 64, "--memory"),
        (["run", "--memory", "512", "--", "true"], 64, "write a unit"),
        (["run", "--timeout", "10", "--", "true"], 64, "--timeout"),
        (["run", "--cpus", "0", "--", "true"], 64, "--cpus"),
        (["run", "--cpus", "nan", "--", "true"], 64, "--cpus"),
        (["run", "--cpus", "many", "--", "true"], 64, "--cpus"),
        (["run", "--pids", "0", "--", "true"], 64, "--pids"),
        (["run", "--name", "Not_A_Name", "--", "true"], 64, "Not_A_Name"),
        (["run", "--workdir", "relative", "--", "true"], 64, "--workdir"),
        (["run", "--backend", "hyperv", "--", "true"], 64, "hyperv"),
        (["run", "--image", "scratch", "--", "true"], 64, "scratch"),
        (["run", "--network-preset", "most", "--", "true"], 64, "most"),
        (["run", "--policy", "absent.toml", "--", "true"], 64, "absent.toml"),
        (["run", "--network-allow", "*.example.com:443", "--", "true"], 65, "[wildcard-host]"),
        (["run", "--network-allow", "10.0.0.0/8:443", "--", "true"], 65, "[cidr]"),
        (["run", "--network-allow", "https://a.example/", "--", "true"], 65, "[url-host]"),
        (["run", "--network-allow", "a.example", "--", "true"], 65, "[missing-port]"),
        (["run", "--network-allow", "a.example:443", "--dns", "none", "--", "true"], 65, "[dns-none]"),
        (["run", "--dns", "resolver=a.example", "--", "true"], 65, "[resolver-name]"),
        (["run", "-p", "80-90", "--", "true"], 65, "[port-range]"),
        (["run", "--ttl", "soon", "--", "true"], 65, "[bad-duration]"),
        (["run", "--backend", "qemu", "--", "true"], 69, "qemu"),
        (["run", "--hypervisor", "firecracker", "--", "true"], 69, "firecracker"),
        (["run", "--image", "oci:alpine", "--", "true"], 64, "alpine"),
        (["run", "--profile", "chrome", "--", "true"], 65, "[unknown-profile]"),
    ],
    ids=lambda value: " ".join(value[1:-2]) if isinstance(value, list) else None,
)
def test_wrong_words_are_refused_with_their_status(
    words: list[str], status: int, part: str, type_in: Callable[..., Said]
) -> None:
    """Usage is 64, policy 65, what can't be had here 69: told on stderr, with nothing on stdout."""
    said = type_in(*words).expect(status)
    assert part in said.errors
    assert said.output == ""


@pytest.mark.parametrize(
    ("words", "status", "cause"),
    [
        (["--memory", "512m"], 64, None),
        (["--network-allow", "*.example.com:443"], 65, "policy"),
        (["--backend", "qemu"], 69, None),
    ],
)
def test_a_refusal_is_a_json_object_too(
    words: list[str], status: int, cause: str | None, type_in: Callable[..., Said]
) -> None:
    """With --json a refusal before the start is `mvm.result/1`, outcome refused, its cause apart."""
    for verb in ("run", "up"):
        said = type_in(verb, "--json", *words, "--", "true").expect(status)
        assert said.errors.startswith("mvmctl: ")
        result = said.json
        assert result["schema"] == "mvm.result/1"
        assert (result["outcome"], result["cause"], result["exit_code"]) == ("refused", cause, status)
        assert result["run"] is None
        assert result["denials"] == result["flows"] == []
        assert result["error"]["message"]
        assert bool(result["findings"]) == (cause == "policy")


def test_every_finding_of_a_refusal_is_in_the_object(type_in: Callable[..., Said]) -> None:
    """Two wrong grants are two findings, each with code, path and hint."""
    said = type_in(
        "run", "--json", "--network-allow", "*.a.example:443", "--network-allow", "b", "--", "true"
    )
    findings = said.expect(65).json["findings"]
    assert [finding["code"] for finding in findings] == ["wildcard-host", "missing-port"]
    assert all(finding["path"] == "--network-allow" and finding["hint"] for finding in findings)


def test_options_end_at_the_first_word_of_the_command(type_in: Callable[..., Said]) -> None:
    """As with docker: what follows the command is the command's, options of ours among it."""
    plan = type_in("run", "--dry-run", "--json", "echo", "--dry-run", "--", "-x").expect(0).json
    assert plan["command"] == ["echo", "--dry-run", "--", "-x"]


def test_a_double_dash_ends_the_options(type_in: Callable[..., Said]) -> None:
    """What follows `--` is the command, even where it begins with a dash."""
    plan = type_in("run", "--dry-run", "--json", "--", "--version").expect(0).json
    assert plan["command"] == ["--version"]


def test_the_policy_file_is_found_upwards_to_the_repository(
    type_in: Callable[..., Said], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mvm.toml beside .git counts in a directory below; without a repository, only the directory's own."""
    (project / "mvm.toml").write_text(_BRIDGE + 'allow = [{host = "b.example", port = 443}]\n')
    below = project / "deep" / "down"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert grants(type_in("run", "--dry-run", "--json", "--", "true")) == []
    (project / ".git").mkdir()
    assert grants(type_in("run", "--dry-run", "--json", "--", "true")) == ["b.example"]


def test_a_file_that_is_named_stands_in_place_of_the_one_found(
    type_in: Callable[..., Said], project: Path
) -> None:
    """--policy FILE is read, and mvm.toml is not."""
    (project / "mvm.toml").write_text(_BRIDGE + 'allow = [{host = "b.example", port = 443}]\n')
    (project / "other.json").write_text(
        '{"network": {"mode": "bridge", "dns": "system", "allow": [{"host": "c.example", "port": 443}]}}'
    )
    assert grants(type_in("run", "--policy", "other.json", "--dry-run", "--json", "--", "true")) == [
        "c.example"
    ]


def test_flags_add_to_the_file(type_in: Callable[..., Said], project: Path) -> None:
    """--network-allow adds to what the policy file grants."""
    (project / "mvm.toml").write_text(_BRIDGE + 'allow = [{host = "b.example", port = 443}]\n')
    said = type_in("run", "--network-allow", "a.example:443", "--dry-run", "--json", "--", "true")
    assert grants(said) == ["a.example", "b.example"]


def test_a_broken_file_is_refused_with_its_place(type_in: Callable[..., Said], project: Path) -> None:
    """What is wrong in mvm.toml is told with file and line, and nothing starts."""
    (project / "mvm.toml").write_text(_BRIDGE + 'allow = [\n  {host = "*.b.example", port = 443},\n]\n')
    said = type_in("run", "--", "true").expect(65)
    assert "mvm.toml:5" in said.errors
    assert "[wildcard-host]" in said.errors


def test_a_policy_file_must_be_text(type_in: Callable[..., Said], project: Path) -> None:
    """A directory, and bytes that are no UTF-8, are told as what they are."""
    (project / "mvm.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in type_in("run", "--", "true").expect(64).errors
    assert "can't be read" in type_in("run", "--policy", ".", "--", "true").expect(64).errors
