"""The door's one listener: every TCP connection that the kernel let through, and whose it is.

    port 53, unless it is granted itself      DnsStream
    the portal's address, port 80             PortalVisit
    else                                      decide ─► Denied: RST · Allowed: TcpFlow

Owns accepting, and the descriptor that is kept so that it goes on when there are none: then the next
connection is refused at once, instead of being left to wait.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from mvm.gateway.farewell import reset
from mvm.gateway.loop import READ
from mvm.gateway.standing import PORTAL_PORT
from mvm.kernel import sockets
from mvm.policy.decide import Denied
from mvm.terms import PORTAL, Protocol

if TYPE_CHECKING:
    import socket

    from mvm.gateway.gateway import Gateway
    from mvm.kernel.sockets import Socket

_ACCEPTS_A_TURN = 64
_PAUSE_SECONDS = 0.05
_DNS = 53
_OUT_OF_MEANS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Accepts for one sandbox.

    Args:
        gateway: whose it is.
        sock: the listening socket; owned from now on.
    """

    def __init__(self, gateway: Gateway, sock: socket.socket) -> None:
        self._gateway = gateway
        self._socket = sockets.Socket(sock.family, sock.type, sock.proto, sock.detach())
        self._socket.setblocking(False)
        self._reserve: int | None = None
        self._is_open = True
        self._keep_reserve()
        gateway.loop.watch(self._socket.fileno(), READ, self._on_accept)

    def _on_accept(self, _events: int) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                client = sockets.accept(self._socket)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _OUT_OF_MEANS:
                    continue  # that one has gone again (ECONNABORTED, accept(2)); the next may stand
                if not self._refuse_one():
                    return
                continue
            if sockets.is_among_last(client.fileno()):
                reset(client)
                continue
            self._begin(client)

    def _begin(self, client: Socket) -> None:
        gateway = self._gateway
        try:
            address, port = client.getsockname()[:2]
        except OSError:
            client.close()
            return
        if port == _DNS and not gateway.standing.names(address, port, Protocol.TCP):
            from mvm.gateway.dns import DnsStream

            DnsStream(gateway, client)
            return
        if port == PORTAL_PORT and gateway.names.host(address) == PORTAL:
            from mvm.gateway.portal import PortalVisit

            PortalVisit(gateway, client)
            return
        verdict = gateway.standing.decide(address, port, Protocol.TCP)
        if isinstance(verdict, Denied):
            gateway.refusals.add(verdict)
            reset(client)
        else:
            from mvm.gateway.tcp import TcpFlow

            TcpFlow(gateway, client, verdict).begin()

    # ---- where no descriptor is left

    def _keep_reserve(self) -> None:
        if self._reserve is None:
            try:
                self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return  # tried again before the next connection is refused

    def _refuse_one(self) -> bool:
        """Refuse the next connection with the descriptor kept for that; False if that one is gone too."""
        self._keep_reserve()
        if self._reserve is None:
            self._pause()
            return False
        os.close(self._reserve)
        self._reserve = None
        try:
            reset(sockets.accept(self._socket))
        except OSError:
            self._pause()  # the descriptor went to another thread, or none is waiting
            return False
        finally:
            self._keep_reserve()
        return True

    def _pause(self) -> None:
        """Leave connections waiting for a moment: there is nothing to take them with."""
        self._gateway.loop.unwatch(self._socket.fileno())
        self._gateway.loop.after(_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._is_open:
            self._keep_reserve()
            self._gateway.loop.watch(self._socket.fileno(), READ, self._on_accept)

    def close(self) -> None:
        """Accept no more."""
        if self._is_open:
            self._is_open = False
            self._gateway.loop.unwatch(self._socket.fileno())
            self._socket.close()
            if self._reserve is not None:
                os.close(self._reserve)
                self._reserve = None
