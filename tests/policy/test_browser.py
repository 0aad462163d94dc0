"""The browser profile's words and rules by themselves: each rule with what it refuses and what it passes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mvm.errors import PolicyRefused
from mvm.policy.browser import (
    DEFAULT_TTL,
    BrowserProfile,
    Mount,
    bounded,
    holds_credentials,
    is_broad,
    judge,
    parse_profile,
)
from mvm.policy.resolve import Asked, resolve
from mvm.terms import Preset, Seconds

_DAY = Seconds(86_400)
_POLICY = bounded(resolve(Asked(allow=("api.example.com:443",)), list).policy)
_HOME = "/home/ann"
_PLAIN = BrowserProfile()


def _codes(*mounts: Mount, profile: BrowserProfile = _PLAIN) -> list[str]:
    return [finding.code for finding in judge(_POLICY, profile, mounts, (_HOME,))]


def _mount(source: str, credentials: tuple[str, ...] = ()) -> Mount:
    return Mount("--volume", source, writable=False, credentials=credentials)


# ---- the words


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("browser", BrowserProfile()),
        ("browser,workspace=shop,retain=7d", BrowserProfile(workspace="shop", retain=Seconds(7 * _DAY))),
        ('browser,long-ttl="crawls, all night"', BrowserProfile(long_ttl="crawls, all night")),
        (
            "browser,credentials=./a:logs in: as Ann,credentials=b:why",
            BrowserProfile(credentials=(("./a", "logs in: as Ann"), ("b", "why"))),
        ),
    ],
)
def test_the_words_are_read(text: str, made: BrowserProfile) -> None:
    """Each key has its place; only the first colon parts a path from its reason."""
    assert parse_profile(text) == made


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("chrome", "unknown-profile"),
        ("browser,", "unknown-key"),
        ("browser,worksapce=shop", "unknown-key"),
        ("browser,workspace", "missing-value"),
        ("browser,workspace=a,workspace=b", "duplicate-key"),
        ("browser,workspace=", "browser-bad-workspace"),
        ("browser,workspace=../keys", "browser-bad-workspace"),
        ("browser,workspace=Shop", "browser-bad-workspace"),
        ("browser,workspace=-", "browser-bad-workspace"),
        (f"browser,workspace={'a' * 64}", "browser-bad-workspace"),
        ("browser,retain=forever", "bad-duration"),
        ("browser,long-ttl= ", "empty-reason"),
        ("browser,credentials=./a", "empty-reason"),
        ("browser,credentials=:why", "browser-bad-credentials"),
    ],
)
def test_what_is_no_word_is_refused(text: str, code: str) -> None:
    """A name that would lead out of its directory, a duration without an end, a reason that says nothing."""
    with pytest.raises(PolicyRefused) as caught:
        parse_profile(text)
    assert [finding.code for finding in caught.value.findings] == [code]


# ---- the rules


def test_what_says_nothing_more_passes() -> None:
    """The plain profile, with named hosts, a read-only directory and half an hour, has no finding."""
    assert _codes(_mount("/home/ann/pages")) == []


@pytest.mark.parametrize(
    ("source", "broad"),
    [
        ("/", True), ("/home", True), (_HOME, True), ("/root", True), ("/home/bob", True), ("/etc", True),
        ("/usr", True), ("/var/lib", True), ("/run/user", True), ("/run/user/1000", True),
        ("/Users/ann", True),
        ("/home/ann/pages", False), ("/srv/pages", False), ("/etc/ssl/certs", False), ("/homes", False),
        ("/home/ann.pages/a", False), ("/usr/share/fonts", False),
    ],
)  # fmt: skip
def test_a_broad_mount_is_a_home_a_system_directory_or_above_one(source: str, broad: bool) -> None:
    """By whole names: what merely begins like a home is none."""
    assert is_broad(source, (_HOME,)) is broad
    assert _codes(_mount(source)) == (["browser-broad-mount"] if broad else [])


def test_a_home_elsewhere_and_what_is_above_it_are_broad() -> None:
    """The caller's home is where the caller says; without one, nothing more is broad."""
    assert is_broad("/data/people/ann", ("/data/people/ann",))
    assert is_broad("/data", ("/data/people/ann",))
    assert not is_broad("/data/people/ann/x", ("/data/people/ann",))
    assert not is_broad("/data", ("",))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/x/Default/Login Data", True), ("/x/Default/Cookies", True), ("/x/Local State", True),
        ("/x/abc.default/key4.db", True), ("/x/logins.json", True), ("/x/cookies.sqlite", True),
        ("/x/Cookies.binarycookies", True), ("/x/default.keyring", True), ("/x/kdewallet.kwl", True),
        ("/home/ann/.config/google-chrome", True), ("/home/ann/.config/google-chrome/Default/Cache/1", True),
        ("/home/ann/.config/BraveSoftware/Brave-Browser", True), ("/home/ann/.mozilla/firefox/a", True),
        ("/home/ann/.config/microsoft-edge", True),
        ("/Users/ann/Library/Safari/History.db", True),
        ("/home/ann/.local/share/keyrings", True),
        ("/x/node_modules/cookies", False), ("/x/node_modules/cookies/index.js", False),
        ("/x/login data.txt", False), ("/x/key4.db.md", False),
        ("/home/ann/.config/google-chrome-notes", False),
        ("/x/Library/Books", False),
    ],
)  # fmt: skip
def test_credentials_are_known_by_where_browsers_keep_them(path: str, found: bool) -> None:
    """A browser's own files and directories, and nothing that has a similar name."""
    assert holds_credentials(path) is found


def test_credentials_pass_where_their_mount_is_named() -> None:
    """The mount itself is named, not one above it; another mount with credentials is refused all the same."""
    mount = _mount("/srv/p", credentials=("/srv/p/Cookies",))
    other = _mount("/srv/q", credentials=("/srv/q/Cookies",))
    named = BrowserProfile(credentials=(("/srv/p", "the login is under test"),))
    above = BrowserProfile(credentials=(("/srv", "the login is under test"),))
    assert _codes(mount) == ["browser-credentials"]
    assert _codes(mount, profile=above) == ["browser-credentials"]
    assert _codes(mount, profile=named) == []
    assert _codes(mount, other, profile=named) == ["browser-credentials"]


def test_a_reason_for_credentials_excuses_nothing_else() -> None:
    """A named mount that is writable, holds sockets or was not looked through is refused for that."""
    named = BrowserProfile(credentials=(("/srv/p", "the login is under test"),))
    mount = Mount("--volume", "/srv/p", writable=True, sockets=("/srv/p/s",), credentials=("/srv/p/Cookies",))
    assert _codes(mount, profile=named) == ["browser-socket-mount", "browser-writable-mount"]
    assert _codes(mount._replace(writable=False, sockets=(), unread="too many")) == [
        "browser-unread-mount",
        "browser-credentials",
    ]


@pytest.mark.parametrize("preset", [preset for preset in Preset if preset is not Preset.NONE])
def test_every_preset_is_refused(preset: Preset) -> None:
    """Only `none` is an explicit list."""
    policy = replace(_POLICY, preset=preset)
    assert [finding.code for finding in judge(policy, _PLAIN, (), ())] == ["browser-preset"]


@pytest.mark.parametrize(
    ("ttl", "why", "codes"),
    [
        (None, None, ["browser-no-ttl"]),
        (None, "a crawl", ["browser-no-ttl"]),
        (DEFAULT_TTL, None, []),
        (Seconds(DEFAULT_TTL + 0.001), None, ["browser-long-ttl"]),
        (_DAY, "a crawl", []),
    ],
)
def test_a_life_time_is_short_or_has_a_reason(ttl: Seconds | None, why: str | None, codes: list[str]) -> None:
    """Half an hour passes, a millisecond more needs a reason, and no reason stands for no life time."""
    found = judge(replace(_POLICY, ttl=ttl), BrowserProfile(long_ttl=why), (), ())
    assert [finding.code for finding in found] == codes


def test_a_life_time_is_set_where_there_is_none() -> None:
    """`bounded` gives half an hour, and leaves one that was said."""
    assert bounded(replace(_POLICY, ttl=None)).ttl == DEFAULT_TTL
    assert bounded(replace(_POLICY, ttl=_DAY)).ttl == _DAY


def test_what_is_kept_says_for_how_long() -> None:
    """A workspace and its rule come together or not at all."""
    assert _codes(profile=BrowserProfile(workspace="shop")) == ["browser-no-retention"]
    assert _codes(profile=BrowserProfile(retain=_DAY)) == ["browser-nothing-retained"]
    assert _codes(profile=BrowserProfile(workspace="shop", retain=_DAY)) == []
