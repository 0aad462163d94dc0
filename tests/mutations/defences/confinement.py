"""Defences that keep a workload inside: namespaces, seccomp, images, the supervisor and its end.

Owns their part of the table. Must never take out what judges traffic.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_INIT = "backends/namespace/init.py"
_KEEPER = "backends/namespace/keeper.py"
_ROOT = "backends/namespace/root.py"
_FILTER = "kernel/seccomp.py"

_CALLS = "tests/escape/test_confinement_calls.py::"
_CGROUPS = "tests/escape/test_confinement_cgroups.py::"
_CORES = "tests/escape/test_cores.py::"
_FILES = "tests/escape/test_confinement_files.py::"
_NEIGHBOURS = "tests/escape/test_confinement_neighbours.py::"
_PROCESSES = "tests/escape/test_confinement_processes.py::"
_READ_BACK = "tests/escape/test_filter_read_back.py::"
_SET_ID = "tests/escape/test_set_id.py::"
_SOCKETS = "tests/escape/test_confinement_sockets.py::"
_EMPTY = "tests/escape/test_empty.py::"
_VOLUMES = "tests/escape/test_volume_sockets.py::"
_KILLS = "tests/faults/test_kills.py::"

_SURVIVING = (
    Edit(_INIT, "        syscalls.die_with_parent()\n        message", "        message"),
    Edit(
        _INIT,
        "    syscalls.die_with_parent()  # the kernel forgot it when the credentials changed\n",
        "",
    ),
)

CONFINEMENT: dict[str, Defence] = {
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
    "seccomp: the whole program is loaded": Defence(
        (
            Edit(
                _INIT,
                "seccomp.program(os.uname().machine))\n",
                # One call that is refused with EPERM passes: the first "return" of that.
                "seccomp.program(os.uname().machine).replace("
                "bytes((6, 0, 0, 0, 1, 0, 5, 0)), bytes((6, 0, 0, 0, 0, 0, 255, 127)), 1))\n",
            ),
        ),
        (f"{_READ_BACK}test_the_kernel_holds_exactly_the_filter_that_was_made",),
    ),
    "seccomp: sockets": Defence(
        (Edit(_FILTER, '"socket": _socket(),', '"socket": _ALLOW,'),),
        (f"{_SOCKETS}test_no_other_protocol_opens",),
    ),
    "seccomp: set-user-ID": Defence(
        (Edit(_FILTER, "_SET_ID = 0o6000", "_SET_ID = 0"),),
        (f"{_SET_ID}test_no_file_in_a_volume_is_made_to_run_as_its_owner[chmod-2048]",),
    ),
    "seccomp: set-user-ID by older calls": Defence(
        (Edit(_FILTER, '    "creat": _without_set_id(1),\n', '    "creat": _ALLOW,\n'),),
        (
            f"{_SET_ID}test_no_file_in_a_volume_is_made_to_run_as_its_owner[creat-2048]",
            "tests/kernel/test_seccomp_rules.py::test_each_rule_with_good_and_bad_arguments[creat-x86_64]",
        ),
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
    "seccomp: the limit of cores": Defence(
        (
            Edit(_FILTER, "_EQUAL, _RLIMIT_CORE, _PRETEND, _ALLOW)", "_EQUAL, _RLIMIT_CORE, _ALLOW, _ALLOW)"),
            Edit(_FILTER, "_EQUAL, _RLIMIT_CORE, changes, _ALLOW)", "_EQUAL, _RLIMIT_CORE, _ALLOW, _ALLOW)"),
        ),
        (f"{_CORES}test_a_workload_keeps_the_limit_of_cores",),
    ),
    "a piped core_pattern starts nothing": Defence(
        (Edit("kernel/cores.py", "_NO_PROGRAM = 1\n", "_NO_PROGRAM = 0\n"),),
        (f"{_CORES}test_no_process_of_a_sandbox_leaves_an_image[unlimited]",),
    ),
    "no memory in a core": Defence(
        (Edit("kernel/cores.py", '        file.write("0")\n', "        pass\n"),),
        (
            f"{_CORES}test_no_process_of_a_sandbox_leaves_an_image[0]",
            f"{_CORES}test_a_joined_terminal_is_in_no_image",
        ),
    ),
    "init can't be looked into": Defence(
        (Edit(_INIT, "    syscalls.set_dumpable(False)\n", ""),),
        (f"{_PROCESSES}test_init_can_not_be_looked_into",),
    ),
    "processes of its own": Defence(
        (
            Edit(_KEEPER, "        | syscalls.NEWPID\n", ""),
            # The kernel gives a proc of its own to nobody who has no processes of its own.
            Edit(
                _ROOT,
                "    trees = list(owned) or ",
                '    proc = mounts.clone_tree(_HOST + "/proc")\n    trees = list(owned) or ',
            ),
            Edit(_ROOT, 'mounts.proc(f"{_NEW}/proc")', 'mounts.attach(proc, f"{_NEW}/proc")'),
        ),
        (f"{_PROCESSES}test_no_process_of_the_host_is_seen_or_met",),
    ),
    "queues and memory of its own": Defence(
        (Edit(_KEEPER, "        | syscalls.NEWIPC\n", ""),),
        (f"{_NEIGHBOURS}test_queues_and_memory_are_not_shared",),
    ),
    "a limited sandbox is in its cgroup": Defence(
        (
            Edit(
                "backends/namespace/backend.py", "            self._cgroup.add(init)\n", "            pass\n"
            ),
        ),
        (f"{_CGROUPS}test_every_process_stays_in_the_cgroup",),
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
        lifeless="root's home is not for the user of its sandboxes; the home of the red test is for all",
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
    "sockets deeper in a volume are covered": Defence(
        (
            Edit(
                "images/asked.py",
                "        for path in known.below(bind.source)\n",
                "        for path in ()\n",
            ),
        ),
        (f"{_VOLUMES}test_a_socket_deep_in_a_volume_is_covered[ro-stream]",),
    ),
    "sockets in the system are covered": Defence(
        (Edit("images/host.py", "    cover_sockets_of_system(tree, hidden)\n", ""),),
        (f"{_VOLUMES}test_a_socket_in_the_system_is_covered[/opt]",),
    ),
    "a socket is covered by a mount": Defence(
        (
            Edit(
                _ROOT,
                '            mounts.bind(file, f"{_HOST}/proc/self/fd/{place}")\n',
                "            pass\n",
            ),
        ),
        (f"{_VOLUMES}test_a_socket_deep_in_a_volume_is_covered[rw-stream]",),
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
    "a network of its own": Defence(
        (
            # The keeper still makes a door, as nobody may in the caller's network; the workload is not in it.
            Edit(_KEEPER, "        | syscalls.NEWNET\n", ""),
            Edit(
                _KEEPER,
                "        init.live(inits, plan)\n    return pid\n",
                "        init.live(inits, plan)\n    syscalls.unshare(syscalls.NEWNET)\n    return pid\n",
            ),
        ),
        (f"{_EMPTY}test_an_empty_list_lets_nothing_out[no words]",),
        green=("tests/backends/test_namespace.py::test_every_word_arrives_as_it_is",),
        lifeless="its name server is in the door, and the workload is not",
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
