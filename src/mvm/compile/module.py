"""A module's declarations, in the order in which importing it would make them.

Owns where a declaration may stand: at the module's level, as a decorator of a function, or as
`mvm.workload(id=...)` on a line of its own. Must never pass over one that stands elsewhere.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mvm.compile.bindings import bindings_of
from mvm.compile.expression import DECLARING, Reader
from mvm.declare.program import EMPTY, declared, workload_id
from mvm.errors import Finding, PolicyRefused

if TYPE_CHECKING:
    from mvm.declare.program import Program

_ENCODING = re.compile(r"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
_UTF8 = ("utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii")
_EXAMPLE = 'write @mvm.app(name="agent", network=mvm.network(mode="none")) above a function'


def read_program(text: str, *, path: str) -> Program:
    """Read what a Python file declares; the file is not imported.

    Args:
        text: of the file.
        path: of the file, for findings and sources.

    Raises:
        PolicyRefused: with every finding; it declares nothing, is no Python, or a declaration is refused.
    """
    _require_utf8(text, path)
    try:
        module = ast.parse(text, path)
    except SyntaxError as error:
        source = f"{path}:{error.lineno or 1}:{error.offset or 1}"
        raise _no_python(error.msg, source) from None
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes, or nested too deeply
        raise _no_python(str(error) or "nested too deeply", path) from None
    try:
        return _Module(module, path).program()
    except RecursionError:
        raise _no_python("nested too deeply", path) from None


def _require_utf8(text: str, path: str) -> None:
    """Refuse a file that asks Python to read it in another encoding: importing would give another program."""
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n", 2)[:2]:
        named = _ENCODING.match(line)
        if named is not None and named[1].lower().replace("_", "-") not in _UTF8:
            raise _no_python(f"it says that it is {named[1]}, and is read as UTF-8", path)


def _no_python(why: str, source: str) -> PolicyRefused:
    found = Finding(
        code="not-python", path=".", message=f"the file is no Python: {why}", hint="correct it", source=source
    )
    return PolicyRefused([found])


class _Module:
    """One module being read: what is wrong with it is collected, and raised at the end."""

    def __init__(self, module: ast.Module, path: str) -> None:
        self._module, self._path = module, path
        self._reader = Reader(path, bindings_of(module))
        self._findings: list[Finding] = []
        self._placed: set[int] = set()
        self._program = EMPTY

    def program(self) -> Program:
        for statement in self._module.body:
            match statement:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    # Python applies decorators from the lowest up.
                    for decorator in reversed(statement.decorator_list):
                        self._try(decorator, statement)
                case ast.Expr(value=ast.Call() as call):
                    self._try(call, None)
        self._find_misplaced()
        self._findings += self._reader.changeable(self._module)
        if self._findings:
            raise PolicyRefused(self._findings)
        if self._program == EMPTY:
            found = Finding(
                code="declares-nothing",
                path=".",
                message="the file declares nothing",
                hint=_EXAMPLE,
                source=self._path,
            )
            raise PolicyRefused([found])
        return self._program

    def _try(self, node: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef | None) -> None:
        try:
            self._declare(node, function)
        except PolicyRefused as refusal:
            self._findings += refusal.findings

    def _declare(self, node: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef | None) -> None:
        called = node.func if isinstance(node, ast.Call) else node
        word = self._reader.word(called)
        if word is None or word not in DECLARING or (word == "workload") != (function is None):
            return
        self._placed.add(id(called))
        if not isinstance(node, ast.Call):
            raise self._reader.refused(node, "bad-call", f"`{word}` says nothing", _EXAMPLE)
        if function is None:
            self._program = self._added(
                node, self._program.with_workload, self._reader.called(node, word, workload_id)
            )
            return
        source = self._reader.source(node)
        made = self._reader.called(node, word, declared, function.name, source)
        add = self._program.with_app if word == "app" else self._program.with_function
        self._program = self._added(node, add, made)

    def _added(self, node: ast.Call, add: object, made: object) -> Program:
        try:
            return add(made)  # type: ignore[operator,no-any-return]
        except PolicyRefused as refusal:
            raise PolicyRefused(
                [found._replace(source=self._reader.source(node)) for found in refusal.findings]
            ) from None

    def _find_misplaced(self) -> None:
        """Find declarations that importing might make, or might not."""
        led = {id(node.value) for node in ast.walk(self._module) if isinstance(node, ast.Attribute)}
        for node in ast.walk(self._module):
            if not isinstance(node, ast.Name | ast.Attribute) or id(node) in self._placed:
                continue
            if isinstance(node, ast.Name) and id(node) not in led and self._reader.passes_on(node):
                message = f"`{node.id}` is handed on here, and what declares by it can't be told"
                hint = "write `import mvm` at the left margin, and its words as mvm.app(...)"
                self._findings += self._reader.refused(node, "unclear-name", message, hint).findings
                continue
            try:
                word = self._reader.word(node) or self._reader.word_elsewhere(node)
            except PolicyRefused:
                continue  # whoever uses the name is told
            if word in DECLARING:
                message = f"`{word}` stands where it may be run, or not"
                hint = "write it at the left margin: `workload` on its own line, others above a function"
                self._findings += self._reader.refused(node, "misplaced", message, hint).findings
