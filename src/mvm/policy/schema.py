r"""The policy language as JSON Schema (draft 2020-12), for editors: one schema for each kind of document.

Owns the sentences that an editor shows, and the shapes that a schema can tell. Keys, words and limits are the
model's own, taken from it and never typed again. Must never refuse what the readers accept: what a pattern
can't tell for certain is left to `mvmctl network check`, which is the judge; the tests name what that is.

Patterns keep to what ECMA 262, Python and Rust's `regex` with look-ahead read alike. A schema is data to
whoever asks: nothing here is read when a policy is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mvm.policy import document, quantities
from mvm.policy.fields import DEEPEST, GRANT_KEYS
from mvm.policy.hosts import MAX_LABEL, MAX_NAME
from mvm.policy.ports import LAST_PORT
from mvm.terms import DnsMode, Preset, Protocol, Sends, Tls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from enum import StrEnum

Schema: TypeAlias = dict[str, object]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ANY_IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_ANY_IPV6 = r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*"
_IPV4 = rf"(?!0\.|22[4-9]\.|23[0-9]\.){_ANY_IPV4}"  # no address of no host, or of many
_IPV6 = rf"(?![0:]*$|[Ff]{{2}}){_ANY_IPV6}"
_PORT = "[1-9][0-9]{0,4}"
_SERVER = rf"(?:{_IPV4}(?::{_PORT})?|{_IPV6}|\[{_IPV6}\](?::{_PORT})?)"
_NO_LETTER = r"\s\x00-,/:-@\[-`{-\x9f"  # all of ASCII but letters, digits, hyphen and dot
_LABEL = rf"[^-.{_NO_LETTER}](?:[^.{_NO_LETTER}]{{0,{MAX_LABEL - 2}}}[^-.{_NO_LETTER}])?"
_NUMBER_AT_END = r"(?!(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?$)"
_UNPRINTABLE = r"\x00-\x1f\x7f-\xa0\xad\u2000-\u200f\u2028-\u202f\u205f-\u206f\ufeff\ud800-\udfff"


def _duration() -> str:
    """The pattern of a length of time, with at least one digit that is not zero."""
    parts = (f"(?:[0-9]{{1,{quantities.MOST_DIGITS}}}{unit})?" for unit in quantities.TIME_UNITS)
    return f"(?=[a-z0]*[1-9]){''.join(parts)}"


def _size() -> str:
    digits = len(str(quantities.LARGEST_SIZE))
    units = "|".join(unit for unit in quantities.SIZE_UNITS if unit)
    return f"^(?=0*[1-9])[0-9]{{1,{digits}}}(?:{units})?$"


def _text(pattern: str, *examples: str) -> Schema:
    return {"type": "string", "pattern": pattern, "examples": list(examples)}


def _one_of(words: Iterable[StrEnum]) -> Schema:
    return {"enum": [str(word) for word in words]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _object(keys: Iterable[str], known: Mapping[str, Schema], **more: object) -> Schema:
    """An object of these keys and no others; a key that has no entry here is a mistake of this file."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: known[key] for key in keys},
        **more,
    }


# ------------------------------------------------------------------------------------------ what grants share


_DEFINITIONS: dict[str, Schema] = {
    "address": {
        "description": "An IP address: a dotted quad, or IPv6 without brackets.",
        "type": "string",
        "pattern": f"^(?:{_IPV4}|{_IPV6})$",
    },
    "name": {
        "description": "A host name, in any script: no wildcard, URL, port or path.",
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_NAME + 1,
        "pattern": rf"^{_NUMBER_AT_END}(?:{_LABEL}\.)*{_LABEL}\.?$",
    },
    "duration": {
        "description": "Numbers with d, h, m, s or ms, the largest unit first: 500ms, 90s, 10m, 1h30m, 7d.",
        **_text(f"^{_duration()}$", "10m", "1h30m", "7d"),
    },
    "size": {
        "description": "Bytes: a whole number, or one with kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, "
        "TiB (powers of 1024).",
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": quantities.LARGEST_SIZE},
            _text(_size(), "10MB", "512KiB"),
        ],
    },
    "reason": {
        "description": "One printable line.",
        **_text(rf"^(?=.*\S)[^{_UNPRINTABLE}]*$", "packages for the build"),
    },
    "port": {"type": "integer", "minimum": 1, "maximum": LAST_PORT},
    "resolver": {
        "description": "The address of a name server, with its port where that is not 53. Never a name: "
        "nothing would resolve it.",
        **_text(
            f"^{_SERVER}$",
            "192.0.2.53",
            "[2001:db8::53]:5353",
        ),
    },
}

_GRANT: dict[str, Schema] = {
    "host": {
        "description": "The one host that is opened: a name, or an address. A name covers nothing below it.",
        "anyOf": [_ref("name"), _ref("address")],
        "examples": ["api.example.com", "192.0.2.7", "2001:db8::7"],
    },
    "port": {"description": "The one port that is opened.", **_ref("port"), "examples": [443]},
    "protocol": {
        "description": "The transport: tcp or udp.",
        **_one_of(Protocol),
        "default": str(Protocol.TCP),
    },
    "reason": {"description": "Why the workload needs it; a review asks for it.", **_ref("reason")},
    "private": {
        "description": "Whether the host may be at an address that is not public, such as 10.0.0.7. "
        "Metadata services stay closed all the same.",
        "type": "boolean",
        "default": False,
    },
    "tls": {
        "description": "What may be spoken. require: TLS under the granted name and nothing else (the "
        "default on tcp/443). auto: TLS and HTTP are checked where they are spoken, anything else passes "
        "(the default elsewhere). off: first bytes are not looked at.",
        **_one_of(Tls),
    },
    "expires": {
        "description": "How long it lasts, from when it takes effect; then it is closed, open flows too.",
        **_ref("duration"),
    },
    "max_up": {"description": "How many bytes may be sent there, over all connections.", **_ref("size")},
    "max_down": {"description": "How many bytes may come from there, over all connections.", **_ref("size")},
    "sends": {
        "description": "What may be sent there, for whoever reviews it: none (but the request itself), "
        "public data, user-data, or secrets.",
        **_one_of(Sends),
    },
    "downloads": {
        "description": "What becomes of what is downloaded: none, discard (it goes with the sandbox), or "
        "retain:DURATION.",
        **_text(f"^(?:none|discard|retain:{_duration()})$", "discard", "retain:7d"),
    },
    "subdomains": {
        "description": "Opens all names of up to so many labels below the host, and not the host itself; "
        "never below a public suffix. Rarely what you want: name each host.",
        "type": "integer",
        "minimum": 1,
        "maximum": DEEPEST,
    },
}

_UDP_HAS_NO_TLS: Schema = {
    "if": {"properties": {"protocol": {"const": str(Protocol.UDP)}}, "required": ["protocol"]},
    "then": {"properties": {"tls": {"const": str(Tls.AUTO)}}},
}
_ADDRESSES_HAVE_NO_SUBDOMAINS: Schema = {
    "if": {"required": ["subdomains"]},
    "then": {"properties": {"host": _ref("name")}},
}


def _grant() -> Schema:
    return {
        "description": "One host, port and protocol, and how it may be used. Nothing else opens anything.",
        **_object(GRANT_KEYS, _GRANT, required=["host", "port"]),
        "allOf": [_UDP_HAS_NO_TLS, _ADDRESSES_HAVE_NO_SUBDOMAINS],
    }


def _dns() -> Schema:
    words = [str(mode) for mode in DnsMode if mode is not DnsMode.RESOLVER]
    resolver = str(DnsMode.RESOLVER)
    literal = f"^{resolver}={_SERVER}$"
    known: dict[str, Schema] = {
        "mode": {
            "description": "none, system or resolver.",
            **_one_of(DnsMode),
            "default": str(DnsMode.NONE),
        },
        "resolver": {"description": "With mode `resolver`, and only with it.", **_ref("resolver")},
        "static": {
            "description": "Fixed answers, in front of any other: by name, an address or several.",
            "type": "object",
            "propertyNames": _ref("name"),
            "additionalProperties": {
                "anyOf": [_ref("address"), {"type": "array", "minItems": 1, "items": _ref("address")}]
            },
        },
    }
    spelt_out = {
        **_object(document.DNS_KEYS, known),
        "if": {"properties": {"mode": {"const": resolver}}, "required": ["mode"]},
        "then": {"required": ["resolver"]},
        "else": {"properties": {"resolver": False}},
    }
    return {
        "description": "Who resolves granted names, on the host, when a connection is made: none, system "
        "(the host's own resolver), resolver=IP[:PORT], or an object with fixed answers.",
        "anyOf": [{"enum": words}, _text(literal, f"{resolver}=192.0.2.53"), spelt_out],
    }


def _network(keys: Iterable[str], *rules: Schema) -> Schema:
    """The part `network`, in which nothing is opened under mode `none`."""
    forward = rf"^(?:{_PORT}|(?:(?:{_ANY_IPV4}|\[{_ANY_IPV6}\]):)?{_PORT}:{_PORT})$"
    known: dict[str, Schema] = {
        "mode": {
            "description": "none: no network at all, and nothing may be opened; bridge: what is granted.",
            **_one_of(document.Mode),
            "default": str(document.Mode.NONE),
        },
        "dns": _ref("dns"),
        "preset": {
            "description": "A base set of grants: registries (what this machine's package tools are "
            "configured with), agent (source hosts and model APIs), dev (both), unrestricted (every public "
            "host). Presets are for convenience; `mvmctl network freeze` writes one out.",
            **_one_of(Preset),
            "default": str(Preset.NONE),
        },
        "allow": {
            "description": "The grants: what may be reached. Nothing else can be.",
            "type": "array",
            "items": _ref("grant"),
        },
        "ports": {
            "description": "Inbound ports, [IP:]HOSTPORT:GUESTPORT or PORT; on 127.0.0.1 unless said.",
            "type": "array",
            "items": _text(forward, "8080", "127.0.0.1:8080:80"),
        },
        "ttl": {"description": "How long the sandbox lives.", **_ref("duration")},
    }
    return {
        "description": "What the workload may reach. Whatever is not granted here does not exist for it.",
        **_object(keys, known),
        "allOf": [_opened_by_mode(keys), *rules],
    }


def _opened_by_mode(keys: Iterable[str]) -> Schema:
    shut = {"allow": {"maxItems": 0}, "ports": {"maxItems": 0}, "preset": {"const": str(Preset.NONE)}}
    return {
        "if": {"properties": {"mode": {"const": str(document.Mode.BRIDGE)}}, "required": ["mode"]},
        "else": {"properties": {key: shut[key] for key in keys if key in shut}},
    }


def _resolving(*required: str) -> Schema:
    """Names are granted only where somebody resolves them, who is to be said where `dns` is required."""
    resolves = {"properties": {"dns": {"not": {"const": str(DnsMode.NONE)}}}, "required": list(required)}
    by_address = {"allow": {"items": {"properties": {"host": _ref("address")}}}}
    return {"if": resolves, "else": {"properties": by_address}}


def _preset_resolving() -> Schema:
    closed = {"properties": {"preset": {"const": str(Preset.NONE)}}}
    return {"if": closed, "else": {"required": ["dns"]}}


def _schema(name: str, title: str, description: str, definitions: Mapping[str, Schema]) -> Schema:
    return {
        "$schema": DIALECT,
        "$id": f"urn:mvm:schema:{name.replace('/', ':')}",
        "title": title,
        "description": description,
        "$defs": {**_DEFINITIONS, "grant": _grant(), "dns": _dns(), **definitions},
    }


_FOR_EDITORS: Schema = {
    "description": "Where an editor finds this schema; mvm does not read it.",
    "type": "string",
}


def policy_schema() -> Schema:
    """Give the JSON Schema of a policy file (`mvm.toml` or its JSON twin), `mvm.policy/1`."""
    network = _network(document.NETWORK_KEYS, _resolving("dns"), _preset_resolving())
    known: dict[str, Schema] = {
        "network": _ref("network"),
        "schema": {"description": "The version of the language.", "const": document.SCHEMA},
        "$schema": _FOR_EDITORS,
    }
    return {
        **_schema(
            document.SCHEMA,
            "mvm policy",
            "What one sandbox may reach: mvm.toml or its JSON twin. `mvmctl network check FILE` judges it.",
            {"network": network},
        ),
        **_object(document.DOCUMENT_KEYS, known, required=["network"]),
    }


def capabilities_schema() -> Schema:
    """Give the JSON Schema of a capability document, one tool or several, `mvm.capabilities/1`."""
    from mvm.policy import capability_file

    known: dict[str, Schema] = {
        "tool": {
            "description": "The name it is asked for by: up to 64 letters, digits, `.`, `_` and `-`.",
            **_text("^[A-Za-z0-9._-]{1,64}$", "web_fetch"),
        },
        "network": _ref("network"),
        "ports": {
            "description": "The only ports that the tool's grants may have.",
            "type": "array",
            "items": _ref("port"),
        },
        "reason": {"description": "The reason of every grant that states none.", **_ref("reason")},
        "ttl": {"description": "The longest that any of its grants lasts.", **_ref("duration")},
        "$schema": _FOR_EDITORS,
        "tools": {"description": "Each tool once.", "type": "array", "minItems": 1, "items": _ref("tool")},
        "schema": {"description": "The version of the language.", "const": capability_file.SCHEMA},
    }
    described = {
        "description": "A tool, and the fixed grants that it stands for.",
        "required": ["tool", "network"],
    }
    tool = _object(capability_file.TOOL_KEYS, known, **described)
    several = _object(capability_file.DOCUMENT_KEYS, known, required=["tools"])
    network = _network(capability_file.NETWORK_KEYS, _resolving())
    return {
        **_schema(
            capability_file.SCHEMA,
            "mvm capabilities",
            "Tools and the fixed grants they stand for, so that no model chooses a destination. "
            "`mvmctl capability check FILE` judges it.",
            {"network": network, "tool": tool},
        ),
        "if": {"required": ["tools"]},
        "then": several,
        "else": _ref("tool"),
    }


def schema_documents() -> dict[str, Schema]:
    """Give every schema by the name of the file that it is kept in."""
    return {"mvm.policy.1.json": policy_schema(), "mvm.capabilities.1.json": capabilities_schema()}
