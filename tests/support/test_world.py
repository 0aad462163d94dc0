"""The world has one way out, and that leads to the fake internet only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import addresses, namespaces
from tests.support.internet import Packet

if TYPE_CHECKING:
    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl
    from tests.support.world import World

pytestmark = pytest.mark.kernel

_SOMEWHERE = ("8.8.4.4", "2001:4860:4860::8844", "10.9.8.7", "192.0.2.1", "169.254.169.254", "fd00::2")


def test_the_only_links_are_loopback_and_the_wire(internet: Internet) -> None:
    """No link of the machine is in the namespace that tests run in."""
    assert internet.pid
    assert {name for _, name in socket.if_nameindex()} == {"lo", addresses.LINK_NAME}


@pytest.mark.parametrize("address", _SOMEWHERE)
def test_every_address_ends_at_the_fake_internet(internet: Internet, address: str) -> None:
    """A connection to any address is refused at once by the other end of the wire, and counted there."""
    with internet.watch() as outside, pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, 4321), timeout=5)
    assert outside.packets == {Packet("tcp", address, 4321): 1}


def test_a_started_program_is_in_the_same_namespace(world: World) -> None:
    """What the tests start sees the fake internet too."""
    assert world.directory.is_dir()
    word = "import os; print(os.readlink('/proc/self/ns/net'))"
    seen = subprocess.run(
        [sys.executable, "-c", word], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert seen == str(Path("/proc/self/ns/net").readlink())


def test_the_resolver_file_names_the_fake_name_server(world: World) -> None:
    """Programs ask the fake name server and nobody else."""
    assert world.directory.is_dir()
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    assert [line for line in lines if line.startswith("nameserver")] == [
        f"nameserver {addresses.NAME_SERVERS[0]}"
    ]


def test_a_started_program_may_make_namespaces(world: World) -> None:
    """An ordinary user's program can make a sandbox in here, just as it can outside."""
    assert world.directory.is_dir()
    words = ["unshare", "--user", "--map-current-user", "--net", "--pid", "--fork", "--mount-proc", "true"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.user_only
def test_a_started_program_of_a_user_has_no_capabilities(world: World) -> None:
    """The pytest process may administer its namespaces; what it starts may not, as for any user."""
    assert world.directory.is_dir()
    word = "print(open('/proc/self/status').read())"
    status = subprocess.run([sys.executable, "-c", word], capture_output=True, text=True, check=True).stdout
    sets = [
        line.split()[1]
        for line in status.splitlines()
        if line.startswith(("CapEff", "CapPrm", "CapAmb", "CapInh"))
    ]
    assert sets == ["0" * 16] * 4
    assert namespaces.may_administer()


def test_an_orphan_becomes_a_child_of_the_tests_and_is_found(leftovers: Leftovers) -> None:
    """A process whose parent has ended is a leftover until it ends."""
    reader, writer = os.pipe()
    script = "sleep 60 & echo $!"
    ended = subprocess.run(["sh", "-c", script], stdout=writer, check=True)
    os.close(writer)
    assert ended.returncode == 0
    with os.fdopen(reader) as lines:
        orphan = int(lines.readline())
    assert [line for line in leftovers.now() if line.startswith(f"process: {orphan} ")]
    with pytest.raises(AssertionError, match="sleep 60"):
        leftovers.expect_none(within_s=0.05)
    os.kill(orphan, signal.SIGKILL)
    leftovers.expect_none()
    os.waitpid(orphan, 0)


def test_a_file_a_mount_and_a_namespace_are_found(leftovers: Leftovers, mvmctl: Mvmctl) -> None:
    """Each kind of thing that may remain is named, and what went away is not."""
    folder = mvmctl.runtime / "mounted"
    folder.mkdir()
    namespaces.mount("none", str(folder), "tmpfs", 0)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        os.write(writer, bytes(Path("/proc/self/ns/net").readlink()))
        signal.pause()
    os.close(writer)
    namespace = os.read(reader, 100).decode()
    found = leftovers.now()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    assert f"file: {folder}" in found
    assert f"mount: tmpfs at {folder}" in found
    assert f"namespace: {namespace}" in found
    namespaces.unmount(str(folder))
    folder.rmdir()
    leftovers.expect_none()
