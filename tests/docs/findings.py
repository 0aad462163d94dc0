"""Every finding of the policy language, provoked: what the reference says of a code is what mvm says.

Owns the inputs that provoke what no vector does, and the table made of it all. The codes themselves are read
from the source, so that a new one without an example is found out.
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
from mvm.policy import browser, parse
from mvm.policy.check import check_text
from mvm.policy.edit import grant_less
from mvm.policy.resolve import Asked, Document, resolve
from mvm.policy.review import review_text
from mvm.policy.suggest import suggest
from mvm.terms import Seconds
from tests.policy import vectors
from tests.support.source import PRODUCT, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CODE_AT = {"refused": 0, "finding": 0, "_refused": 0, "_warning": 0, "_warn": 0, "word": 3}
"""Which argument of a call is the code of a finding, by the name of what is called."""

_GRANT = '{"host": "api.example.com", "port": 443}'
_NETWORK = f'{{"mode": "bridge", "dns": "system", "allow": [{_GRANT}]}}'
_TOOL = f'{{"tool": "web_fetch", "network": {_NETWORK}}}'
_FILE = """[network]
mode = "bridge"
dns = "system"
preset = "agent"
allow = [{host = "api.example.com", port = 443, expires = "10m"}]
"""


def codes_in_source() -> set[str]:
    """Each code that stands in `mvm.policy` where a finding is made; `{}` where a part of it is computed."""
    return {code for path in (PRODUCT / "policy").glob("*.py") for code in _codes(tree(path))}


def _codes(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args):
                at = _CODE_AT.get(name)
                if at is not None and len(args) > at:
                    yield from _words(args[at])
                stated = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                yield from (code for value in stated if name == "Finding" for code in _words(value))
            case ast.Assign(targets=[ast.Name(id="_ASK")], value=ast.Dict(values=questions)):
                for question in questions:
                    assert isinstance(question, ast.Tuple)
                    yield from _words(question.elts[0])


def _words(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(code)):
            yield code
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from _words(one)
            yield from _words(other)


def is_of(code: str, written: str) -> bool:
    """Tell whether a code is one that stands in the source, computed parts aside."""
    return re.fullmatch(".+".join(map(re.escape, written.split("{}"))), code) is not None


# ---------------------------------------------------------------------------------------------- provoking


def provoked() -> Iterator[Finding]:
    """Every finding that the vectors and the inputs below lead to."""
    yield from _of_vectors()
    for text in (
        "{",
        '{"tools": []}',
        '{"network": {}, "tool": "a b"}',
        f'{{"tools": [{_TOOL}, {_TOOL}]}}',
        _TOOL.replace("}}", '}, "ports": [80]}'),
        _TOOL.replace('"mode"', '"preset": "dev", "mode"'),
        _TOOL.replace('"dns": "system", ', ""),
        '{"tool": "web_fetch"}',
        '{"network": {"tool": 1}}',
    ):
        yield from check_text(text, "tools.json")
    yield from _refusal(
        lambda: resolve(Asked(allow=("api.example.com:443,expires=1h",), document=_document()), list)
    )
    asked = Asked(allow=("api.example.com:443,tls=require",), preset="none", document=_document())
    yield from resolve(asked, list).warnings
    closed = Document("mvm.toml", "[network]\n")
    yield from resolve(Asked(allow=("api.example.com:443",), document=closed), list).warnings
    yield from resolve(Asked(allow=("github.com:443,tls=auto",), preset="agent"), list).warnings
    policy = resolve(Asked(allow=("api.example.com:443",)), list).policy
    yield from _refusal(lambda: grant_less(policy, [parse.parse_grant("files.example.com:443")]))
    yield from review_text(_FILE.replace("443,", "443, subdomains = 1,"), "mvm.toml").findings
    yield from _of_suggestions()
    yield from _of_the_browser()


def _document() -> Document:
    return Document("mvm.toml", _FILE)


def _of_vectors() -> Iterator[Finding]:
    for rows in vectors.HOSTS_REFUSED.values():
        for text, _ in rows:
            yield from _refusal(lambda text=text: parse.parse_host(text, path=".network.allow[0].host"))  # type: ignore[misc]
    for grants in vectors.GRANTS_REFUSED.values():
        for text, _ in grants:
            yield from _refusal(lambda text=text: parse.parse_grant(text))  # type: ignore[misc]
    readers: dict[str, Callable[[str], object]] = {
        "forwards": parse.parse_forward,
        "dns": parse.parse_dns,
        "dns_static": parse.parse_dns_static,
        "durations": lambda text: parse.parse_duration(text, path="--ttl"),
        "sizes": lambda text: parse.parse_size(text, path="--network-allow"),
    }
    for kind, rows in vectors.WORDS_REFUSED.items():
        for text, _ in rows:
            yield from _refusal(lambda kind=kind, text=text: readers[kind](text))  # type: ignore[misc]
    for document in (*vectors.DOCUMENTS, *vectors.DOCUMENTS_REFUSED):
        yield from check_text(document["text"], document["path"])


def _of_suggestions() -> Iterable[Finding]:
    denials: list[dict[str, object]] = [
        {"host": "files.example.com", "layer": "dns", "reason": "dns-not-allowed"},
        {"address": "192.88.0.1", "port": 22, "layer": "tcp", "reason": "address-literal"},
        {"address": "169.254.169.254", "port": 80, "layer": "tcp", "reason": "address-literal"},
        {"host": "api.example.com", "port": 443, "layer": "tcp", "reason": "malformed"},
        {"host": "old.example.com", "port": 443, "layer": "tcp", "reason": "expired"},
    ]
    return suggest([], denials).warnings


def _of_the_browser() -> Iterator[Finding]:
    for words in ("chrome", "browser,workspace=My Shop", "browser,credentials=:the login is under test"):
        yield from _refusal(lambda words=words: browser.parse_profile(words))  # type: ignore[misc]
    policy = resolve(Asked(preset="agent"), list).policy
    mounts = (
        browser.Mount("--volume", "/home/ann", writable=False),
        browser.Mount("--volume", "/srv/pages", writable=True, unread="it holds more than 100000 files"),
        browser.Mount(
            "--volume",
            "/srv/more",
            writable=False,
            sockets=("/srv/more/control",),
            credentials=("/srv/more/Default/Login Data",),
        ),
    )
    named, kept = browser.BrowserProfile(workspace="shop"), browser.BrowserProfile(retain=Seconds(86_400))
    yield from browser.judge(policy, named, mounts, ("/home/ann",))
    yield from browser.judge(replace(policy, ttl=Seconds(7200)), kept, (), ())


def _refusal(read: Callable[[], object]) -> tuple[Finding, ...]:
    try:
        read()
    except PolicyRefused as refusal:
        return refusal.findings
    return ()


# ---------------------------------------------------------------------------------------------- the table


def examples() -> dict[str, Finding]:
    """For each code the plainest of its findings: short, yet quoting more than a character or two."""
    plainest: dict[str, Finding] = {}
    for finding in provoked():
        kept = plainest.setdefault(finding.code, finding)
        plainest[finding.code] = min(kept, finding, key=_plainness)
    return dict(sorted(plainest.items()))


def _plainness(finding: Finding) -> tuple[bool, int, str]:
    message = finding.message
    quotes_little = re.search(r"'[^']{0,4}'", message) is not None
    return quotes_little, len(message), message


def write_table() -> str:
    """The table of the reference: a row for each code."""
    rows = [("Code", "For example", "Hint"), ("---",) * 3]
    for code, finding in examples().items():
        mark = "" if finding.severity == "error" else " (warning)"
        rows.append((f"`{code}`{mark}", _cell(finding.message), _cell(finding.hint)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(text: str) -> str:
    """Text as a cell; what another version of a library words otherwise is left out."""
    text = re.sub(r"(is no (?:TOML|JSON|internationalised label)): .*", r"\1: …", text)
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
