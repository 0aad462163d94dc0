"""Defences that the kernel keeps for the namespace backend: calls, scopes, namespaces, keys, groups, mounts.

Owns their part of the table. Of the filter's groups of calls the pure test is named; that the kernel holds
the filter that was made is `confinement`'s.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_FILTER = "kernel/seccomp.py"
_INIT = "backends/namespace/init.py"
_KEEPER = "backends/namespace/keeper.py"
_LANDLOCK = "kernel/landlock.py"
_ROOT = "backends/namespace/root.py"
_TABLE = "kernel/syscall_table.py"

_CONFINED = "tests/backends/test_confined.py::"
_PROGRAM = "tests/kernel/test_seccomp_program.py::"
_SCOPES = "tests/kernel/test_landlock.py::test_neither_abstract_sockets_nor_signals_are_left_out"
_SHUT = f"{_PROGRAM}test_what_must_stay_shut_is_shut_and_what_programs_need_is_open"

_LISTED = Edit(_ROOT, "    _hide_keys()\n", "")


def _opened(verdict: str, reason: str) -> tuple[Edit]:
    """Let a group of calls pass, which the table has for a reason that begins so."""
    head = f'        {verdict},\n        "{reason}'
    return (Edit(_TABLE, head, head.replace(verdict, "ALLOWED")),)


KERNEL: dict[str, Defence] = {
    "seccomp: clone3": Defence(
        _opened("MISSING", "So that libc falls back to clone"),
        (f"{_PROGRAM}test_clone3_is_missing_so_that_libc_falls_back_to_clone",),
    ),
    "seccomp: openat2": Defence(_opened("MISSING", "So that programs fall back to openat"), (_SHUT,)),
    "seccomp: mounts and roots": Defence(_opened("FORBIDDEN", "Other namespaces"), (_SHUT,)),
    "seccomp: the machine": Defence(_opened("FORBIDDEN", "The machine itself"), (_SHUT,)),
    "seccomp: programs in the kernel": Defence(_opened("FORBIDDEN", "Programs in the kernel"), (_SHUT,)),
    "seccomp: other processes": Defence(_opened("FORBIDDEN", "Reaching into other processes"), (_SHUT,)),
    "seccomp: keys": Defence(_opened("MISSING", "As in a kernel that was built without keyrings"), (_SHUT,)),
    "seccomp: personality": Defence(
        (Edit(_FILTER, "_one_of(_argument(0), _PERSONALITIES, _FORBID)", "_ALLOW"),),
        (f"{_PROGRAM}test_personalities_that_change_more_than_names",),
    ),
    "seccomp: pairs of sockets": Defence(
        (Edit(_FILTER, "_one_of(_argument(0), (_AF_UNIX,), _ERRNO | errno.EAFNOSUPPORT)", "_ALLOW"),),
        (f"{_PROGRAM}test_pairs_of_sockets_are_unix_only",),
    ),
    "Landlock: abstract sockets": Defence(
        (Edit(_LANDLOCK, "scoped=_ABSTRACT_SOCKETS | _SIGNALS", "scoped=_SIGNALS"),), (_SCOPES,)
    ),
    "Landlock: signals": Defence(
        (Edit(_LANDLOCK, "scoped=_ABSTRACT_SOCKETS | _SIGNALS", "scoped=_ABSTRACT_SOCKETS"),), (_SCOPES,)
    ),
    "root gives way to nobody": Defence(
        (Edit("plan/identity.py", "    if not (_knows(uid_map", "    if not False or (_knows(uid_map"),),
        ("tests/plan/test_identity.py::test_root_gives_way_to_an_unprivileged_user",),
    ),
    "root's groups are given up": Defence(
        (Edit(_INIT, "        os.setgroups([])\n", ""),),
        (f"{_CONFINED}test_a_workload_is_in_no_group_of_roots",),
    ),
    "the list of keys is covered": Defence(
        (_LISTED,),
        (f"{_CONFINED}test_no_key_of_the_callers_is_listed[of the user]",),
        user_only=True,
    ),
    "a session keyring of its own": Defence(
        (_LISTED, Edit(_INIT, "    syscalls.join_new_keyring()\n", "")),
        (f"{_CONFINED}test_no_key_of_the_callers_is_listed[of the session]",),
        user_only=True,
    ),
    "init's words are hidden": Defence(
        (Edit(_INIT, '    syscalls.hide_arguments(b"mvm-init")\n', ""),),
        ("tests/escape/test_confinement_processes.py::test_pid_1_says_nothing_of_the_host",),
    ),
    "a host name of its own": Defence(
        (
            Edit(_KEEPER, "        | syscalls.NEWUTS\n", ""),
            Edit(_KEEPER, "    socket.sethostname(plan.name)\n", ""),
        ),
        (f"{_CONFINED}test_no_namespace_is_the_callers",),
    ),
    "control groups of its own": Defence(
        (Edit(_KEEPER, "        | syscalls.NEWCGROUP\n", ""),),
        (
            f"{_CONFINED}test_no_namespace_is_the_callers",
            "tests/escape/test_confinement_cgroups.py::test_only_the_own_name_is_told[self]",
        ),
    ),
    "devices run nothing": Defence(
        (Edit(_ROOT, "    mounts.set_attributes(_DEVICE, nosuid=True, noexec=True)\n", ""),),
        (f"{_CONFINED}test_no_mount_gives_rights_to_a_file",),
    ),
    "the system gives no rights": Defence(
        (Edit(_ROOT, "(_HOST, readonly=True, nosuid=True, nodev=True)", "(_HOST, readonly=True)"),),
        (f"{_CONFINED}test_no_mount_gives_rights_to_a_file",),
    ),
    "volumes give no rights": Defence(
        (Edit(_ROOT, "readonly=not bind.writable, nosuid=True, nodev=True)", "readonly=not bind.writable)"),),
        (f"{_CONFINED}test_no_mount_gives_rights_to_a_file",),
    ),
    "the old root is gone": Defence(
        (
            Edit(_ROOT, '    mounts.unmount(".")\n', ""),
            # Below another root the kernel makes no user namespace (user_namespaces(7)): nothing would start.
            Edit(
                _INIT,
                "    syscalls.unshare(syscalls.NEWUSER)\n    for name, text in (\n",
                "    for name, text in () and (\n",
            ),
            Edit(_INIT, "    syscalls.drop_capabilities()\n", ""),
        ),
        (f"{_CONFINED}test_above_the_root_there_is_nothing",),
    ),
    "the keeper lets go of streams": Defence(
        (Edit(_KEEPER, "        _let_go_of_streams()\n", ""),),
        (f"{_CONFINED}test_the_keeper_has_no_stream_of_the_callers",),
    ),
    "limits are upon the workload": Defence(
        (
            Edit("backends/namespace/backend.py", "self._cgroup.add(init)\n", "pass\n"),
            Edit(_INIT, "resource.setrlimit(kind, (value, value))\n", "pass\n"),
        ),
        (f"{_CONFINED}test_the_limit_that_is_recorded_is_upon_the_workload",),
    ),
}
