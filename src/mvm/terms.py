"""The words everything else is said in: stable enumerations and parsed value types.

Owns the vocabulary of SPEC sections 1 to 3. Must never import anything of mvm, touch the
world, or parse: `policy.parse` makes these values from text, once, at the door.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, NewType

HostName = NewType("HostName", str)
"""A validated host name: lower case, IDNA 2008 A-labels, no trailing dot (`policy.parse.parse_host`)."""

PORTAL = HostName("policy.mvm.internal")
"""The name at which a workload reads its own grants and denials."""

Address = IPv4Address | IPv6Address
"""An IP address, never a scoped one."""

Host = HostName | IPv4Address | IPv6Address
"""What a grant names. `isinstance(host, str)` tells a name from an address."""

Seconds = NewType("Seconds", float)
"""A length of time, in seconds, greater than zero."""

Bytes = NewType("Bytes", int)
"""A number of bytes, greater than zero."""


class Protocol(StrEnum):
    """The transport of a grant."""

    TCP = "tcp"
    UDP = "udp"


class Tls(StrEnum):
    """What a granted TCP port may speak (SPEC section 4)."""

    REQUIRE = "require"  # nothing but TLS whose SNI is the granted name
    AUTO = "auto"  # TLS and HTTP are checked when spoken; anything else passes as that host's
    OFF = "off"  # first bytes are not inspected


class Sends(StrEnum):
    """What may be sent to a destination, as its declaration says."""

    NONE = "none"
    PUBLIC = "public"
    USER_DATA = "user-data"
    SECRETS = "secrets"


class DnsMode(StrEnum):
    """Who resolves granted names, at dial time, on the host."""

    NONE = "none"
    SYSTEM = "system"
    RESOLVER = "resolver"


class Preset(StrEnum):
    """A base set of grants."""

    NONE = "none"
    REGISTRIES = "registries"
    DEV = "dev"
    AGENT = "agent"
    UNRESTRICTED = "unrestricted"


class Layer(StrEnum):
    """Where a denial happened."""

    DNS = "dns"
    TCP = "tcp"
    UDP = "udp"
    TLS = "tls"
    HTTP = "http"
    ICMP = "icmp"
    QUOTA = "quota"


class Reason(StrEnum):
    """Why something was denied. Stable words: others match on them."""

    HOST_NOT_GRANTED = "host-not-granted"
    PORT_NOT_GRANTED = "port-not-granted"
    PROTOCOL_NOT_GRANTED = "protocol-not-granted"
    ADDRESS_LITERAL = "address-literal"
    PRIVATE_ADDRESS = "private-address"
    DNS_NOT_ALLOWED = "dns-not-allowed"
    SNI_MISSING = "sni-missing"
    SNI_MISMATCH = "sni-mismatch"
    NOT_TLS = "not-tls"
    HOST_HEADER_MISMATCH = "host-header-mismatch"
    MALFORMED = "malformed"
    EXPIRED = "expired"
    BUDGET_EXCEEDED = "budget-exceeded"
    REVOKED = "revoked"
    RESOLUTION_CHANGED = "resolution-changed"


class RemedyKind(StrEnum):
    """What would have allowed a denied act."""

    ALLOW_HOST = "allow-host"
    NAME_EXPLICITLY = "name-explicitly"
    RENEW = "renew"
    NEVER = "never"
    EDIT_POLICY = "edit-policy"


class Outcome(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    KILLED = "killed"
    REFUSED = "refused"


class Cause(StrEnum):
    """Whose doing a run's failure was."""

    POLICY = "policy"
    TRANSPORT = "transport"
    GUEST = "guest"


class Demand(StrEnum):
    """What a policy asks of a backend; each is enforced or refused, never skipped."""

    HOST_PORT = "host-port"
    DNS = "dns"
    SNI = "sni"
    IPV6 = "ipv6"
    UDP = "udp"
    NO_EGRESS = "no-egress"
    INBOUND_PORTS = "inbound-ports"
    BUDGETS = "budgets"
    LIVE_REVOKE = "live-revoke"


class Limits(NamedTuple):
    """What a sandbox may use.

    Attributes:
        memory: bytes, or None for no limit.
        cpus: processors, such as 1.5, or None.
        pids: processes and threads, or None.
    """

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None

    def asked(self) -> tuple[str, ...]:
        """Return the names of those that are set."""
        return tuple(name for name in self._fields if getattr(self, name) is not None)
