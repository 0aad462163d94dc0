"""What a word was given, taken for what it should be, or refused with a hint.

Owns these few checks. Must never convert: a number in quotes is a mistake, and is said to be.
"""

from __future__ import annotations

from mvm.errors import Finding, PolicyRefused


def text_of(value: object, path: str) -> str:
    """Take a value for text of at least one character.

    Raises:
        PolicyRefused: it is none.
    """
    if not isinstance(value, str) or not value or not is_text(value):
        raise refused("wrong-type", path, f"{value!r} is no text", 'write it as "text"')
    return value


def is_text(value: str) -> bool:
    """Tell text from what no file, program or canonical JSON carries: NUL, and halves of surrogate pairs."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value)


def texts(values: object, path: str) -> tuple[str, ...]:
    """Take a value for a list of such texts.

    Raises:
        PolicyRefused: it is none.
    """
    return tuple(text_of(value, path) for value in listed(values, path, '["text"]'))


def listed(values: object, path: str, example: str) -> tuple[object, ...]:
    """Take a value for a list.

    Raises:
        PolicyRefused: it is none.
    """
    if not isinstance(values, list | tuple):
        raise refused("wrong-type", path, f"a {type(values).__name__} is no list", f"write {example}")
    return tuple(values)


def finding(code: str, path: str, message: str, hint: str, source: str = "") -> Finding:
    """Make a finding."""
    return Finding(code=code, path=path, message=message, hint=hint, source=source)


def refused(code: str, path: str, message: str, hint: str, source: str = "") -> PolicyRefused:
    """Make the error that refuses what a word was given."""
    return PolicyRefused([finding(code, path, message, hint, source)])
