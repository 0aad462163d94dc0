"""A real Chromium under the browser profile: what it reaches, what is refused, and what it keeps for whom."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Ended, Mvmctl

_NEEDED = ("chromium", "certutil")
_MISSING = [name for name in _NEEDED if shutil.which(name) is None]

pytestmark = [
    *([pytest.mark.must_run_here] if "CI" in os.environ else []),
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(bool(_MISSING), reason=f"this machine has no {' and no '.join(_MISSING)}"),
]

_QUIET = (
    "--disable-background-networking",
    "--disable-sync",
    "--disable-features=NetworkTimeServiceQuerying",
    "--component-updater=url-source=http://127.0.0.1:1",
)
"""What keeps Chromium from calling home (docs/how-to/browser.md)."""

_CHROMIUM = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=$HOME/profile", *_QUIET,
)  # fmt: skip
_TRUST = (
    "mkdir -p ~/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n test -i /ca.pem --empty-password"
)
# The second where it sees no link but the loopback one: then it takes every name that is none for that.
_NO_SUCH_NAME = re.compile(r"Page load failed: net::ERR_(NAME_NOT_RESOLVED|INTERNET_DISCONNECTED)")
_HOST, _OTHER = "api.example.test", "other.example.test"
_HOME = "clients2.google.com"
_STORED = {f"storage {number}, cookie {times}" for number in range(1, 4) for times in range(1, 4)}
_LIMIT_S = 90.0
_TIMES = 3


@pytest.fixture
def browse(mvmctl: Mvmctl, ca_file: Path) -> Callable[..., Ended]:
    """Load pages one after another in one sandbox and print what became of each."""

    def load(*urls: str, keys: str = "", words: tuple[str, ...] = ()) -> Ended:
        loads = " && ".join(f"{' '.join(_CHROMIUM)} --dump-dom {url}" for url in urls)
        return mvmctl(
            "run", "--json", "--capture", "--profile", f"browser{keys}", "-v", f"{ca_file}:/ca.pem:ro",
            "--network-allow", f"{_HOST}:443", *words, "--", "sh", "-c", f"{_TRUST} && {loads}",
            timeout_s=_LIMIT_S,
        )  # fmt: skip

    return load


def test_a_granted_page_is_loaded(browse: Callable[..., Ended], internet: Internet) -> None:
    """Chromium in the profile loads a page over TLS, trusting what its own home trusts; nothing is denied."""
    result = browse(f"https://{_HOST}/visits").expect(0).json
    assert "storage 0, cookie 0" in result["stdout"], result["stderr"]
    assert result["denials"] == []
    assert {(flow["host"], flow["port"]) for flow in result["flows"]} == {(_HOST, 443)}
    assert _HOST in internet.arrivals(_HOST).names


def test_another_page_is_refused_and_recorded(
    browse: Callable[..., Ended], internet: Internet, mvmctl: Mvmctl
) -> None:
    """A host that is not granted has no name: Chromium shows its error, the run says so, nothing arrives."""
    before = internet.arrivals(_OTHER).connections
    result = browse(f"https://{_OTHER}/visits").expect(0).json
    assert _NO_SUCH_NAME.search(result["stderr"])
    assert result["stdout"] == ""
    assert {(denial["layer"], denial["host"]) for denial in result["denials"]} == {("dns", _OTHER)}
    assert internet.arrivals(_OTHER).connections == before
    recorded = mvmctl("audit", "show", result["run"], "--json").expect(0).stdout
    assert _OTHER in recorded
    mvmctl("audit", "verify", "--sealed", result["run"]).expect(0)


def test_what_a_page_stores_lasts_in_its_own_workspace_alone(
    browse: Callable[..., Ended], mvmctl: Mvmctl, leftovers: Leftovers
) -> None:
    """Storage and cookies are there for the next run of the same workspace, for no other, not without one."""
    page = f"https://{_HOST}/visits"

    def visit(keys: str) -> str:
        result = browse(page, keys=keys).expect(0).json
        return str(result["stdout"].partition('id="said">')[2].partition("<")[0])

    assert visit(",workspace=shop,retain=1d") == "storage 0, cookie 0"
    # That Chromium has written down what it was told, by the time it ends, is its own affair.
    found = [visit(",workspace=shop,retain=1d")]
    while found[-1] not in _STORED:
        assert len(found) < _TIMES, found
        found.append(visit(",workspace=shop,retain=1d"))
    assert visit(",workspace=bank,retain=1d") == "storage 0, cookie 0"
    assert visit("") == "storage 0, cookie 0"
    kept = sorted((mvmctl.state / "workspaces").iterdir())
    assert [place.name for place in kept] == ["bank", "shop"]
    assert [f"{place.stat().st_mode:o}" for place in kept] == ["40700", "40700"]
    leftovers.expect_none()


def test_nothing_is_left_behind_without_a_workspace(
    browse: Callable[..., Ended], mvmctl: Mvmctl, leftovers: Leftovers
) -> None:
    """No process, namespace, mount or file remains of a browser; its files were never outside the sandbox."""
    browse(f"https://{_HOST}/visits").expect(0)
    assert not (mvmctl.state / "workspaces").exists()
    leftovers.expect_none()


def test_what_chromium_does_by_itself_is_denied(mvmctl: Mvmctl, internet: Internet) -> None:
    """Without the flags that quieten it Chromium calls home: each host is told, and nothing leaves."""
    asked: set[str] = set()
    for _ in range(_TIMES):  # an empty page may be there, and Chromium gone, before it has called
        with internet.watch() as outside:
            result = mvmctl(
                "run", "--json", "--capture", "--profile", "browser", "--dns", "system",
                "--", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "about:blank",
                timeout_s=_LIMIT_S,
            ).expect(0).json  # fmt: skip
        assert "<html>" in result["stdout"]
        assert result["flows"] == []
        assert not outside.besides_names
        asked |= {denial["host"] for denial in result["denials"]}
        if _HOME in asked:
            break
    assert _HOME in asked
