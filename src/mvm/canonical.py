"""One value, one spelling: JSON as RFC 8785 (JCS) writes it, and the digest over that.

Owns the bytes that are hashed and signed: policies, records, receipts. Must never accept a value
whose spelling another implementation could choose differently (NaN, integers that a double does
not hold, lone surrogates), and must never read JSON: whoever checks a document compares its bytes
with `encode` of what it parsed.

There is one path, not a fast and an exact one: for a log record it takes 3.4 us, and `json.dumps`
with the check that it would be exact takes 3.5 us.
"""

from __future__ import annotations

from hashlib import sha256
from json.encoder import encode_basestring as quote

_LARGEST = 2**53 - 1  # RFC 7493 section 2.2: beyond it, integers are not the same everywhere
_FIXED_POINT_DIGITS = 21  # ECMA-262 Number::toString: from 1e21 on, numbers have an exponent
_LEADING_ZEROS = -6  # and so do those below 1e-6

DIGEST_PREFIX = "sha256:"


def encode(value: object) -> bytes:
    """Write a value as canonical JSON, so that equal values are equal bytes.

    Args:
        value: None, bool, int, float, str, and lists, tuples and dicts (with str keys) of these.

    Returns:
        UTF-8, without a newline (RFC 8785 section 3.2).

    Raises:
        ValueError: NaN, an infinity, an integer beyond +-(2^53 - 1), a lone surrogate, or nested too deeply.
        TypeError: any other type, or a key that is not a string.
    """
    try:
        return _text(value).encode()
    except RecursionError:
        msg = "nested too deeply"  # a reader of JSON goes deeper than this, so what it read can come here
        raise ValueError(msg) from None
    except UnicodeEncodeError:
        # The original error would carry the whole text into tracebacks.
        msg = "a string with a lone surrogate has no canonical form (RFC 8785 section 3.2.2.2)"
        raise ValueError(msg) from None


def digest(value: object) -> str:
    """Name a value by its content: `sha256:` and 64 hexadecimal digits over `encode(value)`.

    Raises:
        ValueError, TypeError: as `encode`.
    """
    return digest_of_bytes(encode(value))


def digest_of_bytes(data: bytes) -> str:
    """Spell the SHA-256 of bytes that are canonical already, as `digest` does."""
    return DIGEST_PREFIX + sha256(data).hexdigest()


def _text(value: object) -> str:  # one line per JSON type reads best
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, dict):
        return _object(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([_text(item) for item in value]) + "]"
    if isinstance(value, float):
        return number(value)
    msg = f"{type(value).__name__} has no JSON form"
    raise TypeError(msg)


def _integer(value: int) -> str:
    if not -_LARGEST <= value <= _LARGEST:
        msg = "an integer beyond 2^53 - 1 is not exact as a JSON number; write it as a string"
        raise ValueError(msg)
    return int.__repr__(value)


def _object(members: dict[object, object]) -> str:
    try:
        names = sorted(members)  # type: ignore[type-var]
        plain = "".join(names).isascii()  # type: ignore[arg-type]
    except TypeError:
        msg = "the keys of a JSON object are strings"
        raise TypeError(msg) from None
    if not plain:
        # RFC 8785 section 3.2.3: by UTF-16 code units, in which U+1F600 comes before U+FB33.
        names.sort(key=lambda name: name.encode("utf-16-be", "surrogatepass"))  # type: ignore[attr-defined]
    parts = []
    for name in names:
        member = members[name]
        # Strings are most of what there is; asking here saves a call for each.
        parts.append(f"{quote(name)}:{quote(member) if isinstance(member, str) else _text(member)}")  # type: ignore[arg-type]
    return "{" + ",".join(parts) + "}"


def number(value: float) -> str:
    """Write a double as ECMAScript does: the shortest digits that read back as the same double.

    Args:
        value: any finite double; -0 is written 0.

    Returns:
        The text of ECMA-262 `Number::toString(value, 10)` (RFC 8785 section 3.2.2.3).

    Raises:
        ValueError: NaN or an infinity.
    """
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124  the test for NaN
        msg = f"{value} is not a JSON number"
        raise ValueError(msg)
    if value == 0:
        return "0"
    text = float.__repr__(value)
    if "e" not in text:  # between 1e-4 and 1e16 both lay a number out alike
        return text.removesuffix(".0")
    sign = "-" if value < 0 else ""
    # Python's repr has the same shortest digits (David Gay's algorithm); only the layout differs.
    mantissa, _, exponent = float.__repr__(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(digits) - len(fraction) + int(exponent or 0)  # value = 0.digits * 10^point
    digits = digits.rstrip("0")
    return sign + _lay_out(digits, point)


def _lay_out(digits: str, point: int) -> str:
    count = len(digits)
    if count <= point <= _FIXED_POINT_DIGITS:
        return digits + "0" * (point - count)
    if 0 < point <= _FIXED_POINT_DIGITS:
        return digits[:point] + "." + digits[point:]
    if _LEADING_ZEROS < point <= 0:
        return "0." + "0" * -point + digits
    fraction = "." + digits[1:] if count > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
