"""The value of an expression in a declaration, found without running anything but mvm's own words.

Owns the subset (the head of the package) and the place of every refusal: `FILE:LINE:COLUMN`. Must never call
anything that is no word of `mvm.declare`, nor build more than a policy needs: a list of lists that
are one and the same counts at its full size.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING

from mvm.declare import network, profile, program
from mvm.errors import Finding, PolicyRefused
from mvm.policy.model import Grant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mvm.compile.bindings import Bindings

_LONGEST_TEXT = 1 << 16
_LARGEST_NUMBER = 2**53  # RFC 8259 section 6: beyond it JSON's readers differ
_MOST = 1 << 20
_TEXT_A_VALUE = 16

WORDS: dict[str, Callable[..., object]] = {
    word.__name__: word
    for word in (
        network.network, network.egress, network.egress_preset, network.host_port, network.subdomains,
        network.dns_none, network.dns_system, network.dns_resolver, network.dns_static,
        program.resources, program.python_image, program.nix_flake, program.directory, program.secret,
        profile.browser_profile,
    )
}  # fmt: skip
"""What a declaration may call."""

DECLARING = ("app", "func", "workload")
"""The words that declare; each has its place at the module's level."""


class Reader:
    """The expressions of one module.

    Args:
        path: of the file, for people.
        bindings: what its names mean.
    """

    def __init__(self, path: str, bindings: Bindings) -> None:
        self._path, self._bindings = path, bindings
        self._known: dict[str, object] = {}
        self._read: dict[str, list[ast.Name]] = {}
        self._built = 0
        self._sizes: dict[str, int] = {}

    def source(self, node: ast.AST) -> str:
        """Say where something stands: `FILE:LINE:COLUMN`, both from 1."""
        assert isinstance(node, ast.expr | ast.stmt), "what is refused has a place"
        return f"{self._path}:{node.lineno}:{node.col_offset + 1}"

    def refused(self, node: ast.AST, code: str, message: str, hint: str, path: str = ".") -> PolicyRefused:
        """Make the error that refuses an expression."""
        found = Finding(code=code, path=path, message=message, hint=hint, source=self.source(node))
        return PolicyRefused([found])

    def word(self, node: ast.expr) -> str | None:
        """Name the word of mvm that an expression means, or None where it means none."""
        words = self._bindings.words
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=word) if words.get(name) == "":
                pass
            case ast.Name(id=name) if words.get(name):
                word = words[name]
            case _:
                return None
        if name in self._bindings.unsafe:
            message = f"{name!r} may not mean mvm's word here: {self._bindings.unsafe[name]}"
            raise self.refused(node, "unclear-name", message, "give it a name of its own")
        return word

    def word_elsewhere(self, node: ast.expr) -> str | None:
        """Name the word that an expression means by an import that is not read, or None."""
        elsewhere = self._bindings.elsewhere
        match node:
            case ast.Attribute(attr=word) if word in DECLARING and self._leads_inside(node.value):
                return word
            case ast.Name(id=name):
                return elsewhere.get(name)
        return None

    def _leads_inside(self, node: ast.expr) -> bool:
        """Tell whether an expression is a module inside of mvm: `mvm.declare.registry`."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self._bindings.elsewhere

    def passes_on(self, node: ast.Name) -> bool:
        """Tell whether the package itself stands here, as a value that other code may have."""
        return isinstance(node.ctx, ast.Load) and self._bindings.elsewhere.get(node.id) == ""

    def arguments(self, call: ast.Call) -> tuple[list[object], dict[str, object]]:
        """Find the values that a word is called with.

        Raises:
            PolicyRefused: one can't be read.
        """
        hint = "write each argument out"
        values = []
        for argument in call.args:
            if isinstance(argument, ast.Starred):
                raise self.refused(argument, "not-literal", "`*` takes arguments from elsewhere", hint)
            values.append(self.value(argument))
        named = {}
        for keyword in call.keywords:
            if keyword.arg is None:
                raise self.refused(keyword.value, "not-literal", "`**` takes arguments from elsewhere", hint)
            named[keyword.arg] = self.value(keyword.value)
        return values, named

    def called(self, call: ast.Call, name: str, word: Callable[..., object], *first: object) -> object:
        """Call a word with what stands in its parentheses.

        Args:
            call: where it stands.
            name: the word.
            word: what it means.
            first: arguments that stand elsewhere.

        Raises:
            PolicyRefused: it has no such arguments, or refuses them; each finding has this place, unless a
                word inside of it has one already.
        """
        values, named = self.arguments(call)
        try:
            inspect.signature(word).bind(*first, *values, **named)
        except TypeError as error:
            hint = f"`help(mvm.{name})` says what it takes"
            raise self.refused(call, "bad-call", f"{name}: {error}", hint) from None
        try:
            return word(*first, *values, **named)
        except PolicyRefused as refusal:
            raise PolicyRefused([self._placed(finding, call) for finding in refusal.findings]) from None

    def _placed(self, finding: Finding, call: ast.Call) -> Finding:
        inner = finding.source.startswith(f"{self._path}:")
        return finding if inner else finding._replace(source=self.source(call))

    def value(self, node: ast.expr) -> object:
        """Find the value of an expression.

        Raises:
            PolicyRefused: it is not of the subset, or a word refuses what it is given.
        """
        self._count(node, 1)
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as constant):
                return self._plain(node, constant)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                self._plain(node, number)
                return -number
            case ast.List(elts=items):
                return [self.value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self.value(item) for item in items)
            case ast.Dict(keys=keys, values=values) if None not in keys:
                return self._dictionary([key for key in keys if key is not None], values)
            case ast.JoinedStr(values=parts):
                return self._text(node, parts)
            case ast.Name(id=name):
                return self._constant(node, name)
            case ast.Call(func=function):
                return self._of_word(node, function)
        message = f"`{_shown(node)}` can't be read without running it"
        hint = "write a literal, a constant of this module, a list, a dictionary, or an f-string of these"
        raise self.refused(node, "not-literal", message, hint)

    def _plain(self, node: ast.expr, constant: float | str | None) -> float | str | None:
        """Take a literal, if it is one that every reader of the canonical JSON reads alike."""
        hint = "no policy needs it"
        if isinstance(constant, str):
            self._count(node, len(constant) // _TEXT_A_VALUE)
            if any("\ud800" <= character <= "\udfff" for character in constant):
                raise self.refused(node, "not-literal", "half of a surrogate pair is no text", hint)
        elif constant is not None and not -_LARGEST_NUMBER <= constant <= _LARGEST_NUMBER:
            raise self.refused(node, "not-literal", "the number is too large", hint)
        return constant

    def _count(self, node: ast.expr, built: int) -> None:
        self._built += built
        if self._built > _MOST:
            raise self.refused(node, "too-long", "the values are too many", "no policy needs so many")

    def _dictionary(self, keys: list[ast.expr], values: list[ast.expr]) -> dict[str, object]:
        made: dict[str, object] = {}
        for key, value in zip(keys, values, strict=True):
            name = self.value(key)
            if not isinstance(name, str):
                raise self.refused(key, "not-literal", f"{name!r} is no text", "write keys as text")
            if name in made:
                raise self.refused(key, "duplicate-key", f"{name!r} stands twice", "keep one of them")
            made[name] = self.value(value)
        return made

    def _text(self, node: ast.expr, parts: Iterable[ast.expr]) -> str:
        made = ""
        for part in parts:
            match part:
                case ast.Constant(value=str(text)):
                    made += text
                case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
                    found = self.value(inner)
                    if not isinstance(found, str | int | float):
                        raise self.refused(node, "not-literal", "this is no text or number", "write it out")
                    made += str(found)
                case _:
                    message = "an f-string here has no format"
                    raise self.refused(node, "not-literal", message, "write the text out")
            if len(made) > _LONGEST_TEXT:
                raise self.refused(node, "too-long", "the text is too long", "no policy needs so much")
        return made

    def _constant(self, node: ast.Name, name: str) -> object:
        self._read.setdefault(name, []).append(node)
        if name in self._bindings.unsafe:
            message = f"what {name!r} is can't be told: {self._bindings.unsafe[name]}"
            raise self.refused(node, "unclear-name", message, "bind it once, and nowhere else")
        constant = self._bindings.constants.get(name)
        if constant is None:
            message = f"{name!r} is no constant of this module"
            raise self.refused(node, "not-literal", message, f"write {name} = ... above, or the value itself")
        if constant.line >= node.lineno:
            message = f"{name!r} is bound below, in line {constant.line}"
            raise self.refused(node, "unbound-name", message, "move it above")
        if name in self._known:
            self._count(node, self._sizes[name])
        else:
            before = self._built
            self._known[name] = self.value(constant.value)
            self._sizes[name] = self._built - before
        return self._known[name]

    def _of_word(self, call: ast.Call, function: ast.expr) -> object:
        word = self.word(function)
        if word in DECLARING:
            message = f"`{word}` declares, and is no value"
            raise self.refused(call, "misplaced", message, "write it above a function, with an @")
        if word not in WORDS:
            message = f"`{_shown(function)}` is no word of mvm, and is not called"
            raise self.refused(call, "not-literal", message, "write what it gives")
        made = self.called(call, word, WORDS[word])
        if isinstance(made, Grant):
            return replace(made, source=f"{self._path}:{call.lineno}")
        return made

    def changeable(self, module: ast.Module) -> Iterable[Finding]:
        """Find constants that were read, are lists or dictionaries, and are in reach of other code too."""
        loads: dict[str, list[ast.Name]] = {}
        for node in ast.walk(module):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                loads.setdefault(node.id, []).append(node)
        for name in self._read:
            constant = self._bindings.constants.get(name)
            if constant is None or not _is_mutable(self._known.get(name)):
                continue
            ours = {id(node) for node in self._read[name]}
            other = next((node for node in loads[name] if id(node) not in ours), None)
            if other is not None:
                message = f"{name!r} stands in a declaration, and this could change it"
                hint = f"write {name} as a tuple, or give the declaration a list of its own"
                yield from self.refused(other, "changeable-constant", message, hint).findings


def _is_mutable(value: object) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_mutable, value))
    return isinstance(value, list | dict)


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:57]}..."
