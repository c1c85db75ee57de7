"""Small faults, one at a time, in a module's functions: how they are made and put into use.

A mutant is a new code object for one function or method. `put_in` gives it to the function that is
there already, wherever that was imported, so that nothing has to be written or imported again.
Module constants and default arguments stay as they are.
"""

from __future__ import annotations

import ast
import gc
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import CodeType, FunctionType

__all__ = ["Mutant", "mutants", "mutated", "put_in"]

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_LOGGED = {"debug", "info", "warning", "error", "exception"}
"""Of a logger: what is only logged is not mutated, and neither are errors' texts."""


_SWAP = "swapped with the next statement"


@dataclass(frozen=True)
class Mutant:
    """One fault that can be put into a module."""

    path: str
    function: str
    """Qualified name of the outermost function around it."""
    line: int
    what: str
    text: str
    """The source of what it changes."""
    number: int
    """Of the syntax node, in the order of `ast.walk`."""


def mutants(source: str, path: str) -> list[Mutant]:
    """Every mutant of a module. `path` must be the module's file."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for number, node in enumerate(ast.walk(tree)):
        faults = [what for what in _faults(node) if what != _SWAP or _has_next(node, parents)]
        function = _function_around(node, parents) if faults else None
        if function is not None:
            line = node.lineno  # type: ignore[attr-defined]
            found += [Mutant(path, function, line, what, _shown(node), number) for what in faults]
    return found


def put_in(mutant: Mutant, source: str) -> int:
    """Give the mutant's code to its function, wherever that is; returns how many there are."""
    before = _codes(compile(source, mutant.path, "exec"))[mutant.function]
    live = [
        f
        for f in gc.get_objects()
        if isinstance(f, FunctionType)
        and f.__code__.co_filename == mutant.path
        and f.__code__.co_qualname == before.co_qualname
        and f.__code__.co_firstlineno == before.co_firstlineno
    ]
    code = mutated(mutant, source)
    for function in live:
        function.__code__ = code
    return len(live)


def mutated(mutant: Mutant, source: str) -> CodeType:
    """The code of the mutant's function."""
    tree = ast.parse(source)
    _apply(tree, next(islice(ast.walk(tree), mutant.number, None)), mutant.what)
    return _codes(compile(ast.fix_missing_locations(tree), mutant.path, "exec"))[mutant.function]


def _faults(node: ast.AST) -> Iterator[str]:
    """What can go wrong at a node. The name says all that `_apply` needs."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
        yield "other comparison"
    elif isinstance(node, ast.BoolOp):
        yield "and for or, or for and"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped"
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED and not _is_text(node):
        yield "other operator"
    elif isinstance(node, ast.Constant) and type(node.value) in {int, float}:
        yield "constant + 1"
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "constant negated"
    elif isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(
        node.test, ast.Compare | ast.Constant
    ):
        yield "condition negated"
    elif isinstance(node, ast.Try) and node.handlers:
        yield "handlers dropped"
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "None returned"
    elif _is_droppable(node):
        yield "statement dropped"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Await | ast.Call):
        yield _SWAP


def _has_next(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    blocks = (value for _, value in ast.iter_fields(parents[node]) if isinstance(value, list))
    return any(node in block[:-1] for block in blocks)


def _is_droppable(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant | ast.Yield)
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Attribute)
    return isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete)


def _apply(tree: ast.Module, node: ast.AST, what: str) -> None:
    match node, what:
        case ast.Compare(), _:
            node.ops[0] = _COMPARED[type(node.ops[0])]()
        case ast.BoolOp(), _:
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.UnaryOp(), _:
            _replace(tree, node, node.operand)
        case ast.BinOp(), _:
            node.op = _COMPUTED[type(node.op)]()
        case ast.Constant(), "constant + 1":
            node.value += 1  # type: ignore[operator]
        case ast.Constant(), _:
            node.value = not node.value
        case ((ast.If() | ast.While() | ast.IfExp()), _):
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.Try(), _:
            node.handlers = []
            node.finalbody = node.finalbody or [ast.Pass()]
            node.body, node.orelse = node.body + node.orelse, []
        case ast.Return(), _:
            node.value = ast.Constant(None)
        case ast.stmt(), str(fault) if fault == _SWAP:
            block, at = _block_of(tree, node)
            block[at : at + 2] = reversed(block[at : at + 2])
        case ast.stmt(), _:
            block, at = _block_of(tree, node)
            block[at] = ast.Pass()


def _function_around(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str | None:
    """The outermost function around a node. None where nothing is mutated: outside of functions, in
    signatures and annotations, in what is logged, and in an error's text."""
    names: list[str] = []
    in_function = False
    while node in parents:
        parent = parents[node]
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Expr) and _tells(node.value)):
            return None
        if isinstance(parent, ast.Raise):
            return None
        if isinstance(parent, ast.AnnAssign) and node is not parent.value:
            return None
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef):
            if node not in parent.body:
                return None
            names, in_function = [parent.name], True
        elif isinstance(parent, ast.ClassDef):
            names = [parent.name, *names]
        node = parent
    return ".".join(names) if in_function else None


def _tells(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in _LOGGED
        and isinstance(value.func.value, ast.Name)
    )


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, str))
        for n in (node.left, node.right)
    )


def _block_of(tree: ast.AST, statement: ast.AST) -> tuple[list[ast.stmt], int]:
    for node in ast.walk(tree):
        for _, block in ast.iter_fields(node):
            if isinstance(block, list):
                for at, one in enumerate(block):
                    if one is statement:
                        return block, at
    raise AssertionError("a statement is in a block")


def _replace(tree: ast.AST, old: ast.expr, new: ast.expr) -> None:
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new)
            elif isinstance(value, list) and any(one is old for one in value):
                value[next(i for i, one in enumerate(value) if one is old)] = new


def _codes(module: CodeType) -> dict[str, CodeType]:
    """The functions and methods of a module by qualified name; none that are inside others."""
    found: dict[str, CodeType] = {}
    for code in (c for c in module.co_consts if isinstance(c, CodeType)):
        if code.co_flags & inspect.CO_OPTIMIZED:  # a class body's are not
            found[code.co_qualname] = code
        else:
            found.update(_codes(code))
    return found


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else text[:67] + "..."
