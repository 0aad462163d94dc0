"""The browser profile: stricter rules for what carries cookies, sessions, downloads and a user's data.

Owns the profile's words and its rules. Must never look at a file: what a mount holds is handed in.

    PROFILE = "browser" *( "," KEY "=" VALUE )      values quoted as in a grant
    KEY     = "workspace" | "retain" | "long-ttl" | "credentials" (PATH ":" REASON; may be repeated)

What the page asks, and how it is held:

- *no broad host mounts*: no system directory, no home, nothing above one; nothing with a socket in it; and
  nothing that is too large, or not ours, to be looked through.
- *short TTL*: where none is said, 30 minutes are set. A longer one is refused unless `long-ttl` says why; a
  reason is asked for, not a second number, since the number stands in the policy already.
- *explicit egress allowlist*: no preset but `none`, neither `registries` nor `agent`: what a preset opens
  depends on the machine and the version, and a reader of the declaration does not see it.
- *isolated persistent workspace*: nothing of the caller's is writable. What must survive has a named
  workspace, a directory of mvm's own that is the home inside; there is no other place that outlives it.
- *no credential-bearing browser profile*: a mount with a browser's stored logins or cookies is refused unless
  `credentials` names it, with a reason.
- *retention*: a named workspace is the only cold state there is. It says how long it is kept after its last
  use (`retain`), and is removed after that; without such a rule it is refused.

Known holes: credentials are known by the names that browsers give their files: a renamed copy is not found,
and what is put into a mount after the start is not looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import PolicyRefused
from mvm.policy.fields import did_you_mean, read_reason
from mvm.policy.hosts import Place, shown
from mvm.policy.quantities import format_duration, parse_duration
from mvm.terms import Preset, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mvm.errors import Finding
    from mvm.policy.model import Policy

NAME = "browser"
FLAG = "--profile"
DEFAULT_TTL = Seconds(1800)
"""How long it lives where nothing is said, and at most where no reason is given."""

_KEYS = ("workspace", "retain", "long-ttl", "credentials")
_LONGEST_NAME = 63
_RECORDED_LETTERS = 500
_HINT_MOUNT = "name the one directory that the task needs"

# ---------------------------------------------------------------------------------------------- the words


class BrowserProfile(NamedTuple):
    """The profile, with what was said of it.

    Attributes:
        workspace: the name of what survives, or None where nothing does.
        retain: how long that is kept after its last use, or None where it is not said.
        long_ttl: why it may live longer than `DEFAULT_TTL`, or None.
        credentials: mounts that may hold a browser's credentials: path, and why.
    """

    workspace: str | None = None
    retain: Seconds | None = None
    long_ttl: str | None = None
    credentials: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, object]:
        """Give the canonical object; what was not said is left out."""
        stated: dict[str, object] = {
            "name": NAME,
            "workspace": self.workspace,
            "retain": None if self.retain is None else format_duration(self.retain),
            "long_ttl": self.long_ttl,
            "credentials": dict(self.credentials) or None,
        }
        return {key: value for key, value in stated.items() if value is not None}

    def to_record(self) -> dict[str, object]:
        """Give the fields that the record of a start has of it."""
        return {
            "profile": NAME,
            "workspace": self.workspace,
            "retain": self.retain,
            "long_ttl": None if self.long_ttl is None else self.long_ttl[:_RECORDED_LETTERS],
            "credentials": [f"{path}: {why}"[:_RECORDED_LETTERS] for path, why in self.credentials] or None,
        }

    def describe(self) -> tuple[str, ...]:
        """Give its lines for people."""
        kept = "nothing outlives it"
        if self.workspace is not None and self.retain is not None:
            kept = f"the workspace {self.workspace} outlives it, for {format_duration(self.retain)}"
        lines = [NAME, kept]
        if self.long_ttl is not None:
            lines.append(f"may live long: {self.long_ttl}")
        lines += [f"credentials in {path}: {reason}" for path, reason in self.credentials]
        return tuple(lines)


def make_profile(
    at: Callable[[str], Place],
    *,
    workspace: str | None = None,
    retain: str | None = None,
    long_ttl: str | None = None,
    credentials: Iterable[tuple[str, str]] = (),
) -> BrowserProfile:
    """Read the profile's words; `judge` says whether they are enough.

    Args:
        at: gives the place of a key, for findings.
        workspace: letters, digits and hyphens, in lower case.
        retain: a length of time.
        long_ttl: a reason.
        credentials: paths, and a reason each.

    Raises:
        PolicyRefused: one of these is none.
    """
    if workspace is not None and not _is_name(workspace):
        hint = "write lower-case letters, digits and hyphens, like shop-account"
        raise at("workspace").refused("browser-bad-workspace", f"{shown(workspace)} names no workspace", hint)
    place = at("retain")
    lasts = None if retain is None else parse_duration(retain, path=place.path, source=place.source)
    why = None if long_ttl is None else read_reason(long_ttl, at("long_ttl"))
    place = at("credentials")
    named = tuple((_path(path, place), read_reason(reason, place)) for path, reason in credentials)
    return BrowserProfile(workspace, lasts, why, named)


def _is_name(text: str) -> bool:
    plain = text.replace("-", "")
    fits = text.isascii() and plain.isalnum() and text == text.lower() and len(text) <= _LONGEST_NAME
    return fits and not text.startswith("-") and not text.endswith("-")


def _path(text: str, place: Place) -> str:
    if not text or not text.isprintable():
        message = f"{shown(text)} is no path of a mount"
        raise place.refused("browser-bad-credentials", message, "write PATH:REASON, both on one line")
    return text


def parse_profile(text: str, *, source: str = FLAG) -> BrowserProfile:
    """Read the profile from a command line.

    Args:
        text: as at the head of this file.
        source: the flag, for findings.

    Raises:
        PolicyRefused: it is none.
    """
    from mvm.policy.grants import read_items

    place = Place(source)
    name, comma, rest = text.partition(",")
    if name != NAME:
        raise place.refused("unknown-profile", f"{shown(name)} is no profile", f"write {FLAG} {NAME}")
    words: dict[str, str] = {}
    credentials: list[tuple[str, str]] = []
    for key, value in read_items(rest, place) if comma else ():
        if key not in _KEYS:
            message = f"{shown(key)} is no key of a profile"
            raise place.refused("unknown-key", message, did_you_mean(key, _KEYS))
        if value is None:
            raise place.refused("missing-value", f"`{key}` has no value", f"write {key}=VALUE")
        if key == "credentials":
            path, _, reason = value.partition(":")
            credentials.append((path, reason))
        elif key in words:
            raise place.refused("duplicate-key", f"`{key}` is given twice", "give each key once")
        else:
            words[key] = value
    return make_profile(
        lambda _key: place,
        workspace=words.get("workspace"),
        retain=words.get("retain"),
        long_ttl=words.get("long-ttl"),
        credentials=credentials,
    )


def bounded(policy: Policy) -> Policy:
    """Give a policy a life time, where it has none: `DEFAULT_TTL`."""
    return policy if policy.ttl is not None else replace(policy, ttl=DEFAULT_TTL)


# ---------------------------------------------------------------------------------------------- the facts


class Mount(NamedTuple):
    """Something of the caller's that is seen inside, and what was found in it.

    Attributes:
        path: the flag that it came from, or a jq path, for findings.
        source: absolute real path.
        writable: whether it may be changed from inside.
        sockets: the sockets in it; absolute paths, some of them where there are many.
        credentials: what in it holds a browser's credentials, likewise.
        unread: why not all of it was looked through, or None.
    """

    path: str
    source: str
    writable: bool
    sockets: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    unread: str | None = None


_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/proc",
    "/root", "/run", "/sbin", "/srv", "/sys", "/usr", "/usr/local", "/usr/share", "/var", "/var/lib",
    "/var/run",
    "/tmp", "/var/tmp",  # noqa: S108 - named to be refused
    "/Users", "/Volumes", "/run/user", "/run/media",
)  # fmt: skip
_HOMES = ("/home", "/Users", "/run/user")

# By the names that the browsers and keyrings themselves give them.
_FILES = frozenset(
    (
        "Login Data", "Login Data For Account", "Cookies", "Web Data", "Account Web Data", "Local State",
        "Safe Browsing Cookies", "Extension Cookies",
        "key3.db", "key4.db", "logins.json", "logins-backup.json", "signons.sqlite", "cookies.sqlite",
        "Cookies.binarycookies", "user.keystore", "login.keyring",
    )
)  # fmt: skip
_ENDINGS = (".keyring", ".keychain", ".keychain-db", ".kwl")
_DIRECTORIES = (
    ".config/google-chrome", ".config/google-chrome-beta", ".config/google-chrome-unstable",
    ".config/chromium", ".config/microsoft-edge", ".config/microsoft-edge-beta", ".config/microsoft-edge-dev",
    ".config/bravesoftware", ".config/vivaldi", ".config/opera",
    ".mozilla/firefox", ".librewolf", ".waterfox", "snap/firefox", "snap/chromium", "snap/brave",
    ".var/app/org.mozilla.firefox", ".var/app/org.chromium.chromium", ".var/app/com.google.chrome",
    ".var/app/com.brave.browser", ".var/app/com.microsoft.edge",
    ".local/share/keyrings", ".local/share/kwalletd", ".pki/nssdb",
    "library/safari", "library/containers/com.apple.safari", "library/keychains",
    "library/application support/google/chrome", "library/application support/chromium",
    "library/application support/bravesoftware", "library/application support/microsoft edge",
    "library/application support/firefox",
)  # fmt: skip


def holds_credentials(path: str) -> bool:
    """Tell whether a file or directory is one in which a browser or a keyring keeps credentials.

    Args:
        path: absolute. Whatever lies in a browser's own directory counts too.
    """
    name = path.rpartition("/")[2]
    if name in _FILES or name.lower().endswith(_ENDINGS):
        return True
    below = f"{path.lower()}/"
    return any(f"/{directory}/" in below for directory in _DIRECTORIES)


# ---------------------------------------------------------------------------------------------- the rules


def judge(
    policy: Policy, profile: BrowserProfile, mounts: Sequence[Mount], homes: Sequence[str]
) -> tuple[Finding, ...]:
    """Say what the profile forbids of a sandbox.

    Args:
        policy: what it may reach, and how long it lives.
        profile: what was said.
        mounts: all that it sees of the caller's files.
        homes: real paths of the caller's home directory.

    Returns:
        A finding for each breach; empty for what may start.
    """
    return (
        *judge_terms(profile, policy.preset, policy.ttl),
        *judge_kept(profile),
        *(finding for mount in mounts for finding in _judge_mount(mount, profile, homes)),
    )


def judge_terms(profile: BrowserProfile, preset: Preset, ttl: Seconds | None) -> Iterator[Finding]:
    """Say what the profile forbids of a policy."""
    if preset is not Preset.NONE:
        message = f"the preset `{preset}` opens hosts that nobody named, and a browser names its own"
        hint = "leave the preset out, and grant each host: mvmctl network presets shows what it opens"
        yield Place(".network.preset").finding("browser-preset", message, hint)
    if ttl is None:
        message, hint = "a browser without a life time keeps its sessions open", "write a ttl, such as 30m"
        yield Place(".network.ttl").finding("browser-no-ttl", message, hint)
    elif ttl > DEFAULT_TTL and profile.long_ttl is None:
        most = format_duration(DEFAULT_TTL)
        message = f"{format_duration(ttl)} is longer than {most}, and nobody says why"
        hint = f"write {most} or less, or say why: long-ttl=REASON (in Python long_ttl)"
        yield Place(".network.ttl").finding("browser-long-ttl", message, hint)


def judge_kept(profile: BrowserProfile) -> Iterator[Finding]:
    """Say whether what outlives a sandbox has a rule by which it goes."""
    if profile.workspace is not None and profile.retain is None:
        message = f"the workspace {profile.workspace} would be kept for ever"
        hint = "say how long after its last use: retain=7d"
        yield Place(".profile.retain").finding("browser-no-retention", message, hint)
    if profile.workspace is None and profile.retain is not None:
        hint = "name what is to be kept: workspace=NAME, or leave retain out"
        yield Place(".profile.retain").finding("browser-nothing-retained", "nothing outlives it", hint)


def _judge_mount(mount: Mount, profile: BrowserProfile, homes: Sequence[str]) -> Iterator[Finding]:
    place, source = Place(mount.path), mount.source
    if is_broad(source, homes):
        message = f"{shown(source)} is a whole home or system directory"
        yield place.finding("browser-broad-mount", message, _HINT_MOUNT)
        return
    if mount.unread is not None:
        message = f"what is in {shown(source)} is not known: {mount.unread}"
        yield place.finding("browser-unread-mount", message, _HINT_MOUNT)
    if mount.sockets:
        message = f"{shown(mount.sockets[0])} is a socket: a way out beside the gateway"
        yield place.finding("browser-socket-mount", message, _HINT_MOUNT)
    if mount.writable:
        message = f"{shown(source)} is writable, so that what a page leaves there outlives the sandbox"
        hint = "write SRC:DST:ro; for what must survive: workspace=NAME with retain=DURATION"
        yield place.finding("browser-writable-mount", message, hint)
    named = {path for path, _ in profile.credentials}
    if mount.credentials and source not in named:
        message = f"{shown(mount.credentials[0])} holds a browser's credentials"
        hint = "leave it out, or say why the task needs it: credentials=SRC:REASON"
        yield place.finding("browser-credentials", message, hint)


def is_broad(source: str, homes: Sequence[str]) -> bool:
    """Tell whether a directory is the machine's, somebody's whole home, or above one.

    Args:
        source: absolute real path.
        homes: real paths of the caller's home directory.
    """
    above = source.rstrip("/") + "/"
    parent = source.rpartition("/")[0]
    return (
        source in _SYSTEM
        or parent in _HOMES
        or any(f"{place}/".startswith(above) for place in (*_SYSTEM, *homes) if place)
    )


def refuse(findings: Sequence[Finding]) -> None:
    """Refuse what has findings.

    Raises:
        PolicyRefused: there is one.
    """
    if findings:
        raise PolicyRefused(findings)
