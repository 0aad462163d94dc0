"""Defences in what is read: TLS, HTTP and DNS, and what a flow may say before it is judged.

Owns their part of the table; but for the first bytes' time it needs no sandbox. Must never take out what
dials or resolves.
"""

from __future__ import annotations

from tests.mutations.defences.entry import Defence, Edit

_CHECKED = "gateway/checked.py"
_DNS = "wire/dns_message.py"
_FLOW = "gateway/flow.py"
_HEAD = "wire/http_head.py"
_HELLO = "wire/client_hello.py"
_NAMES = "gateway/names.py"
_RESOLVER = "gateway/resolver.py"
_STREAM = "wire/http_stream.py"

_ANSWERS = "tests/wire/test_dns_message.py::"
_FIRST = "tests/gateway/test_flow.py::"
_GIVEN = "tests/gateway/test_names.py::"
_HEADS = "tests/wire/test_http_head.py::"
_HELLOS = "tests/wire/test_client_hello.py::"
_INSIDE = "tests/gateway/test_resolver.py::"
_RELAYED = "tests/gateway/test_relay.py::"
_STREAMS = "tests/wire/test_http_stream.py::"


def _refused_head(vector: str) -> tuple[str]:
    return (f"{_HEADS}test_a_broken_or_ambiguous_request_is_refused[{vector}]",)


def _cleared(vector: str) -> tuple[str]:
    return (f"{_STREAMS}test_what_is_cleared_of_a_whole_stream[{vector}]",)


def _refused_answer(vector: str) -> tuple[str]:
    return (f"{_ANSWERS}test_an_answer_to_something_else_or_a_broken_one_is_refused[{vector}]",)


def _refused_hello(vector: str) -> tuple[str]:
    return (f"{_HELLOS}test_a_broken_or_ambiguous_hello_is_refused[{vector}]",)


_HTTP: dict[str, Defence] = {
    "HTTP: one Content-Length": Defence(
        (Edit(_HEAD, 'length = _only(fields, b"content-length")', 'length = fields[b"content-length"][0]'),),
        _refused_head("two-lengths"),
    ),
    "HTTP: a length or chunks": Defence(
        (Edit(_HEAD, 'raise Malformed("HTTP: Content-Length beside Transfer-Encoding")', "pass"),),
        _refused_head("both-lengths"),
    ),
    "HTTP: a length without a sign": Defence(
        (Edit(_HEAD, "if not _NUMBER.fullmatch(length):", 'if not length.lstrip(b"+").isdigit():'),),
        _refused_head("length-with-plus"),
    ),
    "HTTP: no coding but chunked": Defence(
        (
            Edit(
                _HEAD,
                'if _only(fields, b"transfer-encoding").lower() != b"chunked":',
                'if b"chunked" not in fields[b"transfer-encoding"][0].lower():',
            ),
        ),
        _refused_head("gzip-chunked"),
    ),
    "HTTP: no folded line": Defence(
        (
            Edit(
                _HEAD,
                r'rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")',
                r'rb"++:(?:[\t\x20-\xff]|\r\n[ \t])*+\r\n)*+")',
            ),
        ),
        _refused_head("folded-line"),
    ),
    "HTTP: no space before a colon": Defence(
        (
            Edit(
                _HEAD,
                r'rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")',
                r'rb"++ ?:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")',
            ),
        ),
        _refused_head("space-before-another-colon"),
    ),
    "HTTP: no name that is read as another": Defence(
        (Edit(_HEAD, 'raise Malformed("HTTP: a field that some readers take for another one")', "pass"),),
        _refused_head("underscore-length"),
    ),
    "HTTP: one Host": Defence(
        (Edit(_HEAD, '_read_authority(_only(fields, b"host"))', '_read_authority(fields[b"host"][0])'),),
        _refused_head("two-hosts"),
    ),
    "HTTP: lines end by CR and LF": Defence(
        (
            Edit(
                _HEAD,
                'if data.count(b"\\n") != pairs or returns != pairs or data.translate(None, _ALLOWED_BYTES):',
                "if data.translate(None, _ALLOWED_BYTES):",
            ),
        ),
        _refused_head("bare-lf-everywhere"),
    ),
    "HTTP: no version but 1.0 and 1.1": Defence(
        (Edit(_HEAD, 'if major != b"1" or minor not in b"01":', "if False:"),),
        _refused_head("http-1.2"),
    ),
    "HTTP: no chunks in HTTP/1.0": Defence(
        (Edit(_HEAD, 'if chunked and version != b"1":', "if False:"),),
        _refused_head("chunked-in-http-1.0"),
    ),
    "HTTP: a head has a bound": Defence(
        (Edit(_HEAD, "    if len(data) >= MAX_HEAD:\n", "    if False:\n"),),
        (f"{_HEADS}test_a_head_of_16_kib_is_read_and_a_longer_one_refused",),
    ),
    "HTTP: a chunk ends where its size says": Defence(
        (Edit(_STREAM, 'if not b"\\r\\n".startswith(edge):', "if False:"),),
        _cleared("chunk-longer"),
    ),
    "HTTP: no framing in trailers": Defence(
        (Edit(_HEAD, 'raise Malformed("HTTP: a trailer field that must stand in the head")', "return"),),
        _cleared("trailer-length"),
    ),
    "HTTP: no upgrade but WebSocket": Defence(
        (Edit(_STREAM, 'if head.upgrade != b"websocket":', "if False:"),),
        _cleared("h2c"),
    ),
    "HTTP: an upgrade comes first": Defence(
        (Edit(_STREAM, 'if self._requests or head.method != b"GET"', 'if head.method != b"GET"'),),
        (f"{_RELAYED}test_an_upgrade_later_than_the_first_request_is_refused",),
    ),
    "HTTP: an upgrade waits for the host's word": Defence(
        (
            Edit(
                _STREAM,
                "            self._state = _State.UPGRADE\n",
                "            self._state = _State.OPAQUE\n",
            ),
        ),
        (f"{_RELAYED}test_frames_wait_for_the_hosts_word",),
    ),
    "HTTP: an upgrade that the host declines": Defence(
        (Edit(_CHECKED, "accepted=answer.status == _SWITCHING)", "accepted=True)"),),
        (f"{_RELAYED}test_a_declined_upgrade_leaves_requests_that_are_checked[other.example.test]",),
    ),
    "HTTP: a 101 that was not asked for": Defence(
        (
            Edit(
                _CHECKED,
                "if cleared.stream is not None and cleared.stream.awaiting_upgrade:",
                "if cleared.stream is not None:",
            ),
            Edit(_STREAM, "        if self._state is not _State.UPGRADE:\n", "        if False:\n"),
        ),
        (f"{_RELAYED}test_a_101_that_was_not_asked_for_opens_nothing",),
    ),
    "HTTP: no head goes by unseen": Defence(
        (Edit(_STREAM, "if not 0 <= count <= self.blind:", "if False:"),),
        (f"{_STREAMS}test_more_than_blind_cannot_be_skipped",),
    ),
    "HTTP: what is held has a bound": Defence(
        (Edit(_STREAM, "if len(buffer) - at > MAX_HEAD:", "if False:"),),
        (f"{_STREAMS}test_what_is_sent_before_the_answer_to_an_upgrade_is_bounded",),
    ),
}

_FIRST_BYTES: dict[str, Defence] = {
    "port 80 is for HTTP/1": Defence(
        (
            Edit(
                _FLOW, "return Expect.HTTP if allowed.port == _HTTP_PORT else Expect.ANY", "return Expect.ANY"
            ),
        ),
        (f"{_FIRST}test_what_is_spoken_instead",),
    ),
    "TLS is known on any port": Defence(
        (Edit(_FLOW, "return Expect.TLS if len(data) > 1 else Expect.ANY", "return Expect.RAW"),),
        (f"{_FIRST}test_a_hello_for_another_name_never_passes",),
    ),
    "HTTP is known on any port": Defence(
        (
            Edit(
                _FLOW,
                "            return Expect.HTTP\n        case False:",
                "            return Expect.RAW\n        case False:",
            ),
        ),
        (f"{_FIRST}test_what_is_spoken_instead",),
    ),
    "a request behind blanks is one": Defence(
        (Edit(_HEAD, "    if data and data[0] in _BLANK:\n        return True\n", ""),),
        (f"{_HEADS}test_first_bytes_tell_http_from_other_protocols",),
    ),
    "what may be a request line is held": Defence(
        (Edit(_FLOW, '        if self.expect is not Expect.ANY:\n            return b""\n', ""),),
        (f"{_FIRST}test_a_hello_for_another_name_never_passes",),
    ),
    "a hello has a bound": Defence(
        (Edit(_HELLO, "if need + 5 * count > MAX_HELLO or end > MAX_HELLO:", "if False:"),),
        (f"{_HELLOS}test_a_hello_of_16_kib_is_read_and_one_more_byte_is_refused",),
    ),
    "a hello has one name": Defence(
        (Edit(_HELLO, 'raise Malformed("ClientHello: an extension comes twice")', "pass"),),
        _refused_hello("two-server-name-extensions"),
    ),
    "first bytes have their time": Defence(
        (
            Edit(
                "gateway/tcp.py",
                "            self._gateway.first_flights.add(self)\n            self._read_first()\n",
                "            self._read_first()\n",
            ),
        ),
        ("tests/gateway/test_patience.py::test_a_hello_that_goes_on_and_on_is_ended_in_time",),
    ),
}

_RESOLVED: dict[str, Defence] = {
    "DNS: an answer has the number of its question": Defence(
        (
            Edit(
                _DNS,
                "if number != ident or not flags & _QR or flags & _OPCODE:",
                "if not flags & _QR or flags & _OPCODE:",
            ),
        ),
        _refused_answer("another-number"),
    ),
    "DNS: an answer is to the name that was asked": Defence(
        (Edit(_DNS, "or asked != name.lower() or", "or"),),
        _refused_answer("another-name"),
    ),
    "DNS: an answer is to the type that was asked": Defence(
        (
            Edit(
                _DNS,
                "or _QUESTION.unpack_from(data, at) != (qtype, CLASS_IN):",
                "or _QUESTION.unpack_from(data, at)[1] != CLASS_IN:",
            ),
        ),
        _refused_answer("another-type"),
    ),
    "DNS: only what the name leads to counts": Defence(
        (
            Edit(
                _DNS,
                "    records = found.get(name, [])\n",
                "    records = [record for records in found.values() for record in records]\n",
            ),
        ),
        (f"{_ANSWERS}test_an_answer_is_read",),
    ),
    "DNS: a forged answer is passed over": Defence(
        (
            Edit(
                "gateway/question.py",
                "return  # not the answer to this question, perhaps forged: go on waiting for it",
                'self._take(asked, Failure("no answer"))\n            return',
            ),
        ),
        ("tests/gateway/test_resolve.py::test_a_server_that_behaves_oddly[wrong-then-right-expected1]",),
    ),
}

_TOLD: dict[str, Defence] = {
    "DNS: a denied name is recorded": Defence(
        (Edit("gateway/dns.py", "    if exchange.denied is not None:\n", "    if False:\n"),),
        ("tests/gateway/test_denied.py::test_a_name_that_is_not_granted_does_not_exist[local-1-False]",),
    ),
    "DNS: odd bytes are never looked up": Defence(
        (Edit(_RESOLVER, 'elif name and "\\\\" not in name:', "elif name:"),),
        (f"{_INSIDE}test_odd_bytes_never_reach_the_lookup",),
    ),
    "DNS: where there is none no name is told": Defence(
        (Edit(_RESOLVER, "elif not dns_allowed and name != PORTAL:", "elif False:"),),
        (f"{_INSIDE}test_without_dns_only_the_sandbox_itself_has_names",),
    ),
    "DNS: nothing but addresses is told of a name": Defence(
        (
            Edit(
                _RESOLVER,
                "address = known[0] if question.qtype == A else known[1] if question.qtype == AAAA else None",
                "address = known[0] if question.qtype == A else known[1]",
            ),
        ),
        (f"{_INSIDE}test_other_types_of_a_granted_name_are_empty",),
    ),
    "DNS: no class but IN": Defence(
        (Edit(_RESOLVER, "if question.qclass != CLASS_IN and not isinstance(known, Reason):", "if False:"),),
        (f"{_INSIDE}test_another_class_is_refused",),
    ),
    "an address that was not given out has no name": Defence(
        (
            Edit(
                _NAMES, "if 0 <= offset - _FIRST < len(self._hosts)", "if offset - _FIRST < len(self._hosts)"
            ),
        ),
        (f"{_GIVEN}test_other_addresses_lead_to_no_name",),
    ),
    "an address stands for one name": Defence(
        (
            Edit(
                _NAMES,
                "            if len(self._hosts) >= self._most:\n                return None\n",
                "            if len(self._hosts) >= self._most:\n                del self._hosts[0]\n",
            ),
        ),
        (f"{_GIVEN}test_a_pool_that_is_used_up_gives_no_more",),
    ),
    "who resolves is who is to resolve now": Defence(
        (Edit("gateway/resolve.py", "if asked is not self._dns:", "if False:"),),
        ("tests/gateway/test_resolve.py::test_who_waits_through_an_edit_is_answered_by_the_new_policy",),
    ),
}

READING: dict[str, Defence] = {**_HTTP, **_FIRST_BYTES, **_RESOLVED, **_TOLD}
