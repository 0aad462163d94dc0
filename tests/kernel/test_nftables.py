"""A table over netlink: all or nothing, counted as told, and read by nft(8) as it is meant."""

from __future__ import annotations

import shutil
import socket
import subprocess
from ipaddress import ip_network

import pytest

from mvm.kernel import nftables
from mvm.kernel.nftables import Batch, open_socket, read_counter
from tests.kernel.test_rtnetlink import in_namespace
from tests.support import namespaces

pytestmark = pytest.mark.kernel

needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="no nft(8) to read the rules with")


def sample() -> Batch:
    """A table that refuses what goes to 10/8, with a counter."""
    batch = Batch("sample")
    batch.table()
    batch.counter("refused")
    batch.set("places", 1, (nftables.ADDRESS4, nftables.PROTOCOL, nftables.PORT), 12)
    batch.chain("no")
    batch.chain_on("output", 0, "out")
    batch.rule("no", nftables.count("refused"))
    batch.rule("no", nftables.protocol(6), nftables.reject_reset())
    batch.rule("no", nftables.reject_unreachable())
    batch.rule("out", nftables.marked(7), nftables.accept())
    batch.rule("out", nftables.destination(ip_network("10.0.0.0/8")), nftables.goto("no"))
    batch.rule("out", nftables.destination(ip_network("fd00::/8")), nftables.goto("no"))
    return batch


def _route_everything() -> None:
    from ipaddress import ip_address

    from mvm.kernel.rtnetlink import LOOPBACK_INDEX, RouteSocket

    with RouteSocket() as routes:
        routes.link_up(LOOPBACK_INDEX)
        routes.address(LOOPBACK_INDEX, ip_address("198.18.0.2"))
        routes.route_local(ip_network("0.0.0.0/0"), LOOPBACK_INDEX, ip_address("198.18.0.2"))
        routes.commit()


def test_rules_do_what_they_say_and_count_it() -> None:
    """What they refuse is refused and counted; what carries the mark, and what they do not name, passes."""

    def act() -> tuple[int, list[bool]]:
        _route_everything()
        with open_socket() as sock:
            sample().send(sock)
            reached = []
            with socket.create_server(("", 99)):
                for address, mark in (("10.1.2.3", 0), ("192.0.2.1", 0), ("10.1.2.3", 7)):
                    with socket.socket() as client:
                        client.settimeout(5)
                        client.setsockopt(socket.SOL_SOCKET, 36, mark)
                        reached.append(client.connect_ex((address, 99)) == 0)
            return read_counter(sock, "sample", "refused"), reached

    assert in_namespace(act) == (1, [False, True, True])


def test_a_batch_is_all_or_nothing() -> None:
    """One refused part, and nothing of the batch is there; the error names the part."""

    def act() -> tuple[str, str]:
        with open_socket() as sock:
            batch = sample()
            batch.rule("nowhere", nftables.accept())
            with pytest.raises(OSError) as refused:  # noqa: PT011  the text is what is looked at
                batch.send(sock)
            with pytest.raises(OSError) as absent:  # noqa: PT011
                read_counter(sock, "sample", "refused")
        return str(refused.value), str(absent.value)

    refused, absent = in_namespace(act)
    assert "rule of nowhere" in refused
    assert "No such file" in absent


def test_an_empty_batch_says_nothing() -> None:
    """Nothing to change is nothing to send."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        Batch("sample").send(ours)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_elements_come_and_go() -> None:
    """A key that is put twice is there once; one that is not there can't be taken."""

    def act() -> str:
        key = bytes(12)
        with open_socket() as sock:
            sample().send(sock)
            for change in (Batch.add_elements, Batch.add_elements, Batch.delete_elements):
                batch = Batch("sample")
                change(batch, "places", [key])
                batch.send(sock)
            batch = Batch("sample")
            batch.delete_elements("places", [key])
            try:
                batch.send(sock)
            except OSError as error:
                return str(error)
        return ""

    assert "elements of places" in in_namespace(act)


@needs_nft
def test_nft_reads_what_was_meant() -> None:
    """The listing, line by line."""

    def act() -> str:
        with open_socket() as sock:
            sample().send(sock)
        with namespaces.inherited_capabilities():
            words = ["nft", "list", "ruleset"]
            return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    assert [line.strip() for line in in_namespace(act).splitlines() if line.strip()] == [
        "table inet sample {",
        "counter refused {",
        "packets 0 bytes 0",
        "}",
        "set places {",
        "type ipv4_addr . inet_proto . inet_service",
        "}",
        "chain no {",
        'counter name "refused"',
        "meta l4proto tcp reject with tcp reset",
        "reject",
        "}",
        "chain out {",
        "type filter hook output priority filter; policy accept;",
        "meta mark 0x00000007 accept",
        "ip daddr 10.0.0.0/8 goto no",
        "ip6 daddr fd00::/8 goto no",
        "}",
        "}",
    ]
