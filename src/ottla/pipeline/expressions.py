"""Expressions over a row: `dep_delay != None and carrier in ("UA", "AA")`.

The text is parsed by Python's own parser, every node of the tree is held against a short list of
what is allowed, names become look-ups in the row, and what is left is compiled once, so an
expression runs at the speed of a Python function. There are no attributes, no imports, no
comprehensions, no lambdas and no `**`, and only the functions of `functions.py` can be called: an
expression can compute, it cannot reach anything.

A name that the row does not have is an error of that row (`get("name")` gives None instead): a
mistyped column must not quietly filter everything away.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ottla.pipeline.functions import FUNCTIONS, Row, product, remainder
from ottla.pipeline.nodes import Node, nearest

AGGREGATES = ("count", "sum", "min", "max", "avg")

# Where the kinds of the values, which come with the data, decide what an operator does.
_GUARDED: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Mult: product,
    ast.Mod: remainder,
}
_CONSTANTS = {"true": True, "false": False, "null": None}
_ALLOWED: tuple[type[ast.AST], ...] = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.Is, ast.IsNot, ast.IfExp, ast.Constant, ast.Name, ast.Load, ast.Tuple, ast.List,
    ast.Subscript, ast.Slice, ast.Call,
)  # fmt: skip


class MissingColumn(KeyError):  # noqa: N818 - says what happened
    """The row does not have a column that the expression names."""

    def __init__(self, name: str, row: Row) -> None:
        super().__init__(name)
        self._hint = nearest(name, (column for column in row if not column.startswith("_")))

    def __str__(self) -> str:
        return f"the row has no column {self.args[0]!r}; {self._hint}"


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression: call it with a row. `shown` is as it was written, for people."""

    text: str
    columns: frozenset[str] = field(compare=False)
    function: Callable[[Row], Any] = field(compare=False, repr=False)
    shown: str = field(compare=False)

    def __call__(self, row: Row) -> Any:
        try:
            return self.function(row)
        except KeyError as error:
            name = error.args[0] if error.args else None
            if name in self.columns and name not in row:
                raise MissingColumn(name, row) from None
            raise


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One value of an aggregate: `sum(dep_delay)`; count() alone has no argument."""

    function: str
    argument: Expression | None

    @property
    def shown(self) -> str:
        return f"{self.function}({self.argument.shown if self.argument else ''})"


def compile_expression(node: Node) -> Expression:
    """Compile the text of `node`. Raises ConfigError at its place if it is not allowed."""
    text = node.text()
    return _compile(_parse(text, node), text, node, node.raw_text())


def compile_aggregation(node: Node) -> Aggregation:
    """Compile `count()`, `sum(x)`, `min(x)`, `max(x)` or `avg(x)`, with x any expression."""
    text = node.text()
    call = _parse(text, node).body
    form = f"one of {', '.join(f'{name}(…)' for name in AGGREGATES)} is needed here"
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.keywords:
        node.fail(f"{text!r}: {form}, such as sum(price * quantity)")
    name = call.func.id
    if name not in AGGREGATES:
        node.fail(f"{name!r} cannot aggregate; {nearest(name, AGGREGATES)}")
    wanted = (0, 1) if name == "count" else (1,)
    if len(call.args) not in wanted:
        node.fail(f"{text!r}: {name} takes one expression")
    if not call.args:
        return Aggregation(name, None)
    argument = ast.Expression(call.args[0])
    shown = node.raw_text().partition("(")[2].rpartition(")")[0].strip()
    return Aggregation(name, _compile(argument, ast.unparse(argument), node, shown))


def _parse(text: str, node: Node) -> ast.Expression:
    try:
        return ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        node.fail(f"{text!r} is not an expression: {error.msg} at character {error.offset}")


def _compile(tree: ast.Expression, text: str, node: Node, shown: str) -> Expression:
    translator = _Translator(text, node)
    body = translator.visit(tree.body)
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg("row")], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    wrapped = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, body)))
    # Safe to evaluate: the translator let through nothing but arithmetic and FUNCTIONS.
    scope = {"__builtins__": {}, **{f"_{name}": f for name, f in FUNCTIONS.items()}}
    scope |= {function.__name__: function for function in _GUARDED.values()}
    function = eval(compile(wrapped, f"<{shown}>", "eval"), scope)
    return Expression(text, frozenset(translator.columns), function, shown)


class _Translator(ast.NodeTransformer):
    """Lets through what is allowed, turns names into look-ups in the row."""

    def __init__(self, text: str, node: Node) -> None:
        self._text = text
        self._node = node
        self.columns: set[str] = set()

    def visit(self, tree: ast.AST) -> Any:
        if not isinstance(tree, _ALLOWED):
            self._refuse(f"{type(tree).__name__} is not allowed in an expression")
        return super().visit(tree)

    def visit_Name(self, tree: ast.Name) -> ast.AST:
        if tree.id in _CONSTANTS:
            return ast.Constant(_CONSTANTS[tree.id])
        self.columns.add(tree.id)
        return ast.Subscript(ast.Name("row", ast.Load()), ast.Constant(tree.id), ast.Load())

    def visit_BinOp(self, tree: ast.BinOp) -> ast.AST:
        guard = _GUARDED.get(type(tree.op))
        operands: list[ast.expr] = [self.visit(tree.left), self.visit(tree.right)]
        if guard is not None:
            return ast.Call(ast.Name(guard.__name__, ast.Load()), operands, [])
        self.visit(tree.op)
        return ast.BinOp(operands[0], tree.op, operands[1])

    def visit_Call(self, tree: ast.Call) -> ast.AST:
        if tree.keywords or not isinstance(tree.func, ast.Name):
            self._refuse("only the functions of an expression can be called, by position")
        name = tree.func.id
        arguments = [self.visit(argument) for argument in tree.args]
        if name in ("get", "has"):
            return self._look_up(name, tree, arguments)
        if name not in FUNCTIONS:
            self._refuse(f"there is no function {name!r}; {nearest(name, FUNCTIONS)}")
        return ast.Call(ast.Name(f"_{name}", ast.Load()), arguments, [])

    def _look_up(self, name: str, tree: ast.Call, arguments: list[ast.expr]) -> ast.AST:
        """get("column") or get("column", default), has("column")."""
        column = tree.args[0] if tree.args else None
        if not isinstance(column, ast.Constant) or not isinstance(column.value, str):
            self._refuse(f'{name} takes the name of a column in quotes: {name}("city")')
        row = ast.Name("row", ast.Load())
        if name == "has":
            return ast.Compare(arguments[0], [ast.In()], [row])
        return ast.Call(ast.Attribute(row, "get", ast.Load()), arguments[:2], [])

    def _refuse(self, reason: str) -> NoReturn:
        self._node.fail(f"{self._text!r}: {reason}")
