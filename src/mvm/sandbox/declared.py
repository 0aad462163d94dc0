"""What a declared sandbox needs of this machine, and what the function in it needs to be called.

Owns the step from `declare.program.Declared` to the words of a request, shared by `mvm.func` and
`mvmctl run --app`. Must never add to what is reached: only files are shown, read-only.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import BackendUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mvm.declare.program import Declared, Image
    from mvm.policy.browser import BrowserProfile

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_CALLEE = os.path.join(_PACKAGE, "sandbox", "callee.py")
_MAIN = "__mvm_main__"  # not `__main__`: what stands below `if __name__ == "__main__"` is the caller's part


class Needs(NamedTuple):
    """What a declaration says, as a request has it.

    Attributes:
        volumes: `SRC:DST[:ro|rw]` each, SRC absolute.
        environ: `NAME=VALUE` each.
        image: `host` or `dir:PATH`.
        flake: a flake reference instead of an image, or None.
        profile: stricter rules that it is held to, its paths absolute; or None.
    """

    volumes: tuple[str, ...]
    environ: tuple[str, ...]
    image: str
    flake: str | None
    profile: BrowserProfile | None


def needs_of(declared: Declared, directory: str, environ: Mapping[str, str]) -> Needs:
    """Say what a declaration needs of this machine.

    Args:
        declared: the declaration.
        directory: of the file that declares it, absolute.
        environ: the caller's environment, which holds the secrets.

    Raises:
        UsageError: a secret is not set.
        BackendUnavailable: its image is not to be had.
    """
    image, flake = _image(declared.image, directory)
    volumes = tuple(_volume(text, directory) for text in declared.mounts)
    profile = declared.profile
    if profile is not None:
        named = tuple((os.path.join(directory, path), why) for path, why in profile.credentials)
        profile = profile._replace(credentials=named)
    return Needs(volumes, tuple(_variables(declared, environ)), image, flake, profile)


def _variables(declared: Declared, environ: Mapping[str, str]) -> Iterable[str]:
    for name, value in declared.env:
        if isinstance(value, str):
            yield f"{name}={value}"
        elif value.name in environ:
            yield f"{name}={environ[value.name]}"
        else:
            msg = f"{declared.name} needs the secret {value.name}, which is not set"
            raise UsageError(msg, hint=f"export {value.name} before")


def _volume(text: str, directory: str) -> str:
    source, colon, rest = text.partition(":")
    place = os.path.normpath(os.path.join(directory, source))
    return f"{place}:{rest}" if colon else f"{place}:{place}:ro"


def _image(image: Image, directory: str) -> tuple[str, str | None]:
    if image.kind == "flake":
        return "host", _flake(image.value, directory)
    if image.kind == "directory":
        return f"dir:{os.path.normpath(os.path.join(directory, image.value))}", None
    if image.value or image.packages:
        wanted = " ".join(["python", image.value, *image.packages]).replace("  ", " ")
        msg = f"an image with {wanted} is not part of this version"
        raise BackendUnavailable(msg, hint="write mvm.python_image() to have your own Python")
    return "host", None


def _flake(reference: str, directory: str) -> str:
    """Have a path in a flake reference (`.`, `./x#name`, `path:./x`) begin where the declaration stands."""
    kind, colon, path = reference.rpartition("path:")
    if kind or not (colon or path.startswith(".")):
        return reference
    place, mark, output = path.partition("#")
    return f"{colon}{os.path.normpath(os.path.join(directory, place))}{mark}{output}"


class Caller(NamedTuple):
    """How a function is called from outside: `callee.py` with the caller's own Python.

    Attributes:
        file: the function's, absolute.
        module: its module's name.
        name: its own.
        volumes: what must be seen for it.
        environ: `NAME=VALUE` each.
    """

    file: str
    module: str
    name: str
    volumes: tuple[str, ...]
    environ: tuple[str, ...]

    @classmethod
    def of(cls, file: str, module: str, name: str) -> Caller:
        """Say how to call a function of a module.

        Args:
            file: the module's, absolute.
            module: its name.
            name: the function's.
        """
        shown = file
        for _ in module.split(".")[:-1]:
            shown = os.path.dirname(shown)  # a module of a package needs the package
        libraries = [_PACKAGE, *_homes_of("idna")]
        parents = dict.fromkeys(map(os.path.dirname, libraries))
        return cls(
            file=file,
            module=_MAIN if module == "__main__" else module,
            name=name,
            volumes=tuple(f"{place}:{place}:ro" for place in (shown, *libraries)),
            environ=(f"PYTHONPATH={os.pathsep.join(parents)}",),
        )

    def argv(self, what: str) -> tuple[str, ...]:
        """Give the command that does `call` or `run` (`callee`)."""
        return (sys.executable, _CALLEE, what, self.file, self.module, self.name)

    def surroundings(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Give an environment by which the caller's own Python, and what it needs, is seen inside."""
        own = os.path.dirname(sys.executable)
        return {**environ, "PATH": os.pathsep.join([own, environ.get("PATH", os.defpath)])}


def _homes_of(package: str) -> list[str]:
    from importlib.util import find_spec

    spec = find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []
