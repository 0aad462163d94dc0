"""The world that tests run in: a network namespace whose only neighbour is the fake internet.

Owns moving the pytest process there, once, and the wire to the namespace "up". Must never leave a way to
the real internet: the namespace starts empty, and the wire is the only link it ever gets.

    pytest (namespace "host") ── uplink ═══ uplink ── servers (namespace "up"; all addresses are local there)

An ordinary user gets a user namespace around it. The process itself keeps capabilities there, programs that
it starts do not (execve(2) drops them for a user other than 0), so that `mvmctl` runs just as it does for
that user. Under pytest-xdist a worker has threads by the time it could make a user namespace, so the
controller makes one and lends its capabilities to the workers, which take them back from their own children
in `enter`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests.support import addresses, namespaces
from tests.support.rtnl import Rtnl

_FOREIGN_VARIABLES = frozenset(
    {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}
    | {"ssl_cert_file", "ssl_cert_dir", "nix_ssl_cert_file", "curl_ca_bundle", "requests_ca_bundle"}
    | {"node_extra_ca_certs", "git_ssl_cainfo", "pip_cert", "npm_config_cafile", "cargo_http_cainfo"}
)
"""Proxies and authorities of the internet outside, which programs would prefer to the ones a test names."""
_NAME_CACHE = "/run/nscd"


class World:
    """What `enter` made: where its files lie, and whether the wire has been laid."""

    def __init__(self, directory: Path) -> None:
        """Remember `directory`, which holds the world's files until the process ends."""
        self.directory = directory

    def lay_wire(self, pid: int) -> None:
        """Join this namespace to the one of the process `pid`, and route everything through it.

        The far end arrives there as `addresses.LINK_NAME`, down and without an address. Raises OSError.
        """
        link = addresses.LINK_NAME
        with Rtnl() as rtnl:
            rtnl.add_veth(link, peer_pid=pid, ethernet=(addresses.HOST_ETHERNET, addresses.GATEWAY_ETHERNET))
            rtnl.add_address(link, addresses.HOST_V4, addresses.LINK_V4.prefixlen)
            rtnl.add_address(link, addresses.HOST_V6, addresses.LINK_V6.prefixlen)
            rtnl.link_up(link)
            for gateway in (addresses.GATEWAY_V4, addresses.GATEWAY_V6):
                # Known beforehand: the first question over a new link may get lost, which costs a second.
                rtnl.add_neighbour(link, gateway, addresses.GATEWAY_ETHERNET)
            rtnl.add_route("0.0.0.0/0", via=addresses.GATEWAY_V4, link=link)
            rtnl.add_route("::/0", via=addresses.GATEWAY_V6, link=link)


class WorldRefused(Exception):
    """The machine withholds something the world needs; the text says what."""


def lend_capabilities() -> None:
    """For a process that only starts workers: make the user namespace in which each of them can `enter`.

    Does nothing where it isn't needed. Raises WorldRefused.
    """
    if namespaces.may_administer():
        return
    try:
        namespaces.enter_user_namespace()
        namespaces.share_capabilities()
    except OSError as problem:
        raise WorldRefused(f"no user namespace: {problem}") from problem


def enter() -> World:
    """Move this process into the world; once a process, as early as may be. Raises WorldRefused.

    Everything it starts from now on is there too. Until the wire is laid there is no network but loopback.
    """
    try:
        if not namespaces.may_administer():
            namespaces.enter_user_namespace()
        namespaces.unshare(namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS)
        namespaces.mount(None, "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
        with Rtnl() as rtnl:
            rtnl.link_up("lo")
        namespaces.withdraw_capabilities()
        namespaces.adopt_orphans()
        directory = _own_directory()
        _replace_name_files(directory)
    except OSError as problem:
        raise WorldRefused(f"no world on this machine: {problem}") from problem
    _forget_the_outside()
    return World(directory)


def _own_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="world-"))
    # World-readable: workloads that run as another user read the test authority's certificate from here.
    directory.chmod(0o755)
    owner = os.getpid()
    atexit.register(_remove_own, directory, owner)
    return directory


def _remove_own(directory: Path, owner: int) -> None:
    # A forked child that ends in the ordinary way runs this too, and must not take the files from its parent.
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


def _replace_name_files(directory: Path) -> None:
    """Bind-mount the files that decide how names resolve, and hide the cache that would answer instead."""
    switch = Path("/etc/nsswitch.conf")
    lines = switch.read_text().splitlines() if switch.exists() else []
    kept = [line for line in lines if not line.startswith("hosts:")]
    files = {
        "resolv.conf": f"nameserver {addresses.NAME_SERVERS[0]}\noptions timeout:2 attempts:2\n",
        "hosts": "127.0.0.1 localhost\n::1 localhost\n",
        "nsswitch.conf": "\n".join([*kept, "hosts: files dns", ""]),
    }
    for name, text in files.items():
        target = Path("/etc", name).resolve()
        if not target.exists():
            raise WorldRefused(f"/etc/{name} does not exist, so nothing can be mounted over it")
        source = directory / name
        source.write_text(text)
        source.chmod(0o644)
        namespaces.mount(str(source), str(target), None, namespaces.MS_BIND)
    if Path(_NAME_CACHE, "socket").exists():
        namespaces.mount("none", _NAME_CACHE, "tmpfs", 0)


def _forget_the_outside() -> None:
    for name in list(os.environ):
        if name.lower() in _FOREIGN_VARIABLES:
            del os.environ[name]
