"""Sandboxes made of something else than this machine: root trees, as a user types them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.rootfs import make_root

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_API, _OTHER = "api.example.test", "other.example.test"
_ASKS = {"mode": "bridge", "dns": "system", "allow": [{"host": "asked.example.com", "port": 443}]}
_CONFIG = {"entrypoint": ["/bin/sh", "-c"], "cmd": ["echo entry $WORD"], "env": {"WORD": "of the image"}}


@pytest.fixture
def tree(tmp_path: Path) -> str:
    """The words for a root tree that says what it runs and what it would reach."""
    return f"dir:{make_root(tmp_path / 'tree', config={**_CONFIG, 'network': _ASKS})}"


def _get(host: str) -> tuple[str, ...]:
    return ("wget", "-q", "-O", "-", f"http://{host}/")


# ---- a tree


def test_a_tree_is_all_that_is_seen(tree: str, mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """The workload sees the image, and of this machine nothing: not its programs, its home or its files."""
    seen = mvmctl("run", "--image", tree, "--", "sh", "-c", "cat /etc/made-of; ls /; ls /bin/python3").expect(
        1
    )
    assert seen.stdout.splitlines()[0] == "a root tree of a test"
    assert set(seen.stdout.split()[6:]) == set("bin dev etc home lib mvm.json proc root tmp usr var".split())
    leftovers.expect_none()


def test_what_an_image_runs(tree: str, mvmctl: Mvmctl) -> None:
    """Without a command the image's own runs, with its variables; each gives way to the flag for it."""
    assert mvmctl("run", "--image", tree).expect(0).stdout == "entry of the image\n"
    assert mvmctl("run", "--image", tree, "-e", "WORD=flag").expect(0).stdout == "entry flag\n"
    said = mvmctl("run", "--image", tree, "-w", "/usr", "--", "sh", "-c", "pwd; echo $WORD").expect(0)
    assert said.stdout == "/usr\nof the image\n"


def test_an_image_without_a_command_needs_one(tmp_path: Path, mvmctl: Mvmctl) -> None:
    """Where neither the command line nor the image says what to run, that is a usage error."""
    image = f"dir:{make_root(tmp_path / 'bare')}"
    assert "names none" in mvmctl("run", "--image", image).expect(64).stderr
    assert "there is no command to run\n" in mvmctl("run").expect(64).stderr
    mvmctl("run", "--image", image, "--", "true").expect(0)


def test_this_machines_system_has_no_users_to_be(mvmctl: Mvmctl) -> None:
    """--user without an image is a usage error, never passed over."""
    assert "--user" in mvmctl("run", "--user", "root", "--", "id").expect(64).stderr
    mvmctl("run", "--", "id").expect(0)


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ((), "0 0 /root"),
        (("--user", "app"), "1234 1235 /home/app"),
        (("--user", "1234"), "1234 1235 /home/app"),
        (("--user", "app:staff"), "1234 50 /home/app"),
        (("--user", "77:88"), "77 88 /"),
    ],
)
def test_who_the_workload_is(tree: str, mvmctl: Mvmctl, user: tuple[str, ...], said: str) -> None:
    """Its user and group are of the image's own tables; outside it is an ordinary user all the same."""
    words = (
        "run",
        "--image",
        tree,
        *user,
        "--",
        "sh",
        "-c",
        "echo $(id -u) $(id -g) $HOME; cat /proc/self/uid_map",
    )
    first, mapped = mvmctl(*words).expect(0).stdout.splitlines()
    assert first == said
    assert mapped.split()[1] != "0"


def test_a_user_that_is_not_there_is_refused(tree: str, mvmctl: Mvmctl) -> None:
    """A name that the image doesn't know starts nothing."""
    for user in ("nobody-here", "app:nobody-here"):
        assert "has no" in mvmctl("run", "--image", tree, "--user", user, "--", "true").expect(64).stderr


def test_what_is_changed_is_gone_with_the_sandbox(tree: str, mvmctl: Mvmctl) -> None:
    """The workload may write where its user may; the tree on disk stays as it was for the next one."""
    words = ("run", "--image", tree, "--", "sh", "-c")
    mvmctl(*words, "echo new > /var/new; rm /bin/id; echo x > /tmp/x; cat /var/new").expect(0)
    root = tree.partition(":")[2]
    assert sorted(os.listdir(f"{root}/var")) == []
    assert os.path.lexists(f"{root}/bin/id")
    mvmctl(*words, "ls /var/new").expect(1)


def test_it_has_no_more_rights_than_any_other(tree: str, mvmctl: Mvmctl) -> None:
    """Root inside of an image has no capabilities, no new privileges, and the same filters."""
    status = mvmctl("run", "--image", tree, "--", "cat", "/proc/self/status").expect(0).stdout
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {facts[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")


def test_the_name_servers_are_the_gateways(tree: str, mvmctl: Mvmctl) -> None:
    """The resolver file is the sandbox's own, and can't be written."""
    said = mvmctl("run", "--image", tree, "--", "sh", "-c", "cat /etc/resolv.conf; echo > /etc/resolv.conf")
    assert "nameserver 198.18.0.1" in said.stdout
    assert "Read-only file system" in said.stderr


def test_granted_and_denied_are_as_everywhere(tree: str, mvmctl: Mvmctl, internet: Internet) -> None:
    """From an image the granted host answers, another one is denied, and nothing of it arrives outside."""
    words = ("run", "--image", tree, "--network-allow", f"{_API}:80", "--json", "--")
    granted = mvmctl(*words, *_get(_API)).expect(0)
    assert f"hello from {_API}" in granted.stderr
    assert granted.json["image"] == {"kind": "dir", "digest": None}
    before = internet.arrivals(_OTHER)
    denied = mvmctl(*words, *_get(_OTHER))
    assert [one["reason"] for one in denied.json["denials"]] == ["host-not-granted"]
    assert internet.arrivals(_OTHER) == before


def test_volumes_and_workspace_are_laid_over_it(tree: str, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """What is asked for is there too, at places that the image doesn't have, and at those that it has."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "word").write_text("lent\n")
    words = ("-v", f"{data}:/far/away:ro", "-v", f"{data}/word:/etc/made-of:ro", "--workspace", str(data))
    said = mvmctl(
        "run",
        "--image",
        tree,
        *words,
        "--",
        "sh",
        "-c",
        "cat /far/away/word /etc/made-of; echo mine > made; pwd",
    ).expect(0)
    assert said.stdout == f"lent\nlent\n{data}\n"
    assert (data / "made").read_text() == "mine\n"
    assert (data / "made").stat().st_uid == os.geteuid()


def test_links_of_an_image_lead_nowhere_outside(tmp_path: Path, mvmctl: Mvmctl) -> None:
    """Links where mvm lays its own files are followed inside of the image, and never on this machine."""
    root = make_root(tmp_path / "linked")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    for name, to in (
        ("resolv.conf", f"{outside}/victim"),
        ("hosts", "../../../../../../etc/hosts"),
        ("hostname", "/absent/x"),
    ):
        (root / "etc" / name).symlink_to(to)
    (root / "data").symlink_to(outside)
    said = mvmctl(
        "run",
        "--image",
        f"dir:{root}",
        "-v",
        f"{outside}:/data/in:ro",
        "--",
        "sh",
        "-c",
        "cat /etc/resolv.conf; ls /data/in",
    ).expect(0)
    assert "nameserver" in said.stdout
    assert "victim" in said.stdout
    assert (outside / "victim").read_text() == "untouched"
    assert os.listdir(outside) == ["victim"]


# ---- named overlays


def test_an_overlay_keeps_what_was_changed(tree: str, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """What is written, changed and removed under a name is so for the next one of that name, and no other."""
    words = ("run", "--image", tree, "--overlay")
    change = "echo new > /var/new; echo more >> /etc/made-of; rm /bin/id"
    mvmctl(*words, "mine", "--", "sh", "-c", change).expect(0)
    look = ("--", "sh", "-c", "cat /var/new /etc/made-of; ls /bin/id")
    kept = mvmctl(*words, "mine", *look).expect(1)
    assert kept.stdout == "new\na root tree of a test\nmore\n"
    assert mvmctl(*words, "other", *look).stdout == "a root tree of a test\n/bin/id\n"
    assert (tmp_path / "tree" / "bin" / "id").is_symlink()


def test_an_overlay_serves_one_sandbox_and_one_image(tree: str, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """While a sandbox uses it, or where it belongs to another image, it is refused with a word of why."""
    mvmctl("up", "-d", "--name", "user", "--image", tree, "--overlay", "mine", "--", "sleep", "60").expect(0)
    busy = mvmctl("run", "--image", tree, "--overlay", "mine", "--", "true").expect(64)
    assert "used by another sandbox" in busy.stderr
    mvmctl("down", "user").expect(0)
    mvmctl("run", "--image", tree, "--overlay", "mine", "--", "true").expect(0)
    other = f"dir:{make_root(tmp_path / 'second')}"
    assert (
        "another image"
        in mvmctl("run", "--image", other, "--overlay", "mine", "--", "true").expect(64).stderr
    )
    mvmctl("run", "--image", "dir:tree", "--overlay", "near", "--", "true", cwd=tmp_path).expect(0)
    make_root(tmp_path / "elsewhere" / "tree")
    words = ("run", "--image", "dir:tree", "--overlay", "near", "--", "true")
    mvmctl(*words, cwd=tmp_path / "elsewhere").expect(64)
    mvmctl(*words, cwd=tmp_path).expect(0)
    mvmctl("run", "--overlay", "mine", "--", "true").expect(64)
    mvmctl("run", "--image", tree, "--overlay", "../x", "--", "true").expect(64)


def test_a_link_left_in_an_overlay_leads_nowhere(tree: str, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """A link that a workload left where something is to be mounted is found; nothing is made through it."""
    lent, outside = tmp_path / "lent", tmp_path / "outside"
    lent.mkdir()
    outside.mkdir()
    words = ("run", "--image", tree, "--overlay", "mine")
    mvmctl(*words, "--", "sh", "-c", f"ln -s {outside} /data; mkdir -p {outside}").expect(0)
    refused = mvmctl(*words, "-v", f"{lent}:/data/in", "--", "true").expect(69)
    assert "/data in the overlay is no directory any more" in refused.stderr
    assert list(outside.iterdir()) == []
    mvmctl(*words, "-v", f"{lent}:/elsewhere/in", "--", "true").expect(0)


def test_a_link_above_a_place_leads_nowhere_either(tree: str, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Nor is anything made where a link higher up leads, with this machine's root as the build has it."""
    lent, outside = tmp_path / "lent", tmp_path / "outside"
    lent.mkdir()
    (lent / "file").touch()
    (outside / "b").mkdir(parents=True)
    words = ("run", "--image", tree, "--overlay", "mine")
    mvmctl(*words, "--", "sh", "-c", f"ln -s /host{outside} /data").expect(0)
    for volume in (f"{lent}:/data/b/directory", f"{lent}/file:/data/b/file"):
        refused = mvmctl(*words, "-v", volume, "--", "true").expect(69)
        assert "/data in the overlay is no directory any more" in refused.stderr
    assert list((outside / "b").iterdir()) == []
    mvmctl(*words, "-v", f"{lent}:/elsewhere/b/in", "--", "true").expect(0)


# ---- what an image asks for


def test_what_an_image_asks_for_is_shown_and_not_granted(tree: str, mvmctl: Mvmctl) -> None:
    """A dry run names what the image would reach, with the flag; the policy stays empty, and a run's too."""
    plan = mvmctl("run", "--image", tree, "--dry-run", "--json").expect(0).json
    assert plan["policy"]["grants"] == []
    (warning,) = plan["warnings"]
    assert "asks for asked.example.com:443/tcp, which is not granted" in warning["message"]
    assert "--network-allow asked.example.com:443" in warning["message"]
    ended = mvmctl("run", "--image", tree, "--json").expect(0)
    assert ended.json["policy"]["grants"] == []
    assert "not granted" in ended.stderr


def test_a_review_names_what_an_image_asks_for(tree: str, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Beside the answers for what the file grants stands what the image would have besides, as a warning."""
    file = tmp_path / "reviewed.toml"
    text = '[network]\nmode = "bridge"\ndns = "system"\nallow = [{host = "HOST", port = 443, reason = "asks",'
    text += ' sends = "none", downloads = "none"}]\n'
    file.write_text(text.replace("HOST", "a.example.com"))
    words = ("network", "review", "--image", tree, str(file))
    assert "asks for asked.example.com:443/tcp, which is not granted" in mvmctl(*words).expect(0).stdout
    (warning,) = mvmctl(*words, "--json").expect(0).json["findings"]
    assert (warning["code"], warning["severity"]) == ("image-asks", "warning")
    file.write_text(text.replace("HOST", "asked.example.com"))
    assert mvmctl(*words, "--json").expect(0).json["findings"] == []
    assert "leave one" in mvmctl(*words, "--flake", ".").expect(64).stderr


def test_what_is_granted_is_not_warned_of(tree: str, mvmctl: Mvmctl) -> None:
    """Once the caller grants it, there is nothing to say."""
    words = ("run", "--image", tree, "--network-allow", "asked.example.com:443", "--dry-run", "--json")
    assert mvmctl(*words).expect(0).json["warnings"] == []


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"entrypoint": "sh"}, "image-config"),
        ({"route": "any"}, "image-config"),
        ({"workdir": 1}, "image-config"),
        (
            {"network": {"mode": "bridge", "dns": "system", "allow": [{"host": "*.x.example", "port": 1}]}},
            "wildcard-host",
        ),
    ],
)
def test_an_mvm_json_that_is_wrong_is_refused(
    tmp_path: Path, mvmctl: Mvmctl, config: dict[str, object], code: str
) -> None:
    """What an image says of itself is read as strictly as a policy."""
    image = f"dir:{make_root(tmp_path / 'wrong', config=config)}"
    assert f"[{code}]" in mvmctl("run", "--image", image, "--", "true").expect(65).stderr


@pytest.mark.parametrize(
    "words", ["dir:", "ftp:x", "dir:/nonexistent", "tar:/nonexistent", "oci:/nonexistent"]
)
def test_words_that_are_no_image(words: str, mvmctl: Mvmctl) -> None:
    """An image that is not there, or of no known kind, is a usage error that starts nothing."""
    mvmctl("run", "--image", words, "--", "true").expect(64)
