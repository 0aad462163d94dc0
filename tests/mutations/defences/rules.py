"""Defences in rules beyond a single host: tools, browsers, the sum of a policy, and what a record carries.

Owns their part of the table; none needs a sandbox. Must never take out how a host is spelled.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_BROWSER = "policy/browser.py"
_RECORD = "audit/record.py"
_TOOL = "policy/capability.py"
_TOOLS = "policy/capability_file.py"
_VALIDATE = "policy/validate.py"

_BROWSERS = "tests/policy/test_browser.py::"
_CAPABILITIES = "tests/policy/test_capability.py::"
_RECORDS = "tests/audit/test_record.py::"
_RESOLVED = "tests/policy/test_resolve.py::"

RULES: dict[str, Defence] = {
    "a tool is one of the document's": Defence(
        (Edit(_TOOL, "if capability.tool == tool:", "if tool.startswith(capability.tool):"),),
        (f"{_CAPABILITIES}test_any_name_a_model_makes_up_is_decided_and_can_be_recorded",),
    ),
    "a tool's refusal is recorded": Defence(
        (
            Edit(
                _TOOL,
                "        for fields in decision.records():\n",
                "        for fields in decision.records() if decision.capability else ():\n",
            ),
        ),
        (f"{_CAPABILITIES}test_an_unknown_tool_is_refused_and_recorded",),
    ),
    "a tool opens once it is recorded": Defence(
        (
            Edit(
                _TOOL,
                "        for fields in decision.records():\n",
                "        if decision.capability is not None:\n"
                "            run.add_grants(decision.capability.policy)\n"
                "        for fields in decision.records():\n",
            ),
        ),
        (f"{_CAPABILITIES}test_nothing_opens_where_the_decision_cannot_be_recorded",),
    ),
    "a tool has its ports only": Defence(
        (Edit(_TOOLS, "if ports and grant.port not in ports:", "if False:"),),
        (f"{_CAPABILITIES}test_only_expected_ports_for_each_tool_capability",),
    ),
    "a tool has no preset": Defence(
        (Edit(_TOOLS, '        if "preset" in members:\n', "        if False:\n"),),
        (f"{_CAPABILITIES}test_what_is_no_capability_document",),
    ),
    "a tool stands once": Defence(
        (Edit(_TOOLS, "elif capability.tool in capabilities:", "elif False:"),),
        (f"{_CAPABILITIES}test_what_is_no_capability_document",),
    ),
    "a tool's grants end with it": Defence(
        (Edit(_TOOLS, "for seconds in (grant.expires, ttl) if", "for seconds in (grant.expires,) if"),),
        (f"{_CAPABILITIES}test_ports_reason_and_ttl_are_the_tools",),
    ),
    "a browser names its hosts": Defence(
        (Edit(_BROWSER, "    if preset is not Preset.NONE:\n", "    if False:\n"),),
        (f"{_BROWSERS}test_every_preset_is_refused",),
    ),
    "a browser has a life time": Defence(
        (
            Edit(
                _BROWSER,
                '        yield Place(".network.ttl").finding("browser-no-ttl", message, hint)\n',
                "        return\n",
            ),
        ),
        (f"{_BROWSERS}test_a_life_time_is_short_or_has_a_reason",),
    ),
    "a browser's life time is short": Defence(
        (Edit(_BROWSER, "elif ttl > DEFAULT_TTL and profile.long_ttl is None:", "elif False:"),),
        (f"{_BROWSERS}test_a_life_time_is_short_or_has_a_reason",),
    ),
    "what a browser keeps goes": Defence(
        (Edit(_BROWSER, "if profile.workspace is not None and profile.retain is None:", "if False:"),),
        (f"{_BROWSERS}test_what_is_kept_says_for_how_long",),
    ),
    "a browser sees no whole home": Defence(
        (
            Edit(
                _BROWSER,
                '        or any(f"{place}/".startswith(above)',
                '        or False and any(f"{place}/".startswith(above)',
            ),
        ),
        (f"{_BROWSERS}test_a_home_elsewhere_and_what_is_above_it_are_broad",),
    ),
    "a browser sees no socket": Defence(
        (Edit(_BROWSER, "    if mount.sockets:\n", "    if False:\n"),),
        (f"{_BROWSERS}test_a_reason_for_credentials_excuses_nothing_else",),
    ),
    "a browser writes nothing that lasts": Defence(
        (Edit(_BROWSER, "    if mount.writable:\n", "    if False:\n"),),
        (f"{_BROWSERS}test_a_reason_for_credentials_excuses_nothing_else",),
    ),
    "a browser sees no credentials": Defence(
        (Edit(_BROWSER, "if mount.credentials and source not in named:", "if False:"),),
        (f"{_BROWSERS}test_credentials_pass_where_their_mount_is_named",),
    ),
    "two grants do not disagree": Defence(
        (
            Edit(
                _VALIDATE,
                "    if differing:\n        findings.append(_conflict",
                "    if False:\n        findings.append(_conflict",
            ),
        ),
        (f"{_RESOLVED}test_two_flags_that_disagree_are_refused_with_and_without_a_file",),
    ),
    "a name has somebody who resolves it": Defence(
        (Edit(_VALIDATE, "    if lost:\n", "    if False:\n"),),
        (f"{_RESOLVED}test_a_file_must_say_who_resolves_its_names",),
    ),
    "one port leads to one": Defence(
        (Edit(_VALIDATE, "        if other.guest_port != forward.guest_port:\n", "        if False:\n"),),
        (f"{_RESOLVED}test_ports_and_life_time",),
    ),
    "a remedy opens no metadata service": Defence(
        (Edit("policy/explain.py", '"link-local", "metadata", "multicast"', '"multicast"'),),
        ("tests/policy/test_explain.py::test_what_is_never_offered",),
    ),
    "a record carries its kind's fields only": Defence(
        (
            Edit(
                _RECORD,
                "        if name not in shapes or not shapes[name](value):\n",
                "        if name in shapes and not shapes[name](value):\n",
            ),
        ),
        (f"{_RECORDS}test_no_kind_has_a_field_for_content",),
    ),
    "a record's values have their shape": Defence(
        (
            Edit(
                _RECORD,
                "        if name not in shapes or not shapes[name](value):\n",
                "        if name not in shapes:\n",
            ),
        ),
        (f"{_RECORDS}test_values_have_the_shape_of_their_field",),
    ),
}
