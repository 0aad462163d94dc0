"""`mvmctl doctor`: what this machine can enforce, per backend, and what would give it the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.printing import out, print_json, print_table, styled
from mvm.cli.verbs import HELP, examples
from mvm.errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.kernel.probe import Fact

_NEEDED = "backend namespace"
_BACKENDS = ("namespace", "oci", "qemu", "firecracker")


@click.command("doctor", context_settings=HELP, epilog=examples("mvmctl doctor", "mvmctl doctor --json"))
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def command(*, as_json: bool) -> int:
    """Say what this machine can enforce, per backend, and the one command that gives each missing thing.

    Everything is tried, not looked up. Exits 0 if `mvmctl run` works here, else 69.
    """
    from mvm.kernel.probe import probe

    facts = tuple(probe())
    backends = [_backend(name, facts) for name in _BACKENDS]
    works = bool(backends[0]["usable"])
    if as_json:
        shown = [fact._asdict() for fact in facts]
        print_json({"schema": "mvm.doctor/1", "ok": works, "facts": shown, "backends": backends})
    else:
        _print(facts, backends)
    return 0 if works else BackendUnavailable.exit_code


def _backend(name: str, facts: Sequence[Fact]) -> dict[str, object]:
    """Say of a backend whether it can be used, what it claims, and which demands it enforces."""
    from mvm.supervisor.prepare import find_backend
    from mvm.terms import Demand

    try:
        backend = find_backend(name)
    except BackendUnavailable as error:
        nothing: list[str] = []
        return {"name": name, "usable": False, "why": error.message, "isolation": None, "enforces": nothing}
    lacking = [fact.name for fact in facts if fact.serves == _NEEDED and not fact.ok]
    missing = backend.missing()
    return {
        "name": name,
        "usable": not lacking,
        "why": f"this machine withholds {', '.join(lacking)}" if lacking else "",
        "isolation": backend.isolation(),
        "enforces": [] if lacking else [str(demand) for demand in Demand if demand not in missing],
    }


def is_of_use(fact: Fact, planned: set[str]) -> bool:
    """Tell whether a fact serves more than backends that this version does not have."""
    served = fact.serves.replace(",", " ").replace(";", " ").split()
    return served[0] not in {"backend", "backends"} or not planned.issuperset(
        name for name in _BACKENDS if name in served
    )


def _print(facts: Sequence[Fact], backends: Sequence[dict[str, object]]) -> None:
    print_table(
        ("FACT", "", "WHAT WAS FOUND", "SERVES"),
        [(fact.name, "yes" if fact.ok else "no", fact.detail, fact.serves) for fact in facts],
    )
    planned = {str(backend["name"]) for backend in backends if backend["isolation"] is None}
    fixes = [(fact.name, fact.fix) for fact in facts if fact.fix and not fact.ok and is_of_use(fact, planned)]
    if fixes:
        out()
        print_table(("MISSING", "WHAT GIVES IT"), fixes)
    out()
    for backend in backends:
        enforces = backend["enforces"]
        assert isinstance(enforces, list), "made above"
        if backend["usable"]:
            out(styled(f"{backend['name']}: works here ({backend['isolation']})", "green"))
            out(f"  enforces {', '.join(enforces)}")
        else:
            out(f"{backend['name']}: {backend['why']}")
