"""The page's rules for browsers, one test each: what `--profile browser` refuses, and what it lets be."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.fetching import fetch, trusting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mvmctl import Ended, Mvmctl

pytestmark = pytest.mark.kernel

_HOST = "api.example.test"
_KEPT = ",workspace=shop,retain=7d"


class Browser:
    """Commands held to the browser's profile, from a home of their own."""

    def __init__(self, mvmctl: Mvmctl, home: Path) -> None:
        self._mvmctl, self.home = mvmctl, home
        home.mkdir()

    def __call__(self, *words: str, keys: str = "", argv: tuple[str, ...] = ("true",)) -> Ended:
        """Run a command in it."""
        held = ("--profile", f"browser{keys}")
        env = {"HOME": str(self.home)}
        return self._mvmctl("run", "--json", "--capture", *held, *words, "--", *argv, env=env)

    def refusal(self, *words: str, keys: str = "") -> set[str]:
        """The codes for which it is refused; nothing ran."""
        ended = self(*words, keys=keys, argv=("echo", "started")).expect(65)
        assert "started" not in ended.stdout
        return {finding["code"] for finding in ended.json["findings"]}

    def ttl(self, *words: str, keys: str = "") -> str:
        """How long what passes may live, as its policy says."""
        ended = self._mvmctl(
            "run", "--dry-run", "--json", "--profile", f"browser{keys}", *words, "--", "true"
        )
        return str(ended.expect(0).json["policy"]["document"]["network"]["ttl"])


@pytest.fixture
def browser(mvmctl: Mvmctl, tmp_path: Path) -> Browser:
    """Type `mvmctl run --profile browser`."""
    return Browser(mvmctl, tmp_path / "home")


def test_no_broad_host_mounts(browser: Browser, tmp_path: Path) -> None:
    """A home, what is above one, a system directory, a socket are refused; one directory of pages passes."""
    above = str(browser.home.parent)
    for place in (str(browser.home), above, "/home", "/etc", "/usr", "/var"):
        assert "browser-broad-mount" in browser.refusal("-v", f"{place}:/seen:ro"), place
    assert browser.refusal("-v", "/:/seen:ro") == {"volume-broad"}
    pages = tmp_path / "home" / "pages"
    pages.mkdir()
    (pages / "one.html").write_text("one")
    words = ("-v", f"{pages}:/seen:ro")
    assert browser(*words, argv=("cat", "/seen/one.html")).expect(0).json["stdout"] == "one"
    (pages / "deep").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        at = os.open(pages / "deep", os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{at}/control")
        os.close(at)
        assert browser.refusal(*words) == {"browser-socket-mount"}


def test_short_ttl(browser: Browser) -> None:
    """Nobody said how long: 30 minutes. Longer is refused until it is said why; then it is over."""
    assert browser.ttl() == "30m"
    assert browser.ttl("--ttl", "5m") == "5m"
    assert browser.refusal("--ttl", "31m") == {"browser-long-ttl"}
    assert browser.ttl("--ttl", "2h", keys=",long-ttl=the nightly crawl takes an hour") == "2h"
    ended = browser("--ttl", "300ms", argv=("sleep", "60"))
    assert (ended.exit_code, ended.json["outcome"]) == (124, "timeout")


def test_explicit_egress_allowlist(browser: Browser, ca_file: Path) -> None:
    """No preset is a list that somebody wrote: each is refused, and a host that is named is reached."""
    for preset in ("registries", "dev", "agent", "unrestricted"):
        assert browser.refusal("--network-preset", preset) == {"browser-preset"}
    words = ("--network-preset", "none", "--network-allow", f"{_HOST}:443", *trusting(ca_file))
    assert browser(*words, argv=fetch(_HOST)).expect(0).json["stdout"] == "200"
    denied = browser(*words, argv=fetch("other.example.test"))
    assert denied.json["cause"] == "policy"


def test_isolated_persistent_workspace_if_state_must_survive(
    browser: Browser, mvmctl: Mvmctl, tmp_path: Path
) -> None:
    """What is written outlives the sandbox in a named workspace of mvm's own, for that name alone."""
    writing = tmp_path / "downloads"
    writing.mkdir()
    assert browser.refusal("--workspace", str(writing)) == {"browser-writable-mount"}
    assert browser.refusal("-v", f"{writing}:/downloads") == {"browser-writable-mount"}
    count = ("sh", "-c", "echo visit >> ~/visits; wc -l < ~/visits")
    for keys, visits in ((_KEPT, "1"), (_KEPT, "2"), (",workspace=bank,retain=7d", "1"), ("", "1")):
        assert browser(keys=keys, argv=count).expect(0).json["stdout"].split() == [visits]
    kept = mvmctl.state / "workspaces" / "shop"
    assert f"{kept.stat().st_mode:o}" == "40700"
    words = ("run", "--profile", f"browser{_KEPT}", "--", "sh", "-c", "echo in; read wait")
    running = mvmctl.start(*words)
    running.until("in\n")
    assert "is used by another sandbox" in browser(keys=_KEPT).expect(64).stderr
    running.send(b"\n")
    running.finish().expect(0)


@pytest.mark.parametrize(
    "stored",
    [
        "google-chrome/Default/Login Data",
        "any/place/Cookies",
        "firefox/abc.default/key4.db",
        "firefox/abc.default/logins.json",
        ".mozilla/firefox/profiles.ini",
        "keyrings/login.keyring",
        "Library/Keychains/login.keychain-db",
    ],
)
def test_no_credential_bearing_browser_profile_unless_the_task_requires_it(
    stored: str, browser: Browser, mvmctl: Mvmctl, tmp_path: Path
) -> None:
    """A directory with a browser's logins is refused until it is named with a reason, which is recorded."""
    place = tmp_path / "profile"
    file = place / stored
    file.parent.mkdir(parents=True)
    file.write_text("secret")
    words = ("-v", f"{place}:/profile:ro")
    assert browser.refusal(*words) == {"browser-credentials"}
    other = f",credentials={tmp_path}/elsewhere:the task is another one"
    assert browser.refusal(*words, keys=other) == {"browser-credentials"}
    named = f",credentials={place}:logs in as the shop's test account"
    result = browser(*words, keys=named, argv=("cat", f"/profile/{stored}")).expect(0).json
    assert result["stdout"] == "secret"
    record = mvmctl("audit", "show", result["run"], "--json").expect(0).stdout.splitlines()
    assert json.loads(record[0])["credentials"] == [f"{place}: logs in as the shop's test account"]
    file.unlink()
    file.with_name("plain.txt").write_text("nothing")
    if ".mozilla" not in stored and "Keychains" not in stored:
        browser(*words).expect(0)


def test_cold_state_or_snapshots_retained_only_with_a_clear_retention_rule(
    browser: Browser, mvmctl: Mvmctl
) -> None:
    """A workspace without a rule is refused; one past its rule is gone before anything starts."""
    assert browser.refusal(keys=",workspace=shop") == {"browser-no-retention"}
    assert browser.refusal(keys=",retain=7d") == {"browser-nothing-retained"}
    write = ("sh", "-c", "mkdir -p ~/a/b; echo secret > ~/a/b/state; chmod 000 ~/a/b ~/a")
    for name in ("shop", "bank"):
        browser(keys=f",workspace={name},retain=7d", argv=write).expect(0)
    shop, bank = (mvmctl.state / "workspaces" / name for name in ("shop", "bank"))
    week_ago = time.time() - 7 * 86_400 - 1
    os.utime(shop / "rule.json", (week_ago, week_ago))
    browser(keys=",workspace=third,retain=1d").expect(0)
    assert not shop.exists()
    assert bank.exists()
    (bank / "rule.json").unlink()
    assert browser(keys=",workspace=bank,retain=7d", argv=("ls", "-A")).expect(0).json["stdout"] == ""
