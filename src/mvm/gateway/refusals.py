"""Everything that was denied in one sandbox, from wherever it was seen to the record.

    flow, resolver ─┐                     new: recorded at once, shown once
                    ├─► DenialLedger ─────┤
    kernel reports ─┘                     repeated: counted, recorded once a second

The kernel's reports are rate-limited; its counter is not, so what went unreported is found by
reading the counter, and no count is lost.
"""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING

from mvm.audit.denial import DenialLedger
from mvm.audit.record import spell_name
from mvm.audit.timestamp import rfc3339
from mvm.gateway import door
from mvm.gateway.loop import READ
from mvm.kernel import nflog, nftables
from mvm.policy.decide import Denied
from mvm.policy.explain import remedy
from mvm.terms import Layer, Protocol, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.audit.denial import Denial
    from mvm.gateway.door import DoorSockets
    from mvm.gateway.gateway import Gateway
    from mvm.kernel.nflog import Packet

_REPORT_BYTES = 1 << 16
_REPORTS_A_TURN = 64
_FLUSH_SECONDS = 1.0
_RECORDED_A_SECOND = 200
_PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
_LAYERS = {6: Layer.TCP, 17: Layer.UDP}


class Refusals:
    """The denials of one sandbox.

    Args:
        gateway: whose they are.
        sockets: the door's, for the kernel's reports and its counter.
        shown: called with each new distinct denial.
    """

    def __init__(self, gateway: Gateway, sockets: DoorSockets, shown: Callable[[Denial], None]) -> None:
        self._gateway, self._sockets, self._shown = gateway, sockets, shown
        self.ledger = DenialLedger()
        self._reported = 0
        self._left = _RECORDED_A_SECOND
        self._flushing = False
        gateway.loop.watch(sockets.reports.fileno(), READ, self._on_reports)

    def add(self, denied: Denied, count: int = 1) -> None:
        """Take in one denied act, or several equal ones."""
        host = None if denied.host is None else spell_name(denied.host.encode("utf-8", "replace"))
        denial, new = self.ledger.add(
            time=rfc3339(time_ns()),
            layer=denied.layer,
            reason=denied.reason,
            remedy=remedy(self._gateway.authority.policy, denied),
            host=host,
            address=denied.address,
            port=denied.port or None,
            protocol=denied.protocol,
            count=count,
        )
        if new and self._left > 0:
            self._left -= 1
            self._gateway.record(*denial.to_record(count))
            self._shown(denial)
        elif new:
            self.ledger.count_again(denial)
        if not self._flushing:
            self._flushing = True
            self._gateway.loop.after(_FLUSH_SECONDS, self._flush_later)

    def _flush_later(self) -> None:
        self._flushing = False
        self._left = _RECORDED_A_SECOND
        self.flush()

    def flush(self) -> None:
        """Record what was only counted, the kernel's unreported refusals too."""
        self._count_unreported()
        for denial, count in self.ledger.take_repeats():
            self._gateway.record(*denial.to_record(count))

    def _on_reports(self, _events: int) -> None:
        for _ in range(_REPORTS_A_TURN):
            try:
                data = self._sockets.reports.recv(_REPORT_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # ENOBUFS: some reports were dropped; the counter has them
            for packet in nflog.packets(data):
                self._reported += 1
                self.add(self._judge(packet))

    def _judge(self, packet: Packet) -> Denied:
        """Say why a packet that the kernel refused was not granted."""
        protocol = _PROTOCOLS.get(packet.protocol, f"ip-{packet.protocol}")
        if packet.protocol in _LAYERS:
            verdict = self._gateway.decide(
                str(packet.destination), packet.destination_port, Protocol(protocol)
            )
            if isinstance(verdict, Denied):
                return verdict
            # Granted by now: the packet met the rules an instant before the edit did.
            reason, layer = Reason.REVOKED, _LAYERS[packet.protocol]
        else:
            reason, layer = Reason.PROTOCOL_NOT_GRANTED, Layer.ICMP
        host = self._gateway.names.host(str(packet.destination))
        address = None if host is not None else str(packet.destination)
        return Denied(
            reason=reason,
            layer=layer,
            host=host,
            address=address,
            port=packet.destination_port,
            protocol=protocol,
        )

    def _count_unreported(self) -> None:
        try:
            refused = nftables.read_counter(self._sockets.rules, door.TABLE, door.REFUSED)
        except OSError:
            return  # the table is gone: somebody with the sandbox owner's rights took it; nothing leaves even so
        missing = refused - self._reported
        if missing > 0:
            self._reported = refused
            self.add(
                Denied(
                    reason=Reason.HOST_NOT_GRANTED,
                    layer=Layer.TCP,
                    host=None,
                    address=None,
                    port=0,
                    protocol=None,
                ),
                missing,
            )
