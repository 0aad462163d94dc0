"""The page's validation rules, one test each, as a user meets them at the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.fetching import fetch, trusting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mvmctl import Ended, Mvmctl

pytestmark = pytest.mark.kernel

_API, _OTHER, _REFUSED = "api.example.test", "other.example.test", "refused.example.test"


def _codes(ended: Ended) -> set[str]:
    return {finding["code"] for finding in ended.expect(65).json["findings"]}


def test_reject_wildcard_hosts_cidrs_and_user_provided_raw_proxy_urls_unless_the_policy_explicitly_supports_them(  # noqa: E501
    mvmctl: Mvmctl, tmp_path: Path
) -> None:
    """Each is refused with its code and nothing is started; the explicit word for subdomains passes."""
    for text, code in (
        ("*.example.com:443", "wildcard-host"),
        ("10.0.0.0/8:443", "cidr"),
        ("http://proxy.example.com:3128", "url-host"),
    ):
        ended = mvmctl("run", "--json", "--network-allow", text, "--", "echo", "started")
        assert code in _codes(ended)
        assert "started" not in ended.stderr
    file = tmp_path / "mvm.toml"
    file.write_text(
        '[network]\nmode = "bridge"\ndns = "system"\n'
        'allow = [{host = "example.com", port = 443, subdomains = 1}]\n'
    )
    mvmctl("network", "check", str(file)).expect(0)


def test_allow_only_expected_ports_for_each_tool_capability(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """A tool whose grant has a port that it does not expect is refused; with the expected one it runs."""
    file = tmp_path / "tools.json"
    tool = {
        "tool": "web_fetch",
        "ports": [443],
        "network": {"mode": "bridge", "dns": "system", "allow": [{"host": _API, "port": 8443}]},
    }
    words = ("run", "--capability", "web_fetch", "--capabilities", str(file), "--", "true")
    file.write_text(json.dumps(tool))
    assert "port-not-expected" in mvmctl(*words).expect(65).stderr
    tool["ports"] = [8443]
    file.write_text(json.dumps(tool))
    mvmctl(*words).expect(0)


def test_keep_dns_policy_explicit_when_the_workload_depends_on_names(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """A file that grants a name and is silent on DNS is refused with the line that makes it pass."""
    file = tmp_path / "mvm.toml"
    text = f'[network]\nmode = "bridge"\nallow = [{{host = "{_API}", port = 443}}]\n'
    file.write_text(text)
    refused = mvmctl("run", "--policy", str(file), "--", "true").expect(65).stderr
    assert "[dns-not-stated]" in refused
    assert 'dns = "system"' in refused
    file.write_text(text + 'dns = "system"\n')
    mvmctl("run", "--policy", str(file), "--", "true").expect(0)


def test_store_the_grant_decision_with_the_audit_run_identifier(mvmctl: Mvmctl) -> None:
    """Each grant is in the record of its run, under that run's id, before anything is opened by it."""
    run = mvmctl("run", "--json", "--network-allow", f"{_API}:443", "--", "true").expect(0).json["run"]
    lines = [
        json.loads(line) for line in mvmctl("audit", "show", run, "--json").expect(0).stdout.splitlines()
    ]
    assert {line["run"] for line in lines} == {run}
    (decided,) = [line for line in lines if line["kind"] == "grant.decided"]
    assert (decided["host"], decided["port"], decided["source"]) == (_API, 443, "--network-allow")


def test_return_policy_denial_distinctly_from_transport_or_guest_command_failure(
    mvmctl: Mvmctl, ca_file: Path
) -> None:
    """Three failures, three causes, and a denial has an exit status of its own where that is asked for."""
    words = ("run", "--json", *trusting(ca_file), "--network-allow", f"{_REFUSED}:443", "--")
    causes = [
        json.loads(mvmctl(*words, *command).stdout)["cause"]
        for command in (fetch(_OTHER), fetch(_REFUSED), ("false",), ("true",))
    ]
    assert causes == ["policy", "transport", "guest", None]
    failing = ("run", "--on-denied", "fail", *trusting(ca_file), "--", *fetch(_OTHER))
    mvmctl(*failing).expect(77)
