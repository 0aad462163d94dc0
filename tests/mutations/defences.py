"""Each defence: how it is taken out of the product, and the tests that then fail.

Owns the table. The quickest test that meets the defence stands here, not every one that does. A text is
whole lines as they stand in `src/mvm`, so that a change of the product is noticed here at once.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """One text of the product replaced: a file below `src/mvm`, what stands there once, what shall."""

    file: str
    old: str
    new: str


class Defence(NamedTuple):
    """A defence taken out.

    Attributes:
        edits: how.
        red: names of tests, each of which fails then.
        green: names of tests, each of which passes even then: what is left still holds.
    """

    edits: tuple[Edit, ...]
    red: tuple[str, ...]
    green: tuple[str, ...] = ()


_INIT = "backends/namespace/init.py"
_KEEPER = "backends/namespace/keeper.py"
_ROOT = "backends/namespace/root.py"
_DECIDE = "policy/decide.py"
_FLOW = "gateway/flow.py"
_DIAL = "gateway/dial.py"
_STANDING = "gateway/standing.py"
_DOOR = "gateway/door.py"
_FILTER = "kernel/seccomp.py"

_DESTINATIONS = "tests/escape/test_destinations.py::"
_RESOLUTION = "tests/escape/test_resolution.py::"
_CALLS = "tests/escape/test_confinement_calls.py::"
_FILES = "tests/escape/test_confinement_files.py::"
_NEIGHBOURS = "tests/escape/test_confinement_neighbours.py::"
_PROCESSES = "tests/escape/test_confinement_processes.py::"
_SOCKETS = "tests/escape/test_confinement_sockets.py::"
_PROTOCOLS = "tests/escape/test_protocols.py::"
_EMPTY = "tests/escape/test_empty.py::"
_STANDS = "tests/gateway/test_standing.py::"
_DENIED = "tests/gateway/test_denied.py::"
_DECIDED = "tests/policy/test_decide.py::"
_DOORWAY = "tests/kernel/test_door.py::"
_KILLS = "tests/faults/test_kills.py::"

_NAMES: dict[str, Defence] = {
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
}

_RECORD: dict[str, Defence] = {
    "a flow is recorded before it is dialled": Defence(
        (
            Edit(
                _DIAL,
                "        if self._record(self._queue):\n            self._attempt()\n",
                "        queue = list(self._queue)\n        self._attempt()\n"
                "        if self._record(queue):\n            pass\n",
            ),
        ),
        (f"{_STANDS}test_where_nothing_can_be_recorded_nothing_opens",),
    ),
    "an edit is recorded before it takes effect": Defence(
        (
            Edit(
                _STANDING,
                "        try:\n            self._record(change, by)\n",
                "        self.authority.apply(change, monotonic())\n        self._steer()\n"
                "        try:\n            self._record(change, by)\n",
            ),
        ),
        (f"{_STANDS}test_an_edit_that_can_not_be_recorded_grants_nothing",),
    ),
    "an answer is recorded before it is given": Defence(
        (
            Edit(
                _STANDING,
                "if not self._book.answered(host, [str(address) for address in pair]):",
                "if False:",
            ),
        ),
        (f"{_DENIED}test_an_answer_is_recorded_before_it_is_given",),
    ),
    "a denial is recorded": Defence(
        (
            Edit(
                "gateway/listener.py",
                "            gateway.refusals.add(verdict)\n            reset(client)\n",
                "            reset(client)\n",
            ),
            Edit(_DOOR, '        batch.rule("no", first, report)\n', ""),
        ),
        (f"{_DESTINATIONS}test_an_address_instead_of_a_name_is_refused[93.184.215.11]",),
    ),
    "each record follows from the one before": Defence(
        (Edit("audit/chain.py", 'if record["prev"] != prev:', "if False:"),),
        ("tests/audit/test_chain.py::test_an_unsealed_log_detects_all_but_its_last_line",),
    ),
    "a seal is checked": Defence(
        (
            Edit(
                "audit/chain.py",
                "if not key.verify(_seal_message(unsigned), bytes.fromhex(str(signature))):",
                "if False:",
            ),
        ),
        ("tests/audit/test_chain.py::test_a_log_sealed_anew_is_detected",),
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
    "an expired grant opens nothing": Defence(
        (
            Edit(
                _DECIDE,
                "if self.expires is not None and now - self.since >= self.expires:",
                "if False:",
            ),
        ),
        ("tests/policy/test_decide.py::test_an_expiry_counts_from_when_the_grant_took_effect",),
    ),
    "a budget is kept": Defence(
        (
            Edit("gateway/relay.py", "        if limit is None:\n", "        if True:\n"),
            Edit("gateway/relay.py", "if limit is not None and self._tally", "if False and self._tally"),
        ),
        (f"{_STANDS}test_a_budget_is_exact",),
    ),
}

_CONFINEMENT: dict[str, Defence] = {
    "a nested user namespace": Defence(
        (
            Edit(
                _INIT,
                "    syscalls.unshare(syscalls.NEWUSER)\n    for name, text in (\n"
                '        ("setgroups", "deny"),\n        ("uid_map", identity.inner_uid_map),\n'
                '        ("gid_map", identity.inner_gid_map),\n    ):\n'
                '        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:\n'
                "            file.write(text)\n    syscalls.drop_capabilities()\n",
                "",
            ),
        ),
        (f"{_CALLS}test_what_owns_the_namespaces_is_beyond_the_workload[net]",),
    ),
    "capabilities are dropped": Defence(
        (Edit(_INIT, "    syscalls.drop_capabilities()\n", ""),),
        (f"{_CALLS}test_nobody_inside_holds_a_right[1]",),
    ),
    "no new privileges": Defence(
        (
            Edit(
                _INIT,
                "    syscalls.drop_capabilities()\n    syscalls.set_no_new_privileges()\n",
                "",
            ),
            Edit(
                _INIT,
                "    syscalls.die_with_parent()  # the kernel forgot it when the credentials changed\n",
                "    syscalls.drop_capabilities()\n    syscalls.die_with_parent()\n",
            ),
        ),
        (f"{_CALLS}test_nobody_inside_holds_a_right[self]",),
    ),
    "Landlock": Defence(
        (Edit(_INIT, "    if landlock.abi():\n", "    if False:\n"),),
        (f"{_FILES}test_a_file_lent_for_reading_is_not_written[to write]",),
    ),
    "seccomp": Defence(
        (Edit(_INIT, "    seccomp.install(seccomp.program(os.uname().machine))\n", ""),),
        (
            f"{_SOCKETS}test_only_local_and_internet_sockets_open",
            f"{_CALLS}test_nobody_inside_holds_a_right[self]",
        ),
    ),
    "seccomp: sockets": Defence(
        (Edit(_FILTER, '"socket": _socket(),', '"socket": _ALLOW,'),),
        (f"{_SOCKETS}test_no_other_protocol_opens",),
    ),
    "seccomp: set-user-ID": Defence(
        (Edit(_FILTER, "_SET_ID = 0o6000", "_SET_ID = 0"),),
        ("tests/escape/test_set_id.py::test_no_file_in_a_volume_is_made_to_run_as_its_owner[chmod-2048]",),
    ),
    "seccomp: io_uring": Defence(
        (
            Edit("kernel/syscall_table.py", " io_uring_setup:425:425", ""),
            Edit("kernel/syscall_table.py", "io_cancel:210:3", "io_cancel:210:3 io_uring_setup:425:425"),
        ),
        (f"{_CALLS}test_there_is_no_io_uring",),
    ),
    "seccomp: calls of another machine": Defence(
        (Edit(_FILTER, "_AUDIT_ARCH[machine], calls, _KILL)", "_AUDIT_ARCH[machine], calls, _ALLOW)"),),
        (f"{_CALLS}test_the_entry_of_another_machine_is_death",),
    ),
    "seccomp: x32": Defence(
        (Edit(_FILTER, "_X32_BIT, _NO_SUCH_CALL, calls)", "_X32_BIT, _ALLOW, calls)"),),
        ("tests/kernel/test_seccomp_program.py::test_x32_calls_are_missing",),
    ),
    "seccomp: new namespaces by clone": Defence(
        (
            Edit(
                _FILTER,
                "_HAS_ANY, _NEW_IN_CLONE, _FORBID, _ALLOW)",
                "_HAS_ANY, _NEW_IN_CLONE, _ALLOW, _ALLOW)",
            ),
        ),
        (f"{_CALLS}test_no_process_is_made_in_a_new_namespace[user]",),
    ),
    "seccomp: new namespaces by unshare": Defence(
        (
            Edit(
                _FILTER,
                "_HAS_ANY, _NEW_IN_UNSHARE, _FORBID, _ALLOW)",
                "_HAS_ANY, _NEW_IN_UNSHARE, _ALLOW, _ALLOW)",
            ),
        ),
        (f"{_CALLS}test_no_namespace_is_unshared[0-user]",),
    ),
    "seccomp: typing into a terminal": Defence(
        (Edit(_FILTER, "(_TIOCSTI, _TIOCLINUX, _TIOCSETD), _ALLOW, then=_FORBID)", "(_TIOCSTI,), _ALLOW)"),),
        (f"{_CALLS}test_nothing_is_typed_into_a_terminal",),
    ),
    "init can't be looked into": Defence(
        (Edit(_INIT, "    syscalls.set_dumpable(False)\n", ""),),
        (f"{_PROCESSES}test_init_can_not_be_looked_into",),
    ),
    "processes of its own": Defence(
        (Edit(_KEEPER, "        | syscalls.NEWPID\n", ""),),
        (f"{_PROCESSES}test_no_process_of_the_host_is_seen_or_met",),
    ),
    "queues and memory of its own": Defence(
        (Edit(_KEEPER, "        | syscalls.NEWIPC\n", ""),),
        (f"{_NEIGHBOURS}test_queues_and_memory_are_not_shared",),
    ),
    "descriptors are closed": Defence(
        (
            Edit(_INIT, "        syscalls.close_from(3, (supervisor.fileno(),))\n", ""),
            Edit(_KEEPER, "        syscalls.close_from(3, (*kept, supervisor))\n", ""),
        ),
        (f"{_PROCESSES}test_no_descriptor_comes_along[run]",),
    ),
    "what leads further is no stream": Defence(
        (
            Edit(
                "supervisor/handed.py",
                "        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)\n",
                "        continue\n",
            ),
        ),
        (
            f"{_PROCESSES}test_a_socket_that_can_be_led_elsewhere_is_no_stream[run-tcp-stdin]",
            f"{_PROCESSES}test_a_stream_is_not_connected_anew",
        ),
    ),
    "the files that name and resolve are read-only": Defence(
        (
            Edit(_ROOT, "    mounts.set_attributes(_FILE, readonly=True, recursive=False)\n", ""),
            Edit("images/tree.py", "content: bytes, mode: int = 0o444", "content: bytes, mode: int = 0o666"),
            Edit(_INIT, "    if landlock.abi():\n", "    if False:\n"),
        ),
        (f"{_FILES}test_the_files_that_name_and_resolve_stay_as_they_are[write-/etc/resolv.conf]",),
    ),
    "the system is read-only": Defence(
        (Edit(_ROOT, "    mounts.set_attributes(_HOST, readonly=True, nosuid=True, nodev=True)\n", ""),),
        (f"{_FILES}test_nothing_of_the_host_is_mounted_to_be_written",),
    ),
    "the caller's environment stays outside": Defence(
        (
            Edit(
                "images/environment.py",
                "    kept = {name: environ[name] for name in (*_PLAIN, *_CHOICES) if name in environ}\n",
                "    kept = dict(environ)\n",
            ),
        ),
        ("tests/backends/test_namespace.py::test_the_callers_variables_stay_outside",),
    ),
    "the home is an empty one": Defence(
        (
            Edit(
                "images/host.py",
                "            tree.tmpfs(traced.real, mode=0o700)\n",
                "            tree.bind(Bind(traced.real, traced.real, False, True, 'home'))\n",
            ),
        ),
        ("tests/backends/test_namespace.py::test_the_home_is_empty_and_what_is_written_stays_inside",),
    ),
    "control sockets and keys are covered in volumes": Defence(
        (
            Edit(
                "images/asked.py",
                "            if lies_in(own, placed.source):\n",
                "            if False:\n",
            ),
        ),
        (f"{_NEIGHBOURS}test_a_volume_above_mvms_own_places_does_not_show_them[ro]",),
    ),
    "a control socket hears nobody in a sandbox": Defence(
        (
            Edit(
                "supervisor/control.py",
                "return uid == 0 != own or (uid == own and _is_in_own_user_namespace(pid))",
                "return True",
            ),
        ),
        (f"{_NEIGHBOURS}test_a_control_socket_hears_nobody_in_a_sandbox",),
    ),
}

_SURVIVING = (
    Edit(_INIT, "        syscalls.die_with_parent()\n        message", "        message"),
    Edit(
        _INIT,
        "    syscalls.die_with_parent()  # the kernel forgot it when the credentials changed\n",
        "",
    ),
)

_DOORS: dict[str, Defence] = {
    "a network of its own": Defence(
        (Edit(_KEEPER, "        | syscalls.NEWNET\n", ""),),
        (f"{_EMPTY}test_an_empty_list_lets_nothing_out[no words]",),
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
    "init dies with the keeper": Defence(
        _SURVIVING,
        (f"{_KILLS}test_an_init_that_stands_still_ends_with_both_of_its_guards",),
    ),
    "the keeper clears away": Defence(
        (
            Edit(
                _KEEPER,
                "            _clear((to_supervisor.fileno(), supervisor), clear, plan)\n",
                "            pass\n",
            ),
        ),
        (f"{_KILLS}test_a_detached_sandbox_killed_leaves_nothing",),
    ),
}

DEFENCES: dict[str, Defence] = {**_NAMES, **_RECORD, **_CONFINEMENT, **_DOORS}
