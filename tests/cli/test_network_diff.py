"""`network diff`: what one policy allows that another does not, between files and running sandboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said
    from tests.support.mvmctl import Mvmctl

_HEAD = '[network]\nmode = "bridge"\ndns = "system"\n'


@pytest.fixture
def write(project: Path) -> Callable[..., str]:
    """Write a policy file with these lines below the usual head; gives its name."""

    def written(name: str, *lines: str) -> str:
        (project / name).write_text(_HEAD + "\n".join(lines) + "\n")
        return name

    return written


def test_what_means_the_same_is_no_difference(
    type_in: Callable[..., Said], write: Callable[..., str]
) -> None:
    """Another order, spelling and reason: exit 0 and not a word."""
    a = write("a.toml", 'allow = [{host = "a.example", port = 443}, {host = "b.example", port = 80}]')
    b = write(
        "b.toml",
        'allow = [{host = "B.Example.", port = 80},',
        '         {host = "a.example", port = 443, tls = "require", reason = "x"}]',
    )
    said = type_in("network", "diff", a, b).expect(0)
    assert (said.output, said.errors) == ("", "")
    answer = type_in("network", "diff", "--json", a, b).expect(0).json
    assert (answer["schema"], answer["same"]) == ("mvm.diff/1", True)


def test_both_ways_are_told(type_in: Callable[..., Said], write: Callable[..., str]) -> None:
    """Exit 1; `-` what only A allows, `+` what only B allows, each with its place and how it goes further."""
    a = write("a.toml", 'allow = [{host = "a.example", port = 443}, {host = "b.example", port = 80}]')
    b = write(
        "b.toml",
        'allow = [{host = "a.example", port = 443, max_up = "1MB"},',
        '         {host = "b.example", port = 80, private = true}]',
        'ports = ["8080:80"]',
    )
    assert type_in("network", "diff", a, b).expect(1).output.splitlines() == [
        "- grant a.example:443/tcp (without a budget up, not 1MB)  # a.toml:4",
        "+ grant b.example:80/tcp (private addresses too)  # b.toml:5",
        "+ port 127.0.0.1:8080:80",
    ]
    swapped = type_in("network", "diff", b, a).expect(1).output.splitlines()
    assert [line[0] for line in swapped] == ["-", "-", "+"]


def test_the_differences_as_json(type_in: Callable[..., Said], write: Callable[..., str]) -> None:
    """`mvm.diff/1`: of each side its digest and what it allows beyond the other."""
    a = write("a.toml", 'allow = [{host = "a.example", port = 443}]')
    b = write("b.toml", 'allow = [{host = "a.example", port = 443}]', 'ttl = "1h"')
    answer = type_in("network", "diff", "--json", a, b).expect(1).json
    assert answer["same"] is False
    assert [one["kind"] for one in answer["a"]["allows_beyond"]] == ["ttl"]
    assert answer["b"]["allows_beyond"] == []
    assert (answer["a"]["policy"], answer["b"]["policy"]) == (a, b)
    assert answer["a"]["digest"] != answer["b"]["digest"]


def test_a_preset_means_its_hosts(
    type_in: Callable[..., Said], write: Callable[..., str], project: Path
) -> None:
    """A preset and the same preset written out are no difference; a host taken out is one."""
    a = write("a.toml", 'preset = "agent"')
    frozen = type_in("network", "freeze", a).expect(0).output
    (project / "b.toml").write_text(frozen)
    type_in("network", "diff", a, "b.toml").expect(0)
    (project / "b.toml").write_text("\n".join(line for line in frozen.splitlines() if "gitlab" not in line))
    said = type_in("network", "diff", a, "b.toml").expect(1).output
    assert said == "- grant gitlab.com:443/tcp  # preset agent: source hosts\n"


def test_a_side_that_is_refused_is_65(
    type_in: Callable[..., Said], write: Callable[..., str], project: Path
) -> None:
    """A file that is not acceptable is never compared, on either side; what is nothing is usage."""
    good, bad = (
        write(f"{host}.toml", f'allow = [{{host = "{host}", port = 443}}]') for host in ("a.b", "*.b")
    )
    for words in ((good, bad), (bad, good)):
        said = type_in("network", "diff", *words).expect(65)
        assert "[wildcard-host]" in said.errors
        assert said.output == ""
    (project / "agent").mkdir()
    for nothing in ("absent.toml", "agent", "../.."):
        said = type_in("network", "diff", good, nothing).expect(64)
        assert "no policy file and no running sandbox" in said.errors


@pytest.mark.kernel
def test_a_running_sandbox_is_compared_as_it_stands(
    mvmctl: Mvmctl, up: Callable[..., str], tmp_path: Path
) -> None:
    """A name means the live policy: the same as the file at first, more after `allow`; a file goes first."""
    (tmp_path / "mvm.toml").write_text(f'{_HEAD}allow = [{{host = "api.example.test", port = 443}}]\n')
    name = up("--name", "agent", "--policy", str(tmp_path / "mvm.toml"))
    assert mvmctl("network", "diff", "mvm.toml", name, cwd=tmp_path).expect(0).stdout == ""
    mvmctl("network", "allow", name, "other.example.test:443").expect(0)
    said = mvmctl("network", "diff", "mvm.toml", name, cwd=tmp_path).expect(1).stdout
    assert said.startswith("+ grant other.example.test:443/tcp  # network allow")
    assert len(said.splitlines()) == 1
    (tmp_path / name).write_text((tmp_path / "mvm.toml").read_text())
    mvmctl("network", "diff", "mvm.toml", name, cwd=tmp_path).expect(0)
