"""What a policy is: frozen values, made by `policy.parse` and friends, judged by `policy.decide`.

Owns the shape of a grant, of the DNS policy and of the whole. Must never parse text, know the
time or touch the world. `source` fields say who gave a thing (flag, `file:line`, preset) and
are no part of the digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mvm.terms import DnsMode, Preset, Protocol, Tls

if TYPE_CHECKING:
    from mvm.terms import Address, Bytes, Host, HostName, Seconds, Sends


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One (host, port, protocol) that may be reached, why, and how it may be used.

    Attributes:
        host: a host name, or an address literal.
        port: 1 to 65535.
        protocol: `tcp` or `udp`.
        tls: already resolved from the port's default (`require` on 443, else `auto`).
        private: whether the name may resolve to (or the literal be) an address that is not public.
        depth: None for exactly this name; n for any name of 1 to n labels below it, not itself.
        reason: why the workload needs it, or None.
        expires: time after which it ends, counted from when it took effect, in seconds, or None.
        max_up, max_down: budget in bytes over all its flows, or None.
        sends: what may be sent there, or None where the declaration does not say.
        downloads: `none`, `discard` or `retain:DURATION`, or None.
        source: the flag, `file:line` or preset it came from; not part of the digest.
    """

    host: Host
    port: int
    protocol: Protocol = Protocol.TCP
    tls: Tls = Tls.AUTO
    private: bool = False
    depth: int | None = None
    reason: str | None = None
    expires: Seconds | None = None
    max_up: Bytes | None = None
    max_down: Bytes | None = None
    sends: Sends | None = None
    downloads: str | None = None
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """How granted names are resolved, by the host, when a connection is dialled.

    Attributes:
        mode: `none` (names cannot be granted), `system`, or `resolver`.
        resolver: address and port of the server where `mode` is `resolver`, else None.
        static: fixed answers, in front of any other; several addresses a name are allowed.
    """

    mode: DnsMode
    resolver: tuple[Address, int] | None = None
    static: tuple[tuple[HostName, tuple[Address, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """One inbound port: `address:host_port` on the host leads to `guest_port` in the sandbox."""

    address: Address
    host_port: int
    guest_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that one sandbox may reach, and nothing else.

    Attributes:
        grants: sorted and free of duplicates (`policy.validate.policy_of` makes them so).
        dns: who resolves.
        preset: the base it started from, for people; its grants are already in `grants`.
        unrestricted: any name, any port; addresses that are not public stay closed.
        forwards: inbound ports; they open nothing outward.
        ttl: the sandbox ends after this many seconds, or None.
    """

    grants: tuple[Grant, ...]
    dns: Dns
    preset: Preset
    unrestricted: bool
    forwards: tuple[Forward, ...]
    ttl: Seconds | None
