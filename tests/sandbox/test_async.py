"""The same words, awaited: many at once in one thread's loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

import mvm
from tests.sandbox.reaching import closed, get, open_to

if TYPE_CHECKING:
    from mvm.sandbox.helper import Helper
    from tests.support.leftovers import Leftovers

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("helper")]


def test_commands_are_gathered_in_one_sandbox() -> None:
    """Twenty that each wait a second take about as long as one, and each has its own output."""

    async def act() -> list[mvm.Result]:
        async with mvm.AsyncSandbox(network=closed()) as box:
            words = (["sh", "-c", f"sleep 1; echo {number}"] for number in range(20))
            return list(await asyncio.gather(*(box.run(argv) for argv in words)))

    began = time.monotonic()
    results = asyncio.run(act())
    assert [result.stdout for result in results] == [f"{number}\n".encode() for number in range(20)]
    assert time.monotonic() - began < 10


def test_sandboxes_are_gathered() -> None:
    """Five at once, each with a policy of its own, which the others do not widen."""
    hosts = ("api.example.test", "other.example.test")

    async def one(number: int) -> tuple[int, int]:
        async with mvm.AsyncSandbox(network=open_to(f"{hosts[number % 2]}:80")) as box:
            granted = await box.run(get(hosts[number % 2]))
            denied = await box.run(get(hosts[1 - number % 2]))
            return granted.returncode, len(denied.denials)

    async def act() -> list[tuple[int, int]]:
        return list(await asyncio.gather(*(one(number) for number in range(5))))

    assert asyncio.run(act()) == [(0, 1)] * 5


def test_the_loop_goes_on_while_a_command_runs() -> None:
    """Waiting for a command holds no other task up."""

    async def act() -> tuple[bytes, int | None]:
        async with mvm.AsyncSandbox(network=closed()) as box:
            process = await box.popen(["cat"])
            waiting = asyncio.ensure_future(asyncio.to_thread(process.wait))
            said = (await box.run(["echo", "meanwhile"])).stdout
            process.stdin.close()
            status = await waiting
            process.close()
            return said, status

    assert asyncio.run(act()) == (b"meanwhile\n", 0)


def test_errors_are_those_of_the_other() -> None:
    """The same types, raised where it is awaited; before and after its life too."""

    async def act() -> None:
        box = mvm.AsyncSandbox(network=open_to("refused.example.test:80"))
        with pytest.raises(mvm.UsageError, match="not started"):
            await box.run(["true"])
        async with box:
            with pytest.raises(mvm.SandboxTimeout):
                await box.run(["sleep", "60"], timeout=0.2)
            with pytest.raises(mvm.CommandFailed):
                await box.run(["false"], check=True)
            with pytest.raises(mvm.TransportError):
                await box.run(get("refused.example.test"), check=True)
            with pytest.raises(mvm.PolicyDenied):
                await box.run(get("api.example.test"), deny="fail")
        with pytest.raises(mvm.UsageError, match="closed"):
            await box.run(["true"])
        first = await box.close()
        assert first is not None
        assert first == await box.close()

    asyncio.run(act())


def test_the_policy_is_changed_while_it_runs() -> None:
    """`set_network` and `describe`, awaited."""

    async def act() -> tuple[str, str, int]:
        async with mvm.AsyncSandbox(network=closed()) as box:
            digest = await box.set_network(open_to("api.example.test:80"))
            described = await box.describe()
            return digest, described["policy"]["digest"], (await box.run(get("api.example.test"))).returncode

    digest, described, status = asyncio.run(act())
    assert (described, status) == (digest, 0)


def test_a_wait_that_is_given_up_leaves_nothing(helper: Helper, leftovers: Leftovers) -> None:
    """`asyncio.timeout` around `run` raises at once, and the end of the sandbox ends the command."""

    async def act() -> None:
        async with mvm.AsyncSandbox(network=closed()) as box:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await box.run(["sleep", "60"])

    began = time.monotonic()
    asyncio.run(act())
    assert time.monotonic() - began < 10
    helper.close()
    leftovers.expect_none()
