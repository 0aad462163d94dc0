"""The same words, awaited.

Owns the threads that wait in asyncio's stead; one sandbox has its own, so that many may wait at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mvm.sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from typing import Self

    from mvm.sandbox.process import Popen
    from mvm.sandbox.result import Result


class AsyncSandbox:
    """A sandbox for asyncio: the same words, awaited. Arguments are those of `Sandbox`."""

    def __init__(self, **words: Any) -> None:  # noqa: ANN401  handed on as they are
        self._sandbox = Sandbox(**words)
        self._threads: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        """Start it."""
        await self._call(self._sandbox.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it, with all that runs in it."""
        await self.close()

    async def _call(self, function: Callable[..., Any], *args: Any, **words: Any) -> Any:  # noqa: ANN401
        """Call what blocks in a thread of this sandbox's own: many may wait at once."""
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        from functools import partial

        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="mvm-sandbox")
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, partial(function, *args, **words)
        )

    async def run(self, argv: Sequence[str], **words: Any) -> Result:  # noqa: ANN401
        """Run one command to its end; arguments and errors are those of `Sandbox.run`."""
        result: Result = await self._call(self._sandbox.run, argv, **words)
        return result

    async def popen(self, argv: Sequence[str], **words: Any) -> Popen:  # noqa: ANN401
        """Start one command; arguments and errors are those of `Sandbox.popen`."""
        process: Popen = await self._call(self._sandbox.popen, argv, **words)
        return process

    async def set_network(self, network: object, *, expect: str | None = None) -> str:
        """Put another policy in force; as `Sandbox.set_network`."""
        digest: str = await self._call(self._sandbox.set_network, network, expect=expect)
        return digest

    async def describe(self) -> dict[str, Any]:
        """Say what it is, what it may reach, and what was reached and denied so far."""
        described: dict[str, Any] = await self._call(self._sandbox.describe)
        return described

    async def close(self) -> dict[str, Any] | None:
        """End it; as `Sandbox.close`."""
        result: dict[str, Any] | None = await self._call(self._sandbox.close)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None
        return result
