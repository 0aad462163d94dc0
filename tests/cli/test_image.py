"""Sandboxes made of something else than this machine: trees and flakes, as a user types them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.docs import page
from tests.support.rootfs import make_flake, make_oci, make_root

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Ended, Mvmctl

pytestmark = pytest.mark.kernel

_API, _OTHER = "api.example.test", "other.example.test"
_ASKS = {"mode": "bridge", "dns": "system", "allow": [{"host": "asked.example.com", "port": 443}]}
_CONFIG = {"entrypoint": ["/bin/sh", "-c"], "cmd": ["echo entry $WORD"], "env": {"WORD": "of the image"}}


@pytest.fixture
def tree(tmp_path: Path) -> str:
    """The words for a root tree that says what it runs and what it would reach."""
    return f"dir:{make_root(tmp_path / 'tree', config={**_CONFIG, 'network': _ASKS})}"


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    """A flake without inputs."""
    return make_flake(tmp_path / "flake", config={"env": {"WORD": "of the flake"}, "network": _ASKS})


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
    mvmctl("run", "--image", image, "--", "true").expect(0)


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


# ---- what an image asks for


def test_what_an_image_asks_for_is_shown_and_not_granted(tree: str, mvmctl: Mvmctl) -> None:
    """A dry run names what the image would reach, with the flag; the policy stays empty, and a run's too."""
    plan = mvmctl("run", "--image", tree, "--dry-run", "--json").expect(0).json
    assert plan["policy"]["grants"] == []
    (warning,) = plan["warnings"]
    assert "asks for asked.example.com:443/tcp, which is not granted" in warning["message"]
    assert "--network-allow asked.example.com:443" in warning["hint"]
    ended = mvmctl("run", "--image", tree, "--json").expect(0)
    assert ended.json["policy"]["grants"] == []
    assert "not granted" in ended.stderr


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


# ---- archives and OCI images, and the cache


@pytest.fixture
def cached(mvmctl: Mvmctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mvmctl:
    """`mvmctl` with a cache of this test alone."""
    monkeypatch.setenv("MVM_CACHE_DIR", str(tmp_path / "cache"))
    return mvmctl


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """The words for an archive of a root tree that says what it runs."""
    root = make_root(tmp_path / "archived", config=_CONFIG)
    with tarfile.open(tmp_path / "root.tar.gz", "w:gz") as made:
        made.add(root, arcname=".")
    return f"tar:{tmp_path}/root.tar.gz"


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """The words for an OCI image that says what it runs, as whom, where, and what it would reach."""
    config = {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo $WORD $(id -u) $(pwd)"],
        "Env": ["WORD=layered", "PATH=/bin"],
        "WorkingDir": "/var",
        "User": "app",
        "Labels": {"mvm.network": json.dumps({"network": _ASKS})},
    }
    return f"oci:{make_oci(tmp_path / 'layout', make_root(tmp_path / 'layered'), config=config, tag='v1')}"


def test_an_archive_is_unpacked_once(archive: str, cached: Mvmctl) -> None:
    """The first start says that it unpacks, in one plain line; the second one finds it unpacked."""
    first = cached("run", "--image", archive, "--json").expect(0)
    assert first.stderr.splitlines()[0].startswith(f"mvmctl: unpacking {archive} (")
    second = cached("run", "--image", archive, "--json").expect(0)
    assert second.stderr == "entry of the image\n"
    with open(archive.partition(":")[2], "rb") as file:
        digest = f"sha256:{hashlib.sha256(file.read()).hexdigest()}"
    assert first.json["image"] == second.json["image"] == {"kind": "tar", "digest": digest}
    (started,) = _records(cached("audit", "show", second.json["run"], "--json"), "run.started")
    assert started["image"] == digest


def test_an_archive_that_changed_is_another_image(archive: str, cached: Mvmctl, tmp_path: Path) -> None:
    """A file with other content in the same place is unpacked anew, though its words are the same."""
    words = ("run", "--image", archive, "--", "cat", "/etc/made-of")
    assert cached(*words).expect(0).stdout == "a root tree of a test\n"
    (tmp_path / "archived" / "etc" / "made-of").write_text("another\n")
    with tarfile.open(tmp_path / "root.tar.gz", "w:gz") as made:
        made.add(tmp_path / "archived", arcname=".")
    assert cached(*words).expect(0).stdout == "another\n"
    assert len(cached("image", "ls", "--json").expect(0).json) == 2


def test_an_oci_image_runs_as_it_says(layout: str, cached: Mvmctl) -> None:
    """Its entrypoint, command, variables, user and directory are its config's; its digest the manifest's."""
    ended = cached("run", "--image", layout, "--json", "--capture").expect(0)
    assert ended.json["stdout"] == "layered 1234 /var\n"
    assert ended.json["image"]["kind"] == "oci"
    assert ended.json["policy"]["grants"] == []
    assert "asks for asked.example.com:443/tcp, which is not granted" in ended.stderr
    overridden = cached("run", "--image", f"{layout}:v1", "--user", "root", "-w", "/", "-e", "WORD=flag")
    assert overridden.expect(0).stdout == "flag 0 /\n"
    assert "v1" in cached("run", "--image", f"{layout}:v2").expect(64).stderr


def test_a_layer_that_is_not_what_its_digest_says(layout: str, cached: Mvmctl) -> None:
    """A blob of which a byte was changed is refused, and nothing of it is kept."""
    directory = layout.partition(":")[2]
    blobs = sorted(os.scandir(f"{directory}/blobs/sha256"), key=lambda entry: entry.stat().st_size)
    with open(blobs[-1].path, "r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"x")
    assert "digest" in cached("run", "--image", layout).expect(65).stderr
    assert cached("image", "ls", "--json").expect(0).json == []


def test_an_archive_that_climbs_out_is_refused(cached: Mvmctl, tmp_path: Path) -> None:
    """An archive with a way out of its tree is refused; nothing is written outside, and nothing is kept."""
    with tarfile.open(tmp_path / "bad.tar", "w") as made:
        entry = tarfile.TarInfo("../../escaped")
        entry.size = 4
        made.addfile(entry, io.BytesIO(b"here"))
    refused = cached("run", "--image", f"tar:{tmp_path}/bad.tar", "--", "true").expect(65)
    assert "[archive-" in refused.stderr
    assert list(tmp_path.rglob("escaped")) == []
    assert cached("image", "ls", "--json").expect(0).json == []


def test_several_of_one_image_at_once(archive: str, cached: Mvmctl) -> None:
    """Two sandboxes of one image share its tree, and nothing that either of them changes."""
    for name in ("one", "two"):
        cached("up", "-d", "--name", name, "--image", archive, "--", "sleep", "60").expect(0)
        cached("exec", name, "--", "sh", "-c", f"echo {name} > /var/mine").expect(0)
    for name in ("one", "two"):
        assert cached("exec", name, "--", "cat", "/var/mine").expect(0).stdout == f"{name}\n"
    (image,) = cached("image", "ls", "--json").expect(0).json
    assert "a sandbox uses" in cached("image", "rm", image["key"][:12]).expect(64).stderr
    assert cached("image", "prune").expect(0).stdout == ""
    cached("down", "--all").expect(0)
    cached("image", "rm", archive).expect(0)
    assert cached("image", "ls", "--json").expect(0).json == []


def test_the_cache_is_listed_shown_and_pruned(archive: str, layout: str, cached: Mvmctl) -> None:
    """`image ls` has the last used one first; `inspect` shows one; `prune` leaves what was used lately."""
    for words in (archive, layout):
        cached("run", "--image", words, "--", "true").expect(0)
    listed = cached("image", "ls").expect(0).stdout.splitlines()
    assert [line.split()[-1] for line in listed] == [layout, archive]
    shown = cached("image", "inspect", layout).expect(0).json
    assert shown["config"]["user"] == "app"
    assert shown["config"]["needs"] == {"network": _ASKS}
    assert cached("image", "prune", "--unused", "1h").expect(0).stdout == ""
    pruned = cached("image", "prune").expect(0)
    assert len(pruned.stdout.splitlines()) == 2
    assert "MB freed" in pruned.stderr
    cached("image", "inspect", archive).expect(64)
    cached("image", "rm", "0000").expect(64)


def test_killed_amid_unpacking(cached: Mvmctl, tmp_path: Path) -> None:
    """A start that is killed while it unpacks leaves no image; the next one unpacks it, and clears up."""
    root = make_root(tmp_path / "large")
    (root / "usr" / "random").write_bytes(os.urandom(1 << 20) * 64)
    with tarfile.open(tmp_path / "large.tar", "w") as made:
        made.add(root, arcname=".")
    words = ("run", "--image", f"tar:{tmp_path}/large.tar", "--", "true")
    running = cached.start(*words)
    running.until("unpacking", stream="stderr")
    running.kill()
    assert cached("image", "ls", "--json").expect(0).json == []
    cached(*words).expect(0)
    assert len(cached("image", "ls", "--json").expect(0).json) == 1
    assert os.listdir(tmp_path / "cache" / "making") == ["lock"]


# ---- flakes


def test_a_flake_is_built_and_run(flake: Path, mvmctl: Mvmctl) -> None:
    """Without a command the package's main program runs; its digest is in the result and in the record."""
    ended = mvmctl("run", "--flake", str(flake), "--json", cwd=flake).expect(0)
    assert "hello from the flake" in ended.stderr
    image = ended.json["image"]
    assert image["kind"] == "flake"
    assert image["digest"].startswith("sha256:")
    (started,) = _records(mvmctl("audit", "show", ended.json["run"], "--json"), "run.started")
    assert (started["image_kind"], started["image"]) == ("flake", image["digest"])


def test_a_flakes_package_is_on_path_and_read_only(flake: Path, mvmctl: Mvmctl) -> None:
    """Its programs are found, its variables set, and its closure is all that there is of the store."""
    command = "greet; echo $WORD; ls /nix/store; touch /nix/store/x"
    ended = mvmctl("run", "--flake", ".", "--", "sh", "-c", command, cwd=flake)
    first, second, *store = ended.stdout.splitlines()
    assert (first, second) == ("hello from the flake", "of the flake")
    assert sorted(name.partition("-")[2] for name in store) == ["greeter-1", "tools"]
    assert "Read-only file system" in ended.stderr


def test_a_flake_that_is_a_root_tree(flake: Path, mvmctl: Mvmctl) -> None:
    """`REF#attr` with a root tree: the tree is all that is seen."""
    said = mvmctl("run", "--flake", "path:.#root", "--", "cat", "/etc/made-of", cwd=flake).expect(0)
    assert said.stdout == "a root tree of a test\n"
    mvmctl("run", "--flake", "path:.#root", "--", "python3", "-c", "1", cwd=flake).expect(127)


def test_a_dry_run_builds_nothing(flake: Path, mvmctl: Mvmctl) -> None:
    """`--dry-run` of a flake shows the plan, and nix is not asked."""
    plan = mvmctl(
        "up", "--flake", ".", "--dry-run", "--json", cwd=flake, env={"PATH": "/nonexistent"}
    ).expect(0)
    assert plan.json["image"] == {"kind": "flake", "digest": None}


def test_without_nix_it_is_told_how_to_get_it(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Where there is no nix, a flake is refused with 69 and the command that installs it."""
    if os.path.exists("/nix/var/nix/profiles/default/bin/nix"):
        pytest.skip("nix is where it is found without PATH")
    ended = mvmctl("run", "--flake", ".", "--", "true", cwd=tmp_path, env={"PATH": "/nonexistent"}).expect(69)
    assert "not installed" in ended.stderr
    assert "hint: " in ended.stderr


def test_a_flake_that_does_not_build(flake: Path, mvmctl: Mvmctl) -> None:
    """What nix says is passed on, and the start is refused."""
    (flake / "flake.nix").write_text("{ outputs = { self }: { }; }")
    ended = mvmctl("run", "--flake", ".", "--", "true", cwd=flake).expect(65)
    assert "[flake-not-built]" in ended.stderr
    assert "error:" in ended.stderr


def test_the_pages_commands_run_for_real(flake: Path, mvmctl: Mvmctl, internet: Internet) -> None:
    """Each of the page's four commands, typed in the flake's directory, with `-d` to come back."""
    assert internet is not None
    for words in page.commands():
        name = words[words.index("--name") + 1]
        mvmctl(*words[1:], "-d", "--", "sleep", "60", cwd=flake, timeout_s=60).expect(0)
        assert mvmctl("exec", name, "--", "greet").expect(0).stdout == "hello from the flake\n"
        denied = mvmctl("exec", name, "--", "curl", "-sS", "https://not-named.example/")
        assert denied.exit_code == 6
        described = mvmctl("network", "show", name, "--json").expect(0).json
        assert [one["host"] for one in described["denials"]] == ["not-named.example"]
        mvmctl("down", name).expect(0)


def _records(shown: Ended, kind: str) -> list[dict[str, object]]:
    return [line for line in map(json.loads, shown.expect(0).stdout.splitlines()) if line["kind"] == kind]
