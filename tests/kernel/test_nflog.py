"""Reports of refused packets: read strictly, as far as they are whole, and delivered at once."""

from __future__ import annotations

import socket
import struct
import time
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.kernel import netlink, nflog, nftables
from mvm.kernel.nflog import Packet, packets, read_packet
from tests.kernel.test_nftables import _route_everything
from tests.kernel.test_rtnetlink import in_namespace

A4, B4 = IPv4Address("198.18.0.2"), IPv4Address("93.184.215.10")
A6, B6 = IPv6Address("100::2"), IPv6Address("2606:2800::1")


def v4(protocol: int, body: bytes, options: bytes = b"") -> bytes:
    """An IPv4 packet."""
    length = 0x45 + len(options) // 4
    return struct.pack("!BBHIBBH", length, 0, 0, 0, 64, protocol, 0) + A4.packed + B4.packed + options + body


def v6(protocol: int, body: bytes) -> bytes:
    """An IPv6 packet."""
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + A6.packed + B6.packed + body


PORTS = struct.pack("!HH", 40000, 443)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (v4(6, PORTS), Packet(6, A4, 40000, B4, 443)),
        (v4(17, PORTS), Packet(17, A4, 40000, B4, 443)),
        (v4(6, PORTS, options=bytes(8)), Packet(6, A4, 40000, B4, 443)),
        (v4(1, b"\x08\0\0\0"), Packet(1, A4, 0, B4, 0)),
        (v4(132, PORTS), Packet(132, A4, 0, B4, 0)),
        (v4(6, PORTS[:3]), Packet(6, A4, 0, B4, 0)),
        (v6(6, PORTS), Packet(6, A6, 40000, B6, 443)),
        (
            v6(0, bytes([60, 0]) + bytes(6) + bytes([17, 0]) + bytes(6) + PORTS),
            Packet(17, A6, 40000, B6, 443),
        ),
        (v6(0, b"\x06"), Packet(0, A6, 0, B6, 0)),
        (v4(6, b"")[:19], None),
        (v6(6, b"")[:39], None),
        (b"", None),
        (b"\x70" + bytes(60), None),
    ],
)
def test_the_ends_of_a_packet(data: bytes, expected: Packet | None) -> None:
    """Both families, options and extension headers; what is cut is told as far as it is there, or not."""
    assert read_packet(data) == expected


@given(st.binary(max_size=120))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    """A workload chooses what it sends: no packet makes the reader fail."""
    read_packet(data)
    read_packet(b"\x45" + data)
    read_packet(b"\x60" + data)
    list(packets(data))
    message = netlink.message(4 << 8, 0, 0, bytes(4) + netlink.attribute(9, data))
    assert len(list(packets(message))) <= 1


@pytest.mark.kernel
def test_a_report_comes_at_once() -> None:
    """The packet that a rule reports is with the reader within far less than the second that is usual."""

    def act() -> tuple[Packet, float]:
        _route_everything()
        batch = nftables.Batch("sample")
        batch.table()
        batch.chain_on("output", 0, "out")
        match = nftables.destination(ip_network("10.0.0.0/8"))
        batch.rule("out", match, nftables.log(7, nflog.SNAP_BYTES), nftables.reject_unreachable())
        with nftables.open_socket() as sock:
            batch.send(sock)
        reports = nflog.subscribe(7)
        reports.settimeout(5)
        began = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(("198.18.0.2", 4000))
            with pytest.raises(PermissionError):
                client.sendto(b"x", ("10.1.2.3", 99))
        (packet,) = packets(reports.recv(1 << 16))
        return packet, time.monotonic() - began

    packet, seconds = in_namespace(act)
    assert packet == Packet(17, IPv4Address("198.18.0.2"), 4000, IPv4Address("10.1.2.3"), 99)
    assert seconds < 0.5
