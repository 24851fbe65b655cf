"""What must hold among parameters, in a language of its own: comparisons, arithmetic, and, or, not, min, max, abs.

Python's own parser reads it, and what it read is walked through node by node: nothing of the text is ever executed. A
text is short, a tree is shallow, and no operation makes numbers grow faster than multiplying does.
"""

import ast
import dataclasses
import itertools
import operator
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from kubetune.api.parameters import Categorical, InvalidSpec, Parameter, Params

LENGTH = 256  # characters
DEPTH = 16  # of what stands in what
Kind: TypeAlias = Literal["number", "text", "truth"]

_ARITHMETIC: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Mapping[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
_HELP = "write for example hidden >= heads * 16, with + - * / // %, comparisons, and, or, not, min, max, abs"


@dataclasses.dataclass(frozen=True)
class Expression:
    """A condition, read and found to be in the language."""

    text: str
    tree: ast.expr = dataclasses.field(compare=False, repr=False)
    names: frozenset[str]

    def holds(self, params: Params) -> bool:
        """Whether it is true of these. One that names a parameter which the trial does not have asks for nothing; one
        that cannot be worked out (a division by zero) is not true."""
        if not self.names <= params.keys():
            return True
        try:
            return bool(_value(self.tree, params))
        except (ArithmeticError, TypeError):
            return False


def read(text: str, field: str) -> Expression:
    """Raises InvalidSpec: it is not in the language."""
    if len(text) > LENGTH:
        raise InvalidSpec(field, f"it has {len(text)} characters, of at most {LENGTH}; make several conditions of it")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InvalidSpec(field, f"{text!r} cannot be read; {_HELP}") from None
    if _depth(tree) > DEPTH:
        raise InvalidSpec(field, f"{text!r} is nested more than {DEPTH} deep; make several conditions of it")
    _allowed(tree, text, field)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - set(_FUNCTIONS)
    return Expression(text, tree, frozenset(names))


def check(expression: Expression, parameters: Mapping[str, Parameter], field: str) -> None:
    """Raises InvalidSpec: it names what is no parameter, or says what makes no sense of these."""
    if not expression.names:
        raise InvalidSpec(field, f"{expression.text!r} names no parameter; {_HELP}")
    for name in sorted(expression.names):
        if name not in parameters:
            raise InvalidSpec(field, f"there is no parameter {name}; there are {', '.join(sorted(parameters))}")
    if _kind(expression.tree, parameters, field) != "truth":
        raise InvalidSpec(field, f"{expression.text!r} is no condition, since it compares nothing; {_HELP}")


def _depth(node: ast.AST) -> int:
    """Without recursion: the tree may be as deep as the parser allows."""
    deepest, left = 0, [(node, 1)]
    while left:
        one, depth = left.pop()
        deepest = max(deepest, depth)
        left += [(child, depth + 1) for child in ast.iter_child_nodes(one) if isinstance(child, ast.expr)]
    return deepest


def _allowed(tree: ast.expr, text: str, field: str) -> None:
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, _NODES) or not _fine(node, id(node) in functions):
            raise InvalidSpec(field, f"{text!r} has something that is not in the language; {_HELP}")


def _fine(node: ast.AST, called: bool) -> bool:
    if isinstance(node, ast.Name):
        return (node.id in _FUNCTIONS) == called
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | str) or (isinstance(node.value, int | float) and abs(node.value) <= 1e300)
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and not node.keywords
        return named and (len(node.args) > 1) != (isinstance(node.func, ast.Name) and node.func.id == "abs")
    return True


_NODES = (
    *(ast.Name, ast.Load, ast.Constant, ast.Call, ast.Compare, ast.BinOp, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp),
    *(ast.Not, ast.USub, ast.UAdd),
    *_ARITHMETIC,
    *_COMPARISONS,
)


def _kind(node: ast.expr, parameters: Mapping[str, Parameter], field: str) -> Kind:
    """What comes out of it, if what goes in makes sense."""

    def all_are(nodes: list[ast.expr], kind: Kind) -> None:
        for each in nodes:
            if _kind(each, parameters, field) != kind:
                raise InvalidSpec(field, f"{ast.unparse(each)} is no {kind} in {ast.unparse(node)}; {_HELP}")

    if isinstance(node, ast.Name):
        return _kind_of(parameters[node.id])
    if isinstance(node, ast.Constant):
        return "truth" if isinstance(node.value, bool) else "text" if isinstance(node.value, str) else "number"
    if isinstance(node, ast.Compare):
        first = _kind(node.left, parameters, field)
        equal_only = all(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops)
        all_are(node.comparators, first)
        if first != "number" and not equal_only:
            raise InvalidSpec(field, f"{ast.unparse(node)}: only numbers have an order; use == or !=")
        return "truth"
    if isinstance(node, ast.BoolOp):
        all_are(node.values, "truth")
        return "truth"
    if isinstance(node, ast.UnaryOp):
        kind: Kind = "truth" if isinstance(node.op, ast.Not) else "number"
        all_are([node.operand], kind)
        return kind
    assert isinstance(node, ast.BinOp | ast.Call)
    all_are([node.left, node.right] if isinstance(node, ast.BinOp) else node.args, "number")
    return "number"


def _kind_of(parameter: Parameter) -> Kind:
    if not isinstance(parameter, Categorical):
        return "number"
    first = parameter.choices[0]
    return "truth" if isinstance(first, bool) else "text" if isinstance(first, str) else "number"


def _value(node: ast.expr, params: Params) -> Any:
    if isinstance(node, ast.Name):
        return params[node.id]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BoolOp):
        values = (_value(each, params) for each in node.values)
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.Compare):
        sides = [_value(each, params) for each in (node.left, *node.comparators)]
        return all(_COMPARISONS[type(op)](*pair) for op, pair in zip(node.ops, itertools.pairwise(sides), strict=True))
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, params)
        return not value if isinstance(node.op, ast.Not) else -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](_value(node.left, params), _value(node.right, params))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    return _FUNCTIONS[node.func.id](*(_value(each, params) for each in node.args))
