"""Everything about one sandbox, decided before anything is made.

Owns the shape of a plan and its description, which `--dry-run` prints. Pure: the facts about this
machine were handed in by whoever filled it. A backend applies exactly what stands here, or refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.plan.identity import Identity
    from mvm.plan.view import View
    from mvm.policy.browser import BrowserProfile
    from mvm.policy.model import Policy
    from mvm.terms import Demand, Limits, Seconds


class Command(NamedTuple):
    """One program to be run in a sandbox.

    Attributes:
        argv: at least one word; the first is looked up on the sandbox's PATH.
        environ: the whole environment.
        workdir: absolute path inside.
        terminal: rows and columns of a terminal of the sandbox's own, or None for the streams as given.
    """

    argv: tuple[str, ...]
    environ: dict[str, str]
    workdir: str
    terminal: tuple[int, int] | None = None


class Plan(NamedTuple):
    """One sandbox.

    Attributes:
        run: its run id.
        name: its name, a lower-case host name label.
        backend: who isolates it.
        isolation: what that claims, in words.
        policy: what it may reach.
        requested: what the policy demands of the backend.
        achieved: those demands that the backend enforces; all of `requested`, or there is no plan.
        identity: who the workload is, outside and inside.
        view: the file tree and environment it sees.
        workdir: where commands start.
        limits: what it may use.
        timeout: seconds until it is ended, or None.
        image: which image the tree is made of, in words.
        digest: of the image, or None for what is used where it lies.
        profile: stricter rules that it was held to, or None.
    """

    run: str
    name: str
    backend: str
    isolation: str
    policy: Policy
    requested: tuple[Demand, ...]
    achieved: tuple[Demand, ...]
    identity: Identity
    view: View
    workdir: str
    limits: Limits
    timeout: Seconds | None
    image: str
    digest: str | None
    profile: BrowserProfile | None = None

    def describe(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return the steps in their order: a title each, and its lines."""
        held = () if self.profile is None else (("profile", self.profile.describe()),)
        return (
            *held,
            ("identity", (self.identity.describe(),)),
            ("image", (self.image if self.digest is None else f"{self.image} ({self.digest})",)),
            ("isolation", (f"{self.backend}: {self.isolation}",)),
            ("door", _door(self.policy)),
            ("files", self.view.describe()),
            ("limits", _limits(self.limits)),
            ("environment", tuple(sorted(self.view.environ))),
        )


def _limits(limits: Limits) -> tuple[str, ...]:
    return tuple(f"{name} {getattr(limits, name)}" for name in limits.asked()) or ("none",)


def _door(policy: Policy) -> tuple[str, ...]:
    from mvm.policy.parse import format_dns, format_forward, format_grant

    lines = ["no link out, no route: every address is local"]
    lines += [f"open {format_grant(grant)}" for grant in policy.grants]
    if policy.unrestricted:
        lines.append("open every public host, by name")
    lines.append(f"names: {format_dns(policy.dns)}")
    lines += [f"inbound {format_forward(forward)}" for forward in policy.forwards]
    return tuple(lines)


def render(steps: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """Write the steps for people."""
    return "".join(f"{title}\n" + "".join(f"  {line}\n" for line in lines) for title, lines in steps)
