"""A resolver over HTTPS (RFC 8484) that anybody may ask: it tells the IPv4 addresses of the standing cast.

Owns the answers. It knows only GET and questions of type A; whatever else is asked, there is none.
"""

from __future__ import annotations

import base64
import struct
from ipaddress import ip_address

from tests.support.cast import CAST
from tests.support.upstream import names
from tests.support.upstream.web import Request, Response

_PATH = "/dns-query?dns="
_RESPONSE, _NO_SUCH_NAME, _IN = 0x8180, 3, 1


def respond(request: Request) -> Response:
    """The answer to `/dns-query?dns=QUESTION` (base64url without padding), else 400."""
    text = request.target.removeprefix(_PATH)
    try:
        question = names.read_question(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        question = None
    if question is None or question.kind != names.A:
        return Response(status="400 Bad Request")
    found = [
        ip_address(each).packed
        for host in CAST
        if host.name == question.name
        for each in host.addresses
        if ":" not in each
    ]
    flags = _RESPONSE if found else _RESPONSE | _NO_SUCH_NAME
    header = struct.pack("!HHHHHH", question.id, flags, 1, len(found), 0, 0)
    asked = question.as_asked + struct.pack("!HH", question.kind, _IN)
    records = [b"\xc0\x0c" + struct.pack("!HHIH", names.A, _IN, 60, 4) + each for each in found]
    kind = (("Content-Type", "application/dns-message"),)
    return Response(headers=kind, body=header + asked + b"".join(records))
