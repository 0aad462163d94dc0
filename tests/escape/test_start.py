"""How a sandbox starts: shut before anything runs, or not at all (ATTACKS 49, 51)."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.escape import withholding
from tests.escape.first_acts import expect_shut, first_acts, shut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.escape

API, OTHER = "api.example.test", "other.example.test"
_IN_A_ROW, _SIDE_BY_SIDE = 20, 20


def _ungranted(internet: Internet) -> tuple[str, str]:
    return f"{internet.host('other').v4}/443", f"{OTHER}/443"


# ---- 49: the workload never runs before the door is shut


def test_the_very_first_act_is_refused_every_time(mvmctl: Mvmctl, internet: Internet) -> None:
    """49: an address and a name that are not granted, tried first thing, in one sandbox after the other."""
    places = _ungranted(internet)
    with internet.watch() as outside:
        for _ in range(_IN_A_ROW):
            expect_shut(mvmctl("run", "--network-allow", f"{API}:443", "--", *first_acts(*places)), *places)
    assert outside.packets == {}


def test_the_very_first_act_may_be_a_granted_one(mvmctl: Mvmctl, internet: Internet) -> None:
    """49, the twin: a granted host is open first thing, every time, and nothing else gets there."""
    place = f"{API}/443"
    with internet.watch() as outside:
        for _ in range(_IN_A_ROW):
            ended = mvmctl("run", "--network-allow", f"{API}:443", "--", *first_acts(place)).expect(0)
            assert ended.stdout.startswith(f"open {place}\n")
    assert {packet.address for packet in outside.besides_names} <= set(internet.host("api").addresses)


def test_many_that_start_at_once_are_all_shut(mvmctl: Mvmctl, internet: Internet) -> None:
    """49: beside each other, when the machine is at its slowest, none runs before its door is shut."""
    places = _ungranted(internet)
    words = ("run", "--network-allow", f"{API}:443", "--", *first_acts(*places))
    with internet.watch() as outside:
        running = [mvmctl.start(*words) for _ in range(_SIDE_BY_SIDE)]
        for each in running:
            *said, _took = each.finish(timeout_s=60).expect(0).stdout.splitlines()
            assert said == shut(*places)
    assert outside.packets == {}


@pytest.mark.parametrize("way", ["captured", "up", "up -d", "exec"])
def test_every_way_to_start_a_command_is_shut(mvmctl: Mvmctl, internet: Internet, way: str) -> None:
    """49, 50: no launch path forgets the door: the first act of each is refused."""
    places = _ungranted(internet)
    acts = ("--", *first_acts(*places))
    with internet.watch() as outside:
        match way:
            case "captured":
                said = mvmctl("run", "--json", "--capture", *acts).expect(0).json["stdout"]
            case "up":
                said = mvmctl("up", *acts).expect(0).stdout
            case "up -d":
                name = mvmctl("up", "-d", *acts).expect(0).stdout.strip()
                said = mvmctl.start("logs", "-f", name).finish().expect(0).stdout
            case _:
                name = mvmctl("up", "-d").expect(0).stdout.strip()
                said = mvmctl("exec", name, *acts).expect(0).stdout
                mvmctl("down", "--time", "0", name).expect(0)
    assert said.splitlines()[:2] == shut(*places)
    assert outside.packets == {}


@pytest.mark.parametrize("moment_ms", [20, 40, 60, 70, 80, 90, 100, 120, 150])
def test_a_start_that_stands_still_is_shut(mvmctl: Mvmctl, internet: Internet, moment_ms: int) -> None:
    """49, 53: the supervisor stopped amid the start: nothing has got out, then or when it goes on."""
    places = _ungranted(internet)
    with internet.watch() as outside:
        running = mvmctl.start("run", "--network-allow", f"{API}:443", "--", *first_acts(*places))
        _stop_after(running, moment_ms)
        with pytest.raises((TimeoutError, AssertionError)):
            running.until("open", timeout_s=0.2)
        os.kill(running.process.pid, signal.SIGCONT)
        *said, _took = running.finish().expect(0).stdout.splitlines()
    assert said == shut(*places)
    assert outside.packets == {}


def _stop_after(running: Running, moment_ms: int) -> None:
    deadline = time.monotonic() + moment_ms / 1000
    while time.monotonic() < deadline:
        os.sched_yield()
    os.kill(running.process.pid, signal.SIGSTOP)


# ---- 51: where something is missing, the start is refused; never a weaker mode

_NETLINK, _NETFILTER = 16, 12
_WITHHELD: dict[str, tuple[dict[str, Any], str]] = {
    "user namespaces": ({"limits": {"max_user_namespaces": 0}}, r"unshare\(.*user.*max_\*_namespaces"),
    "a nested user namespace": (
        {"limits": {"max_user_namespaces": 1}},
        r"unshare\(user\).*max_\*_namespaces",
    ),
    "network namespaces": ({"limits": {"max_net_namespaces": 0}}, r"unshare\(.*net.*max_\*_namespaces"),
    "mount namespaces": ({"limits": {"max_mnt_namespaces": 0}}, r"unshare\(mnt\).*max_\*_namespaces"),
    "pid namespaces": ({"limits": {"max_pid_namespaces": 0}}, r"unshare\(.*pid.*max_\*_namespaces"),
    "a whole /proc": ({"cover": ["/proc/irq"]}, "mount proc"),
    "nf_tables": (
        {"calls": [["socket", {"0": _NETLINK, "2": _NETFILTER}, errno.EPROTONOSUPPORT]]},
        "nf_tables: Protocol not supported",
    ),
    "tproxy": ({"calls": [["setsockopt", {"1": 0, "2": 19}, errno.ENOPROTOOPT]]}, "tproxy"),
    "tproxy for IPv6": ({"calls": [["setsockopt", {"1": 41, "2": 75}, errno.ENOPROTOOPT]]}, "tproxy"),
    "IPv6": ({"calls": [["socket", {"0": 10}, errno.EAFNOSUPPORT]]}, "IPv6: Address family not supported"),
    "seccomp": ({"calls": [["prctl", {"0": 22}, errno.EINVAL]]}, "SECCOMP"),
    "no-new-privileges": ({"calls": [["prctl", {"0": 38}, errno.EINVAL]]}, "NO_NEW_PRIVS"),
    "mounting": ({"calls": [["mount", {}, errno.EPERM]]}, "mount"),
    "another root": ({"calls": [["pivot_root", {}, errno.EPERM]]}, "pivot_root"),
    "closing descriptors": ({"calls": [["close_range", {}, errno.ENOSYS]]}, "close_range"),
    "process handles": ({"calls": [["pidfd_open", {}, errno.ENOSYS]]}, "not implemented"),
}
"""What is withheld, and how the refusal names it."""

_DOCTOR_CANNOT_SEE = ("a nested user namespace", "another root", "closing descriptors", "process handles")
"""Nothing that a machine of today withholds apart from the rest."""


def _withhold(mvmctl: Mvmctl, wanted: Mapping[str, Any]) -> None:
    """Run every command of this test on a machine that withholds something."""
    mvmctl.command = [sys.executable, withholding.__file__, json.dumps(wanted), *mvmctl.command]


def test_a_machine_that_withholds_nothing_runs_it(mvmctl: Mvmctl) -> None:
    """51, the twin: in the same wrapping, with nothing withheld, the same command runs."""
    _withhold(mvmctl, {"calls": [["socket", {"0": 99}, errno.EPERM]]})
    assert mvmctl("run", "--", "echo", "ran").expect(0).stdout == "ran\n"
    mvmctl("doctor").expect(0)


@pytest.mark.parametrize("withheld", _WITHHELD)
def test_where_something_is_withheld_nothing_starts(
    mvmctl: Mvmctl, internet: Internet, leftovers: Leftovers, withheld: str
) -> None:
    """51: exit 69, told what is missing and what to ask; nothing ran, nothing got out, nothing is left."""
    wanted, named = _WITHHELD[withheld]
    _withhold(mvmctl, wanted)
    with internet.watch() as outside:
        for words in (("run",), ("run", "--network-preset", "unrestricted"), ("up", "-d")):
            ended = mvmctl(*words, "--", *first_acts(*_ungranted(internet))).expect(69)
            assert ended.stdout == ""
            message, hint = [line for line in ended.stderr.splitlines() if "warning" not in line]
            assert message.startswith("mvmctl: the sandbox could not be made: ")
            assert re.search(named, message), message
            assert "Errno" not in message
            assert "mvmctl doctor" in hint
        refused = mvmctl("run", "--json", "--", "echo", "ran").expect(69).json
    assert (refused["outcome"], refused["cause"], refused["exit_code"]) == ("refused", None, 69)
    assert outside.packets == {}
    leftovers.expect_none()


@pytest.mark.parametrize("withheld", [each for each in _WITHHELD if each not in _DOCTOR_CANNOT_SEE])
def test_doctor_says_no_where_nothing_starts(mvmctl: Mvmctl, withheld: str) -> None:
    """51: what `run` is refused for, `doctor` finds: 69, and the fact that is no."""
    _withhold(mvmctl, _WITHHELD[withheld][0])
    found = mvmctl("doctor", "--json").expect(69).json
    assert not found["ok"]
    assert not found["backends"][0]["usable"]


def test_without_landlock_no_claim_is_made_of_it(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """51: the second lock on files may be missing; then it is not claimed, in the result or the record."""
    plain = mvmctl("run", "--json", "--", "true").expect(0).json["isolation"]
    _withhold(mvmctl, {"calls": [["landlock_create_ruleset", {}, errno.ENOSYS]]})
    result = mvmctl("run", "--json", "--", "true").expect(0).json
    started, *_ = mvmctl("audit", "show", "--json", result["run"]).expect(0).stdout.splitlines()
    assert json.loads(started)["isolation"] == result["isolation"]
    assert result["isolation"].endswith("; without Landlock")
    facts = {fact["name"]: fact["ok"] for fact in mvmctl("doctor", "--json").expect(0).json["facts"]}
    assert not facts["landlock"]
    assert plain.endswith((", Landlock", "; without Landlock"))
    leftovers.expect_none()


@pytest.mark.user_only
def test_a_limit_that_cannot_be_held_is_refused(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """51: processor time has no limit but a cgroup's: without one `--cpus` is 69, and others are held."""
    ended = mvmctl("run", "--cpus", "1", "--", "echo", "ran").expect(69)
    assert ended.stdout == ""
    assert "limit cpus" in ended.stderr
    assert mvmctl("run", "--pids", "50", "--memory", "1GB", "--", "echo", "ran").expect(0).stdout == "ran\n"
    leftovers.expect_none()


@pytest.mark.parametrize(
    ("backend", "status"), [("hyperv", 64), ("qemu", 69), ("oci", 69), ("firecracker", 69)]
)
def test_a_backend_that_is_not_there_is_never_replaced(mvmctl: Mvmctl, backend: str, status: int) -> None:
    """51: nothing else starts in its stead; the one that is there does, by name."""
    ended = mvmctl("run", "--backend", backend, "--", "echo", "ran").expect(status)
    assert ended.stdout == ""
    assert backend in ended.stderr
    assert mvmctl("run", "--backend", "namespace", "--", "echo", "ran").expect(0).stdout == "ran\n"


@pytest.mark.parametrize("files", range(5, 33))
def test_few_descriptors_are_enough_or_it_is_refused(
    mvmctl: Mvmctl, internet: Internet, leftovers: Leftovers, files: int
) -> None:
    """51, 53: wherever in the start the last one is taken: refused and told, or shut as ever."""
    places = _ungranted(internet)
    _withhold(mvmctl, {"files": files})
    with internet.watch() as outside:
        ended = mvmctl("run", "--", *first_acts(*places))
    assert outside.packets == {}
    if ended.exit_code == 0:
        expect_shut(ended, *places)
    else:
        assert ended.exit_code in {69, 74}, ended.stderr
        assert ended.stdout == ""
        assert "open files" in ended.stderr.lower()
        assert len(ended.stderr.splitlines()) == 2, ended.stderr
    leftovers.expect_none()
