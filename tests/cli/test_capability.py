"""Tools with fixed grants on the command line: `capability check`, `list` and `run`, and `--capability`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from mvm.cli.verbs import program
from tests.cli.fetching import fetch, trusting
from tests.support.disk import fill, small_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Said
    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

PAGE = Path(__file__).parents[1] / "vectors/page_capability.json"
GRANTED, OTHER = "api.example.test", "other.example.test"


@pytest.fixture
def small(mvmctl: Mvmctl) -> Iterator[Path]:
    """The state directory on a file system of 256 KiB."""
    with small_disk(mvmctl.state) as made:
        yield made


def tool(name: str, host: str, **more: object) -> dict[str, object]:
    """Give a tool of a document: one host on port 443."""
    network = {"mode": "bridge", "dns": "system", "allow": [{"host": host, "port": 443}]}
    return {"tool": name, "network": network, **more}


def write(directory: Path, *tools: object) -> str:
    """Write a capability file; returns its path."""
    path = directory / "tools.json"
    path.write_text(json.dumps({"tools": tools}))
    return str(path)


def records(mvmctl: Mvmctl, *which: str) -> list[dict[str, Any]]:
    """Read the record of a run, the newest where none is named."""
    return [
        json.loads(line) for line in mvmctl("audit", "show", "--json", *which).expect(0).stdout.splitlines()
    ]


# ---- check and list


def test_check_passes_a_good_file(type_in: Callable[..., Said], project: Path) -> None:
    """Exit 0, nothing on stdout; a tool's grant outside of its ports is 65, with code and place."""
    good = write(project, tool("web_fetch", GRANTED, ports=[443], reason="reads pages"))
    assert type_in("capability", "check", good).expect(0).output == ""
    bad = write(project, tool("web_fetch", GRANTED, ports=[80]))
    said = type_in("capability", "check", bad).expect(65)
    assert "[port-not-expected]" in said.output
    assert type_in("capability", "check", "--json", bad).expect(65).json["findings"][0]["path"] == (
        ".tools[0].network.allow"
    )


def test_check_prints_what_network_check_prints(type_in: Callable[..., Said], project: Path) -> None:
    """A capability file has the same findings under both, in each of the forms."""
    file = write(project, tool("web_fetch", "*.example.test"), tool("x", "10.0.0.0/8"))
    for shape in ("text", "json", "sarif"):
        said = type_in("capability", "check", "--format", shape, file).expect(65)
        assert "wildcard-host" in said.output
        assert said == type_in("network", "check", "--format", shape, file).expect(65)


def test_check_wants_a_capability_file(type_in: Callable[..., Said], project: Path) -> None:
    """A policy file, which `network check` passes, names no tool."""
    (project / "policy.json").write_text('{"network": {"mode": "none"}}')
    assert type_in("network", "check", "policy.json").expect(0).output == ""
    assert "[missing-tool]" in type_in("capability", "check", "policy.json").expect(65).output
    assert "capability file absent.json" in type_in("capability", "check", "absent.json").expect(64).errors


def test_list_says_where_each_tool_leads(type_in: Callable[..., Said], project: Path) -> None:
    """A line each destination: tool, place, expected ports, life time, reason; JSON has the digest too."""
    file = write(
        project,
        tool("web_fetch", GRANTED, ports=[443], reason="reads pages", ttl="10m"),
        {"tool": "compute", "network": {"mode": "none"}},
    )
    lines = type_in("capability", "list", file).expect(0).output.splitlines()
    assert [line.split() for line in lines] == [
        ["web_fetch", f"{GRANTED}:443/tcp", "443", "10m", "reads", "pages"],
        ["compute", "-", "-", "-", "-"],
    ]
    listed = type_in("capability", "list", "--json", file).expect(0).json["tools"]
    assert [(one["tool"], len(one["destinations"])) for one in listed] == [("web_fetch", 1), ("compute", 0)]
    planned = type_in("capability", "run", file, "web_fetch", "--dry-run", "--json", "--", "true").expect(0)
    assert listed[0]["digest"] == planned.json["policy"]["digest"]


# ---- what is refused before anything starts


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["--capability", "web_fetch"], 64, "--capabilities"),
        (["--capabilities", "tools.json"], 64, "--capability"),
        (["--capability", "web_fetch", "--capabilities", "absent.json"], 64, "absent.json"),
        (["--capability", "web_fetch", "--capabilities", "bad.json"], 65, "[wildcard-host]"),
        (["--capability", "shell", "--capabilities", "tools.json"], 77, "'shell' is no tool"),
        (
            ["--capability", "web_fetch", "--capabilities", "tools.json", "--network-allow", "*.a.test:443"],
            65,
            "[wildcard-host]",
        ),
        (
            ["--capability", "web_fetch", "--capabilities", "tools.json", "--dns", "none"],
            65,
            "[dns-none]",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_words_have_their_status(
    words: list[str], status: int, part: str, type_in: Callable[..., Said], project: Path
) -> None:
    """One flag without the other is usage, a bad file a refusal, an unknown tool a denial."""
    write(project, tool("web_fetch", GRANTED))
    (project / "bad.json").write_text(json.dumps(tool("web_fetch", "*.example.test")))
    for verb in ("run", "up"):
        said = type_in(verb, *words, "--", "true").expect(status)
        assert part in said.errors
        assert said.output == ""


@pytest.mark.parametrize(
    "name", ["shell", "web_fetch ", "web_fetch,other.example.test:443", "https://other.example.test/", "\n"]
)
def test_an_unknown_tool_is_refused_and_recorded(
    name: str, type_in: Callable[..., Said], project: Path
) -> None:
    """A run of its own has the decision and the outcome `refused`, sealed; `audit show` finds it."""
    file = write(project, tool("web_fetch", GRANTED))
    result = type_in("run", "--capability", name, "--capabilities", file, "--json", "--", "true").expect(77)
    said = result.json
    assert (said["outcome"], said["cause"], said["exit_code"]) == ("refused", "policy", 77)
    lines = type_in("audit", "show", "--json").expect(0).output.splitlines()
    decided, ended, _seal = map(json.loads, lines)
    assert decided["run"] == ended["run"] == said["run"]
    assert (decided["kind"], decided["decision"], decided["code"]) == (
        "grant.decided",
        "refused",
        "unknown-tool",
    )
    assert (ended["kind"], ended["outcome"], ended["exit_code"]) == ("run.ended", "refused", 77)
    type_in("audit", "verify", "--sealed", said["run"]).expect(0)
    assert f"refused (77)  {decided['time'][:19]}" in type_in("ls", "-a").expect(0).output


def test_a_dry_run_records_nothing(type_in: Callable[..., Said], project: Path) -> None:
    """It says what would be, for a known and for an unknown tool, and there is no run."""
    file = write(project, tool("web_fetch", GRANTED))
    plan = type_in("capability", "run", file, "web_fetch", "--dry-run", "--json", "--", "true").expect(0).json
    assert [grant["host"] for grant in plan["policy"]["grants"]] == [GRANTED]
    type_in("capability", "run", file, "shell", "--dry-run", "--", "true").expect(77)
    assert type_in("ls", "-a").expect(0).output == ""


# ---- what adds up


def planned(said: Said) -> dict[str, Any]:
    """Give the policy document that a dry run resolved to."""
    network: dict[str, Any] = said.expect(0).json["policy"]["document"]["network"]
    return network


def test_a_tools_grants_add_to_the_flags(type_in: Callable[..., Said], project: Path) -> None:
    """`run` with both reaches both; `capability run` has no word for more, and finds no policy file."""
    file = write(project, tool("web_fetch", GRANTED))
    (project / "mvm.toml").write_text(
        f'[network]\nmode = "bridge"\ndns = "system"\nallow = [{{host = "{OTHER}", port = 443}}]\n'
    )
    use = ("--capability", "web_fetch", "--capabilities", file)
    both = type_in("run", *use, "--network-allow", "h2.example.test:443", "--dry-run", "--json", "--", "true")
    assert [grant["host"] for grant in planned(both)["allow"]] == [GRANTED, "h2.example.test", OTHER]
    alone = type_in("capability", "run", file, "web_fetch", "--dry-run", "--json", "--", "true")
    assert [grant["host"] for grant in planned(alone)["allow"]] == [GRANTED]


def test_the_tools_dns_stands_where_nobody_says_another(type_in: Callable[..., Said], project: Path) -> None:
    """The file's resolver and fixed answers are used; `--dns` is the operator's word and comes first."""
    answers = {"mode": "resolver", "resolver": "192.0.2.53:53", "static": {GRANTED: ["192.0.2.1"]}}
    network = {"mode": "bridge", "dns": answers, "allow": [{"host": GRANTED, "port": 443}]}
    file = write(project, {"tool": "web_fetch", "network": network})
    words = ("run", "--capability", "web_fetch", "--capabilities", file, "--dry-run", "--json")
    dns = planned(type_in(*words, "--", "true"))["dns"]
    assert (dns["mode"], dns["static"]) == ("resolver", {GRANTED: ["192.0.2.1"]})
    other = planned(type_in(*words, "--dns", "system", "--dns-static", f"{GRANTED}=192.0.2.2", "--", "true"))
    assert (other["dns"]["mode"], other["dns"]["static"]) == ("system", {GRANTED: ["192.0.2.2"]})


# ---- who may say where to


def verbs(group: click.Command, path: str = "") -> dict[str, click.Command]:
    """Name every verb below a group."""
    if not isinstance(group, click.Group):
        return {path: group}
    found: dict[str, click.Command] = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        found |= verbs(command, f"{path} {name}".strip())
    return found


def test_no_word_of_capability_names_a_destination() -> None:
    """No parameter of the three verbs, nor the two options of `run` and `up`, takes a host, port or URL."""
    every = verbs(program())
    opens = {"network_preset", "network_allow", "policy", "dns", "dns_static", "app"}
    assert opens < {param.name for param in every["run"].params}, "this is what it looks for"
    walked = {path: command for path, command in every.items() if path.startswith("capability ")}
    assert set(walked) == {"capability check", "capability list", "capability run"}
    for command in walked.values():
        assert not opens & {param.name for param in command.params}
        assert not [
            p for p in command.params if any(w in (p.metavar or "") for w in ("GRANT", "HOST", "URL"))
        ]
    of_tools = {
        (path, param.name, param.metavar)
        for path in ("run", "up")
        for param in every[path].params
        if "capabilit" in str(param.name)
    }
    assert of_tools == {
        (path, name, metavar)
        for path in ("run", "up")
        for name, metavar in (("capability", "TOOL"), ("capabilities", "FILE"))
    }


def test_capability_run_refuses_words_that_open(type_in: Callable[..., Said], project: Path) -> None:
    """`--network-allow` and a second tool are no options of it; what follows the command is the command's."""
    file = write(project, tool("web_fetch", GRANTED))
    for more in (
        ("--network-allow", f"{OTHER}:443"),
        ("--network-preset", "dev"),
        ("--policy", "x"),
        ("--app", "x.py"),
        ("--capability", "x"),
    ):
        said = type_in("capability", "run", file, "web_fetch", *more, "--", "true").expect(64)
        assert "No such option" in said.errors
    words = ("echo", "--network-allow", f"{OTHER}:443")
    plan = type_in("capability", "run", file, "web_fetch", "--dry-run", "--json", *words).expect(0).json
    assert plan["command"] == list(words)
    assert "FILE and TOOL" in type_in("capability", "run", file).expect(64).errors


# ---- the real thing


@pytest.mark.kernel
def test_the_pages_document_opens_one_host(
    mvmctl: Mvmctl, internet: Internet, ca_file: Path, leftovers: Leftovers
) -> None:
    """As written on the page: its host answers, another is denied, and the decision is recorded before."""
    internet.serve("http", port=443, transport="tls", name="api.openai.com", addresses=("93.184.215.77",))
    script = "; ".join(" ".join(map(str, fetch(host))) for host in ("api.openai.com", OTHER))
    before = internet.arrivals(OTHER).connections
    ran = mvmctl("capability", "run", str(PAGE), "web_fetch", *trusting(ca_file), "--", "sh", "-c", script)
    assert ran.stdout.startswith("200")
    assert f"{OTHER} [host-not-granted]; the tool has it not among its hosts" in ran.stderr
    assert "--network-allow" not in ran.stderr
    assert internet.arrivals(OTHER).connections == before
    log = records(mvmctl)
    kinds = [record["kind"] for record in log]
    decided = log[kinds.index("grant.decided")]
    assert kinds.count("grant.decided") == 1
    assert kinds.index("grant.decided") < kinds.index("flow.opened")
    said = {key: decided[key] for key in ("tool", "by", "decision", "host", "port", "policy", "source")}
    assert said == {
        "tool": "web_fetch",
        "by": "capability",
        "decision": "allowed",
        "host": "api.openai.com",
        "port": 443,
        "policy": mvmctl("capability", "list", str(PAGE), "--json").json["tools"][0]["digest"],
        "source": f"{PAGE}:7 (web_fetch)",
    }
    assert decided["run"] == log[0]["run"]
    leftovers.expect_none()


@pytest.mark.kernel
def test_the_decision_tells_tool_grants_from_others(
    mvmctl: Mvmctl, up: Callable[..., str], tmp_path: Path, ca_file: Path
) -> None:
    """`up` too: the tool's grant is by the capability, the flag's by the start; each is recorded once."""
    file = write(tmp_path, tool("web_fetch", GRANTED, ttl="1h", reason="reads pages"))
    use = ("--capability", "web_fetch", "--capabilities", file)
    name = up(*use, "--network-allow", f"{OTHER}:443", *trusting(ca_file))
    for host in (GRANTED, OTHER):
        assert mvmctl("exec", name, *fetch(host)).expect(0).stdout == "200"
    assert mvmctl("exec", name, *fetch("h2.example.test")).exit_code != 0
    decided = [record for record in records(mvmctl, name) if record["kind"] == "grant.decided"]
    assert [(r["host"], r["by"], r.get("tool"), r.get("expires"), r.get("reason")) for r in decided] == [
        (GRANTED, "capability", "web_fetch", 3600, "reads pages"),
        (OTHER, "start", None, None, None),
    ]


@pytest.mark.kernel
def test_a_tools_ttl_counts_from_the_start(mvmctl: Mvmctl, tmp_path: Path, ca_file: Path) -> None:
    """Its host answers at first, and is denied once the time is over."""
    file = write(tmp_path, tool("web_fetch", GRANTED, ttl="5s"))
    loop = f"while {' '.join(map(str, fetch(GRANTED)))}; do :; done"
    ran = mvmctl("capability", "run", file, "web_fetch", *trusting(ca_file), "--", "sh", "-c", loop)
    assert ran.stdout.startswith("200")
    assert "grant.expired" in [record["kind"] for record in records(mvmctl)]


@pytest.mark.faults
def test_a_decision_that_cannot_be_recorded_starts_nothing(
    mvmctl: Mvmctl, small: Path, tmp_path: Path, leftovers: Leftovers
) -> None:
    """No room for the record: 74 for a known and for an unknown tool alike; with room, 0 and 77."""
    file = write(tmp_path, tool("web_fetch", GRANTED))
    filling = fill(small)
    assert mvmctl("capability", "run", file, "web_fetch", "--", "echo", "ran").expect(74).stdout == ""
    assert mvmctl("capability", "run", file, "shell", "--", "echo", "ran").expect(74).stdout == ""
    leftovers.expect_none()
    filling.unlink()
    mvmctl("capability", "run", file, "web_fetch", "--", "echo", "ran").expect(0)
    mvmctl("capability", "run", file, "shell", "--", "echo", "ran").expect(77)
