"""Small changes to a program, each of which a careless hand could have made."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Fault", "faults_in"]


@dataclass(frozen=True)
class Fault:
    """One change of one place.

    Attributes:
        path: of the file, from the root of the repository.
        kind: what was done.
        line: where the change is.
        lines: of the statement, or the function, that behaves differently; empty for what runs at import.
        start, end: of the text that is replaced, in characters.
        before, after: that text, and its replacement.
    """

    path: str
    kind: str
    line: int
    lines: frozenset[int]
    start: int
    end: int
    before: str
    after: str

    def put_into(self, source: str) -> str:
        """The faulty file."""
        return source[: self.start] + self.after + source[self.end :]


_OPPOSITES = ((ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE))
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {}
for _one, _other in _OPPOSITES:
    _COMPARISONS |= {_one: _other, _other: _one}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add}
_ARITHMETIC |= {ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult}
_ARITHMETIC |= {ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr}
_COPIES = {"dict", "list", "set", "tuple", "sorted", "reversed", "abs", "frozenset"}
_EMPTY = {"set": "set()", "frozenset": "frozenset()", "list": "[]", "dict": "{}", "tuple": "()", "Sequence": "()"}
_WORDS = ("cache_log", "logger", "warnings")  # what these are told is wording

Place = ast.expr | ast.stmt
Change = tuple[str, Place, str]  # kind, what is replaced, by what


def faults_in(path: str, source: str) -> list[Fault]:
    """All faults that can be put into one file, in the order of its text."""
    starts = [0]
    for text in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(text))

    def position(line: int, column: int) -> int:
        """Syntax trees count the bytes within a line."""
        text = source[starts[line - 1] : starts[line]].encode()
        return starts[line - 1] + len(text[:column].decode())

    faults = []
    for kind, node, after, lines in _Finder(ast.parse(source)).found:
        start = position(node.lineno, node.col_offset)
        end = position(node.end_lineno or 0, node.end_col_offset or 0)
        faults.append(Fault(path, kind, node.lineno, lines, start, end, source[start:end], after))
    return faults


class _Finder(ast.NodeVisitor):
    """Walks over what is executed: not over annotations, documentation, messages, and checks for the type checker."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[tuple[str, Place, str, frozenset[int]]] = []
        self._function: ast.FunctionDef | ast.AsyncFunctionDef | None = None
        self._statement: ast.stmt | None = None
        self.visit(tree)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, (ast.JoinedStr, ast.Assert, ast.Raise)) or _is_wording(node):
            if isinstance(node, ast.Raise):
                self._add("statement removed", node, "pass")
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._visit_function(node)
            return
        if isinstance(node, ast.ClassDef):  # without its decorators: `frozen` and the like guard against slips
            for statement in node.body:
                self.visit(statement)
            return
        outer = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node
        for rule in _RULES:
            for kind, place, after in rule(node):
                self._add(kind, place, after)
        if isinstance(node, ast.Return) and self._function is not None:
            for kind, place, after in _emptied(node, self._function):
                self._add(kind, place, after)
        if isinstance(node, ast.keyword) and node.arg == "strict":  # lengths that are equal anyway
            return
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.visit(node.value)
        elif not _is_declaration(node):
            self.generic_visit(node)
        self._statement = outer

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer = self._function, self._statement
        self._function, self._statement = node, None
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)):
            for _, place, after in _constants(default):
                self._add("default changed", place, after)
        for statement in node.body:
            self.visit(statement)
        self._function, self._statement = outer

    def _add(self, kind: str, node: Place, after: str) -> None:
        if ast.dump(ast.parse(ast.unparse(node))) != ast.dump(ast.parse(after)):
            self.found.append((kind, node, after, self._lines()))

    def _lines(self) -> frozenset[int]:
        """Of the statement; of the whole function for a default, as that is evaluated elsewhere."""
        if self._function is None:
            return frozenset()
        if self._statement is None:
            return frozenset(range(self._function.body[0].lineno, _end(self._function) + 1))
        if isinstance(self._statement, (ast.If, ast.While, ast.For, ast.With, ast.Try)):
            last = self._statement.body[0].lineno - 1  # only the head: a test that gets there has executed it
        else:
            last = _end(self._statement)
        return frozenset(range(self._statement.lineno, max(last, self._statement.lineno) + 1))


def _comparison(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            changed = copy.deepcopy(node)
            changed.ops[i] = _COMPARISONS[type(operator)]()
            yield "comparison changed", node, _text(changed)


def _conditions(node: ast.AST) -> Iterator[Change]:
    tests: list[ast.expr] = []
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        tests = [node.test]
    elif isinstance(node, ast.comprehension):
        tests = node.ifs
    for test in tests:
        yield "condition negated", test, f"(not ({ast.unparse(test)}))"
        yield "branch never taken", test, "False"
        if not isinstance(node, ast.While):
            yield "branch always taken", test, "True"


def _logic(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.BoolOp):
        other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield "and for or", node, _text(ast.BoolOp(other, node.values))
        for i in range(len(node.values)):
            rest = [v for j, v in enumerate(node.values) if j != i]
            yield "operand removed", node, _text(rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield "sign or negation removed", node, _text(node.operand)


def _constants(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant changed", node, str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield "constant moved by one", node, repr(node.value + 1)


def _arithmetic(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        yield "operator changed", node, _text(ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right))
        if isinstance(node.op, (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)):
            yield "operands swapped", node, _text(ast.BinOp(node.right, node.op, node.left))


def _calls(node: ast.AST) -> Iterator[Change]:
    if not isinstance(node, ast.Call):
        return
    plain = [a for a in node.args if not isinstance(a, ast.Starred)]
    if len(plain) == len(node.args) >= 2 and not _is_named(
        node.func, "isinstance", "getattr", "hasattr", "cast", "zip"
    ):
        changed = copy.deepcopy(node)
        changed.args[:2] = changed.args[1::-1]
        yield "arguments swapped", node, _text(changed)
    if len(node.args) == 1 and not node.keywords and _is_named(node.func, *_COPIES):
        yield "call removed", node, _text(node.args[0])
    for i, keyword in enumerate(node.keywords):
        if keyword.arg not in (None, "strict"):
            changed = copy.deepcopy(node)
            del changed.keywords[i]
            yield "keyword removed", node, _text(changed)


def _statements(node: ast.AST) -> Iterator[Change]:
    documentation = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if isinstance(node, (ast.Expr, ast.AugAssign, ast.Continue, ast.Break, ast.Delete)) and not documentation:
        yield "statement removed", node, "pass"
    if isinstance(node, ast.Return) and node.value is not None:
        yield "statement removed", node, "pass"


def _emptied(node: ast.Return, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Change]:
    """A result that says less, where the function declares what kind of result it has."""
    if node.value is None or function.returns is None or ast.unparse(node.value) == "None":
        return
    declared = ast.unparse(function.returns)
    empty = _EMPTY.get(declared.partition("[")[0])
    if declared == "bool":
        yield "result negated", node.value, f"(not ({ast.unparse(node.value)}))"
    elif declared.endswith("| None"):
        yield "result dropped", node.value, "None"
    elif empty and not (declared.startswith("tuple[") and "..." not in declared):
        yield "result emptied", node.value, empty


_RULES: tuple[Callable[[ast.AST], Iterator[Change]], ...] = (
    *(_comparison, _conditions, _logic, _constants, _arithmetic, _calls, _statements),
)


def _text(node: ast.expr) -> str:
    return f"({ast.unparse(ast.fix_missing_locations(node))})"


def _is_named(function: ast.expr, *names: str) -> bool:
    return isinstance(function, ast.Name) and function.id in names


def _is_wording(node: ast.AST) -> bool:
    """A call that only tells somebody something."""
    if isinstance(node, ast.Call):
        owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        return isinstance(owner, ast.Name) and owner.id in _WORDS
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _is_wording(node.value)


def _is_declaration(node: ast.AST) -> bool:
    """``__all__``, type aliases, and what is for type checkers only."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        union = isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr)
        return node.targets[0].id == "__all__" or union or isinstance(node.value, ast.Subscript)
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno
