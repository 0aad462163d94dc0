"""Grants on a command line, ports, DNS, times and sizes: read strictly, written back in one spelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.errors import PolicyRefused
from mvm.policy.model import Dns, Forward, Grant
from mvm.policy.parse import (
    default_tls,
    format_dns,
    format_duration,
    format_forward,
    format_grant,
    format_size,
    grant_from_json,
    grant_to_json,
    parse_dns,
    parse_dns_static,
    parse_duration,
    parse_forward,
    parse_grant,
    parse_size,
)
from mvm.terms import DnsMode, Protocol, Seconds
from tests.policy.strategies import addresses, byte_counts, durations, grants, literals
from tests.policy.vectors import GRANTS, GRANTS_REFUSED, WORDS, WORDS_REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable

READERS: dict[str, Callable[[str], str]] = {
    "forwards": lambda text: format_forward(parse_forward(text)),
    "dns": lambda text: format_dns(parse_dns(text)),
    "dns_static": lambda text: "{}={}".format(*parse_dns_static(text)),
    "durations": lambda text: format_duration(parse_duration(text, path="--ttl")),
    "sizes": lambda text: format_size(parse_size(text, path="--memory")),
}


def codes(reader: Callable[[str], object], text: str) -> list[str]:
    """Give the codes by which a text is refused; every finding names a place and a way out."""
    with pytest.raises(PolicyRefused) as caught:
        reader(text)
    for finding in caught.value.findings:
        assert finding.path.startswith("--")
        assert finding.message.isprintable()
        assert finding.hint
    return [finding.code for finding in caught.value.findings]


def refused(name: str) -> pytest.MarkDecorator:
    """Give a test the vectors of one row."""
    return pytest.mark.parametrize(("text", "found"), GRANTS_REFUSED[name])


@pytest.mark.parametrize(("text", "spelling"), GRANTS)
def test_grants_that_are_right(text: str, spelling: str) -> None:
    """A flag is one grant, which has one spelling, which reads as the same grant."""
    assert format_grant(parse_grant(text)) == spelling
    assert parse_grant(spelling) == parse_grant(text)


@refused("ports")
def test_ports_outside_1_to_65535_and_missing_ports_are_refused(text: str, found: list[str]) -> None:
    """A grant names one port by its decimal number; nothing stands for a port or for several."""
    assert codes(parse_grant, text) == found


@refused("protocols")
def test_other_protocols_are_refused(text: str, found: list[str]) -> None:
    """Behind the slash stands `tcp` or `udp`, in these letters."""
    assert codes(parse_grant, text) == found


@refused("hosts")
def test_hosts_of_flags_are_refused_as_everywhere(text: str, found: list[str]) -> None:
    """What no file may name no flag may."""
    assert codes(parse_grant, text) == found


@refused("keys")
def test_unknown_keys_are_refused(text: str, found: list[str]) -> None:
    """A key that is not known, stands twice or lacks its value is refused."""
    assert codes(parse_grant, text) == found


@refused("values")
def test_values_that_mean_nothing_are_refused(text: str, found: list[str]) -> None:
    """Each key takes only its own words."""
    assert codes(parse_grant, text) == found


@refused("quoting")
def test_quotes_that_do_not_close_are_refused(text: str, found: list[str]) -> None:
    """A quoted value ends where a comma or the text does."""
    assert codes(parse_grant, text) == found


@refused("together")
def test_everything_wrong_with_a_flag_is_told_at_once(text: str, found: list[str]) -> None:
    """One look at a flag tells all that is wrong with it."""
    assert codes(parse_grant, text) == found


@pytest.mark.parametrize(
    ("kind", "text", "spelling"), [(kind, *row) for kind, rows in WORDS.items() for row in rows]
)
def test_words_that_are_right(kind: str, text: str, spelling: str) -> None:
    """Each has one spelling, which reads as the same."""
    assert READERS[kind](text) == spelling
    assert READERS[kind](spelling) == spelling


@pytest.mark.parametrize(
    ("kind", "text", "code"), [(kind, *row) for kind, rows in WORDS_REFUSED.items() for row in rows]
)
def test_words_that_are_wrong(kind: str, text: str, code: str) -> None:
    """Each is refused by its one code."""
    assert codes(READERS[kind], text) == [code]


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    """A slip of the pen gets the right word as its hint."""
    with pytest.raises(PolicyRefused, match="did you mean `max-up`"):
        parse_grant("a.example:443,max-ip=1")


def test_what_a_port_speaks_by_default() -> None:
    """443 over TCP demands TLS; any other port, and UDP, does not."""
    assert default_tls(443, Protocol.TCP) == "require"
    assert default_tls(8443, Protocol.TCP) == default_tls(443, Protocol.UDP) == "auto"


# ---- parse o print = identity


@given(grants(depths=st.none()))
def test_grants_print_and_read_back(grant: Grant) -> None:
    """Every grant of one host, written as a flag, is read as that grant."""
    assert parse_grant(format_grant(grant), source=grant.source) == grant


@given(grants())
def test_grants_of_documents_print_and_read_back(grant: Grant) -> None:
    """Every grant, written as JSON, is read as that grant."""
    assert grant_from_json(grant_to_json(grant), path=".", source=grant.source) == grant


@given(grants(depths=st.integers(1, 8)))
def test_a_flag_never_grants_subdomains(grant: Grant) -> None:
    """A grant of subdomains, printed as a flag, is refused there."""
    assert codes(parse_grant, format_grant(grant)) == ["subdomains-on-flag"]


@given(addresses, st.integers(1, 65535), st.integers(1, 65535))
def test_forwards_print_and_read_back(address: object, host_port: int, guest_port: int) -> None:
    """Every inbound port, written, is read as that port."""
    forward = Forward(address=address, host_port=host_port, guest_port=guest_port)  # type: ignore[arg-type]
    assert parse_forward(format_forward(forward)) == forward


@given(durations)
def test_durations_print_and_read_back(seconds: Seconds) -> None:
    """Every whole number of milliseconds, written, is read as the same time."""
    assert parse_duration(format_duration(seconds), path="--ttl") == seconds


@given(byte_counts)
def test_sizes_print_and_read_back(count: int) -> None:
    """Every number of bytes, written, is read as the same number."""
    assert parse_size(format_size(count), path="--memory") == count  # type: ignore[arg-type]


@given(literals, st.integers(1, 65535))
def test_resolvers_print_and_read_back(address: object, port: int) -> None:
    """Every name server, written, is read as the same one."""
    dns = Dns(mode=DnsMode.RESOLVER, resolver=(address, port))  # type: ignore[arg-type]
    assert parse_dns(format_dns(dns)) == dns


# ---- adding text never widens


@given(grants(depths=st.none()), st.text(max_size=30))
def test_a_flag_with_text_added_is_the_same_host_and_port_or_none(grant: Grant, more: str) -> None:
    """Text behind a comma can narrow or explain a grant, never lead it elsewhere or to more."""
    try:
        other = parse_grant(f"{format_grant(grant)},{more}")
    except PolicyRefused:
        return
    assert (other.host, other.port, other.protocol, other.depth) == (
        grant.host,
        grant.port,
        grant.protocol,
        None,
    )


@given(st.text(max_size=60))
def test_any_text_is_a_grant_or_refused(text: str) -> None:
    """No text makes a reader raise anything but a refusal."""
    readers: list[Callable[[str], object]] = [parse_grant, *READERS.values()]
    for reader in readers:
        try:
            reader(text)
        except PolicyRefused as refusal:
            assert refusal.findings  # noqa: PT017  whether it raises depends on the text
