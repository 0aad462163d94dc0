"""Every reader of the product, each as one call with bytes and with all that may come of it.

Owns the one assertion of fuzzing: a reader gives a value, None (more is needed) or its documented error, and
never another exception; it says the same whether its input comes whole or in pieces; and what it can write
again it reads back as the same. Must never judge what is right to accept: that is what the vectors are for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.chain import LONGEST_LINE
from mvm.policy.browser import parse_profile
from mvm.policy.parse import (
    format_dns,
    format_duration,
    format_forward,
    format_grant,
    format_size,
    parse_dns,
    parse_dns_static,
    parse_duration,
    parse_forward,
    parse_grant,
    parse_host,
    parse_size,
)
from mvm.wire.client_hello import MAX_HELLO, read_client_hello
from mvm.wire.http_head import looks_like_http, read_request_head, read_response_head
from tests.fuzz import caller, documents, images, tools, wire
from tests.fuzz.documents import word_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Reader(NamedTuple):
    """One reader.

    Attributes:
        name: of the reader, and of its corpus.
        run: reads one input to its end and asserts what must hold of it; whatever it raises is a finding.
        longest: bytes of an input beyond which it has nothing new to meet.
    """

    name: str
    run: Callable[[bytes], object]
    longest: int = 4096


READERS: tuple[Reader, ...] = (
    Reader("client_hello", wire.steady(read_client_hello), MAX_HELLO + 512),
    Reader("http_first_bytes", wire.steady(looks_like_http), 1024),
    Reader("http_request", wire.steady(read_request_head), 4096),
    Reader("http_response", wire.steady(read_response_head), 4096),
    Reader("http_stream", wire.request_stream, 8192),
    Reader("first_flight", wire.first_flight, 4096),
    Reader("dns_query", wire.dns_query, 1024),
    Reader("dns_answer", wire.dns_answer, 4096),
    Reader("dns_name", wire.dns_name, 1024),
    Reader("dns_stream", wire.dns_stream, 2048),
    Reader("host", word_of(lambda text: parse_host(text, path="--host"), str), 300),
    Reader("grant", word_of(parse_grant, format_grant), 400),
    Reader("duration", word_of(lambda text: parse_duration(text, path="--ttl"), format_duration), 64),
    Reader("size", word_of(lambda text: parse_size(text, path="--memory"), format_size), 64),
    Reader("forward", word_of(parse_forward, format_forward), 128),
    Reader("dns", word_of(parse_dns, format_dns), 128),
    Reader("dns_static", word_of(parse_dns_static, lambda pair: "{}={}".format(*pair)), 300),
    Reader("profile", word_of(parse_profile), 128),
    Reader("policy_toml", documents.document_in("mvm.toml"), 4096),
    Reader("policy_json", documents.document_in("policy.json"), 4096),
    Reader("capabilities", documents.capabilities, 4096),
    Reader("program", documents.program, 2048),
    Reader("canonical", documents.canonical, 2048),
    Reader("image_config", documents.image_config, 2048),
    Reader("archive", documents.archive, 8192),
    Reader("oci_layout", images.oci_layout, 2048),
    Reader("docker_save", images.docker_save, 2048),
    Reader("flake", images.flake, 2048),
    Reader("tool_files", tools.tool_files, 2048),
    Reader("conversation", caller.conversation, 2048),
    Reader("frames", documents.frames, 4096),
    Reader("receipt", documents.receipt, 4096),
    Reader("chain", documents.chain, 2 * LONGEST_LINE),
)
"""All of them."""
