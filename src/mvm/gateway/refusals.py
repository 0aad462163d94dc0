"""Everything that was denied in one sandbox, from wherever it was seen to the record.

    flow, resolver ─┐                     new: recorded at once, shown once
                    ├─► DenialLedger ─────┤
    kernel reports ─┘                     repeated: counted, recorded once a second

The kernel's reports are rate-limited; its counters are not, so what went unreported is found by
reading the counters, and no count is lost.
"""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING

from mvm.audit.denial import Act, DenialLedger
from mvm.audit.timestamp import rfc3339
from mvm.gateway import door
from mvm.gateway.loop import READ
from mvm.kernel import nflog, nftables
from mvm.policy.decide import Denied
from mvm.terms import Layer, Protocol, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.audit.denial import Denial
    from mvm.gateway.door import DoorSockets
    from mvm.gateway.gateway import Gateway
    from mvm.kernel.nflog import Packet
    from mvm.policy.explain import Remedy

_REPORT_BYTES = 1 << 16
_REPORTS_A_TURN = 64
_RECORDED_A_SECOND = 200
_PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
_LAYERS = {6: Layer.TCP, 17: Layer.UDP}


class Refusals:
    """The denials of one sandbox.

    Args:
        gateway: whose they are.
        sockets: the door's, for the kernel's reports and its counters.
        shown: called with each new distinct denial.
    """

    def __init__(self, gateway: Gateway, sockets: DoorSockets, shown: Callable[[Denial], None]) -> None:
        self._gateway, self._sockets, self._shown = gateway, sockets, shown
        self.ledger = DenialLedger()
        self._reported = dict.fromkeys(door.COUNTERS, 0)
        self._left = _RECORDED_A_SECOND
        gateway.loop.watch(sockets.reports.fileno(), READ, self._on_reports)

    def add(self, denied: Denied, count: int = 1) -> None:
        """Take in one denied act, or several equal ones."""
        act = Act(
            denied.layer, denied.reason, denied.host, denied.address, denied.port or None, denied.protocol
        )

        def describe() -> tuple[str, Remedy]:
            from mvm.policy.explain import remedy

            return rfc3339(time_ns()), remedy(self._gateway.standing.authority.policy, denied)

        denial, is_new = self.ledger.add(act, count, describe)
        if is_new:
            if self._left > 0:
                self._left -= 1
                kind, fields = denial.to_record(count)
                self._gateway.book.note(kind, **fields)
            else:
                self.ledger.count_again(denial)
            self._shown(denial)
        self._gateway.flush_later()

    def flush(self) -> None:
        """Record what was only counted, the kernel's unreported refusals too."""
        self._left = _RECORDED_A_SECOND
        self._count_unreported()
        for denial, count in self.ledger.take_repeats():
            kind, fields = denial.to_record(count)
            self._gateway.book.note(kind, **fields)

    def _on_reports(self, _events: int) -> None:
        for _ in range(_REPORTS_A_TURN):
            if not self._take_report():
                return

    def _take_report(self) -> bool:
        """Read what the kernel tells of one packet or some; False where there is nothing more."""
        try:
            data = self._sockets.reports.recv(_REPORT_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            return True  # ENOBUFS: some reports were dropped; the counters have them
        for packet in nflog.packets(data):
            self._reported[_LAYERS.get(packet.protocol, Layer.ICMP)] += 1
            self.add(self._judge(packet))
        return True

    def _judge(self, packet: Packet) -> Denied:
        """Say why a packet that the kernel refused was not granted."""
        protocol = _PROTOCOLS.get(packet.protocol, f"ip-{packet.protocol}")
        address, port = str(packet.destination), packet.destination_port
        host = self._gateway.names.host(address)
        if packet.protocol in _LAYERS:
            verdict = self._gateway.standing.decide(address, port, Protocol(protocol))
            if isinstance(verdict, Denied):
                return verdict
            # Granted by now: the packet met the rules an instant before the edit did.
            reason, layer = Reason.REVOKED, _LAYERS[packet.protocol]
        else:
            reason, layer = Reason.PROTOCOL_NOT_GRANTED, Layer.ICMP
        literal = None if host is not None else address
        return Denied(reason=reason, layer=layer, host=host, address=literal, port=port, protocol=protocol)

    def _count_unreported(self) -> None:
        """Compare the counters with the reports: each was reported, where at all, before it was counted."""
        try:
            counted = {
                layer: nftables.read_counter(self._sockets.rules, door.TABLE, name)
                for layer, name in door.COUNTERS.items()
            }
        except OSError:
            return  # somebody with the sandbox owner's rights took the table; nothing leaves even so
        while self._take_report():
            pass  # all that was reported until now
        for layer, refused in counted.items():
            missing = refused - self._reported[layer]
            if missing > 0:
                self._reported[layer] = refused
                self.add(_unseen(layer), missing)

    def close(self) -> None:
        """Count and record what is left, and hear of no more."""
        self.flush()
        self._gateway.loop.unwatch(self._sockets.reports.fileno())


def _unseen(layer: Layer) -> Denied:
    protocol = None if layer is Layer.ICMP else str(layer)
    return Denied(
        reason=Reason.HOST_NOT_GRANTED, layer=layer, host=None, address=None, port=0, protocol=protocol
    )
