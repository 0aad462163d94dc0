"""An empty list of what is allowed allows nothing, however it is spelled (ATTACKS 52).

Each spelling stands beside its twin, in which one host is granted: that one is open, and still nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.escape.first_acts import expect_shut, first_acts, shut

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

API, OTHER = "api.example.test", "other.example.test"
_ALLOW = f"{API}:443"


class _Spelling(NamedTuple):
    """Words on the command line and the policy file they are used with: empty, and with one grant."""

    empty: tuple[str, ...] = ()
    one: tuple[str, ...] = ("--network-allow", _ALLOW)
    file: str | None = None
    empty_text: str = ""
    one_text: str = ""


_GRANT = f'{{host = "{API}", port = 443}}'
_BRIDGE = '[network]\nmode = "bridge"\ndns = "system"\n'
_JSON_GRANT = {"host": API, "port": 443}


def _json(**network: object) -> str:
    return json.dumps({"network": network})


_SPELLINGS = {
    "no words": _Spelling(),
    "preset none": _Spelling(
        ("--network-preset", "none"), ("--network-preset", "none", "--network-allow", _ALLOW)
    ),
    "a resolver alone": _Spelling(("--dns", "system"), ("--dns", "system", "--network-allow", _ALLOW)),
    "an empty mvm.toml": _Spelling((), (), "mvm.toml", "", f"{_BRIDGE}allow = [{_GRANT}]\n"),
    "a table without words": _Spelling(file="mvm.toml", empty_text="[network]\n", one_text="[network]\n"),
    "mode none": _Spelling(
        (), (), "mvm.toml", '[network]\nmode = "none"\n', f"{_BRIDGE}allow = [{_GRANT}]\n"
    ),
    "mode bridge": _Spelling((), (), "mvm.toml", _BRIDGE, f"{_BRIDGE}allow = [{_GRANT}]\n"),
    "allow = []": _Spelling((), (), "mvm.toml", f"{_BRIDGE}allow = []\n", f"{_BRIDGE}allow = [{_GRANT}]\n"),
    "allow = [] and preset none": _Spelling(
        (),
        (),
        "mvm.toml",
        f'{_BRIDGE}preset = "none"\nallow = []\n',
        f'{_BRIDGE}preset = "none"\nallow = [{_GRANT}]\n',
    ),
    "empty JSON": _Spelling(
        ("--policy", "policy.json"),
        ("--policy", "policy.json"),
        "policy.json",
        "{}",
        _json(mode="bridge", dns="system", allow=[_JSON_GRANT]),
    ),
    "empty allow in JSON": _Spelling(
        ("--policy", "policy.json"),
        ("--policy", "policy.json"),
        "policy.json",
        _json(mode="bridge", dns="system", allow=[]),
        _json(mode="bridge", dns="system", allow=[_JSON_GRANT]),
    ),
    "null instead of a list in JSON": _Spelling(
        ("--policy", "policy.json"),
        ("--policy", "policy.json"),
        "policy.json",
        _json(mode="bridge", dns="system", allow=None),
        _json(mode="bridge", dns="system", allow=[_JSON_GRANT]),
    ),
}
_REFUSED = ("an empty mvm.toml", "empty JSON", "null instead of a list in JSON")
"""Not even started: 65."""


def _elsewhere(internet: Internet) -> tuple[str, ...]:
    other = internet.host("other")
    return f"{other.v4}/443", f"{other.v6}/443", f"{OTHER}/443", f"{internet.host('api').v4}/443"


@pytest.mark.parametrize("spelled", _SPELLINGS)
def test_an_empty_list_lets_nothing_out(
    mvmctl: Mvmctl, internet: Internet, tmp_path: Path, spelled: str
) -> None:
    """52: addresses of both families, names: shut at once, or nothing is even started."""
    spelling, places = _SPELLINGS[spelled], (*_elsewhere(internet), f"{API}/443")
    if spelling.file is not None:
        (tmp_path / spelling.file).write_text(spelling.empty_text)
    with internet.watch() as outside:
        ended = mvmctl("run", *spelling.empty, "--", *first_acts(*places), cwd=tmp_path)
    assert outside.packets == {}
    if spelled in _REFUSED:
        assert ended.expect(65).stdout == ""
    else:
        expect_shut(ended, *places)


@pytest.mark.parametrize("spelled", _SPELLINGS)
def test_a_list_of_one_lets_one_out(mvmctl: Mvmctl, internet: Internet, tmp_path: Path, spelled: str) -> None:
    """52, the twin: the granted host is open, and whatever else is as shut as before."""
    spelling, places = _SPELLINGS[spelled], _elsewhere(internet)
    if spelling.file is not None:
        (tmp_path / spelling.file).write_text(spelling.one_text)
    with internet.watch() as outside:
        ended = mvmctl("run", *spelling.one, "--", *first_acts(f"{API}/443", *places), cwd=tmp_path).expect(0)
    first, *said, _took = ended.stdout.splitlines()
    assert first == f"open {API}/443"
    assert said == shut(*places)
    assert {packet.address for packet in outside.besides_names} <= set(internet.host("api").addresses)


_NETWORKS = {
    "egress([])": 'mvm.network(mode="bridge", egress=mvm.egress([]), dns=mvm.dns_system())',
    "no egress": 'mvm.network(mode="bridge", dns=mvm.dns_system())',
    "mode none": 'mvm.network(mode="none")',
}
_PROGRAM = (
    "import sys, mvm\n"
    "with mvm.Sandbox(network={network}) as box: print(box.run(sys.argv[1:]).stdout.decode())"
)


def _python(mvmctl: Mvmctl, network: str, *argv: str) -> list[str]:
    words = [sys.executable, "-c", _PROGRAM.format(network=network), *argv]
    done = subprocess.run(
        words, env=mvmctl.environment(), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


@pytest.mark.parametrize("spelled", _NETWORKS)
def test_an_empty_list_in_python_lets_nothing_out(mvmctl: Mvmctl, internet: Internet, spelled: str) -> None:
    """52: the declared words too."""
    places = (*_elsewhere(internet), f"{API}/443")
    with internet.watch() as outside:
        said = _python(mvmctl, _NETWORKS[spelled], *first_acts(*places))
    assert said[: len(places)] == shut(*places)
    assert outside.packets == {}


def test_a_list_of_one_in_python_lets_one_out(mvmctl: Mvmctl, internet: Internet) -> None:
    """52, the twin."""
    egress = f'mvm.egress([mvm.host_port("{API}", 443)])'
    network = f'mvm.network(mode="bridge", egress={egress}, dns=mvm.dns_system())'
    with internet.watch() as outside:
        said = _python(mvmctl, network, *first_acts(f"{API}/443", f"{OTHER}/443"))
    assert said[:2] == [f"open {API}/443", f"shut {OTHER}/443"]
    assert {packet.address for packet in outside.besides_names} <= set(internet.host("api").addresses)


def test_a_list_that_becomes_empty_lets_nothing_out(mvmctl: Mvmctl, internet: Internet) -> None:
    """52: the last grant revoked from a running sandbox leaves none, not all."""
    name = mvmctl("up", "-d", "--network-allow", _ALLOW).expect(0).stdout.strip()
    place = f"{API}/443"
    assert mvmctl("exec", name, *first_acts(place)).expect(0).stdout.startswith(f"open {place}\n")
    mvmctl("network", "revoke", name, _ALLOW).expect(0)
    places = (*_elsewhere(internet), place)
    with internet.watch() as outside:
        expect_shut(mvmctl("exec", name, *first_acts(*places)), *places)
    assert outside.packets == {}
    mvmctl("down", "--time", "0", name).expect(0)
