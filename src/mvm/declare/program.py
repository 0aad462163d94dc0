"""The sandboxes that a program declares: `mvm.app`, `mvm.func` and the words beside them.

Owns their shapes, what is refused of them as a whole, and the canonical JSON of a program (`mvm.program/1`).
Must never start anything or read a file: what stands here is the same whether a module was imported or its
syntax tree read.

    {"schema": "mvm.program/1", "workload": "crawler", "apps": [DECLARED, ...], "functions": [DECLARED, ...]}

    DECLARED   name, function, image, policy (`mvm.policy/1`, presets as words), resources, env, mounts,
               entrypoint; what was not said is null. profile is there only where it was said
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mvm.declare.network import document_of
from mvm.declare.profile import about_profile
from mvm.declare.taken import finding, is_text, refused, text_of, texts
from mvm.errors import PolicyRefused
from mvm.policy.browser import DEFAULT_TTL, BrowserProfile
from mvm.policy.document import document_to_json
from mvm.policy.quantities import parse_duration
from mvm.terms import Limits, Preset, Sends

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mvm.errors import Finding
    from mvm.policy.document import PolicyDocument
    from mvm.policy.model import Grant
    from mvm.terms import HostName

T = TypeVar("T")

SCHEMA = "mvm.program/1"

_MIB = 1 << 20
_MOST_MEMORY_MB = 1 << 24
_MOST_CPUS = 1 << 16
_LONGEST_NAME = 63  # RFC 1035 section 2.3.4: it is the sandbox's host name too
_NAME_HINT = "write letters, digits and hyphens, as a host name has them"


class Image(NamedTuple):
    """What a sandbox is made of.

    Attributes:
        kind: `host`, `python`, `flake` or `directory`.
        value: the version, reference or path; empty for `host`, and where any version will do.
        packages: what a Python has beside its own library, as pip takes them.
    """

    kind: str
    value: str = ""
    packages: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Give the object that the canonical JSON has."""
        return {"kind": self.kind, "value": self.value, "packages": list(self.packages)}


HOST = Image("host")
"""This machine's own system, read-only."""


class Secret(NamedTuple):
    """A value that is the caller's, and that a sandbox gets under the name of a variable.

    Attributes:
        name: of the caller's variable, which holds it.
        hosts: all that may receive it.
    """

    name: str
    hosts: tuple[HostName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One sandbox, as it was declared.

    Attributes:
        name: its own.
        function: the function that it was declared with.
        image: what it is made of.
        policy: what it may reach, and how long it lives.
        limits: what it may use.
        env: variables inside, values or secrets, by name.
        mounts: `SRC:DST[:ro|rw]` each, relative to the file that declares it.
        entrypoint: what is run in it, or None for the function.
        profile: stricter rules that it is held to, or None.
    """

    name: str
    function: str
    image: Image
    policy: PolicyDocument
    limits: Limits
    env: tuple[tuple[str, str | Secret], ...]
    mounts: tuple[str, ...]
    entrypoint: tuple[str, ...] | None
    profile: BrowserProfile | None = None

    def to_json(self) -> dict[str, object]:
        """Give the object that the canonical JSON has."""
        asked = any(part is not None for part in self.limits)
        held = {} if self.profile is None else {"profile": self.profile.to_json()}
        return {
            "name": self.name,
            "function": self.function,
            "image": self.image.to_json(),
            "policy": document_to_json(self.policy),
            "resources": {"cpu_cores": self.limits.cpus, "memory_bytes": self.limits.memory}
            if asked
            else None,
            "env": {name: _env_to_json(value) for name, value in self.env},
            "mounts": list(self.mounts),
            "entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            **held,
        }


def _env_to_json(value: str | Secret) -> object:
    return value if isinstance(value, str) else {"secret": value.name, "hosts": list(value.hosts)}


class Program(NamedTuple):
    """All that one file declares.

    Attributes:
        workload: its id, or None.
        apps, functions: in the order of the file.
    """

    workload: str | None
    apps: tuple[Declared, ...]
    functions: tuple[Declared, ...]

    def to_json(self) -> dict[str, object]:
        """Give the object for `canonical.encode`."""
        return {
            "schema": SCHEMA,
            "workload": self.workload,
            "apps": [declared.to_json() for declared in self.apps],
            "functions": [declared.to_json() for declared in self.functions],
        }

    def with_workload(self, name: str) -> Program:
        """Add the id.

        Raises:
            PolicyRefused: it has another one already.
        """
        if self.workload not in {None, name}:
            raise refused("duplicate-workload", ".workload", "a program has one id", "keep one of them")
        return self._replace(workload=name)

    def with_app(self, declared: Declared) -> Program:
        """Add an app.

        Raises:
            PolicyRefused: its name is taken.
        """
        return self._replace(apps=_with(self.apps, declared, "apps"))

    def with_function(self, declared: Declared) -> Program:
        """Add a function.

        Raises:
            PolicyRefused: its name is taken.
        """
        return self._replace(functions=_with(self.functions, declared, "functions"))


EMPTY = Program(None, (), ())
"""A file that declares nothing."""


def _with(declared: tuple[Declared, ...], one: Declared, kind: str) -> tuple[Declared, ...]:
    if one.name in {other.name for other in declared}:
        message = f"{one.name!r} is declared twice"
        raise refused("duplicate-name", f".{kind}[{len(declared)}].name", message, "give each its own name")
    return (*declared, one)


# ---- the words


def workload_id(*, id: str) -> str:  # noqa: A002  SPEC's word
    """Name the program as a whole, for `mvm.workload(id=...)`.

    Raises:
        PolicyRefused: it is no name.
    """
    return _name(id, ".workload")


def resources(cpu_cores: float | None = None, memory_mb: int | None = None) -> Limits:
    """State what a sandbox may use.

    Args:
        cpu_cores: processors, such as 1.5, or None for as many as there are.
        memory_mb: mebibytes, or None for as much as there is.

    Raises:
        PolicyRefused: one of these is no such number.
    """
    path, hint = ".resources", "write mvm.resources(cpu_cores=1, memory_mb=512)"
    if cpu_cores is not None and not (_is_number(cpu_cores) and 0 < cpu_cores <= _MOST_CPUS):
        raise refused("bad-resources", path, f"{cpu_cores!r} is no number of processors", hint)
    if memory_mb is not None and not (type(memory_mb) is int and 0 < memory_mb <= _MOST_MEMORY_MB):
        raise refused("bad-resources", path, f"{memory_mb!r} is no number of mebibytes", hint)
    cpus = None if cpu_cores is None else float(cpu_cores)
    return Limits(memory=None if memory_mb is None else memory_mb * _MIB, cpus=cpus)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def python_image(version: str | None = None, *, packages: Sequence[str] = ()) -> Image:
    """State that a sandbox is made of this machine's system with a Python.

    Args:
        version: `3.12`, or None for the caller's own.
        packages: what it has besides, as pip takes them.

    Raises:
        PolicyRefused: one of these is no text.
    """
    wanted = "" if version is None else text_of(version, ".image.version")
    return Image("python", wanted, texts(packages, ".image.packages"))


def nix_flake(ref: str = ".") -> Image:
    """State that a sandbox is made of a Nix flake.

    Args:
        ref: as `nix build` takes it.

    Raises:
        PolicyRefused: it is no text.
    """
    return Image("flake", text_of(ref, ".image.ref"))


def directory(path: str) -> Image:
    """State that a sandbox is made of a directory tree.

    Args:
        path: of the tree, absolute or relative to the file.

    Raises:
        PolicyRefused: it is no text.
    """
    return Image("directory", text_of(path, ".image.path"))


def secret(name: str, *, hosts: Sequence[str]) -> Secret:
    """State a value of the caller's environment that a sandbox gets, and who may receive it.

    Args:
        name: of the variable that holds it at the caller's.
        hosts: host names; what the sandbox is granted besides is refused.

    Raises:
        PolicyRefused: it is no name of a variable, or no host.
    """
    from mvm.policy.hosts import parse_host

    if not text_of(name, ".env").isidentifier():
        raise refused("bad-secret", ".env", f"{name!r} is no name of a variable", "write API_KEY")
    wanted = texts(hosts, ".env.hosts")
    if not wanted:
        hint = f'write mvm.secret({name!r}, hosts=["api.example.com"])'
        raise refused("bad-secret", ".env.hosts", f"{name} may be sent to nobody", hint)
    found = [parse_host(host, path=".env.hosts", source=f"mvm.secret: {name}") for host in wanted]
    return Secret(name, tuple(host for host in found if isinstance(host, str)))


def declared(
    function: str,
    source: str,
    /,
    *,
    network: object,
    name: str | None = None,
    image: object = None,
    resources: object = None,
    env: Mapping[str, object] | None = None,
    mounts: Sequence[str] = (),
    entrypoint: Sequence[str] | None = None,
    ttl: str | None = None,
    profile: object = None,
) -> Declared:
    """Declare one sandbox, and judge it as a whole.

    Args:
        function: the function that it stands above.
        source: who says it, for findings.
        network: what it may reach (`mvm.network`); nothing stands for it, so it must be said.
        name: its own, or None for the function's.
        image: what it is made of (`python_image`, `nix_flake`, `directory`), or None for this machine.
        resources: what it may use (`resources`), or None.
        env: variables inside: text, or a `secret`.
        mounts: `SRC:DST[:ro|rw]` each, relative to the file.
        entrypoint: the words of what is run, or None for the function.
        ttl: how long it may live, such as `30m`, or None.
        profile: stricter rules that it is held to (`browser_profile`), or None.

    Raises:
        PolicyRefused: one of these is not acceptable, or the sum of them.
    """
    from mvm.policy.check import check_document

    lives = None if ttl is None else parse_duration(text_of(ttl, ".ttl"), path=".ttl", source=source)
    if profile is not None:
        _typed(profile, BrowserProfile, ".profile", "mvm.browser_profile()")
        lives = DEFAULT_TTL if lives is None else lives
    document = document_of(network, path=source, ttl=lives)
    check_document(document)
    made = Declared(
        name=_name(function.strip("_").replace("_", "-") if name is None else name, ".name"),
        function=function,
        image=_typed(HOST if image is None else image, Image, ".image", "mvm.python_image()"),
        policy=document,
        limits=_typed(
            Limits() if resources is None else resources, Limits, ".resources", "mvm.resources(1, 512)"
        ),
        env=_env({} if env is None else env),
        mounts=texts(mounts, ".mounts"),
        entrypoint=None if entrypoint is None else texts(entrypoint, ".entrypoint"),
        profile=profile if isinstance(profile, BrowserProfile) else None,
    )
    findings = [*_about_secrets(made), *about_profile(made.profile, made.policy, made.mounts)]
    if made.entrypoint == ():
        findings.append(
            finding("empty-entrypoint", ".entrypoint", "there is no word in it", 'write ["make"]')
        )
    if findings:
        raise PolicyRefused(findings)
    return made


def _env(stated: object) -> tuple[tuple[str, str | Secret], ...]:
    if not isinstance(stated, dict):
        message = f"`env` is a {type(stated).__name__}, not a dictionary"
        raise refused("wrong-type", ".env", message, 'write env={"NAME": "value"}')
    made: list[tuple[str, str | Secret]] = []
    for name, value in stated.items():
        if not isinstance(name, str) or not name or "=" in name or not is_text(name):
            raise refused("bad-variable", ".env", f"{name!r} names no variable", 'write {"NAME": "value"}')
        if isinstance(value, Secret) or value == "":
            made.append((name, value))
        else:
            made.append((name, text_of(value, f".env.{name}")))
    return tuple(sorted(made))


def _about_secrets(made: Declared) -> Iterable[Finding]:
    """What holds a secret may send it to whatever it reaches, so all of that must be said to receive it."""
    for name, value in made.env:
        if isinstance(value, str):
            continue
        path, hosts = f".env.{name}", value.hosts
        if made.policy.preset is not Preset.NONE:
            message = f"the preset `{made.policy.preset}` opens hosts that {value.name} is not meant for"
            yield finding("secret-beyond-hosts", path, message, "grant each host, and leave the preset out")
        for grant in made.policy.grants:
            if grant.host not in hosts or grant.depth is not None:
                message = f"{value.name} could be sent to {grant.host}, which is not among its `hosts`"
                hint = "name the host there, or give the secret to a sandbox of its own"
                yield finding("secret-beyond-hosts", path, message, hint)
            elif _receives_no_secret(grant):
                message = f"{value.name} is for {grant.host}, whose grant says `sends={grant.sends}`"
                yield finding("secret-not-sent", path, message, 'write sends="secrets" in the grant')


def _receives_no_secret(grant: Grant) -> bool:
    return grant.sends is not None and grant.sends is not Sends.SECRETS


# ---- reading what a word was given


def _name(text: object, path: str) -> str:
    name = text_of(text, path)
    plain = name.replace("-", "")
    if not (plain.isalnum() and name.isascii() and name[0] != "-" != name[-1] and len(name) <= _LONGEST_NAME):
        raise refused("bad-name", path, f"{name!r} is no name", _NAME_HINT)
    return name


def _typed(value: object, kind: type[T], path: str, example: str) -> T:
    if not isinstance(value, kind):
        message = f"a {type(value).__name__} stands where {example} should"
        raise refused("wrong-type", path, message, f"write {path[1:]}={example}")
    return value
