"""Defences of the gateway: names, resolving, dialling, datagrams, the kernel's door, what stands.

Owns their part of the table, but for what is read (`reading`). Must never take out what keeps a workload
inside.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_DECIDE = "policy/decide.py"
_FLOW = "gateway/flow.py"
_DIAL = "gateway/dial.py"
_STANDING = "gateway/standing.py"
_UDP = "gateway/udp.py"
_DOOR = "gateway/door.py"

_DESTINATIONS = "tests/escape/test_destinations.py::"
_RESOLUTION = "tests/escape/test_resolution.py::"
_PROTOCOLS = "tests/escape/test_protocols.py::"
_EMPTY = "tests/escape/test_empty.py::"
_STANDS = "tests/gateway/test_standing.py::"
_DENIED = "tests/gateway/test_denied.py::"
_UNRESTRICTED = "tests/gateway/test_unrestricted.py::"
_DECIDED = "tests/policy/test_decide.py::"
_DOORWAY = "tests/kernel/test_door.py::"

_DIALLED: dict[str, Defence] = {
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
        ("tests/gateway/test_flow.py::test_a_hello_for_another_name_never_passes",),
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
        (f"{_DECIDED}test_this_machines_own_addresses_are_private",),
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
        lifeless="the rules are what leads to the gateway",
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
        (f"{_STANDS}test_a_revoked_grant_resets_its_flows_within_100_ms[local-1]",),
    ),
    "an expired grant ends": Defence(
        (Edit(_STANDING, "        if ends:\n", "        if False:\n"),),
        (f"{_STANDS}test_an_expired_grant_resets_its_flows_within_100_ms[local]",),
    ),
    "a budget is kept": Defence(
        (
            Edit("gateway/relay.py", "        if limit is None:\n", "        if True:\n"),
            Edit("gateway/relay.py", "if limit is not None and self._tally", "if False and self._tally"),
        ),
        (f"{_STANDS}test_a_budget_is_exact",),
    ),
}

_JUDGED: dict[str, Defence] = {
    "every host means every public address": Defence(
        (Edit(_DECIDE, "(isinstance(host, str) or classify(host) is AddressClass.PUBLIC)", "True"),),
        (f"{_DECIDED}test_unrestricted_allows_any_name_and_any_public_address",),
    ),
    "every host is TLS on port 443": Defence(
        (Edit(_DECIDE, "tls = Tls.REQUIRE if port == 443", "tls = Tls.REQUIRE if port == 0"),),
        (f"{_DECIDED}test_unrestricted_allows_any_name_and_any_public_address",),
    ),
    "a grant of subdomains is so many labels deep": Defence(
        (Edit(_DECIDE, "if grant.depth is not None and grant.depth >= depth:", "if True:"),),
        (f"{_DECIDED}test_subdomains_go_as_deep_as_they_say",),
    ),
    "no name leads to a metadata service": Defence(
        (Edit(_DECIDE, "kind is AddressClass.METADATA and allowed.host != address", "False"),),
        (f"{_DECIDED}test_where_a_name_may_lead",),
    ),
    "a grant that is said more strictly ends its flows": Defence(
        (Edit(_DECIDE, "elif (before.tls, before.private) != (grant.tls, grant.private):", "elif False:"),),
        (f"{_DECIDED}test_what_a_changed_grant_means",),
    ),
    "what may be this machine's own is not dialled": Defence(
        (
            Edit(
                "gateway/resolve.py",
                "return failure_of(error)  # what can't be told from this machine's own is not dialled",
                "own = ()",
            ),
        ),
        ("tests/gateway/test_resolve.py::test_what_can_not_be_told_from_this_machines_own_is_a_failure",),
    ),
    "a question has a number of its own": Defence(
        (Edit("gateway/question.py", 'number = int.from_bytes(os.urandom(2), "big")', "number = 1"),),
        ("tests/gateway/test_resolve.py::test_each_question_has_a_number_and_a_port_of_its_own",),
    ),
}

_DATAGRAMS: dict[str, Defence] = {
    "a refused datagram is recorded": Defence(
        (
            Edit(
                _UDP,
                "            self._gateway.refusals.add(allowed)\n            self.refuse(target, sender)\n",
                "            self.refuse(target, sender)\n",
            ),
        ),
        (f"{_UNRESTRICTED}test_unrestricted_keeps_closed_what_is_not_public[local-udp-192.0.2.1]",),
    ),
    "a refused datagram is answered": Defence(
        (
            Edit(
                _UDP,
                "            sockets.send_unreachable(sock, refused_place, sender)\n",
                "            pass\n",
            ),
        ),
        (f"{_UNRESTRICTED}test_unrestricted_keeps_closed_what_is_not_public[local-udp-192.0.2.1]",),
    ),
    "where a datagram goes is classed": Defence(
        (Edit(_UDP, "judged = judge(self.allowed, found)", "judged = found"),),
        (f"{_DENIED}test_a_name_that_leads_to_no_public_address_is_refused[private]",),
    ),
    "only the granted host answers a datagram": Defence(
        (
            Edit(
                _UDP,
                "upstream.connect((str(candidate.address), self.allowed.port))",
                'upstream.bind(("", 0))',
            ),
            Edit(
                _UDP,
                "self._upstream.send(data)",
                "self._upstream.sendto(data, (str(self.address), self.allowed.port))",
            ),
        ),
        (f"{_STANDS}test_only_the_granted_host_answers_a_datagram",),
    ),
    "datagrams are recorded before they leave": Defence(
        (
            Edit(
                _UDP,
                "            self._refuse(UNRECORDED)\n            return\n        for candidate",
                "            pass\n        for candidate",
            ),
        ),
        (f"{_STANDS}test_where_nothing_can_be_recorded_nothing_opens[local-datagram]",),
    ),
    "a budget holds for datagrams": Defence(
        (Edit(_UDP, "if tally.limit is None or tally.carried + size <= tally.limit:", "if True:"),),
        (f"{_STANDS}test_datagrams_end_with_their_grant[local]",),
    ),
    "revoking ends what datagrams go through": Defence(
        (Edit(_UDP, '        self._refuse(End("policy", reason))\n        from', "        from"),),
        (f"{_STANDS}test_a_revoked_udp_flow_is_closed_outside_too",),
    ),
}

_AT_ONCE: dict[str, Defence] = {
    "the rules answer at once": Defence(
        (
            Edit(
                _DOOR,
                '    batch.rule("no", nftables.protocol(_TCP), nftables.reject_reset())\n'
                '    batch.rule("no", nftables.reject_unreachable())\n',
                '    batch.rule("no", nftables._verdict(nftables.netlink.be32(1, 0)))\n',
            ),
        ),
        (f"{_DENIED}test_an_address_that_is_not_granted_is_refused[local-93.184.215.10]",),
    ),
    "a refused connection is reset": Defence(
        (Edit("gateway/farewell.py", "        reset_on_close(client)\n", "        pass\n"),),
        (f"{_STANDS}test_who_resolves_may_be_edited",),
    ),
    "no denial is lost": Defence(
        (Edit("gateway/refusals.py", "        self._count_unreported()\n", ""),),
        (f"{_DENIED}test_no_count_is_lost_in_a_flood[local-udp]",),
    ),
    "a descriptor is kept to refuse with": Defence(
        (
            Edit(
                "gateway/listener.py",
                'self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)',
                "self._reserve = None",
            ),
        ),
        ("tests/gateway/test_exhaustion.py::test_with_no_descriptor_left_the_one_that_is_kept_refuses",),
    ),
    "what is revoked leaves the kernel's keys": Defence(
        (Edit(_STANDING, "door.edit(self._rules, add, remove)", "door.edit(self._rules, add, ())"),),
        (f"{_STANDS}test_a_revoked_name_keeps_its_address_and_is_refused[local]",),
    ),
}

GATEWAY: dict[str, Defence] = {**_DIALLED, **_JUDGED, **_DATAGRAMS, **_AT_ONCE}
