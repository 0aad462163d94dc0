"""A validator of JSON Schema, as much of it as the schemas here use; an unknown keyword is an error.

Owns the judgement of documents by a schema in tests, so that no dependency is needed for it. Must never pass
over a keyword: what it does not know it refuses to judge.
"""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_ANNOTATIONS = frozenset(
    (
        "$schema",
        "$id",
        "id",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "definitions",
        "$defs",
    )
)


def errors(schema: dict[str, Any], value: object) -> list[str]:
    """Say where a value is not what a schema wants, as `path: keyword`; nothing where it is."""
    return _errors(schema, value, schema, "$")


def _errors(schema: Any, value: Any, root: dict[str, Any], at: str) -> list[str]:  # noqa: ANN401
    if schema is True or schema is False:
        return [] if schema else [f"{at}: false"]
    found = []
    for keyword, wanted in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        judge = _KEYWORDS[keyword]
        found += judge(wanted, value, root, at, schema)
    return found


def _is(kind: str, value: object) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()  # to JSON Schema 443.0 is a whole number
    return isinstance(value, _TYPES[kind])


def _said(is_right: bool, at: str, keyword: str) -> list[str]:
    return [] if is_right else [f"{at}: {keyword}"]


def _ref(wanted: str, value: Any, root: dict[str, Any], at: str, _: Any) -> list[str]:  # noqa: ANN401
    target: Any = root
    for step in wanted.removeprefix("#/").split("/"):
        target = target[step]
    return _errors(target, value, root, at)


def _type(wanted: Any, value: Any, _: Any, at: str, __: Any) -> list[str]:  # noqa: ANN401
    kinds = [wanted] if isinstance(wanted, str) else wanted
    return _said(any(_is(kind, value) for kind in kinds), at, "type")


def _properties(wanted: Any, value: Any, root: Any, at: str, _: Any) -> list[str]:  # noqa: ANN401
    if not isinstance(value, dict):
        return []
    return [
        error
        for key in wanted
        if key in value
        for error in _errors(wanted[key], value[key], root, f"{at}.{key}")
    ]


def _additional(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> list[str]:  # noqa: ANN401
    if not isinstance(value, dict):
        return []
    more = [key for key in value if key not in schema.get("properties", {})]
    return [error for key in more for error in _errors(wanted, value[key], root, f"{at}.{key}")]


def _names(wanted: Any, value: Any, root: Any, at: str, _: Any) -> list[str]:  # noqa: ANN401
    return [e for key in value for e in _errors(wanted, key, root, at)] if isinstance(value, dict) else []


def _required(wanted: Any, value: Any, _: Any, at: str, __: Any) -> list[str]:  # noqa: ANN401
    missing = [key for key in wanted if key not in value] if isinstance(value, dict) else []
    return [f"{at}: required {key}" for key in missing]


def _items(wanted: Any, value: Any, root: Any, at: str, _: Any) -> list[str]:  # noqa: ANN401
    items = value if isinstance(value, (list, tuple)) else []
    return [e for n, item in enumerate(items) for e in _errors(wanted, item, root, f"{at}[{n}]")]


def _unique(wanted: Any, value: Any, _: Any, at: str, __: Any) -> list[str]:  # noqa: ANN401
    items = value if isinstance(value, (list, tuple)) and wanted else []
    twice = any(item in items[:number] for number, item in enumerate(items))
    return _said(not twice, at, "uniqueItems")


def _any_of(wanted: Any, value: Any, root: Any, at: str, _: Any) -> list[str]:  # noqa: ANN401
    return _said(any(not _errors(one, value, root, at) for one in wanted), at, "anyOf")


def _one_of(wanted: Any, value: Any, root: Any, at: str, _: Any) -> list[str]:  # noqa: ANN401
    return _said(sum(not _errors(one, value, root, at) for one in wanted) == 1, at, "oneOf")


def _all_of(wanted: Any, value: Any, root: Any, at: str, _: Any) -> list[str]:  # noqa: ANN401
    return [error for one in wanted for error in _errors(one, value, root, at)]


def _if(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> list[str]:  # noqa: ANN401
    branch = "else" if _errors(wanted, value, root, at) else "then"
    return _errors(schema.get(branch, True), value, root, at)


def _pattern(wanted: str, value: Any, _: Any, at: str, __: Any) -> list[str]:  # noqa: ANN401
    # In ECMA 262 `$` is the end; Python's stands before a last line feed too.
    pattern = re.sub(r"(?<!\\)\$", r"\\Z", wanted)
    return _said(not isinstance(value, str) or re.search(pattern, value) is not None, at, "pattern")


_RFC_3986 = r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*"
_FORMATS = {
    "uri": rf"[A-Za-z][A-Za-z0-9+.-]*:{_RFC_3986}",
    "uri-reference": _RFC_3986,
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)",
}


def _format(wanted: str, value: Any, _: Any, at: str, __: Any) -> list[str]:  # noqa: ANN401
    is_right = not isinstance(value, str) or re.fullmatch(_FORMATS[wanted], value) is not None
    return _said(is_right, at, "format")


def _of_number(keyword: str) -> Any:  # noqa: ANN401
    def judge(wanted: Any, value: Any, _: Any, at: str, __: Any) -> list[str]:  # noqa: ANN401
        if not _is("number", value):
            return []
        return _said(value >= wanted if keyword == "minimum" else value <= wanted, at, keyword)

    return judge


def _of_length(keyword: str, kind: str, is_least: bool) -> Any:  # noqa: ANN401
    def judge(wanted: Any, value: Any, _: Any, at: str, __: Any) -> list[str]:  # noqa: ANN401
        if not _is(kind, value):
            return []
        return _said(len(value) >= wanted if is_least else len(value) <= wanted, at, keyword)

    return judge


_KEYWORDS: dict[str, Any] = {
    "$ref": _ref,
    "type": _type,
    "enum": lambda wanted, value, _, at, __: _said(
        any(value == one and type(value) is type(one) for one in wanted), at, "enum"
    ),
    "const": lambda wanted, value, _, at, __: _said(value == wanted, at, "const"),
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "required": _required,
    "items": _items,
    "uniqueItems": _unique,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "allOf": _all_of,
    "if": _if,
    "then": lambda *_: [],
    "else": lambda *_: [],
    "not": lambda wanted, value, root, at, _: _said(bool(_errors(wanted, value, root, at)), at, "not"),
    "pattern": _pattern,
    "format": _format,
    "minimum": _of_number("minimum"),
    "maximum": _of_number("maximum"),
    "minLength": _of_length("minLength", "string", True),
    "maxLength": _of_length("maxLength", "string", False),
    "minItems": _of_length("minItems", "array", True),
    "maxItems": _of_length("maxItems", "array", False),
    "minProperties": _of_length("minProperties", "object", True),
}
