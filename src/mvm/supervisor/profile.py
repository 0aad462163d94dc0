"""A request's profile held to: its rules judged against this machine, and its workspace found and taken.

Owns the facts that `policy.browser` asks for. Loaded only where there is a profile.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from mvm.audit.state import state_directory
from mvm.images.sift import look_into_tree, look_through
from mvm.plan.view import Bind
from mvm.policy.browser import judge, refuse
from mvm.supervisor.kept import Kept, kept_path, take

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mvm.policy.browser import BrowserProfile
    from mvm.supervisor.request import Request


def require_profile(
    request: Request,
    volumes: Sequence[Bind],
    workspace: str | None,
    *,
    environ: Mapping[str, str],
    cwd: str,
) -> str | None:
    """Refuse what the profile forbids; nothing is made.

    Args:
        request: one with a profile.
        volumes: as `images.volumes.parse_volume` made them.
        workspace: a real path, or None.
        environ: the caller's environment.
        cwd: the caller's working directory, absolute.

    Returns:
        Where the files of its own workspace are, or will be; None where nothing outlives it.

    Raises:
        PolicyRefused: with every finding.
        AuditError: there is no place for a workspace.
    """
    profile = request.profile
    assert profile is not None, "asked only where there is one"
    asked = list(volumes)
    if workspace is not None:
        asked.append(Bind(workspace, workspace, writable=True, optional=False, reason="workspace"))
    named = tuple((os.path.realpath(os.path.join(cwd, path)), why) for path, why in profile.credentials)
    homes = [os.path.realpath(home) for home in (environ.get("HOME", ""),) if home.startswith("/")]
    placed = profile._replace(credentials=named)
    mounts = [look_through(bind) for bind in asked]
    if request.image.startswith("dir:"):  # its tree is the caller's too; that it is large is no surprise
        tree = os.path.realpath(os.path.join(cwd, request.image.removeprefix("dir:")))
        mounts.append(look_into_tree(tree))
    refuse(judge(request.policy, placed, mounts, homes))
    if profile.workspace is None:
        return None
    return kept_path(os.path.realpath(state_directory(environ)), profile.workspace)


def take_workspace(state: str, profile: BrowserProfile) -> Kept | None:
    """Take the profile's workspace, if it has one.

    Args:
        state: the state directory.
        profile: as `require_profile` passed it.

    Raises:
        UsageError: another sandbox uses it.
        AuditError: it can't be kept there.
    """
    if profile.workspace is None:
        return None
    assert profile.retain is not None, "judged before"
    return take(state, profile.workspace, profile.retain, time.time())
