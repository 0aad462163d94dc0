"""Defences in what a policy or a declaration may say: spellings that some reader takes for another host.

Owns their part of the table; none needs a sandbox. Must never take out what only words a refusal otherwise:
without each of these a text that means two things is accepted, or a secret is shown or sent.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_FIELDS = "policy/fields.py"
_HOSTS = "policy/hosts.py"
_PORTS = "policy/ports.py"
_PROGRAM = "declare/program.py"

_COMPILED = "tests/compile/test_program.py::"
_DOCUMENTS = "tests/policy/test_documents.py::"
_SPELLINGS = "tests/policy/test_hosts.py::"
_WORDS = "tests/policy/test_words.py::"

WORDS: dict[str, Defence] = {
    "names are letters, digits and hyphens": Defence(
        (
            Edit(
                _HOSTS,
                '    if label.replace("-", "").isalnum():\n        if not _is_plain(label):\n',
                "    if True:\n        if False:\n",
            ),
        ),
        (f"{_SPELLINGS}test_labels_are_letters_digits_and_hyphens",),
    ),
    "what ends in a number is an address": Defence(
        (
            Edit(
                _HOSTS,
                '    return label.isdigit() or (label[:2] == "0x"',
                '    return False and (label[:2] == "0x"',
            ),
        ),
        (f"{_SPELLINGS}test_numeric_look_alikes_are_refused",),
    ),
    "digits of other scripts are none": Defence(
        (Edit(_HOSTS, "    if label.isascii():\n        return\n", "    if True:\n        return\n"),),
        (f"{_SPELLINGS}test_digits_of_other_widths_and_scripts_are_refused",),
    ),
    "IPv4 has one spelling": Defence(
        (Edit(_HOSTS, "    if is_spelling_of_ipv4(address):\n", "    if False:\n"),),
        (f"{_SPELLINGS}test_ipv4_in_ipv6_spelling_is_refused",),
    ),
    "the address of no host is none": Defence(
        (Edit(_HOSTS, "if kind is AddressClass.UNSPECIFIED:", "if False:"),),
        (f"{_SPELLINGS}test_the_unspecified_addresses_are_refused",),
    ),
    "the address of many hosts is none": Defence(
        (Edit(_HOSTS, "if kind is AddressClass.MULTICAST:", "if False:"),),
        (f"{_SPELLINGS}test_multicast_addresses_are_refused",),
    ),
    "a range of addresses is no host": Defence(
        (Edit(_HOSTS, "        and not _is_range(name)\n", ""),),
        (f"{_SPELLINGS}test_ranges_of_addresses_are_refused",),
    ),
    "letters of other scripts are not folded": Defence(
        (
            Edit(
                _HOSTS,
                "char.lower() if char.isascii() else char for char in label",
                "char.lower() for char in label",
            ),
        ),
        (f"{_SPELLINGS}test_what_idna_2008_does_not_know_is_refused",),
    ),
    "an encoded name is decoded": Defence(
        (Edit(_HOSTS, '        and "xn--" not in name\n', ""),),
        (f"{_SPELLINGS}test_what_idna_2008_does_not_know_is_refused",),
    ),
    "a port has one spelling": Defence(
        (Edit(_PORTS, ' or (text[0] == "0" and text != "0"):', ":"),),
        (f"{_WORDS}test_ports_outside_1_to_65535_and_missing_ports_are_refused",),
    ),
    "a port is from 1 to 65535": Defence(
        (Edit(_PORTS, "if not 1 <= number <= LAST_PORT:", "if False:"),),
        (f"{_WORDS}test_ports_outside_1_to_65535_and_missing_ports_are_refused",),
    ),
    "subdomains of a public suffix": Defence(
        (Edit(_FIELDS, "    if is_public_suffix(host):\n", "    if False:\n"),),
        (f"{_DOCUMENTS}test_documents_that_are_refused",),
    ),
    "an unknown key is no key": Defence(
        (Edit(_FIELDS, "        if key not in known\n", "        if False\n"),),
        (f"{_DOCUMENTS}test_documents_that_are_refused",),
    ),
    "no message shows a password of a URL": Defence(
        (
            Edit(
                _HOSTS,
                'f"a URL ({shown(scheme[:16])}) is not a host"',
                'f"a URL ({shown(text)}) is not a host"',
            ),
        ),
        (f"{_SPELLINGS}test_passwords_are_never_shown",),
    ),
    "no message shows user information": Defence(
        (Edit(_HOSTS, 'before {shown(after)}"', 'before {shown(text)}"'),),
        (f"{_SPELLINGS}test_passwords_are_never_shown",),
    ),
    "a secret is for its hosts": Defence(
        (Edit(_PROGRAM, "if grant.host not in hosts or grant.depth is not None:", "if False:"),),
        (f"{_COMPILED}test_what_cannot_be_read_is_refused_in_its_place",),
    ),
    "a secret is for no preset": Defence(
        (Edit(_PROGRAM, "if made.policy.preset is not Preset.NONE:", "if False:"),),
        (f"{_COMPILED}test_what_cannot_be_read_is_refused_in_its_place",),
    ),
    "a secret is for no subdomain": Defence(
        (Edit(_PROGRAM, " or grant.depth is not None:", ":"),),
        (f"{_COMPILED}test_what_cannot_be_read_is_refused_in_its_place",),
    ),
    "a file is read and not run": Defence(
        (
            Edit(
                "compile/module.py",
                "        module = ast.parse(text, path)\n",
                "        module = ast.parse(text, path)\n        exec(text, {})\n",
            ),
        ),
        (f"{_COMPILED}test_the_file_is_not_imported",),
    ),
}
