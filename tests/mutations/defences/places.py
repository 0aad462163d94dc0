"""Defences in what a sandbox is lent or made of, where it is listened to, and who is heard outside of it.

Owns their part of the table: volumes, images, inbound ports, control sockets. Must never take out what the
kernel keeps.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_ARCHIVE = "images/archive.py"
_BLOBS = "images/blobs.py"
_CONTROL = "supervisor/control.py"
_VOLUMES = "images/volumes.py"

_HEARD = "tests/supervisor/test_control.py::"
_HOSTILE = "tests/images/test_archive_refusals.py::test_what_no_image_does_is_refused"
_IMAGES = "tests/images/test_oci_layout.py::"
_NAMES = "tests/supervisor/test_registry.py::"
_UNPACKED = "tests/images/test_archive.py::"
_UNSAFE = "tests/images/test_volumes.py::test_a_volume_that_cannot_be_shown_safely_is_refused"

PLACES: dict[str, Defence] = {
    "a control socket hears its user": Defence(
        (
            Edit(
                _CONTROL,
                "return uid == 0 != own or (uid == own and _is_in_own_user_namespace(pid))",
                "return uid == 0 != own or _is_in_own_user_namespace(pid)",
            ),
        ),
        ("tests/supervisor/test_private.py::test_another_user_is_not_heard_even_with_the_way_open",),
    ),
    "a control socket hears from outside of all sandboxes": Defence(
        (
            Edit(
                _CONTROL,
                "return uid == 0 != own or (uid == own and _is_in_own_user_namespace(pid))",
                "return uid == 0 != own or uid == own",
            ),
        ),
        (f"{_HEARD}test_the_same_user_is_heard_from_outside_of_all_sandboxes_only",),
    ),
    "whoever shows no namespace is told by its pids": Defence(
        (Edit(_CONTROL, "    return depths[0] == depths[1]\n", "    return True\n"),),
        (f"{_HEARD}test_a_process_below_is_told_from_one_beside",),
    ),
    "the place of a control socket is private": Defence(
        (
            Edit(
                "supervisor/registry.py",
                "        try:\n            os.mkdir(name, 0o700, dir_fd",
                "        try:\n            os.mkdir(name, 0o777, dir_fd",
            ),
        ),
        (f"{_NAMES}test_a_taken_name_is_listed_and_can_be_connected_to_by_its_owner_only",),
    ),
    "an inbound port is on loopback": Defence(
        (Edit("policy/ports.py", 'IPv4Address("127.0.0.1")', 'IPv4Address("0.0.0.0")'),),
        ("tests/policy/test_words.py::test_words_that_are_right",),
    ),
    "an inbound port is at its address": Defence(
        (Edit("supervisor/forwards.py", "sock.bind((str(forward.address), ", 'sock.bind(("", '),),
        ("tests/escape/test_time_and_state.py::test_an_inbound_port_leads_to_its_target_and_no_further[]",),
    ),
    "mvm's own places are no volume": Defence(
        (Edit("images/asked.py", "if any(lies_in(placed.source, own) for own in hidden):", "if False:"),),
        ("tests/escape/test_confinement_neighbours.py::test_mvms_own_places_are_no_volume[state]",),
    ),
    "a socket of the host is no volume": Defence(
        (
            Edit(_VOLUMES, "if stat.S_ISSOCK(mode):", "if False:"),
            Edit(_VOLUMES, "if not (stat.S_ISDIR(mode) or", "if not (True or"),
        ),
        (f"{_UNSAFE}[socket:/var/run/docker.sock-volume-socket]",),
    ),
    "a device of the host is no volume": Defence(
        (Edit(_VOLUMES, "if not (stat.S_ISDIR(mode) or", "if not (True or"),),
        (f"{_UNSAFE}[pipe:/pipe-volume-device]",),
    ),
    "the machine is no volume": Defence(
        (Edit(_VOLUMES, 'if real == "/" or any(lies_in(real, kept) for kept in PSEUDO):', "if False:"),),
        (f"{_UNSAFE}[/proc:/host-volume-broad]",),
    ),
    "a volume covers no place of the sandbox's own": Defence(
        (Edit(_VOLUMES, 'if target == "/" or any(lies_in(target, kept) for kept in PSEUDO):', "if False:"),),
        (f"{_UNSAFE}[data:/proc-volume-destination]",),
    ),
    "a volume is mounted behind no link": Defence(
        (Edit("images/asked.py", "    if tree.tracer.trace(below).real != below:\n", "    if False:\n"),),
        ("tests/images/test_volumes.py::test_a_mount_point_behind_a_link_of_the_workload_is_refused",),
    ),
    "an archive leads nowhere upwards": Defence(
        (Edit(_ARCHIVE, '        if b".." in parts:\n', "        if False:\n"),),
        (f"{_HOSTILE}[archive-dotdot-0]",),
    ),
    "an archive's links stay inside": Defence(
        (Edit("kernel/paths.py", "_IN_ROOT | _NO_MAGICLINKS)", "0)"),),
        (f"{_HOSTILE}[archive-symlink-0]", f"{_HOSTILE}[archive-hard-link-2]"),
    ),
    "an archive writes through no link": Defence(
        (Edit(_ARCHIVE, "os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW", "os.O_CREAT | os.O_TRUNC"),),
        (f"{_UNPACKED}test_a_file_in_the_place_of_a_link_is_not_written_through_it",),
    ),
    "a hard link follows no link": Defence(
        (
            Edit(
                _ARCHIVE,
                "            dst_dir_fd=place.descriptor,\n            follow_symlinks=False,\n",
                "            dst_dir_fd=place.descriptor,\n            follow_symlinks=True,\n",
            ),
        ),
        (f"{_UNPACKED}test_a_hard_link_to_a_link_is_the_link",),
    ),
    "an archive has devices in /dev only": Defence(
        (Edit(_ARCHIVE, 'if entry.kind in {CHARACTER, BLOCK} and parts[0] != b"dev":', "if False:"),),
        (f"{_HOSTILE}[archive-device-0]",),
    ),
    "no program of an archive runs as its owner": Defence(
        (Edit(_ARCHIVE, "_KEPT_OF_MODES = 0o1777", "_KEPT_OF_MODES = 0o7777"),),
        (f"{_UNPACKED}test_no_program_gets_rights_by_its_file",),
    ),
    "an archive has an end": Defence(
        (Edit(_ARCHIVE, "if self._spent.entries > self._bounds.entries:", "if False:"),),
        ("tests/images/test_archive_refusals.py::test_bounds_count_over_layers",),
    ),
    "a layer is the one that was named": Defence(
        (Edit(_BLOBS, "    if sum_.hexdigest() != digest", "    if False and digest"),),
        (f"{_IMAGES}test_nothing_is_unpacked_of_an_image_with_a_spoilt_layer",),
    ),
    "a layer unpacks to what was named": Defence(
        (
            Edit(
                "images/layers.py",
                'raise not_what_it_says(layer.diff_id, self._files.name, "archive-diff-id")',
                "pass",
            ),
        ),
        (f"{_IMAGES}test_a_layer_that_unpacks_to_something_else_is_refused",),
    ),
    "a description is the one that was named": Defence(
        (Edit(_BLOBS, "    if hashlib.new(", "    if False and hashlib.new("),),
        (f"{_IMAGES}test_a_description_that_was_changed_is_refused",),
    ),
}
