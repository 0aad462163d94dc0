"""Flakes, built by `nix build`: the result, all that it leads to, and the program that it is for.

Owns the calls to nix. What nix says while it builds goes to the caller's stderr as it comes. Where the user
may not write /nix/store and no daemon does it for them, nix gets a store in mvm's own cache. Must never
accept settings that a flake brings along (`--accept-flake-config`), nor run what was built.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from base64 import b64decode
from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import BackendUnavailable, Finding, PolicyRefused
from mvm.images.host import NIX_STORE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mvm.images.store import Store

_DAEMON = "/nix/var/nix/daemon-socket/socket"
_DEFAULT_NIX = "/nix/var/nix/profiles/default/bin/nix"
_STORE_PATH = re.compile(rf"{NIX_STORE}/[0-9a-z]{{32}}-[0-9A-Za-z+._?=-]+")
_HASH = re.compile(r"sha256-[0-9A-Za-z+/]{43}=")
_FEATURES = ("--extra-experimental-features", "nix-command flakes")


class Built(NamedTuple):
    """What came of a flake.

    Attributes:
        path: of the result, as it is seen inside.
        real: where it lies on the host.
        closure: all that it leads to, itself too: paths as seen inside, and on the host.
        program: the name of its main program, or None where it doesn't say.
        digest: SHA-256 of the result as nix archives it.
    """

    path: str
    real: str
    closure: tuple[tuple[str, str], ...]
    program: str | None
    digest: str


def build(ref: str, *, cwd: str, environ: Mapping[str, str], store: Store) -> Built:
    """Build a flake, or find it built.

    Args:
        ref: as `nix build` takes it: `.`, `path:…`, `git+file:…`, with `#attr`.
        cwd: where a relative reference begins.
        environ: the caller's environment.
        store: the cache, which keeps what is built from being collected, and may hold nix's own store.

    Raises:
        BackendUnavailable: there is no nix.
        PolicyRefused: it is no reference, or can't be built.
    """
    if ref.startswith("-"):
        message = f"{ref!r} is an option of nix and no flake"
        hint = "name a flake, such as . or path:./dir"
        raise PolicyRefused([Finding(code="flake-malformed", path="--flake", message=message, hint=hint)])
    nix = _Nix(cwd, environ, store)
    root = store.directory_for("roots")
    path = read_built(nix.ask("build", "--json", "--out-link", f"{root}/{_name(ref, cwd)}", ref))
    hashes = read_closure(nix.ask("path-info", "--json", "--recursive", path))
    closure = tuple((each, nix.real(each)) for each in hashes)
    if path not in hashes:
        raise _not_understood("path-info")
    return Built(path, nix.real(path), closure, nix.main_program(ref), hashes[path])


def read_built(answer: bytes) -> str:
    """The store path of what `nix build --json` built. Raises PolicyRefused."""
    match _parse(answer):
        case [{"outputs": dict() as outputs}, *_] if outputs:
            return _store_path(outputs.get("out") or next(iter(outputs.values())), "build")
    raise _not_understood("build")


def read_closure(answer: bytes) -> dict[str, str]:
    """The digest of each store path that `nix path-info --json` tells of.

    Before Nix 2.19 they stand in a list, each with its `path`; since then in an object, by their paths.

    Raises:
        PolicyRefused: it is neither.
    """
    found = _parse(answer)
    if isinstance(found, list):
        infos = [(each.get("path"), each) if isinstance(each, dict) else (None, each) for each in found]
    else:
        infos = list(found.items()) if isinstance(found, dict) else []
    if not infos:
        raise _not_understood("path-info")
    hashes = {}
    for path, info in infos:
        nar_hash = info.get("narHash") if isinstance(info, dict) else None
        if not isinstance(nar_hash, str) or _HASH.fullmatch(nar_hash) is None:
            raise _not_understood("path-info")
        hashes[_store_path(path, "path-info")] = _digest(nar_hash)
    return hashes


def read_program(answer: bytes) -> str | None:
    """The name of a main program, as `nix eval --json` tells it; None where it is no name."""
    name = _parse(answer)
    return name if isinstance(name, str) and name and "/" not in name else None


def _parse(answer: bytes) -> object:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _store_path(value: object, verb: str) -> str:
    """A path directly in nix's store. Raises PolicyRefused: it is none."""
    if isinstance(value, str) and _STORE_PATH.fullmatch(value):
        return value
    raise _not_understood(verb)


def _not_understood(verb: str) -> PolicyRefused:
    message = f"what nix {verb} said is not understood"
    hint = "mvm knows Nix 2.4 and later; nix --version tells which it is"
    return PolicyRefused([Finding(code="flake-not-built", path="--flake", message=message, hint=hint)])


class _Nix:
    def __init__(self, cwd: str, environ: Mapping[str, str], store: Store) -> None:
        from shutil import which

        self._cwd, self._environ = cwd, environ
        found = which("nix", path=environ.get("PATH", os.defpath))
        self._program = found or (_DEFAULT_NIX if os.path.exists(_DEFAULT_NIX) else "")
        if not self._program:
            debian = os.path.exists("/usr/bin/apt-get")
            command = "apt-get install nix-bin" if debian else "sh <(curl -L https://nixos.org/nix/install)"
            raise BackendUnavailable("a flake is built by nix, which is not installed", hint=command)
        self._prefix = ""
        self._options = [*_FEATURES, "--no-accept-flake-config"]
        if os.geteuid() == 0:
            self._options += _without_build_users()
        elif not (os.access(NIX_STORE, os.W_OK) or os.path.exists(_DAEMON)):
            self._prefix = store.directory_for("nix")
            self._options += ["--store", self._prefix]

    def real(self, path: str) -> str:
        """Give the place on the host of a store path."""
        return self._prefix + path

    def ask(self, verb: str, *words: str) -> bytes:
        """Have nix do something; gives what it said of it, JSON."""
        ended = self._run(verb, words, quiet=False)
        if ended.returncode:
            message = f"nix {verb} ended with status {ended.returncode}; what it said stands above"
            hint = f"try it alone: nix {verb} {words[-1]}"
            found = Finding(code="flake-not-built", path="--flake", message=message, hint=hint)
            raise PolicyRefused([found])
        return ended.stdout

    def main_program(self, ref: str) -> str | None:
        """Ask for `meta.mainProgram`, which a flake may leave out."""
        attribute = ref if "#" in ref else f"{ref}#default"
        ended = self._run("eval", ("--json", f"{attribute}.meta.mainProgram"), quiet=True)
        return None if ended.returncode else read_program(ended.stdout)

    def _run(self, verb: str, words: Sequence[str], *, quiet: bool) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._program, verb, *self._options, *words],
            cwd=self._cwd,
            env=dict(self._environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            check=False,
        )


def _without_build_users() -> list[str]:
    """Root builds as root where the machine has no users to build as, as in most containers."""
    import grp

    try:
        grp.getgrnam("nixbld")
    except KeyError:
        return ["--option", "build-users-group", ""]
    return []


def _name(ref: str, cwd: str) -> str:
    from hashlib import sha256

    return sha256(f"{cwd}\0{ref}".encode()).hexdigest()[:32]


def _digest(nar_hash: str) -> str:
    """Spell a hash as nix writes it (`sha256-BASE64`) as every other digest here."""
    kind, _, text = nar_hash.partition("-")
    return f"{kind}:{b64decode(text).hex()}"
