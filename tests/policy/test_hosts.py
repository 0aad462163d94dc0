"""One test for each row of SPEC section 3's refusals of hosts, with its vectors; and hosts that are right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.errors import PolicyRefused
from mvm.policy.lookalikes import resembles
from mvm.policy.parse import parse_host
from mvm.terms import HostName
from tests.policy.vectors import HOSTS, HOSTS_REFUSED

PATH = ".network.egress[1].host"


def code_of(text: str) -> str:
    """Give the one code by which a host is refused, after looking at the rest of the finding."""
    with pytest.raises(PolicyRefused) as caught:
        parse_host(text, path=PATH, source="mvm.toml:3")
    (finding,) = caught.value.findings
    assert (finding.path, finding.source, finding.severity) == (PATH, "mvm.toml:3", "error")
    assert finding.message.isprintable()
    assert finding.hint
    return finding.code


def refused(name: str) -> pytest.MarkDecorator:
    """Give a test the vectors of one row."""
    return pytest.mark.parametrize(("text", "code"), HOSTS_REFUSED[name])


@pytest.mark.parametrize(("text", "host"), HOSTS)
def test_hosts_that_are_right(text: str, host: str) -> None:
    """A name is lower case, of A-labels, without its trailing dot; an address in its one spelling."""
    parsed = parse_host(text, path=PATH)
    assert str(parsed) == host
    assert parse_host(host, path=PATH) == parsed


@refused("wildcards")
def test_wildcards_are_refused(text: str, code: str) -> None:
    """Nothing in a host stands for many names; the twin `a.example.com` is a name."""
    assert code_of(text) == code
    assert parse_host("a.example.com", path=PATH) == "a.example.com"


@refused("cidr")
def test_blocks_of_addresses_are_refused(text: str, code: str) -> None:
    """A prefix length or mask is refused, whatever its size; the address alone is one."""
    assert code_of(text) == code
    assert str(parse_host("192.0.2.7", path=PATH)) == "192.0.2.7"


@refused("ranges")
def test_ranges_of_addresses_are_refused(text: str, code: str) -> None:
    """From one address to another is refused; hyphens between numbers in a name are not."""
    assert code_of(text) == code
    assert parse_host("192-0-2-7.example", path=PATH) == "192-0-2-7.example"


@refused("urls")
def test_urls_are_refused(text: str, code: str) -> None:
    """A URL is no host, and nothing of it but its scheme is shown: it may hold a password."""
    assert code_of(text) == code


@refused("proxy_urls")
def test_proxy_urls_are_refused(text: str, code: str) -> None:
    """A proxy is refused as what it is: no policy may send flows elsewhere."""
    assert code_of(text) == code


@pytest.mark.parametrize(
    "text", ["https://u:hunter2@example.com", "socks5://u:hunter2@h", "u:hunter2@example.com"]
)
def test_passwords_are_never_shown(text: str) -> None:
    """What stands before an `@` appears in no message and no hint."""
    with pytest.raises(PolicyRefused) as caught:
        parse_host(text, path=PATH)
    assert "hunter2" not in f"{caught.value.findings}"


@refused("user_info")
def test_user_information_is_refused(text: str, code: str) -> None:
    """Whatever stands before an `@` makes it no host."""
    assert code_of(text) == code


@refused("paths")
def test_paths_are_refused(text: str, code: str) -> None:
    """A slash, backslash, question mark or number sign makes it no host."""
    assert code_of(text) == code


@refused("empty")
def test_empty_hosts_are_refused(text: str, code: str) -> None:
    """Nothing, and dots alone, stand for no host; least of all for every one."""
    assert code_of(text) == code


@refused("whitespace")
def test_white_space_is_refused(text: str, code: str) -> None:
    """White space of any script, anywhere, is refused and never trimmed."""
    assert code_of(text) == code


@refused("control")
def test_control_characters_are_refused(text: str, code: str) -> None:
    """A control character anywhere is refused."""
    assert code_of(text) == code


@refused("nul")
def test_nul_bytes_are_refused(text: str, code: str) -> None:
    """A name with NUL in it, which C would cut there, is refused (ATTACKS 1)."""
    assert code_of(text) == code


@refused("brackets")
def test_brackets_around_names_are_refused(text: str, code: str) -> None:
    """Brackets belong around IPv6 addresses before a port, and nowhere in a host (ATTACKS 3)."""
    assert code_of(text) == code


@refused("numeric")
def test_numeric_look_alikes_are_refused(text: str, code: str) -> None:
    """What some reader takes for an address and another for a name or another address (ATTACKS 13)."""
    assert code_of(text) == code


@refused("other_digits")
def test_digits_of_other_widths_and_scripts_are_refused(text: str, code: str) -> None:
    """Digits that some reader folds into an address are refused (ATTACKS 13)."""
    assert code_of(text) == code


@refused("scope_ids")
def test_scope_ids_are_refused(text: str, code: str) -> None:
    """An address with a scope id is refused (ATTACKS 6)."""
    assert code_of(text) == code


@refused("unspecified")
def test_the_unspecified_addresses_are_refused(text: str, code: str) -> None:
    """`0.0.0.0`, `::` and their kin, in any spelling, are the address of no host (ATTACKS 9)."""
    assert code_of(text) == code


@refused("multicast")
def test_multicast_addresses_are_refused(text: str, code: str) -> None:
    """An address of many hosts is none of one."""
    assert code_of(text) == code


@refused("mapped")
def test_ipv4_in_ipv6_spelling_is_refused(text: str, code: str) -> None:
    """IPv4 has one spelling; another one could pass a check of the first (ATTACKS 7)."""
    assert code_of(text) == code


@refused("ports_in_hosts")
def test_ports_in_hosts_are_refused(text: str, code: str) -> None:
    """A port belongs into its own field."""
    assert code_of(text) == code


@refused("bad_addresses")
def test_what_is_no_ipv6_address_is_refused(text: str, code: str) -> None:
    """A colon makes it an IPv6 address, or nothing."""
    assert code_of(text) == code


@refused("several")
def test_lists_of_hosts_are_refused(text: str, code: str) -> None:
    """One text is one host."""
    assert code_of(text) == code


@refused("labels")
def test_labels_are_letters_digits_and_hyphens(text: str, code: str) -> None:
    """Empty labels, hyphens at an end and any other character are refused."""
    assert code_of(text) == code


@refused("too_long")
def test_long_labels_and_names_are_refused(text: str, code: str) -> None:
    """More than 63 characters in a label or 253 in a name are refused."""
    assert code_of(text) == code


@refused("not_idna")
def test_what_idna_2008_does_not_know_is_refused(text: str, code: str) -> None:
    """Nothing is folded: capitals, full-width letters, ligatures and symbols are refused (ATTACKS 13)."""
    assert code_of(text) == code


def test_every_row_has_its_test() -> None:
    """Each group of the vector file is used by a test of this file."""
    used = {mark.args[1] is rows for rows in HOSTS_REFUSED.values() for mark in _marks()}
    assert used
    texts = [row for mark in _marks() for row in mark.args[1]]
    assert all(row in texts for rows in HOSTS_REFUSED.values() for row in rows)


def _marks() -> list[pytest.Mark]:
    return [
        mark
        for value in globals().values()
        for mark in getattr(value, "pytestmark", [])
        if mark.name == "parametrize"
    ]


# ---- properties


names = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?(\.[a-z][a-z0-9]{0,6}){0,3}\Z")


@given(st.text(max_size=60))
def test_any_text_is_one_host_or_refused(text: str) -> None:
    """Whatever is read reads back as itself, is no longer than a name may be, and nothing else is raised."""
    try:
        host = parse_host(text, path=PATH)
    except PolicyRefused:
        return
    assert parse_host(str(host), path=PATH) == host
    if isinstance(host, str):
        assert host == host.lower()
        assert host.isascii()
        assert 0 < len(host) <= 253


@given(names, st.text(min_size=1, max_size=20))
def test_adding_text_never_widens(name: str, more: str) -> None:
    """A host with text added before or behind is another host or none; only its trailing dot is the same."""
    for text in (name + more, more + name):
        try:
            host = parse_host(text, path=PATH)
        except PolicyRefused:
            continue
        assert host != name or text in {name, f"{name}."}


@given(names)
def test_letter_case_and_trailing_dot_are_one_host(name: str) -> None:
    """A name in capitals and with its root dot is the same name (ATTACKS 2), or refused as it was."""
    try:
        host = parse_host(name, path=PATH)
    except PolicyRefused:
        with pytest.raises(PolicyRefused):
            parse_host(name.upper(), path=PATH)
        return
    assert parse_host(name.upper(), path=PATH) == host
    assert parse_host(f"{name}.", path=PATH) == host


# ---- names that pass for others


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("\u0430pple.example", "mixes CYRILLIC and LATIN"),
        ("\u0430\u0440\u0440.example", "CYRILLIC letters that look like Latin ones"),
        ("g\u043e\u043egle.example", "mixes"),
        ("ορτο.example", "GREEK letters that look like Latin ones"),
        ("пример.example", None),
        ("bücher.example", None),
        ("東京tokyo.example", None),
        ("ひらがなカタカナ.example", None),
        ("한국kr.example", None),
        ("plain.example", None),
    ],
)
def test_labels_that_pass_for_others(name: str, phrase: str | None) -> None:
    """Scripts that no language mixes, and letters that all pass for Latin ones, are told; others are not."""
    found = resembles(HostName(str(parse_host(name, path=PATH))))
    if phrase is None:
        assert found is None
    else:
        assert found is not None
        assert phrase in found
