"""An expression's tokens become a tree, by precedence climbing (Pratt, 1973).

Each recursion is a level of nesting, and levels are limited, so no text exhausts the stack. What is
long but flat (`a + b + c ...`) is one node.
"""

from __future__ import annotations

from typing import Final

from streams.rules.catalogue import Kind
from streams.rules.problems import Fault, quoted
from streams.rules.tokens import Token, Type, tokens
from streams.rules.tree import (
    Between,
    Call,
    Chain,
    Compare,
    In,
    Literal,
    Logic,
    Name,
    Negative,
    Node,
    Not,
    children,
)

__all__ = ["FUNCTIONS", "MAX_DEPTH", "RESERVED", "parsed"]

MAX_DEPTH: Final = 50
FUNCTIONS: Final = {"rank": (1, 1), "known": (1, 1), "min": (2, 8), "max": (2, 8), "if": (3, 3)}
"""Function -> how many arguments it takes, at least and at most."""
_WORDS: Final = ("and", "or", "not", "in", "between", "true", "false")
RESERVED: Final = frozenset({*_WORDS, *FUNCTIONS})
_COMPARISONS: Final = ("<=", ">=", "==", "!=", "<", ">", "in", "between")
_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _UNARY = range(1, 8)
_BINDS: Final = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys((*_COMPARISONS, "not"), _COMPARE),
    **dict.fromkeys("+-", _SUM),
    **dict.fromkeys("*/", _PRODUCT),
}
_KINDS: Final = {
    Type.NUMBER: Kind.NUMBER,
    Type.SHARE: Kind.SHARE,
    Type.DURATION: Kind.DURATION,
    Type.MONEY: Kind.MONEY,
}
_SIMPLER: Final = "give parts of it names of their own under `values` or `segments`"


def parsed(text: str) -> Node:
    """The tree of an expression, at most 50 levels deep. Raises Fault where it can't be read."""
    parser = _Parser(text)
    if parser.token.type is Type.END:
        raise Fault(0, len(text), "the expression is empty", "write a condition, or `false`")
    tree = parser.expression(0)
    token = parser.token
    if token.type is not Type.END:
        raise _unexpected(token, "after the end of the expression", _after_end(token))
    if (depth := _depth(tree)) > MAX_DEPTH:
        raise Fault(0, len(text), f"the expression is nested {depth} levels deep, and {MAX_DEPTH}"
                    " are allowed", _SIMPLER)  # fmt: skip
    return tree


def _depth(tree: Node) -> int:
    """Levels of a tree, counted without recursion."""
    level, depth = [tree], 0
    while level:
        level, depth = [child for node in level for child in children(node)], depth + 1
    return depth


class _Parser:
    """A place in the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.tokens = tokens(text)
        self.at = 0
        self.levels = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        token = self.token
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def sees(self, *words: str) -> bool:
        """Whether the token is one of these signs or words."""
        return self.token.type in (Type.SIGN, Type.NAME) and self.token.text in words

    def expect(self, word: str, why: str) -> Token:
        if not self.sees(word):
            raise _unexpected(self.token, why, f"write `{word}` there")
        return self.next()

    def expression(self, binding: int) -> Node:
        """What binds more tightly than `binding`, from the present token on."""
        self.levels += 1
        if self.levels > MAX_DEPTH:
            what = f"the expression is nested more than {MAX_DEPTH} levels deep"
            raise Fault(self.token.start, self.token.end, what, _SIMPLER)
        left = self._prefix()
        while (binds := self._binds()) > binding:
            left = self._infix(left, binds)
        self.levels -= 1
        return left

    def _binds(self) -> int:
        return _BINDS.get(self.token.text, 0) if self.token.type in (Type.SIGN, Type.NAME) else 0

    def _prefix(self) -> Node:
        token = self.next()
        if token.type in _KINDS:
            currency = token.text if token.type is Type.MONEY else ""
            return Literal(token.start, token.end, _KINDS[token.type], token.value, currency)
        if token.type is Type.TEXT:
            return Literal(token.start, token.end, Kind.CHOICE, token.text)
        if token.type is Type.NAME:
            return self._name(token)
        if token.text == "(":
            inner = self.expression(0)
            self.expect(")", "where the parenthesis should end")
            return inner
        if token.text == "-":
            inner = self.expression(_UNARY)
            return Negative(token.start, inner.end, inner)
        raise _unexpected(token, "where a name, a number or `(` should be", _before_value(token))

    def _name(self, token: Token) -> Node:
        if token.text == "not":
            inner = self.expression(_NOT)
            return Not(token.start, inner.end, inner)
        if token.text in ("true", "false"):
            return Literal(token.start, token.end, Kind.FLAG, token.text == "true")
        if self.sees("("):
            return self._call(token)
        if token.text in RESERVED:
            raise _unexpected(token, "where a name or number should be", _before_value(token))
        return Name(token.start, token.end, token.text)

    def _call(self, token: Token) -> Call:
        if token.text not in FUNCTIONS:
            raise Fault(token.start, token.end, f"there is no function {quoted(token.text)}",
                        f"the functions are {', '.join(FUNCTIONS)}")  # fmt: skip
        arguments, end = self._list(f"where the arguments of `{token.text}` should end")
        least, most = FUNCTIONS[token.text]
        if not least <= len(arguments) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            raise Fault(token.start, end, f"`{token.text}` has {len(arguments)} arguments",
                        f"give it {count}")  # fmt: skip
        return Call(token.start, end, token.text, arguments)

    def _list(self, why: str) -> tuple[tuple[Node, ...], int]:
        """`(a, b, ...)`, and where it ends."""
        self.expect("(", "where a list should begin")
        items = [self.expression(0)]
        while self.sees(","):
            self.next()
            items.append(self.expression(0))
        return tuple(items), self.expect(")", why).end

    def _infix(self, left: Node, binds: int) -> Node:
        if binds in (_OR, _AND):
            word = self.token.text
            items = [left]
            while self.sees(word):
                self.next()
                items.append(self.expression(binds))
            return Logic(left.start, items[-1].end, word, tuple(items))
        if binds in (_SUM, _PRODUCT):
            rest: list[tuple[str, Node]] = []
            while self._binds() == binds:
                sign = self.next().text
                rest.append((sign, self.expression(binds)))
            return Chain(left.start, rest[-1][1].end, left, tuple(rest))
        return self._comparison(left)

    def _comparison(self, left: Node) -> Node:
        token = self.next()
        negated = token.text == "not"
        if negated:
            if not self.sees("in", "between"):
                raise _unexpected(self.token, "after `not`", "write `not in` or `not between`, or"
                                  " `and not`")  # fmt: skip
            token = self.next()
        node: Node
        if token.text == "in":
            items, end = self._list("where the list after `in` should end")
            node = In(left.start, end, left, items, negated)
        elif token.text == "between":
            low = self.expression(_COMPARE)
            self.expect("and", "in `between A and B`")
            high = self.expression(_COMPARE)
            node = Between(left.start, high.end, left, low, high, negated)
        else:
            right = self.expression(_COMPARE)
            node = Compare(left.start, right.end, token.text, left, right)
        if self.sees(*_COMPARISONS):
            raise Fault(self.token.start, self.token.end, "comparisons can't be chained",
                        "write `a < b and b < c`, or `b between a and c`")  # fmt: skip
        return node


def _unexpected(token: Token, where: str, fix: str) -> Fault:
    if token.type is Type.END:
        return Fault(token.start, token.end, f"the expression ends {where}", fix)
    return Fault(token.start, token.end, f"unexpected {quoted(token.text)} {where}", fix)


def _before_value(token: Token) -> str:
    if token.text in ("<", ">", "<=", ">=", "==", "!="):
        return "write one comparison sign between two values"
    if token.type is Type.END:
        return "complete it, or delete the last word"
    return "delete it, or write what it should apply to before it"


def _after_end(token: Token) -> str:
    lower = token.text.lower()
    if lower != token.text and lower in RESERVED:
        return f"write `{lower}` in lower case"
    if token.text == ",":
        return "write `and` or `or` between conditions, and numbers without commas: 1000"
    if token.text == ")":
        return "delete it, or write `(` before"
    if lower in ("days", "day", "weeks", "week", "hours", "hour", "minutes", "d", "w", "h", "m"):
        return "write a duration without a space, such as `30d`, `4w`, `2h` or `10m`"
    if lower in ("contains", "like", "is", "matches"):
        return 'compare with `==`, `!=` or `in ("a", "b")`'
    return "write `and`, `or` or a comparison before it"
