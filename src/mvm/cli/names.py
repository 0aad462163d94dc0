"""Names of sandboxes, completed and looked up.

Owns what shells are told while a person types. Must never fail: a completion that errs shows nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.errors import MvmError

if TYPE_CHECKING:
    import click


def running(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a running sandbox."""
    from mvm.supervisor import registry

    try:
        return [name for name in registry.names(os.environ) if name.startswith(incomplete)]
    except MvmError:
        return []


def known(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a sandbox that runs or once ran, or the id of a run."""
    from mvm.audit.state import list_runs, state_directory

    try:
        runs = list_runs(state_directory(os.environ))
    except MvmError:
        return []
    words = dict.fromkeys(word for run in runs for word in (run.name, run.id) if word)
    return [word for word in words if word.startswith(incomplete)]
