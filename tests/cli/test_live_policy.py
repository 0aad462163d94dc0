"""`network show`, `allow`, `revoke`, `watch` and `explain --name` on a running sandbox."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cli.fetching import fetch, trusting
from tests.support.mvmctl import await_watching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel


def test_a_grant_is_given_and_taken(mvmctl: Mvmctl, up: Callable[..., str], ca_file: Path) -> None:
    """Denied before `allow`, answered after it, denied again after `revoke`; each prints what it changed."""
    name = up(*trusting(ca_file))
    assert mvmctl("exec", name, *fetch("api.example.test")).exit_code != 0
    assert (
        mvmctl("network", "allow", name, "api.example.test:443").expect(0).stdout
        == "+ api.example.test:443\n"
    )
    assert mvmctl("exec", name, *fetch("api.example.test")).expect(0).stdout == "200"
    said = mvmctl("network", "revoke", name, "api.example.test:443").expect(0).stdout
    assert said == "- api.example.test:443\n"
    assert mvmctl("exec", name, *fetch("api.example.test")).exit_code != 0


def test_edits_are_told_as_json(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """`mvm.edit/1`: the new digest, what was granted and what was revoked."""
    name = up("--network-allow", "api.example.test:443,expires=1h")
    edit = mvmctl("network", "allow", "--json", name, "api.example.test:443,expires=2h").expect(0).json
    assert edit["schema"] == "mvm.edit/1"
    assert [grant["expires"] for grant in edit["granted"]] == ["2h"]
    assert [grant["expires"] for grant in edit["revoked"]] == ["1h"]
    assert edit["digest"] == mvmctl("network", "show", "--json", name).json["policy"]["digest"]


def test_what_is_not_granted_is_not_revoked(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """`revoke` of a place that is not granted exits 65 and changes nothing."""
    name = up("--network-allow", "api.example.test:443")
    before = mvmctl("network", "show", "--json", name).json["policy"]["digest"]
    assert "[not-granted]" in mvmctl("network", "revoke", name, "api.example.test:80").expect(65).stderr
    assert mvmctl("network", "show", "--json", name).json["policy"]["digest"] == before


def test_edits_at_once_all_stand(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Eight edits at the same moment: none is lost, since each is put in force only on what it has seen."""
    name = up()
    hosts = [f"h{number}.example.test" for number in range(8)]
    running = [mvmctl.start("network", "allow", name, f"{host}:443") for host in hosts]
    for one in running:
        one.finish().expect(0)
    shown = mvmctl("network", "show", "--json", name).expect(0).json
    assert sorted(grant["host"] for grant in shown["policy"]["grants"]) == hosts


def test_show_tells_sources_time_and_budget(mvmctl: Mvmctl, up: Callable[..., str], ca_file: Path) -> None:
    """Each grant with where it came from, how long it still stands, and how much of its budget is left."""
    grant = "api.example.test:443,expires=1h,max-down=1MB"
    name = up("--network-allow", grant, *trusting(ca_file))
    mvmctl("network", "allow", name, "other.example.test:443").expect(0)
    mvmctl("exec", name, *fetch("api.example.test")).expect(0)
    shown = mvmctl("network", "show", "--json", name).expect(0).json
    assert shown["schema"] == "mvm.network/1"
    sources = {grant["host"]: grant["source"] for grant in shown["policy"]["grants"]}
    assert sources["api.example.test"] == "--network-allow"
    assert sources["other.example.test"].startswith("network allow")
    first, second = shown["standing"]
    assert 3500 < first["left_s"] <= 3600
    assert 0 < first["down"] < 1_000_000
    assert second["left_s"] is None
    text = mvmctl("network", "show", name).expect(0).stdout
    row = next(line for line in text.splitlines() if line.startswith("api.example.test"))
    assert re.split(" {2,}", row)[1] in {"1h", *(f"59m{second}s" for second in range(60))}
    assert "of 1000000 down" in text


def test_explain_asks_the_running_policy(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Explain --name: allowed by the grant of the sandbox, denied for any other host."""
    name = up("--network-allow", "api.example.test:443")
    said = mvmctl("network", "explain", "--name", name, "api.example.test:443").expect(0)
    assert "from --network-allow" in said.stdout
    said = mvmctl("network", "explain", "--name", name, "other.example.test:443").expect(77)
    assert said.stdout.splitlines()[-1] == f"  mvmctl network allow {name} other.example.test:443"


def test_watch_tells_flows_and_denials_as_they_happen(
    mvmctl: Mvmctl, up: Callable[..., str], ca_file: Path
) -> None:
    """A flow that opens and a denial are told while the sandbox runs; its end ends the watching."""
    name = up("--network-allow", "api.example.test:443", *trusting(ca_file))
    watching = mvmctl.start("network", "watch", name)
    as_json = mvmctl.start("network", "watch", "--json", name)
    await_watching(mvmctl, name, watching, as_json)
    mvmctl("exec", name, *fetch("api.example.test")).expect(0)
    mvmctl("exec", name, *fetch("other.example.test"))
    watching.until(f"allow with mvmctl network allow {name} other.example.test:443")
    assert "flow.opened" in watching.until("flow.closed")
    as_json.until('"event": "denial"')
    mvmctl("down", "--time", "0", name).expect(0)
    assert "run.ended" in watching.finish().expect(0).stdout
    as_json.finish().expect(0)


def test_a_failure_of_the_network_is_watched_as_one(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """A granted host that refuses is told as unreachable, in other words than a denial."""
    name = up("--network-allow", "refused.example.test:443")
    watching = mvmctl.start("network", "watch", name)
    await_watching(mvmctl, name, watching)
    mvmctl("exec", name, *fetch("refused.example.test"))
    assert "denied" not in watching.until("the network, not the policy")


def test_exec_tells_what_is_denied_meanwhile(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Each exec says on stderr what was denied while it ran, also what had been denied before."""
    name = up("--network-allow", "refused.example.test:443")
    quiet = mvmctl("exec", name, "true").expect(0)
    told = [mvmctl("exec", name, *fetch(host)).stderr for host in ("other.example.test",) * 2]
    by_address = [mvmctl("exec", name, *fetch("192.0.2.7")).stderr for _ in range(2)]
    assert quiet.stderr == ""
    for said in told:
        assert said.count("denied by policy: dns other.example.test [host-not-granted]") == 1
        assert f"allow with mvmctl network allow {name} other.example.test" in said
    for said in by_address:
        assert said.count("denied by policy: tcp 192.0.2.7:443 [address-literal]") == 1
        assert "other.example.test" not in said
    failed = mvmctl("exec", name, *fetch("refused.example.test")).stderr
    assert "the network, not the policy" in failed
    assert "denied by policy" not in failed


def test_the_record_is_followed(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Audit tail -f tells each record as it is written, and ends with the seal."""
    name = up()
    tail = mvmctl.start("audit", "tail", "-f", name)
    tail.until("run.started")
    mvmctl("exec", name, "getent", "hosts", "other.example.test")
    tail.until("dns.denied")
    mvmctl("down", "--time", "0", name).expect(0)
    assert tail.finish().expect(0).stdout.splitlines()[-1].split()[1] == "audit.sealed"
