"""`mvm.func`: a function that runs in a sandbox of its own each time that it is called.

Owns the outer side: what of this machine the function needs to see, the arguments and the result as JSON, and
the exception that comes back. `callee.py` is the inner side; what it says is read as a stranger's word.
"""

from __future__ import annotations

import functools
import inspect
import os
from typing import TYPE_CHECKING, Any

from mvm.errors import CommandFailed, FunctionRaised, SandboxTimeout
from mvm.sandbox.declared import Caller, needs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FunctionType

    from mvm.declare.program import Declared
    from mvm.supervisor.request import Request

inside = False
"""Whether this process is the one in a sandbox that a declared function runs in. Only `callee` says so."""

_STDERR = 2
_MOST_BYTES = 64 << 20  # of an answer: it is read whole, and a stranger writes it


class Function:
    """A function that runs in a sandbox of its own each time that it is called.

    Attributes:
        declared: its sandbox.
    """

    __name__: str

    def __init__(self, function: FunctionType, declared: Declared) -> None:
        functools.update_wrapper(self, function)
        self.declared = declared
        self._function = function

    def local(self, *args: object, **named: object) -> object:
        """Call it here, without a sandbox."""
        return self._function(*args, **named)

    def __call__(self, *args: object, **named: object) -> object:
        """Run it in a sandbox of its own; within a sandbox it runs there.

        Args:
            *args: anything that JSON can carry.
            **named: anything that JSON can carry.

        Returns:
            What it returned, as JSON carries it (a tuple comes back as a list); of an `async def`, something
            to await.

        Raises:
            FunctionRaised: it raised an exception, of which type, text and traceback are told.
            CommandFailed: its process ended without an answer, or its answer has more than 64 MiB.
            SandboxTimeout: its life time (`ttl`) ran out.
            TypeError: an argument is nothing that JSON carries.
            PolicyRefused, BackendUnavailable, AuditError, UsageError: as `Sandbox`.
        """
        if inside:
            return self.local(*args, **named)
        if inspect.iscoroutinefunction(self._function):
            import asyncio

            return asyncio.to_thread(self._call, args, named)
        return self._call(args, named)

    def _call(self, args: tuple[object, ...], named: dict[str, object]) -> object:
        import json
        import time

        from mvm.sandbox.sandbox import Sandbox

        question = json.dumps([args, named], allow_nan=False).encode()
        request, argv, environ = self._request()
        began = time.monotonic()
        with Sandbox.of(request, environ) as sandbox:
            with sandbox.popen(argv, stderr=_STDERR) as process:
                try:
                    answer, _ = process.communicate(question, most=_MOST_BYTES)
                finally:
                    lives, lived = request.policy.ttl, time.monotonic() - began
            status = process.wait()
            if status and lives is not None and lived >= lives:
                raise SandboxTimeout(f"{self.__name__} still ran after {lives:g} s, its sandbox's life time")
            denials = sandbox.describe()["denials"]
        return _read_answer(answer, status, self.__name__, denials)

    def _request(self) -> tuple[Request, tuple[str, ...], dict[str, str]]:
        """Give the sandbox, the command in it, and the environment that it is found with."""
        from mvm.policy.resolve import Asked, resolve
        from mvm.sandbox.sandbox import discover
        from mvm.supervisor.request import Request

        code = self._function.__code__
        caller = Caller.of(os.path.abspath(code.co_filename), self.__module__, self.__name__)
        needs = needs_of(self.declared, os.path.dirname(caller.file), os.environ)
        request = Request(
            policy=resolve(Asked(document=self.declared.policy), discover).policy,
            volumes=(*needs.volumes, *caller.volumes),
            environ=(*needs.environ, *caller.environ),
            limits=self.declared.limits,
            image=needs.image,
            flake=needs.flake,
            profile=needs.profile,
        )
        return request, caller.argv("call"), caller.surroundings(os.environ)


def func(**words: Any) -> Callable[[FunctionType], Function]:  # noqa: ANN401  `declared` has their types
    """Declare a function that runs in a sandbox of its own each time that it is called.

    Args:
        words: as `mvm.app` takes them; `network` must be among them, and `entrypoint` has no meaning.

    Returns:
        A decorator that gives a `Function`.

    Raises:
        PolicyRefused: the declaration is not acceptable, or its name is taken.
        TypeError: there is no such word.
    """
    from mvm.declare.registry import declare

    def decorate(function: FunctionType) -> Function:
        return Function(function, declare("func", function, words))

    return decorate


def _read_answer(answer: bytes, status: int, name: str, denials: Sequence[dict[str, object]]) -> object:
    """Read what the sandbox says; anything but one of the two shapes is no answer."""
    import json

    if status == 0:
        try:
            said = json.loads(answer)
        except (ValueError, RecursionError):
            said = None
        match said:
            case {"result": value}:
                return value
            case {"raised": {"kind": str(kind), "text": str(text), "traceback": str(traceback)}}:
                raise FunctionRaised(kind, text, traceback=traceback, denials=denials)
    msg = f"{name} ended with status {status} and no answer"
    raise CommandFailed(msg, returncode=status, stdout=answer)
