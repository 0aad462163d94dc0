"""`network suggest`: the smallest policy for what a run did, out of real records, used in a second run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.audit.log import Log
from mvm.audit.run_id import make_run_id
from tests.cli.fetching import trusting

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Said
    from tests.support.internet import Internet
    from tests.support.mvmctl import Ended, Mvmctl

kernel = pytest.mark.kernel

_RUN = make_run_id(1_750_000_000_000, bytes(10))
_CURL = "curl -sSf --max-time 10 -o /dev/null"


def script(*urls: str) -> tuple[str, ...]:
    """Fetch each page; the number of those that could not be fetched is the status."""
    fetches = "; ".join(f"{_CURL} {url} || failed=$((failed + 1))" for url in urls)
    return ("--", "sh", "-c", f"failed=0; {fetches}; exit $failed")


def suggested(mvmctl: Mvmctl, run: str, *words: str) -> Ended:
    """What is suggested for a run."""
    return mvmctl("network", "suggest", run, *words).expect(0)


# ---- real runs


@kernel
def test_what_an_unrestricted_run_reached_is_enough_for_the_next(mvmctl: Mvmctl, ca_file: Path) -> None:
    """The flags that are suggested let a second run do the same with exactly two grants; each is needed."""
    work = script("https://api.example.test/", "http://other.example.test/")
    mvmctl("run", "--name", "first", "--network-preset", "unrestricted", *trusting(ca_file), *work).expect(0)
    said = suggested(mvmctl, "first")
    assert said.stdout == (
        "--network-preset none --network-allow api.example.test:443 --network-allow other.example.test:80 "
        "--dns system\n"
    )
    assert said.stderr == ""
    flags = shlex.split(said.stdout)
    mvmctl("run", *flags, *trusting(ca_file), *work).expect(0)
    for at in (2, 4):
        fewer = [*flags[:at], *flags[at + 2 :]]
        mvmctl("run", *fewer, *trusting(ca_file), *work).expect(1)


@kernel
def test_what_a_run_was_denied_is_added_and_what_it_left_unused_is_not(
    mvmctl: Mvmctl, ca_file: Path, tmp_path: Path
) -> None:
    """As mvm.toml: the used grant with what it says, the denied host; the unused grant is gone; it works."""
    work = script("https://api.example.test/", "https://other.example.test/")
    grants = (
        "api.example.test:443,reason=models,max-down=1MB",
        "cdn-a.example.test:443",
        "10.1.2.3:80,private",
    )
    allowed = [word for grant in grants for word in ("--network-allow", grant)]
    first = mvmctl("run", "--name", "first", *allowed, *trusting(ca_file), *work).expect(1)
    assert "other.example.test" in first.stderr
    said = suggested(mvmctl, "first", "--format", "toml")
    assert [line for line in said.stdout.splitlines() if "host" in line] == [
        '    {host = "api.example.test", port = 443, reason = "models", max_down = 1000000},  # reached',
        '    {host = "other.example.test", port = 443},  # denied: host-not-granted',
    ]
    assert "its port is 443 is a guess" in said.stderr
    (tmp_path / "mvm.toml").write_text(said.stdout)
    mvmctl("network", "check", "mvm.toml", cwd=tmp_path).expect(0)
    mvmctl("run", *trusting(ca_file), *work, cwd=tmp_path).expect(0)


@kernel
def test_the_suggestion_follows_the_denials_of_each_run_until_nothing_is_left(
    mvmctl: Mvmctl, ca_file: Path
) -> None:
    """A port that was guessed is put right by the run that tries it: the second suggestion is exact."""
    work = script("http://api.example.test/")
    mvmctl("run", "--name", "one", *trusting(ca_file), *work).expect(1)
    first = suggested(mvmctl, "one")
    assert "--network-allow api.example.test:443 " in first.stdout
    mvmctl("run", "--name", "two", *shlex.split(first.stdout), *trusting(ca_file), *work).expect(1)
    second = suggested(mvmctl, "two")
    assert "--network-allow api.example.test:80 " in second.stdout
    assert ":443" not in second.stdout
    assert second.stderr == ""
    mvmctl("run", *shlex.split(second.stdout), *trusting(ca_file), *work).expect(0)


@kernel
@pytest.mark.parametrize(
    ("url", "preset"),
    [
        ("http://169.254.169.254/latest/meta-data/", "unrestricted"),
        ("http://169.254.169.254/latest/meta-data/", "none"),
        ("http://[::ffff:169.254.169.254]/", "unrestricted"),
        ("http://metadata.example.test/", "unrestricted"),
        ("http://loopback.example.test/", "unrestricted"),
        ("http://linklocal.example.test/", "unrestricted"),
        ("http://metadata.google.internal/", "none"),
    ],
)
def test_metadata_and_loopback_are_left_out_with_a_warning(mvmctl: Mvmctl, url: str, preset: str) -> None:
    """By address, by name, or by where a name leads: nothing is granted for it, and stderr says so."""
    mvmctl("run", "--name", "first", "--network-preset", preset, *script(url)).expect(1)
    said = suggested(mvmctl, "first")
    assert said.stdout == "--network-preset none --dns none\n"
    assert "left out" in said.stderr
    answer = suggested(mvmctl, "first", "--json").json
    assert answer["grants"] == []
    assert {warning["code"] for warning in answer["warnings"]} == {"not-suggested"}


@kernel
def test_other_addresses_are_suggested_with_a_warning(mvmctl: Mvmctl) -> None:
    """An address without a name, and a name that leads to a private one, come with a warning each."""
    urls = ("http://10.1.2.3/", "http://private.example.test/")
    mvmctl("run", "--name", "first", "--network-preset", "unrestricted", *script(*urls)).expect(2)
    answer = suggested(mvmctl, "first", "--json").json
    assert [(grant["host"], grant["private"]) for grant in answer["grants"]] == [
        ("10.1.2.3", True),
        ("private.example.test", True),
    ]
    assert {warning["code"] for warning in answer["warnings"]} == {"literal-address", "needs-private"}
    assert suggested(mvmctl, "first").stderr.count("mvmctl: warning: ") == 2
    mvmctl("run", *answer["flags"], *script(*urls)).expect(0)


@kernel
def test_a_run_that_asked_for_nothing_needs_nothing(mvmctl: Mvmctl) -> None:
    """No traffic: a closed policy in every format; the portal's page is no traffic."""
    work = script("http://policy.mvm.internal/")
    mvmctl("run", "--name", "first", "--network-allow", "api.example.test:443", *work).expect(0)
    nothing = suggested(mvmctl, "first")
    assert nothing.stdout == "--network-preset none --dns none\n"
    assert "reached no host and was denied none" in nothing.stderr
    assert suggested(mvmctl, "first", "--format", "toml").stdout == '[network]\nmode = "none"\ndns = "none"\n'
    python = suggested(mvmctl, "first", "--format", "python").stdout
    assert python == 'mvm.network(\n    mode="none",\n    dns=mvm.dns_none(),\n)\n'


@kernel
def test_what_the_record_can_not_say_is_warned_of(
    mvmctl: Mvmctl, up: Callable[..., str], ca_file: Path, internet: Internet
) -> None:
    """A run that goes on, and fixed answers: the suggestion stands, with what has to be added by hand."""
    grant = ("--network-allow", "api.example.test:443,expires=1h", "--dns", "none")
    name = up(*grant, "--dns-static", f"api.example.test={internet.host('api').v4}", *trusting(ca_file))
    mvmctl("exec", name, *script("https://api.example.test/")).expect(0)
    said = suggested(mvmctl, name)
    assert "api.example.test:443,expires=1h" in said.stdout
    assert "has not ended" in said.stderr
    assert "--dns-static" in said.stderr
    mvmctl("down", name).expect(0)
    assert "has not ended" not in suggested(mvmctl, name).stderr


# ---- records


@pytest.fixture
def log(project: Path) -> Log:
    """The log of a run called sample, as it is written while the run goes on."""
    made = Log.create(str(project.parent / "state"), _RUN)
    made.append("run.started", name="sample", dns="system")
    return made


def _flow(host: str, port: int = 443, protocol: str = "tcp") -> dict[str, object]:
    return {"host": host, "port": port, "protocol": protocol, "flow": 1}


def test_a_run_is_meant_by_id_beginning_or_name(log: Log, type_in: Callable[..., Said]) -> None:
    """As in `audit show`: each of them means the run, and so does nothing; another name is usage."""
    with log:
        log.append("flow.opened", **_flow("a.example"))
    expected = type_in("network", "suggest").expect(0).output
    assert "--network-allow a.example:443" in expected
    for which in ("sample", _RUN, _RUN[:6].lower()):
        assert type_in("network", "suggest", which).expect(0).output == expected
    assert "there is no run 'other'" in type_in("network", "suggest", "other").expect(64).errors


def test_formats_mean_the_same_policy(log: Log, type_in: Callable[..., Said], project: Path) -> None:
    """Flags, TOML and JSON resolve to the digest that JSON tells; --json is --format json."""
    with log:
        log.append("flow.opened", **_flow("a.example"))
        log.append("flow.opened", **_flow("b.example", 53, "udp"))
    answer = type_in("network", "suggest", "--json").expect(0).json
    assert (answer["schema"], answer["run"], answer["name"]) == ("mvm.suggestion/1", _RUN, "sample")
    assert answer == type_in("network", "suggest", "--format", "json").expect(0).json
    (project / "a.toml").write_text(type_in("network", "suggest", "--format", "toml").expect(0).output)
    (project / "b.json").write_text(json.dumps(answer["document"]))
    compared = type_in("network", "diff", "--json", "a.toml", "b.json").expect(0).json
    assert compared["a"]["digest"] == compared["b"]["digest"] == answer["digest"]
    assert shlex.split(type_in("network", "suggest").output) == answer["flags"]
    assert 'mvm.host_port("b.example", 53, protocol="udp")' in (
        type_in("network", "suggest", "--format", "python").expect(0).output
    )


def test_a_format_that_has_no_words_is_usage(log: Log, type_in: Callable[..., Said]) -> None:
    """A used grant that Python can't spell exits 64 and names the format that can."""
    with log:
        log.append("grant.decided", decision="allowed", host="a.example", port=443, protocol="tcp")
        log.append("flow.opened", **_flow("a.example"))
    said = type_in("network", "suggest", "--format", "python").expect(64)
    assert "TOML" in said.errors
    assert "tls=auto" in type_in("network", "suggest").expect(0).output


def test_grants_that_were_refused_or_never_used_are_not_suggested(
    log: Log, type_in: Callable[..., Said]
) -> None:
    """Only what was used stands; a decision against a tool is no grant."""
    with log:
        log.append("grant.decided", decision="refused", host="b.example", port=1, protocol="tcp", reason="no")
        log.append("grant.decided", decision="allowed", host="c.example", port=443, protocol="tcp")
        log.append("flow.opened", **_flow("b.example", 1))
    (grant,) = type_in("network", "suggest", "--json").expect(0).json["grants"]
    assert (grant["host"], grant["source"]) == ("b.example", "reached")
    assert "reason" not in grant


def test_a_line_that_is_no_record_is_74(log: Log, type_in: Callable[..., Said], project: Path) -> None:
    """What no log would hold is not made a grant of: the record is to be verified first."""
    with log:
        log.append("flow.opened", **_flow("a.example"))
    path = Path(f"{project.parent}/state/runs/{_RUN}/log.jsonl")
    path.write_bytes(path.read_bytes().replace(b"a.example", b"a.exam\\u0007"))
    said = type_in("network", "suggest").expect(74)
    assert "audit verify" in said.errors
    assert said.output == ""
