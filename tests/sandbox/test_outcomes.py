"""What one command reached and was denied, and the errors that say whose doing its failure was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import mvm
from tests.sandbox.reaching import get, open_to

if TYPE_CHECKING:
    from tests.sandbox.conftest import Start

pytestmark = pytest.mark.kernel

_API, _OTHER = "api.example.test", "other.example.test"
_REFUSED, _UNREACHABLE = "refused.example.test", "unreachable.example.test"


@pytest.fixture
def online(box: Start) -> mvm.Sandbox:
    """A sandbox that may reach one host that answers and two that do not."""
    return box(open_to(f"{_API}:80", f"{_REFUSED}:80", f"{_UNREACHABLE}:80"))


# ---- flows and denials of one command


def test_a_granted_host_is_reached_and_told(online: mvm.Sandbox) -> None:
    """One flow, with what went up and came down; nothing was denied."""
    result = online.run(get(_API))
    assert (result.returncode, result.cause, result.denials) == (0, None, ())
    assert result.stdout == f"hello from {_API}\n".encode()
    (flow,) = result.flows
    assert (flow["host"], flow["port"], flow["protocol"], flow["flows"]) == (_API, 80, "tcp", 1)
    assert flow["up"] > 0
    assert flow["down"] > len(result.stdout)


def test_a_host_that_is_not_granted_is_denied_and_told(online: mvm.Sandbox) -> None:
    """One denial, with a remedy; nothing was reached, and the cause is the policy."""
    result = online.run(get(_OTHER))
    assert (result.returncode != 0, result.cause, result.flows) == (True, "policy", ())
    (denial,) = result.denials
    assert (denial["host"], denial["reason"], denial["layer"]) == (_OTHER, "host-not-granted", "dns")
    assert denial["remedy"]["kind"] == "allow-host"


def test_a_command_answers_for_itself_alone(online: mvm.Sandbox) -> None:
    """What one command reached or was denied is not told of the next, nor added to it."""
    denied, reached = online.run(get(_OTHER)), online.run(get(_API))
    idle, again = online.run(["false"]), online.run(get(_API))
    assert reached.denials == ()
    assert (idle.flows, idle.denials, idle.cause) == ((), (), "guest")
    assert [flow["flows"] for flow in again.flows] == [1]
    assert again.flows[0]["down"] == reached.flows[0]["down"]
    assert online.run(get(_OTHER)).denials[0]["count"] == denied.denials[0]["count"]


def test_the_sandbox_answers_for_all(online: mvm.Sandbox) -> None:
    """`describe` and the result of `close` sum up what its commands did."""
    for host in (_API, _API, _OTHER):
        online.run(get(host))
    described, result = online.describe(), online.close()
    assert result is not None
    for told in (described, result):
        assert [(flow["host"], flow["flows"]) for flow in told["flows"]] == [(_API, 2)]
        assert [denial["host"] for denial in told["denials"]] == [_OTHER]
    assert (result["schema"], result["run"]) == ("mvm.result/1", described["run"])


# ---- check


def test_check_is_content_with_0(online: mvm.Sandbox) -> None:
    """A command that ended well gives its result."""
    assert online.run(get(_API), check=True).returncode == 0


def test_a_failed_command_is_an_error_with_its_streams(online: mvm.Sandbox) -> None:
    """CommandFailed has the status and both streams; without `check` the same is a result."""
    argv = ["sh", "-c", "printf out; printf err >&2; exit 7"]
    with pytest.raises(mvm.CommandFailed, match="sh ended with status 7") as caught:
        online.run(argv, check=True)
    assert (caught.value.returncode, caught.value.stdout, caught.value.stderr) == (7, b"out", b"err")
    assert online.run(argv).returncode == 7


def test_a_granted_host_that_refuses_is_transport(online: mvm.Sandbox) -> None:
    """TransportError names the host and what became of it, and nothing is called a denial."""
    with pytest.raises(mvm.TransportError, match=rf"{_REFUSED}:80: connection refused"):
        online.run(get(_REFUSED), check=True)
    result = online.run(get(_REFUSED))
    assert (result.cause, result.denials) == ("transport", ())


def test_a_transport_error_is_of_its_own_command(online: mvm.Sandbox) -> None:
    """It names the host that this command failed at, though another failed at another one meanwhile."""
    online.run(get(_REFUSED))
    online.run(get(_UNREACHABLE))
    with pytest.raises(mvm.TransportError, match=_REFUSED):
        online.run(get(_REFUSED), check=True)
    with pytest.raises(mvm.CommandFailed):
        online.run(["false"], check=True)


def test_a_denied_command_that_fails_is_no_transport(online: mvm.Sandbox) -> None:
    """With `check` alone it is CommandFailed: the guest's own failure, whatever was denied meanwhile."""
    with pytest.raises(mvm.CommandFailed):
        online.run(get(_OTHER), check=True)


# ---- deny


def test_a_denial_can_be_an_error(online: mvm.Sandbox) -> None:
    """PolicyDenied names the host, the reason and the flag; a granted host raises nothing."""
    with pytest.raises(mvm.PolicyDenied, match=rf"denied: {_OTHER} \[host-not-granted\]") as caught:
        online.run(get(_OTHER), deny="fail")
    assert caught.value.denials[0]["host"] == _OTHER
    assert f"if the workload needs {_OTHER}, grant it" in caught.value.hint
    assert online.run(get(_API), deny="fail").returncode == 0


def test_a_denial_is_an_error_where_the_command_went_on(online: mvm.Sandbox) -> None:
    """A command that hides it and ends with 0 is told as well, and comes before `check`."""
    hiding = ["sh", "-c", f"curl -s --max-time 5 http://{_OTHER}/; exit $0"]
    for status in ("0", "1"):
        with pytest.raises(mvm.PolicyDenied):
            online.run([*hiding, status], deny="fail", check=True)


def test_a_denial_before_is_no_error_now(online: mvm.Sandbox) -> None:
    """Only this command's denials count."""
    online.run(get(_OTHER))
    assert online.run(["true"], deny="fail").denials == ()


def test_other_words_for_denials_are_refused(online: mvm.Sandbox) -> None:
    """A misspelt `deny` is not taken for `report`."""
    with pytest.raises(mvm.UsageError, match="'Fail'"):
        online.run(["true"], deny="Fail")


def test_a_refused_connection_is_told_when_its_command_ends(online: mvm.Sandbox) -> None:
    """Fifty times, of fifty ports: what the kernel refused belongs to that command, never to the next one."""
    for port in range(2001, 2051):
        result = online.run(["sh", "-c", f"curl -s http://{_API}:{port}/"])
        assert [(denial["host"], denial["port"]) for denial in result.denials] == [(_API, port)]
