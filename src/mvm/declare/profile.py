"""The word in which a program states a profile, and what a declaration with one may not say.

Owns these two; the rules themselves stand in `policy.browser`. Must never look at a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.declare.taken import finding, refused, text_of
from mvm.policy.browser import BrowserProfile, is_broad, judge_kept, judge_terms, make_profile
from mvm.policy.hosts import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mvm.errors import Finding
    from mvm.policy.document import PolicyDocument


def browser_profile(
    *,
    workspace: str | None = None,
    retain: str | None = None,
    long_ttl: str | None = None,
    credentials: Mapping[str, str] | None = None,
) -> BrowserProfile:
    """State that a sandbox is held to the browser's rules, for `profile=` of `app`, `func` and `Sandbox`.

    Args:
        workspace: the name of a directory that outlives the sandbox, as its home; None where nothing does.
        retain: how long that is kept after its last use, such as `7d`; to be said with it.
        long_ttl: why it may live longer than 30 minutes, or None where it does not.
        credentials: mounts that hold a browser's logins or cookies: path, and why the task needs it.

    Raises:
        PolicyRefused: one of these is not acceptable.
    """
    named = {} if credentials is None else credentials
    if not isinstance(named, dict):
        message = f"a {type(named).__name__} is no dictionary"
        raise refused("wrong-type", ".profile.credentials", message, 'write {"./profile": "why"}')
    return make_profile(
        Place(".profile", "mvm.browser_profile").at,
        workspace=None if workspace is None else text_of(workspace, ".profile.workspace"),
        retain=None if retain is None else text_of(retain, ".profile.retain"),
        long_ttl=None if long_ttl is None else text_of(long_ttl, ".profile.long_ttl"),
        credentials=[
            (text_of(path, ".profile.credentials"), text_of(why, ".profile.credentials"))
            for path, why in named.items()
        ],
    )


def about_profile(
    profile: BrowserProfile | None, policy: PolicyDocument, mounts: Sequence[str]
) -> Iterator[Finding]:
    """Say what the profile forbids of a declaration, as far as its text shows: files are looked at later.

    Args:
        profile: what was said, or None.
        policy: what may be reached, and for how long.
        mounts: `SRC:DST[:ro|rw]` each.
    """
    if profile is None:
        return
    yield from judge_terms(profile, policy.preset, policy.ttl)
    yield from judge_kept(profile)
    for number, text in enumerate(mounts):
        source, _, rest = text.partition(":")
        if is_broad(source.rstrip("/") or "/", ()):
            hint = "name the one directory that the task needs"
            message = f"{source!r} is a whole home or system directory"
            yield finding("browser-broad-mount", f".mounts[{number}]", message, hint)
        elif rest and not rest.endswith(":ro"):
            message, hint = f"{text!r} is writable, and outlives the sandbox", "write SRC:DST:ro"
            yield finding("browser-writable-mount", f".mounts[{number}]", message, hint)
