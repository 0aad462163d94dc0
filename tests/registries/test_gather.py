"""One URL of a configuration, read once."""

from __future__ import annotations

import pytest

from mvm.registries.ask import NoAnswer
from mvm.registries.gather import Gathering, read_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://mirror.example/simple", ("https", "mirror.example", 443)),
        ("HTTPS://Mirror.Example./simple?x=1#y", ("https", "mirror.example", 443)),
        ("http://mirror.example", ("http", "mirror.example", 80)),
        ("https://u:p@mirror.example:8443/", ("https", "mirror.example", 8443)),
        ("https://[2001:db8::1]:8443/", ("https", "2001:db8::1", 8443)),
        ("http://10.1.2.3:3141/root/", ("http", "10.1.2.3", 3141)),
    ],
)
def test_http_urls_are_hosts(url: str, expected: tuple[str, str, int]) -> None:
    """Scheme, host in its one spelling, and port, explicit or the scheme's."""
    found = read_url(url, source="here", configured=True)
    assert found is not None
    assert (found.scheme, str(found.host), found.port) == expected


@pytest.mark.parametrize(
    "url", ["", "/opt/wheels", "./wheels", "C:\\wheels", "file:///opt", "cdrom://x", "wheels"]
)
def test_local_places_are_none(url: str) -> None:
    """What is on this machine needs no grant."""
    assert read_url(url, source="here", configured=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://mirror.example/",
        "ssh://git@mirror.example/x",
        "https:///simple",
        "https://*.example/simple",
        "https://mirror.example:0/",
        "https://mirror.example:65536/",
        "https://mirror.example:x/",
        "https://[::1/",
        "https://good.example\\@evil.example/",
        "https://good.example @evil.example/",
        "https://good.example\x00.evil.example/",
        "https://${HOST}/simple",
        "https://0x7f.1/",
        "https://2130706433/",
        "http://localhost:3141/",
        "http://index.localhost/",
        "http://127.0.0.1:3141/",
        "http://[::1]:3141/",
        "http://169.254.169.254/latest/",
        "http://0.0.0.0/",
        "http://[fe80::1%25eth0]/",
    ],
)
def test_others_are_refused_with_a_note(url: str) -> None:
    """A URL that could mean two hosts, no host, or none that a sandbox can reach, adds a note and no host."""
    with pytest.raises(NoAnswer):
        read_url(url, source="here", configured=True)
    gathering = Gathering("tool")
    gathering.add(url, source="here")
    found = gathering.found()
    assert found.hosts == ()
    assert found.note.startswith("here: ")
    assert found.note.isprintable()


def test_withheld_host_that_the_machine_has_too_is_granted() -> None:
    """A project that names what the machine is configured with takes nothing away and needs no note."""
    gathering = Gathering("tool")
    gathering.withhold("https://mirror.example/", source="project")
    assert [str(each.host) for each in gathering.found().withheld] == ["mirror.example"]
    gathering.add("https://mirror.example/", source="user")
    again = Gathering("tool")
    again.withhold("https://mirror.example/", source="project")
    again.add("https://mirror.example/", source="user")
    found = again.found()
    assert (len(found.hosts), found.withheld, found.note) == (1, (), "")


def test_notes_are_bounded() -> None:
    """A file with a thousand bad lines doesn't make a thousand notes."""
    gathering = Gathering("tool")
    for number in range(1000):
        gathering.note(f"note {number}")
    assert gathering.found().note.count(";") < 20
