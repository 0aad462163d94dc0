"""The one way from text to a host: a name of letters, digits and hyphens, or an address.

Owns every refusal of a host's spelling (SPEC section 3, ATTACKS 1 to 13). Must never resolve, guess,
trim or repair: two readers that understand one text differently are how sandboxes leak, so a text that
any of them could read otherwise is refused. Names are compared as this gives them: lower case, A-labels,
without the trailing dot.

`idna` is imported only for labels that need it; a plain ASCII name is read without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
from mvm.terms import HostName

if TYPE_CHECKING:
    from mvm.terms import Address, Host

MAX_NAME = 253
"""Characters of a name without its trailing dot (RFC 1035 section 2.3.4 less the length bytes)."""

MAX_LABEL = 63
"""Characters of one label (RFC 1035 section 2.3.4)."""

NAMES_OF_THIS_MACHINE = frozenset({"localhost", "localdomain", "ip6-localhost", "ip6-loopback"})
"""Last labels of names that stand for whichever machine asks: inside a sandbox, for the sandbox itself."""

_MOST_SHOWN = 60
_IDEOGRAPHIC_STOP = "\u3002"  # what IDNA 2003 took for a dot
_PLAIN_HINT = "write the host alone: a name (`api.example.com`) or an address (`192.0.2.7`, `2001:db8::7`)"
_URL_HINT = "write the host and its port, no scheme and no path: `api.example.com:443`, or `host` and `port`"
_ONE_HINT = "name each host in a grant of its own"
_SUBDOMAINS_HINT = "name each host; a policy file has `subdomains = 1` and Python `mvm.subdomains()` for more"


class Place:
    """Where a text stands, to say so when it is refused.

    Args:
        path: a jq path, or the flag.
        source: the file, `file:line` or flag it came from, or an empty string.
    """

    __slots__ = ("path", "source")

    def __init__(self, path: str, source: str = "") -> None:
        self.path, self.source = path, source

    def at(self, key: str | int) -> Place:
        """Give the place of a member (`.host`, `["a b"]`) or of an element (`[3]`) of what stands here."""
        if isinstance(key, int):
            step = f"[{key}]"
        elif key.isidentifier() and key.isascii():
            step = f"{'' if self.path == '.' else '.'}{key}"
        else:
            from json import dumps

            step = f"[{dumps(key[:_MOST_SHOWN])}]"
        return Place(self.path + step, self.source)

    def finding(self, code: str, message: str, hint: str, *, severity: str = "error") -> Finding:
        """Make a finding about this place."""
        return Finding(
            code=code, path=self.path, message=message, hint=hint, severity=severity, source=self.source
        )

    def refused(self, code: str, message: str, hint: str) -> PolicyRefused:
        """Make the error that refuses what stands here."""
        return PolicyRefused([self.finding(code, message, hint)])


def shown(text: str) -> str:
    """Quote text for a message: cut to 60 characters, with whatever could not be seen escaped."""
    return repr(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "...")


def parse_host(text: str, *, path: str, source: str = "") -> Host:
    """Read the host of a grant.

    Args:
        text: a host name, a dotted quad, or an IPv6 address without brackets.
        path: a jq path, or the flag, for findings.
        source: the file or flag it came from, for findings.

    Returns:
        The name, lower case, as IDNA 2008 A-labels (RFC 5891) without a trailing dot; or the address.

    Raises:
        PolicyRefused: the text is anything else, or could be read as anything else.
    """
    name = text.lower() if text.isascii() else ""
    labels = name.removesuffix(".").split(".")
    if (
        all(map(_is_plain, labels))
        and len(name) <= MAX_NAME
        and "xn--" not in name
        and not _is_numeric(labels[-1])
        and not _is_range(name)
    ):
        return HostName(name.removesuffix("."))
    return _read(text, Place(path, source))


def _is_plain(label: str) -> bool:
    return (
        0 < len(label) <= MAX_LABEL
        and label[0] != "-"
        and label[-1] != "-"
        and (label.isalnum() or label.replace("-", "").isalnum())
    )


def _is_numeric(label: str) -> bool:
    """Tell a last label that address readers take for a number (WHATWG URL, "ends in a number")."""
    return label.isdigit() or (label[:2] == "0x" and not label[2:].strip("0123456789abcdef"))


def _is_range(name: str) -> bool:
    return not name.strip("0123456789.-") and "-" in name and name.strip(".-") != ""


def _read(text: str, place: Place) -> Host:
    """Read what is no plain ASCII name: addresses, IDNA, and everything that is refused."""
    if not text.strip("."):
        raise place.refused("empty-host", "the host is empty", f"{_PLAIN_HINT}; nothing stands for all hosts")
    refuse_urls(text, place)  # first: what is shown by the others must not hold a password
    _refuse_invisible(text, place)
    _refuse_brackets(text, place)
    _refuse_patterns(text, place)
    _refuse_slashes(text, place)
    _refuse_several(text, place)
    if ":" in text:
        return _read_ipv6(text, place)
    last = text.removesuffix(".").rpartition(".")[2]
    if last.isascii() and _is_numeric(last.lower()):
        return _read_ipv4(text, place)
    return _read_name(text, place)


def _refuse_invisible(text: str, place: Place) -> None:
    if any(char < " " or "\x7f" <= char <= "\x9f" for char in text):
        raise place.refused("control-in-host", f"{shown(text)} has a control character in it", _PLAIN_HINT)
    if any(map(str.isspace, text)):
        raise place.refused("whitespace-in-host", f"{shown(text)} has white space in it", _PLAIN_HINT)


def refuse_urls(text: str, place: Place) -> None:
    """Refuse a URL, and a name with user information before it, without showing what may be a password.

    Raises:
        PolicyRefused: `proxy-url`, `url-host` or `user-info`.
    """
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower().startswith(("socks", "proxy")):
        hint = "grant the destination itself; mvm takes no proxy from a policy"
        raise place.refused("proxy-url", f"a {shown(scheme)} URL names a proxy, not a destination", hint)
    if separator or text.startswith("//"):
        # The rest is not shown: a URL may hold a password.
        raise place.refused("url-host", f"a URL ({shown(scheme[:16])}) is not a host", _URL_HINT)
    if "@" in text:
        after = text.rpartition("@")[2]
        raise place.refused("user-info", f"there is user information before {shown(after)}", _PLAIN_HINT)


def _refuse_brackets(text: str, place: Place) -> None:
    if "[" not in text and "]" not in text:
        return
    if text[0] == "[" and text[-1] == "]" and _is_address(text[1:-1]) and ":" in text:
        hint = f"write {text[1:-1]}; brackets are for HOST:PORT only"
        raise place.refused("bracketed-address", f"{shown(text)} has brackets around it", hint)
    raise place.refused("bracketed-name", f"{shown(text)} has brackets in it", _PLAIN_HINT)


def _refuse_patterns(text: str, place: Place) -> None:
    if any(char in text for char in "*{}") or text[0] == ".":
        raise place.refused("wildcard-host", f"{shown(text)} stands for many names", _SUBDOMAINS_HINT)
    for separator in ("-", ".."):
        if separator in text and (_is_address(text.partition(separator)[0]) or _is_range(text)):
            raise place.refused("address-range", f"{shown(text)} is a range of addresses", _ONE_HINT)


def _refuse_slashes(text: str, place: Place) -> None:
    base, slash, length = text.partition("/")
    is_address = base != "" and (_is_address(base) or not base.strip("0123456789."))
    if slash and is_address and not length.strip("0123456789."):
        raise place.refused("cidr", f"{shown(text)} is a block of addresses", _ONE_HINT)
    if any(char in text for char in "/\\?#"):
        raise place.refused("path-in-host", f"{shown(text)} has a path, query or fragment in it", _PLAIN_HINT)
    base, percent, _ = text.partition("%")
    if percent and _is_address(base):
        hint = "leave out the scope id; such an address leads nowhere but to this machine's own links"
        raise place.refused("scope-id", f"{shown(text)} has a scope id", hint)


def _refuse_several(text: str, place: Place) -> None:
    if any(char in text for char in ",;|"):
        raise place.refused("several-hosts", f"{shown(text)} lists several hosts", _ONE_HINT)


def _is_address(text: str) -> bool:
    from mvm.policy.addresses import ip_address

    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _read_ipv6(text: str, place: Place) -> Host:
    if not _is_address(text):
        name, _, port = text.partition(":")
        if name and port.isascii() and port.isdigit():
            hint = f"write the host alone, and the port ({port[:5]}) beside it"
            raise place.refused("port-in-host", f"{shown(text)} has a port in it", hint)
        raise place.refused("bad-address", f"{shown(text)} is no IPv6 address", _PLAIN_HINT)
    return _read_address(text, place)


def _read_ipv4(text: str, place: Place) -> Host:
    if not _is_address(text):
        hint = "write the address as four decimal numbers without leading zeros, like 192.0.2.7"
        message = f"{shown(text)} ends in a number: programs differ on which address that is"
        raise place.refused("numeric-host", message, hint)
    return _read_address(text, place)


def _read_address(text: str, place: Place) -> Address:
    from mvm.policy.addresses import AddressClass, classify, ip_address, is_spelling_of_ipv4, unwrap

    address = ip_address(text)
    kind = classify(address)
    if kind is AddressClass.UNSPECIFIED:
        hint = f"{_PLAIN_HINT}; nothing stands for all hosts"
        raise place.refused("unspecified-address", f"{shown(text)} is the address of no host", hint)
    if kind is AddressClass.MULTICAST:
        hint = "grant hosts one by one"
        raise place.refused("multicast-address", f"{shown(text)} is the address of many hosts", hint)
    if is_spelling_of_ipv4(address):
        hint = f"write {unwrap(address)}"
        raise place.refused("mapped-address", f"{shown(text)} is an IPv4 address in IPv6 spelling", hint)
    return address


def _read_name(text: str, place: Place) -> HostName:
    labels = text.removesuffix(".").split(".")
    name = ".".join([_read_label(label, text, place) for label in labels])
    if len(name) > MAX_NAME:
        message = f"{shown(text)} is a name of {len(name)} characters; the most is {MAX_NAME}"
        raise place.refused("name-too-long", message, _PLAIN_HINT)
    return HostName(name)


def _read_label(label: str, text: str, place: Place) -> str:
    if not label:
        raise place.refused("empty-label", f"{shown(text)} has two dots in a row", _PLAIN_HINT)
    if len(label) > MAX_LABEL:
        message = f"{shown(label)} is a label of {len(label)} characters; the most is {MAX_LABEL}"
        raise place.refused("label-too-long", message, _PLAIN_HINT)
    lowered = label.lower() if label.isascii() else label
    if not label.isascii() or lowered.startswith("xn--"):
        return _read_idna(lowered, text, place)
    if label.replace("-", "").isalnum():
        if not _is_plain(label):
            message = f"{shown(text)} has a label that begins or ends with a hyphen"
            raise place.refused("hyphen-label", message, _PLAIN_HINT)
        return lowered
    if not label.strip("-"):
        message = f"{shown(text)} has a label of nothing but hyphens"
        raise place.refused("hyphen-label", message, _PLAIN_HINT)
    odd = next(char for char in label if not char.isalnum() and char != "-")
    message = f"{shown(text)} has {odd!r} in it; names are letters, digits and hyphens"
    raise place.refused("bad-character", message, _PLAIN_HINT)


def _read_idna(label: str, text: str, place: Place) -> str:
    """Read an internationalised label as IDNA 2008 has it: valid as it stands, nothing folded."""
    _refuse_other_digits(label, text, place)
    import idna

    try:
        label = "".join(char.lower() if char.isascii() else char for char in label)
        ascii_label = idna.alabel(label).decode("ascii")
        unicode_label = idna.ulabel(ascii_label)
        if idna.alabel(unicode_label).decode("ascii") != ascii_label:
            message = f"{shown(label)} is not what it decodes to"
            raise place.refused("not-idna", message, _idna_hint(text))
    except UnicodeError as error:  # idna's own errors and those of its codecs
        message = f"{shown(label)} is no internationalised label: {error}"
        raise place.refused("not-idna", message, _idna_hint(text)) from None
    _refuse_other_digits(unicode_label, text, place)
    return ascii_label


def _refuse_other_digits(label: str, text: str, place: Place) -> None:
    """Refuse digits of other scripts and widths where some program could read an address."""
    from unicodedata import decimal, normalize

    if label.isascii():
        return
    folded = "".join(
        char if char.isascii() else str(decimal(char, char)) for char in normalize("NFKC", label)
    ).replace(_IDEOGRAPHIC_STOP, ".")
    if folded.isascii() and not folded.strip("0123456789.") and folded.strip("."):
        message = f"{shown(text)} spells {folded} with other digits; some programs read a number there"
        raise place.refused("numeric-host", message, "write addresses with the digits 0 to 9")


def _idna_hint(text: str) -> str:
    from unicodedata import normalize

    folded = normalize("NFKC", text).lower().replace(_IDEOGRAPHIC_STOP, ".")
    if folded != text and folded.isprintable() and len(folded) <= MAX_NAME:
        return f"write {shown(folded)} if that is the name; mvm folds nothing (IDNA 2008)"
    return "write the name as its owner registered it, in lower case"
