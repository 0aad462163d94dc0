"""The page's six questions before egress is allowed, one test each: asked until the declaration answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.fetching import fetch, trusting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mvmctl import Mvmctl

_ANSWERED = {"reason": "asks the model", "sends": "user-data", "downloads": "discard"}
_HOST, _API = "api.example.com", "api.example.test"


class Asked:
    """A policy of one grant, reviewed."""

    def __init__(self, mvmctl: Mvmctl, tmp_path: Path, dns: str = "system", **grant: object) -> None:
        file = tmp_path / "policy.json"
        said = {"host": _HOST, "port": 443, **grant}
        network = {"mode": "bridge", "dns": dns, "allow": [said]}
        file.write_text(json.dumps({"network": network}))
        ended = mvmctl("network", "review", "--json", str(file))
        self.status = ended.exit_code
        review = json.loads(ended.stdout)
        self.codes = {finding["code"] for finding in review["findings"]}
        (reviewed,) = review["grants"]
        self.answers = [one["answer"] for one in reviewed["answers"]]


def test_name_the_exact_host_and_port(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """The first answer is the host and the port; a pattern instead is refused before any question."""
    asked = Asked(mvmctl, tmp_path, **_ANSWERED)
    assert (asked.status, asked.codes) == (0, set())
    assert f"{_HOST}:443" in str(asked.answers[0])
    file = tmp_path / "mvm.toml"
    file.write_text(
        '[network]\nmode = "bridge"\ndns = "system"\nallow = [{host = "*.example.com", port = 443}]\n'
    )
    assert "wildcard-host" in mvmctl("network", "review", str(file)).expect(65).stderr


@pytest.mark.parametrize(
    ("left_out", "code", "number"),
    [("reason", "no-reason", 1), ("sends", "sends-not-stated", 3), ("downloads", "downloads-not-stated", 5)],
)
def test_what_is_not_said_is_asked(
    mvmctl: Mvmctl, tmp_path: Path, left_out: str, code: str, number: int
) -> None:
    """Each answer that the declaration leaves out is a finding of its own, and the review does not pass."""
    asked = Asked(mvmctl, tmp_path, **{key: value for key, value in _ANSWERED.items() if key != left_out})
    assert (asked.status, asked.codes, asked.answers[number]) == (65, {code}, None)


def test_confirm_why_the_workload_needs_it(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """The stated reason is the answer."""
    assert Asked(mvmctl, tmp_path, **_ANSWERED).answers[1] == "asks the model"


def test_confirm_whether_dns_is_needed(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """A name needs a resolver, which the answer names; an address needs none."""
    named = Asked(mvmctl, tmp_path, **_ANSWERED).answers[2]
    assert str(named).startswith("yes")
    assert "system" in str(named)
    literal = Asked(mvmctl, tmp_path, dns="none", **{**_ANSWERED, "host": "203.0.113.9", "private": True})
    assert str(literal.answers[2]).startswith("no")


@pytest.mark.parametrize(("word", "answer"), [("public", "no"), ("user-data", "yes"), ("secrets", "yes")])
def test_confirm_whether_the_destination_can_receive_secrets_or_user_data(
    mvmctl: Mvmctl, tmp_path: Path, word: str, answer: str
) -> None:
    """What may be sent there is the answer: yes for secrets and user data, no for what is public."""
    assert str(Asked(mvmctl, tmp_path, **{**_ANSWERED, "sends": word}).answers[3]).startswith(answer)


@pytest.mark.kernel
def test_confirm_logs_and_receipts_will_not_expose_payload_data(
    mvmctl: Mvmctl, tmp_path: Path, ca_file: Path
) -> None:
    """The answer is yes, and holds: what is put into a request is in nothing that a run leaves."""
    assert str(Asked(mvmctl, tmp_path, **_ANSWERED).answers[4]).startswith("yes")
    secret = "q7-payload-marker"  # noqa: S105  looked for everywhere, a secret to nobody
    words = ("run", *trusting(ca_file), "--network-allow", f"{_API}:443", "--json", "--")
    ended = mvmctl(*words, *fetch(_API, f"/{secret}?{secret}"), "-H", f"X-Secret: {secret}", "-d", secret)
    ended.expect(0)
    kept = [file for file in mvmctl.state.rglob("*") if file.is_file()]
    assert kept
    assert [file for file in kept if secret.encode() in file.read_bytes()] == []
    assert secret not in ended.stdout


@pytest.mark.parametrize(("word", "says"), [("none", "none"), ("discard", "discarded"), ("retain:7d", "7d")])
def test_confirm_cleanup_or_retention_behavior_for_any_downloaded_files(
    mvmctl: Mvmctl, tmp_path: Path, word: str, says: str
) -> None:
    """What becomes of downloads is the answer, in the declaration's own word."""
    assert says in str(Asked(mvmctl, tmp_path, **{**_ANSWERED, "downloads": word}).answers[5])
