"""The options of `run` and `up`: the same words with the same meaning, and the request made of them.

Owns their spelling. What can be done with them is decided in `supervisor.prepare`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NotRequired, TypeVar

import click

from mvm.cli.policy_options import PolicyWords, policy_options, resolve_policy
from mvm.errors import PolicyRefused, UsageError
from mvm.terms import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mvm.cli.app import App
    from mvm.cli.capability.use import Use
    from mvm.policy.browser import BrowserProfile
    from mvm.policy.resolve import Resolved
    from mvm.supervisor.request import Request

T = TypeVar("T")

_LEAST_MEMORY = 1 << 20  # less is a forgotten unit
ON_DENIED = ("report", "fail", "ask")


class SandboxWords(PolicyWords):
    """What the options gave, each as it was typed; `alone` where no policy file is looked for."""

    name: str | None
    image: str
    flake: str | None
    backend: str
    port: tuple[str, ...]
    volume: tuple[str, ...]
    workspace: str | None
    workdir: str | None
    user: str | None
    overlay: str | None
    env: tuple[str, ...]
    memory: str | None
    cpus: float | None
    pids: int | None
    timeout: str | None
    ttl: str | None
    on_denied: str
    profile: str | None
    app: str | None
    capability: str | None
    capabilities: str | None
    receipt: str | None
    as_json: bool
    dry_run: bool
    alone: NotRequired[bool]


class Wanted:
    """What the words come to.

    Attributes:
        request: for the supervisor.
        resolved: the policy in it, with the source of each part.
        found: the policy file that was found unasked, or None.
        app: what a file declares, or None.
        environ: what stands for the caller's environment.
    """

    def __init__(self, request: Request, resolved: Resolved, found: str | None, app: App | None) -> None:
        self.request, self.resolved, self.found, self.app = request, resolved, found, app
        self.environ: Mapping[str, str] = os.environ
        if app is not None:
            self.request, self.environ = app.onto(request), app.surroundings


_OPTIONS: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
    click.option("--name", metavar="NAME", help="The sandbox's name; made up if left out."),
    click.option(
        "--image",
        default="host",
        show_default=True,
        metavar="IMAGE",
        help="What it is made of: host (this system, read-only), dir:PATH, tar:PATH, oci:PATH[:TAG].",
    ),
    click.option("--flake", metavar="REF", help="Make it of a Nix flake instead."),
    click.option(
        "--backend",
        "--hypervisor",
        "backend",
        default="auto",
        show_default=True,
        metavar="BACKEND",
        help="How it is isolated: auto, namespace, oci, qemu, firecracker.",
    ),
    policy_options,
    click.option(
        "-p",
        "--port",
        multiple=True,
        metavar="[IP:]PORT:PORT",
        help="Lead a port of this machine (127.0.0.1 unless named) to one inside; it opens no way out.",
    ),
    click.option(
        "-v",
        "--volume",
        multiple=True,
        metavar="SRC:DST[:ro|rw]",
        help="Show a file or directory inside, writable unless ro. Sockets of this machine in it are "
        "covered at the start; one that is made later may be reached. May be repeated.",
    ),
    click.option(
        "--workspace", metavar="DIR", help="A directory that is writable inside, and where it starts."
    ),
    click.option("-w", "--workdir", metavar="DIR", help="Where it starts, as a path inside."),
    click.option(
        "--overlay",
        metavar="NAME",
        help="Keep what is changed in the image under this name, for the next one.",
    ),
    click.option("--user", metavar="USER[:GROUP]", help="Who it is, of the users that an image has."),
    click.option(
        "-e",
        "--env",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Set a variable inside, or pass the caller's on. May be repeated.",
    ),
    click.option("--memory", metavar="SIZE", help="The most memory it may use: 512MB, 2GiB."),
    click.option("--cpus", type=float, metavar="N", help="The most processors it may use: 1.5."),
    click.option("--pids", type=int, metavar="N", help="The most processes and threads it may have."),
    click.option(
        "--timeout", metavar="TIME", help="End it after that time, with status 124: 90s, 10m, 1h30m."
    ),
    click.option("--ttl", metavar="TIME", help="How long it may live; a part of its policy."),
    click.option(
        "--on-denied",
        type=click.Choice(ON_DENIED),
        default="report",
        show_default=True,
        help="What a denial does: report goes on, fail ends it with status 77.",
    ),
    click.option(
        "--app",
        metavar="FILE[:NAME]",
        help="The sandbox that a Python file declares with @mvm.app; the file is read, not imported.",
    ),
    click.option(
        "--profile",
        metavar="PROFILE",
        help="Hold it to stricter rules: browser[,KEY=VALUE]… with workspace, retain, long-ttl, credentials.",
    ),
    click.option(
        "--capability",
        metavar="TOOL",
        help="Grant what --capabilities FILE fixes for a tool; 77 if it has no such tool.",
    ),
    click.option(
        "--capabilities", metavar="FILE", help="The capability file: JSON, tools with their fixed grants."
    ),
    click.option(
        "--receipt",
        metavar="FILE",
        help="Write the signed receipt of the run to a file that is not there yet.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object."),
    click.option("--dry-run", is_flag=True, help="Print the resolved policy and the plan; start nothing."),
)


def sandbox_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `SandboxWords` to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def want(words: SandboxWords, argv: tuple[str, ...]) -> Wanted:
    """Make a request of the words.

    Raises:
        UsageError: a word is wrong.
        PolicyRefused: what is to be reached is refused.
        PolicyDenied: the capability file has no such tool; that is recorded.
        AuditError: it can't be.
        BackendUnavailable: it is not part of this version.
    """
    from mvm.policy.parse import parse_duration
    from mvm.supervisor.request import Request

    _refuse_absent(words)
    timeout = _read("--timeout", words["timeout"], parse_duration)
    use = _use(words)
    tool = None if use is None else use.capability
    app = _app(words, argv)
    profile = _profile(words, app)
    resolved, found = resolve_policy(
        _policy_words(words),
        ports=words["port"],
        ttl=words["ttl"],
        tool=tool,
        stated=None if app is None else app.declared.policy,
        looks=not words.get("alone", False),
    )
    if profile is not None:
        resolved = _bounded(resolved)
    request = Request(
        policy=resolved.policy,
        argv=argv,
        name=words["name"],
        warnings=resolved.warnings if use is None else (*use.warnings, *resolved.warnings),
        backend=words["backend"],
        image=words["image"],
        flake=words["flake"],
        workspace=words["workspace"],
        volumes=words["volume"],
        workdir=words["workdir"],
        user=words["user"],
        overlay=words["overlay"],
        environ=words["env"],
        limits=_limits(words),
        timeout=timeout,
        stop_on_denial=words["on_denied"] == "fail",
        decided=() if use is None else use.decided,
        profile=profile,
        receipt=words["receipt"],
    )
    return Wanted(request, resolved, found, app)


def _profile(words: SandboxWords, app: App | None) -> BrowserProfile | None:
    """Read the profile; beside an app's own, a flag may only say it again."""
    declared = None if app is None else app.profile
    if words["profile"] is None:
        return declared
    from mvm.policy.browser import BrowserProfile, parse_profile

    stated = parse_profile(words["profile"])
    if declared is None or declared == stated:
        return stated
    if stated != BrowserProfile():
        raise UsageError(
            "--app and --profile both say what the profile is",
            hint="write --profile browser, or leave it out",
        )
    return declared


def _bounded(resolved: Resolved) -> Resolved:
    """Give what is held to a profile a life time, where nobody did."""
    from mvm.policy.browser import bounded

    if resolved.policy.ttl is not None:
        return resolved
    sources = {**resolved.sources, ".network.ttl": "--profile"}
    return resolved._replace(policy=bounded(resolved.policy), sources=sources)


def _limits(words: SandboxWords) -> Limits:
    from mvm.policy.parse import parse_size

    cpus, pids = words["cpus"], words["pids"]
    if cpus is not None and not 0 < cpus < float("inf"):
        raise UsageError(f"--cpus {cpus:g} is no number of processors", hint="write one like 1.5")
    if pids is not None and pids < 1:
        raise UsageError(f"--pids {pids} leaves no room for a process", hint="write one like 256")
    memory = _read("--memory", words["memory"], parse_size)
    if memory is not None and memory < _LEAST_MEMORY:
        raise UsageError(f"--memory {words['memory']} is {memory} bytes", hint="write a unit: 512MB, 2GiB")
    return Limits(memory, cpus, pids)


def _use(words: SandboxWords) -> Use | None:
    if words["capability"] is None and words["capabilities"] is None:
        return None
    from mvm.cli.capability.use import decide_use

    return decide_use(words["capability"], words["capabilities"], recorded=not words["dry_run"])


def _app(words: SandboxWords, argv: tuple[str, ...]) -> App | None:
    if words["app"] is None:
        return None
    if words["policy"] is not None:
        raise UsageError("--app and --policy both say what is granted", hint="leave one of them out")
    from mvm.cli.app import open_app

    return open_app(words["app"], argv, os.environ)


def _refuse_absent(words: SandboxWords) -> None:
    if words["on_denied"] == "ask":
        raise UsageError(
            "--on-denied ask holds a connection until somebody answers, which this version does not do",
            hint="write --on-denied report, and grant more with mvmctl network allow NAME HOST:PORT",
        )


def _policy_words(words: SandboxWords) -> PolicyWords:
    return PolicyWords(
        network_preset=words["network_preset"],
        network_allow=words["network_allow"],
        policy=words["policy"],
        dns=words["dns"],
        dns_static=words["dns_static"],
    )


def _read(flag: str, text: str | None, reader: Callable[..., T]) -> T | None:
    """Read a quantity that is no part of the policy: what is wrong with it is wrong usage."""
    if text is None:
        return None
    try:
        return reader(text, path=flag)
    except PolicyRefused as refusal:
        first = refusal.findings[0]
        raise UsageError(f"{flag}: {first.message}", hint=first.hint) from None
