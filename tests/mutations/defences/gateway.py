"""Defences of the gateway: names, TLS and HTTP, resolving, dialling, the kernel's door, what stands.

Owns their part of the table. Must never take out what keeps a workload inside.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_DECIDE = "policy/decide.py"
_FLOW = "gateway/flow.py"
_DIAL = "gateway/dial.py"
_STANDING = "gateway/standing.py"
_DOOR = "gateway/door.py"

_DESTINATIONS = "tests/escape/test_destinations.py::"
_RESOLUTION = "tests/escape/test_resolution.py::"
_PROTOCOLS = "tests/escape/test_protocols.py::"
_EMPTY = "tests/escape/test_empty.py::"
_STANDS = "tests/gateway/test_standing.py::"
_DENIED = "tests/gateway/test_denied.py::"
_DECIDED = "tests/policy/test_decide.py::"
_DOORWAY = "tests/kernel/test_door.py::"

GATEWAY: dict[str, Defence] = {
    "a name in TLS must be the granted one": Defence(
        (
            Edit(
                _FLOW,
                'if hello.server_name is not None and hello.server_name != str(host).encode("ascii"):',
                "if False:",
            ),
        ),
        (f"{_DESTINATIONS}test_the_name_in_the_hello_must_be_the_granted_one",),
    ),
    "a hello must have a name": Defence(
        (Edit(_FLOW, "if hello.server_name is None and isinstance(host, str):", "if False:"),),
        (f"{_DESTINATIONS}test_the_name_in_the_hello_must_be_the_granted_one",),
    ),
    "where TLS is required nothing else passes": Defence(
        (Edit(_FLOW, "return self._denied(Reason.NOT_TLS, Layer.TLS)", "return Cleared(self._data, None)"),),
        (f"{_PROTOCOLS}test_where_tls_is_expected_nothing_else_is_spoken",),
    ),
    "the Host of the first request": Defence(
        (
            Edit(
                "wire/http_stream.py",
                "if head.host != self._host or port != self._port:",
                "if self._requests and (head.host != self._host or port != self._port):",
            ),
        ),
        (f"{_DESTINATIONS}test_an_address_that_names_share_grants_nothing",),
    ),
    "the Host of the second request": Defence(
        (
            Edit(
                "wire/http_stream.py",
                "if head.host != self._host or port != self._port:",
                "if not self._requests and (head.host != self._host or port != self._port):",
            ),
        ),
        (f"{_DESTINATIONS}test_every_request_must_name_the_granted_host",),
    ),
    "a target that names another host": Defence(
        (
            Edit(
                "wire/http_head.py",
                'raise Malformed("HTTP: the target names another host than Host")',
                "pass",
            ),
        ),
        (f"{_PROTOCOLS}test_what_could_be_read_in_two_ways_never_reaches_the_host[absolute target]",),
    ),
    "only granted names exist": Defence(
        (
            Edit(
                _STANDING,
                "if host != PORTAL and not (self._book.broken is None and self.authority.knows(host)):",
                "if False:",
            ),
        ),
        (f"{_DESTINATIONS}test_only_the_granted_name_exists",),
    ),
    "what no grant names is denied": Defence(
        (
            Edit(
                _DECIDE,
                "            grant = _any_grant(host, port, protocol)\n"
                "            return Allowed(grant=grant, host=host, port=port, usage=self._anywhere)\n"
                "        return None\n",
                "            pass\n"
                "        grant = _any_grant(host, port, protocol)\n"
                "        return Allowed(grant=grant, host=host, port=port, usage=self._anywhere)\n",
            ),
        ),
        (f"{_DECIDED}test_exactly_what_is_granted_is_allowed",),
    ),
    "the kernel steers only granted keys": Defence(
        (Edit(_DOOR, "EVERY_HOST if unrestricted else (), ())", "EVERY_HOST, ())"),),
        (f"{_DESTINATIONS}test_a_granted_name_is_no_leave_for_another_port",),
    ),
    "addresses are classed when dialled": Defence(
        (Edit(_DECIDE, "if kind is AddressClass.PUBLIC and not own:", "if True:"),),
        (f"{_RESOLUTION}test_one_private_address_among_public_ones_refuses_the_name[system]",),
    ),
    "envelopes of addresses are opened": Defence(
        (Edit("policy/addresses.py", "plain = unwrap(addr)", "plain = addr"),),
        (f"{_RESOLUTION}test_a_name_is_judged_by_what_it_resolves_to_when_it_is_dialled[system]",),
    ),
    "this machine's own addresses are refused": Defence(
        (Edit(_DECIDE, "if kind is AddressClass.PUBLIC and not own:", "if kind is AddressClass.PUBLIC:"),),
        (f"{_DENIED}test_the_hosts_own_address_is_refused",),
    ),
    "a name is resolved when it is dialled": Defence(
        (Edit("gateway/resolve.py", "_KEEP_SECONDS = 1.0", "_KEEP_SECONDS = 1e6"),),
        (f"{_RESOLUTION}test_a_name_is_judged_by_what_it_resolves_to_when_it_is_dialled[system]",),
    ),
    "exactly the judged addresses are dialled": Defence(
        (
            Edit(
                _DIAL,
                "code = sock.connect_ex((address, self._allowed.port))",
                "code = sock.connect_ex((str(self._allowed.host), self._allowed.port))",
            ),
        ),
        (f"{_RESOLUTION}test_a_name_that_rebinds_between_two_questions_is_dialled_where_it_was_judged",),
    ),
    "a door is verified": Defence(
        (
            Edit(
                _DOOR,
                "    local = layout is Layout.LOCAL\n    with rtnetlink.RouteSocket() as routes:\n        up",
                "    return None\n    local = True\n    with rtnetlink.RouteSocket() as routes:\n        up",
            ),
        ),
        (f"{_DOORWAY}test_what_is_no_door_does_not_verify",),
    ),
    "rules of the packet filter": Defence(
        (Edit(_DOOR, '    batch.chain("no")\n', '    return batch\n    batch.chain("no")\n'),),
        (f"{_EMPTY}test_a_list_of_one_lets_one_out[no words]",),
        green=(
            f"{_EMPTY}test_an_empty_list_lets_nothing_out[no words]",
            f"{_EMPTY}test_an_empty_list_in_python_lets_nothing_out",
        ),
    ),
    "revoking resets what is open": Defence(
        (
            Edit(
                _STANDING,
                "        self._steer()\n        self._book.revoke(ended, Reason.REVOKED)\n"
                "        self._wait_for_expiry()\n",
                "        self._steer()\n        self._wait_for_expiry()\n",
            ),
        ),
        (f"{_STANDS}test_a_revoked_grant_resets_its_flows_within_100_ms",),
    ),
    "an expired grant ends": Defence(
        (Edit(_STANDING, "        if ends:\n", "        if False:\n"),),
        (f"{_STANDS}test_an_expired_grant_resets_its_flows_within_100_ms",),
    ),
    "a budget is kept": Defence(
        (
            Edit("gateway/relay.py", "        if limit is None:\n", "        if True:\n"),
            Edit("gateway/relay.py", "if limit is not None and self._tally", "if False and self._tally"),
        ),
        (f"{_STANDS}test_a_budget_is_exact",),
    ),
}
