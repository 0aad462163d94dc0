"""The inputs that fuzzing begins with: the vectors of every reader, and what fuzzing itself has found.

Owns where each reader's inputs lie. The corpus under `tests/vectors/fuzz/` is one file a reader, one input a
line in base64, as `long --keep` writes it.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvm.audit.chain import GENESIS, link
from mvm.audit.receipt import PAYLOAD_TYPE, PREDICATE, SCHEMA, STATEMENT
from mvm.audit.record import make_record
from mvm.canonical import encode as canonical
from mvm.supervisor.frames import encode
from tests.fuzz import caller, images

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = Path(__file__).parent.parent / "vectors"
CORPUS = VECTORS / "fuzz"

_WIRE = {
    "client_hello": ("client_hellos", "client_hellos_refused"),
    "http_first_bytes": ("http_first_bytes",),
    "http_request": ("http_requests", "http_requests_refused"),
    "http_stream": ("http_streams",),
    "first_flight": ("client_hellos", "http_streams"),
    "dns_query": ("dns_queries", "dns_queries_refused"),
    "dns_answer": ("dns_answers", "dns_answers_refused"),
    "dns_name": ("dns_answers", "dns_queries"),
}
_WORDS = {
    "host": ("hosts.json", "hosts_refused.json", "addresses.json"),
    "grant": ("grants.json", "grants_refused.json"),
    "duration": ("words.json", "words_refused.json"),
    "size": ("words.json", "words_refused.json"),
    "forward": ("words.json", "words_refused.json"),
    "dns": ("words.json", "words_refused.json"),
    "dns_static": ("words.json", "words_refused.json"),
}
_SIGNED = b'"signatures":[{"keyid":"sha256:%b","sig":"%b"}]}\n' % (b"0" * 64, b"A" * 86 + b"==")
_RUN, _TIME = "01JC0000000000000000000000", "2025-01-31T23:59:59.000001Z"


@cache
def seeds_of(name: str) -> tuple[bytes, ...]:
    """The inputs of one reader, shortest first."""
    found = {b"", *_from_vectors(name), *corpus_of(name)}
    return tuple(sorted(found, key=lambda data: (len(data), data)))


def corpus_of(name: str) -> tuple[bytes, ...]:
    """What the long run has kept for one reader; nothing where it has kept none."""
    path = CORPUS / f"{name}.txt"
    if not path.exists():
        return ()
    return tuple(map(base64.b64decode, path.read_text("ascii").split("\n")))


def _from_vectors(name: str) -> list[bytes]:
    if name in _WIRE:
        return [_bytes_of(vector) for file in _WIRE[name] for vector in _json(f"wire/{file}.json")]
    if name in _WORDS:
        texts = [text for file in _WORDS[name] for text in _strings(_json(f"policy/{file}"))]
        return [text.encode("utf-8", "surrogatepass") for text in texts]
    made: dict[str, Callable[[], list[bytes]]] = {
        "http_response": _responses,
        "dns_stream": lambda: [b"\0\x0c" + bytes(12), b"\0\x20" + bytes(range(32)) + b"\0\x0c" + bytes(12)],
        "profile": lambda: [b"browser", b"browser,workspace=/w,retain=7d,long-ttl=why,credentials=/c:why"],
        "policy_toml": lambda: _documents(is_json=False),
        "policy_json": lambda: _documents(is_json=True),
        "capabilities": _capabilities,
        "program": lambda: [vector["text"].encode() for vector in _json("compile/refused.json")],
        "canonical": lambda: [json.dumps(each).encode() for each in _json("canonical/documents.json")],
        "image_config": _image_configs,
        "archive": _archives,
        "oci_layout": _layouts,
        "docker_save": lambda: [
            images.saved_document(),
            images.saved_document().replace(b"c.json", b"../c.json"),
            images.config_document(),
        ],
        "flake": _flakes,
        "tool_files": _tool_files,
        "conversation": caller.messages,
        "frames": lambda: [encode({"do": "describe"}), encode({"a": [1.5, None, "\ud800"]}) * 2],
        "receipt": _receipts,
        "chain": lambda: [_log()],
    }
    return made[name]()


def _json(name: str) -> Any:  # noqa: ANN401  whatever the vectors hold
    return json.loads((VECTORS / name).read_text("utf-8"))


def _bytes_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["hex"]) if "hex" in vector else vector["bytes"].encode("latin-1")


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in _strings(part)]


def _documents(*, is_json: bool) -> list[bytes]:
    vectors = _json("policy/documents.json") + _json("policy/documents_refused.json")
    return [each["text"].encode() for each in vectors if each["path"].endswith(".json") is is_json]


def _capabilities() -> list[bytes]:
    page = _json("page_capability.json")
    return [(VECTORS / "page_capability.json").read_bytes(), json.dumps({"tools": [page]}).encode()]


def _responses() -> list[bytes]:
    return [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\n\r\n",
    ]


def _image_configs() -> list[bytes]:
    own: dict[str, object] = {
        "entrypoint": ["/a"],
        "cmd": ["b"],
        "env": {"A": "b"},
        "workdir": "/w",
        "user": "1:2",
        "ports": [80],
    }
    label = json.dumps({"mode": "bridge", "allow": [{"host": "a.example", "port": 443}]})
    oci: dict[str, object] = {
        "Entrypoint": ["/a"],
        "Cmd": None,
        "Env": ["A=b"],
        "User": "u",
        "ExposedPorts": {"80/tcp": {}},
    }
    return [
        json.dumps(own).encode(),
        json.dumps({**own, "network": json.loads(label)}).encode(),
        json.dumps(
            {"config": {**oci, "Labels": {"mvm.network": json.dumps({"network": json.loads(label)})}}}
        ).encode(),
    ]


def _archives() -> list[bytes]:
    made = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", format=form) as archive:
            for name, kind in (
                ("d", tarfile.DIRTYPE),
                ("n" * 60 + "/" + "n" * 60, tarfile.REGTYPE),
                ("l", tarfile.SYMTYPE),
            ):
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = kind, "d/ü" if kind == tarfile.SYMTYPE else ""
                entry.size = 3 if kind == tarfile.REGTYPE else 0
                archive.addfile(entry, io.BytesIO(b"abc"))
        made.append(target.getvalue()[: 6 * 1024])
    return made


def _layouts() -> list[bytes]:
    manifest = images.manifest_document(images.config_document())
    index = images.index_document(manifest)
    return [index, images.index_document(index, "index.v1+json"), manifest, images.config_document()]


def _flakes() -> list[bytes]:
    path, told = f"/nix/store/{'a' * 32}-made", {"narHash": f"sha256-{'A' * 43}="}
    return [
        json.dumps(each).encode()
        for each in ([{"outputs": {"out": path}}], [{"path": path, **told}], {path: told}, "program")
    ]


def _tool_files() -> list[bytes]:
    url = "https://user:word@mirror.example:8443/simple/"
    settings = (
        f"<settings><mirrors><mirror><id>a</id><mirrorOf>external:*,!b</mirrorOf><url>{url}</url></mirror>"
        f"</mirrors><profiles><profile><repositories><repository><id>b</id><url>{url}</url></repository>"
        "</repositories></profile></profiles><proxies><proxy/></proxies></settings>"
    )
    return [
        text.encode()
        for text in (
            f"[global]\nindex-url = {url}\nextra-index-url =\n  {url}\n  http://b.example/\nno-index = 1\n",
            f"registry={url}\n@scope:registry=${{URL-{url}}}\n//mirror.example/:_authToken=${{TOKEN}}\nproxy=x\n",
            f"[source.a]\nregistry = 'sparse+{url}'\nreplace-with = 'b'\n[registries.b]\nindex = '{url}'\n",
            f"[[index]]\nurl = '{url}'\ndefault = true\n[pip]\nfind-links = ['{url}']\nindex-url = '{url}'\n",
            f"[tool.uv]\nindex-url = '{url}'\n[[tool.uv.index]]\nurl = 'http://b.example'\n",
            f"deb [arch=amd64] {url} stable main\ndeb mirror+file:/list stable main\n",
            f"Types: deb\nURIs: {url}\n http://b.example\nSuites: stable\nEnabled: yes\n\nURIs: file:/x\n",
            settings,
        )
    ]


def _receipts() -> list[bytes]:
    digest, time = f"sha256:{'0' * 64}", "2025-01-31T23:59:59.000001Z"
    texts = "backend cause isolation mvm name outcome run".split()
    counts = dict.fromkeys("flows denials failures up down".split(), 1)
    predicate = {
        "schema": SCHEMA,
        **dict.fromkeys(texts, "word"),
        "started": time,
        "ended": time,
        "duration_s": 0.5,
        "exit_code": 0,
        "counts": counts,
        "image": {"kind": "host", "digest": None},
        "policy": {"digest": digest, "at_start": digest},
        "enforcement": {"requested": ["dns"], "achieved": ["dns"]},
        "denials": [dict.fromkeys("layer host address port protocol reason count".split(), 1)],
        "log": {"head": digest, "records": 3},
    }
    subject = {"name": "runs/R/log.jsonl", "digest": {"sha256": "0" * 64}}
    statement = {
        "_type": STATEMENT,
        "subject": [subject],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    return [canonical(statement), b'{"payload":"e30=","payloadType":"%b",' % PAYLOAD_TYPE.encode() + _SIGNED]


def _log() -> bytes:
    lines, head = list[bytes](), GENESIS
    written: tuple[tuple[str, dict[str, object]], ...] = (
        ("dns.denied", {"host": "a.example", "reason": "host-not-granted", "type": "a"}),
        ("flow.opened", {"flow": 1, "host": "a.example", "port": 443, "private": False}),
        ("grant.decided", {"host": "a.example", "port": 443, "expires": 1.5, "by": "test"}),
    )
    for seq, (kind, fields) in enumerate(written, 1):
        line, head = link(head, make_record(kind, fields, seq=seq, time=_TIME, run=_RUN))
        lines.append(line)
    return b"".join(lines)
