"""Port numbers and inbound port forwards, from text and back.

Owns the refusal of everything that is not one port: ranges, names, wildcards, octal-looking numbers. Must
never open anything outward: a forward leads from the host into the sandbox and is no grant.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from mvm.policy.hosts import Place, shown
from mvm.policy.model import Forward

if TYPE_CHECKING:
    from mvm.terms import Address

LAST_PORT = 65535
_LOOPBACK = IPv4Address("127.0.0.1")
_PORT_HINT = "write one number from 1 to 65535, like 443"
_FORWARD_HINT = "write [IP:]HOSTPORT:GUESTPORT or PORT, like 127.0.0.1:8080:80"
_MOST_PARTS = 3


def port_of_text(text: str, place: Place) -> int:
    """Read a port from a command line.

    Args:
        text: decimal digits without a leading zero.
        place: where it stands, for findings.

    Returns:
        1 to 65535.

    Raises:
        PolicyRefused: it is no port, or not just one.
    """
    if not text:
        raise place.refused("missing-port", "no port is named", _PORT_HINT)
    if text == "*":
        raise place.refused("wildcard-port", "'*' stands for many ports", _PORT_HINT)
    if not text.strip("0123456789-") and text[0] != "-" and "-" in text:
        raise place.refused(
            "port-range", f"{shown(text)} is a range of ports", "name each port in a grant of its own"
        )
    if text.strip("0123456789") or (text[0] == "0" and text != "0"):
        raise place.refused("bad-port", f"{shown(text)} is no port number", _PORT_HINT)
    if len(text) > len(str(LAST_PORT)):
        raise place.refused("port-out-of-range", f"{shown(text)} is beyond the last port", _PORT_HINT)
    return port_of_number(int(text), place)


def port_of_number(number: int, place: Place) -> int:
    """Take a number for a port.

    Raises:
        PolicyRefused: it is not from 1 to 65535.
    """
    if not 1 <= number <= LAST_PORT:
        message = f"{number if abs(number) < 1 << 64 else 'that'} is no port from 1 to {LAST_PORT}"
        raise place.refused("port-out-of-range", message, _PORT_HINT)
    return number


def parse_forward(text: str, *, path: str = "--port", source: str = "") -> Forward:
    """Read an inbound port.

    Args:
        text: `[IP:]HOSTPORT:GUESTPORT`, or `PORT` for the same on both sides; IPv6 in brackets.
        path: a jq path, or the flag, for findings.
        source: the file or flag it came from, for findings.

    Returns:
        The forward; it listens on 127.0.0.1 unless the text names another address.

    Raises:
        PolicyRefused: it is anything else.
    """
    place = Place(path, source)
    address: Address = _LOOPBACK
    ports = text.split(":")
    if text.startswith("[") or len(ports) == _MOST_PARTS:
        literal, rest = _split_address(text, place)
        address, ports = _listening_address(literal, place), rest.split(":")
        if len(ports) == 1:
            raise place.refused("bad-forward", f"{shown(text)} names no port in the sandbox", _FORWARD_HINT)
    if len(ports) > 2:
        raise place.refused("bad-forward", f"{shown(text)} is no port forward", _FORWARD_HINT)
    host_port, guest_port = port_of_text(ports[0], place), port_of_text(ports[-1], place)
    return Forward(address=address, host_port=host_port, guest_port=guest_port)


def _split_address(text: str, place: Place) -> tuple[str, str]:
    if text.startswith("["):
        literal, bracket, rest = text[1:].partition("]:")
        if not bracket or ":" not in literal:
            raise place.refused("bad-forward", f"{shown(text)} is no port forward", _FORWARD_HINT)
        return literal, rest
    literal, _, rest = text.partition(":")
    return literal, rest


def _listening_address(text: str, place: Place) -> Address:
    from mvm.policy.addresses import ip_address

    try:
        return ip_address(text)
    except ValueError:
        message = f"{shown(text)} is no address to listen on"
        raise place.refused("bad-forward", message, _FORWARD_HINT) from None


def format_forward(forward: Forward) -> str:
    """Write an inbound port so that `parse_forward` gives it back: `127.0.0.1:8080:80`."""
    address = f"[{forward.address}]" if ":" in str(forward.address) else str(forward.address)
    return f"{address}:{forward.host_port}:{forward.guest_port}"
